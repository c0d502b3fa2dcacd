"""Everything that depends on the formats of the `claude` CLI."""

from bridge.core.claude.capabilities import ALL, Capabilities, Facts
from bridge.core.claude.client_tools import MAX_RESULT_CHARACTERS, definitions_of, deliverable
from bridge.core.claude.control import ControlError
from bridge.core.claude.exact_numbers import changes_arguments, exact_schema
from bridge.core.claude.processes import (
    NOTHING,
    OVERRULING,
    AccountFile,
    AccountFingerprint,
    Command,
    Credential,
    Launcher,
    LineProcess,
    LoginFiles,
    LoginStatus,
    ProcessGoneError,
    check_passed,
    cut_off,
    hermetic_environment,
    login_command,
    passed_on,
    read_user_settings,
    status_command,
)
from bridge.core.claude.reading import CONTINUABLE, AnswerReader, added
from bridge.core.claude.session import Session
from bridge.core.claude.tool_definitions import (
    ToolDefinition,
    changed_by_cli,
    exact_definitions,
    names_only,
)
from bridge.core.claude.turn_settings import (
    EFFORT_LEVELS,
    ExtraBody,
    Profile,
    TurnSettings,
    is_about,
    sampling_named_in,
    settings_of,
    without_sampling,
)
from bridge.core.claude.turns import Turn, turns_of
from bridge.core.claude.usage_limits import usage_limits_of
from bridge.core.claude.wire import TOOL_PREFIX, Wire

__all__ = [
    "ALL",
    "CONTINUABLE",
    "EFFORT_LEVELS",
    "MAX_RESULT_CHARACTERS",
    "NOTHING",
    "OVERRULING",
    "TOOL_PREFIX",
    "AccountFile",
    "AccountFingerprint",
    "AnswerReader",
    "Capabilities",
    "Command",
    "ControlError",
    "Credential",
    "ExtraBody",
    "Facts",
    "Launcher",
    "LineProcess",
    "LoginFiles",
    "LoginStatus",
    "ProcessGoneError",
    "Profile",
    "Session",
    "ToolDefinition",
    "Turn",
    "TurnSettings",
    "Wire",
    "added",
    "changed_by_cli",
    "changes_arguments",
    "check_passed",
    "cut_off",
    "definitions_of",
    "deliverable",
    "exact_definitions",
    "exact_schema",
    "hermetic_environment",
    "is_about",
    "login_command",
    "names_only",
    "passed_on",
    "read_user_settings",
    "sampling_named_in",
    "settings_of",
    "status_command",
    "turns_of",
    "usage_limits_of",
    "without_sampling",
]
