"""Starting and ending CLI processes, and their environment."""

from bridge.core.claude.processes.account import AccountFile, LoginFiles
from bridge.core.claude.processes.credentials import Credential
from bridge.core.claude.processes.environment import OVERRULING, check_passed, passed_on
from bridge.core.claude.processes.fingerprint import AccountFingerprint
from bridge.core.claude.processes.launch import NO_EXTRAS, Launcher, cut_off, hermetic_environment
from bridge.core.claude.processes.leftovers import Leftovers
from bridge.core.claude.processes.login import LoginStatus, login_command, status_command
from bridge.core.claude.processes.process import Command, LineProcess, ProcessGoneError
from bridge.core.claude.processes.start_causes import start_cause
from bridge.core.claude.processes.user_settings import NOTHING, read_user_settings

__all__ = [
    "NOTHING",
    "NO_EXTRAS",
    "OVERRULING",
    "AccountFile",
    "AccountFingerprint",
    "Command",
    "Credential",
    "Launcher",
    "Leftovers",
    "LineProcess",
    "LoginFiles",
    "LoginStatus",
    "ProcessGoneError",
    "check_passed",
    "cut_off",
    "hermetic_environment",
    "login_command",
    "passed_on",
    "read_user_settings",
    "start_cause",
    "status_command",
]
