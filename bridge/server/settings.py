"""The settings: flags, else environment variables, else defaults. Read once."""

# long: one field a setting.
from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from bridge.core.access import KEYS_FILE, Key, parse_given
from bridge.core.redis import RedisAddress, parse_redis_url
from bridge.core.validation import BuiltinTools, check_folder, parsed_rules
from bridge.server.listening_settings import CommaSeparated, ListeningSettings

NO_HOME: Final = (
    "No home folder: HOME is not set, and the system does not know the user id {uid}. "
    "Set HOME to a folder that this user can write to: Claude Code keeps its login there"
)


def _state_folder() -> Path:
    return Path.home() / ".local" / "state" / "claude-code-bridge"


def _pair(value: object) -> object:
    if not isinstance(value, str):
        return value
    name, _, model = (piece.strip() for piece in value.partition("="))
    if not (name and model):
        raise ValueError(f"{value!r} is not of the form NAME=MODEL")
    return name, model


def _passed(value: str) -> str:
    # Here, since it imports the Agent SDK: commands that only need the settings start without.
    from bridge.core.claude import check_passed

    return check_passed(value)


def _redis(value: object) -> object:
    return parse_redis_url(value) if isinstance(value, str) else value


PassedVariable: TypeAlias = Annotated[str, AfterValidator(_passed)]
Alias: TypeAlias = Annotated[tuple[str, str], BeforeValidator(_pair)]
"""Another name of a model, and the model."""


# wide: one field a setting.
class Settings(ListeningSettings):
    """All settings. The environment variable is the field's name in capitals.

    An invalid value raises pydantic.ValidationError; `wrong_values` formats it.
    """

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        env_ignore_empty=True,
        # It may contain a secret.
        hide_input_in_errors=True,
        # No disk and no timeout is infinite.
        allow_inf_nan=False,
    )

    pool_size: int = Field(3, ge=1, le=64, description="Turns that may run concurrently.")
    claude_timeout: float = Field(
        120.0,
        gt=0,
        description="Default of the limits on the first token and on silence, in seconds.",
    )
    bridge_answer_timeout: float = Field(
        3600.0, ge=0, description="Seconds for a whole request; 0 means no limit."
    )
    bridge_queue_timeout: float = Field(
        0.0, ge=0, description="Seconds a request may wait for a process; 0 means no limit."
    )
    bridge_first_token_timeout: float | None = Field(
        None,
        ge=0,
        description="Seconds to the first token or thought, queueing included; 0 means no limit. "
        "Default: CLAUDE_TIMEOUT.",
    )
    bridge_idle_timeout: float | None = Field(
        None,
        ge=0,
        description="Seconds without output in an answer, thinking excepted; 0 means no limit. "
        "Default: CLAUDE_TIMEOUT.",
    )
    bridge_spares: int = Field(
        1, ge=0, le=64, description="Spare processes kept ready beyond those in use."
    )
    bridge_max_processes: int | None = Field(
        None,
        ge=1,
        description="Maximum number of processes, about 210 MB each. "
        "Default: POOL_SIZE + BRIDGE_SPARES + 2.",
    )
    bridge_park_seconds: float = Field(
        120.0,
        ge=0,
        description="Seconds a conversation keeps its process for the next message; 0 disables it.",
    )
    bridge_queue_size: int = Field(32, ge=0, description="Requests per key that may be queued.")
    bridge_drain_delay: float = Field(
        0.0,
        ge=0,
        le=3600,
        description="Seconds at shutdown for which requests are still taken while health checks "
        "fail, so that a balancer can send them elsewhere.",
    )
    bridge_drain_seconds: float = Field(
        30.0,
        ge=0,
        description="Seconds that running answers get to finish at shutdown, after that delay.",
    )
    bridge_system_prompt: str = Field(
        "claude_code",
        description="System prompt of requests without one: claude_code, none, or a file.",
    )
    bridge_setting_sources: CommaSeparated[Literal["user", "project", "local"]] = Field(
        ("user",),
        description="Claude Code settings to read, comma-separated: user, project, local. Of user, "
        "only the default model and the login are used.",
    )
    bridge_claude_path: str | None = Field(
        None,
        description="Another `claude` to run: a path, or a command on PATH. Checked once per "
        "version. Default: the one bundled with claude-agent-sdk.",
    )
    bridge_claude_tools: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Claude Code's built-in tools that it may use for callers, with rules: "
        '"Read,Grep,Bash(git log:*)".',
    )
    bridge_claude_folder: Path | None = Field(
        None, description="Folder in which those tools run; required with them."
    )
    bridge_model_aliases: CommaSeparated[Alias] = Field(
        (), description='Model aliases: "gpt-4*=opus,*-mini=haiku".'
    )
    bridge_unknown_model: Literal["default", "error"] = Field(
        "default",
        description="What to do with other vendors' model names: use the default model, or fail.",
    )
    bridge_strict: bool = Field(
        False, description="Refuse parameters that have no effect instead of ignoring them."
    )
    bridge_include_reasoning: bool = Field(
        False, description="Return thinking in chat completions unless a request decides itself."
    )
    bridge_use_api_key: bool = Field(
        False, description="Use ANTHROPIC_API_KEY even if Claude Code is logged in."
    )
    bridge_share_login: bool = Field(
        False,
        description="Let a subscription login serve keys that are not marked as yours: see "
        "docs/accounts.md.",
    )
    bridge_pass_env: CommaSeparated[PassedVariable] = Field(
        (),
        description='Further environment variables to pass to Claude Code: "NAME,PREFIX_*".',
    )
    bridge_stop_before_overage: bool = Field(
        False, description="Stop serving before paid extra usage begins."
    )
    bridge_health_usage_limits: bool = Field(
        True,
        description="Fail the health checks while the account's usage limit is reached, so that a "
        "balancer sends requests elsewhere.",
    )
    bridge_log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        BeforeValidator(lambda level: str(level).lower()),
    ] = Field("info", description="Log level on stderr; info logs one line per request.")
    bridge_log_format: Literal["text", "json"] = Field(
        "text", description="Log format; with json each line is a JSON object."
    )
    bridge_session_log: Literal["off", "metadata", "full"] = Field(
        "metadata", description="Contents of the session log; full includes prompts and answers."
    )
    bridge_session_log_megabytes: float = Field(
        16.0,
        ge=0,
        description="Size at which the session log is rotated, in MB; 0 disables rotation.",
    )
    bridge_session_log_files: int = Field(
        5, ge=0, le=1000, description="Number of rotated session logs to keep."
    )
    bridge_metric_labels: CommaSeparated[str] = Field(
        (),
        max_length=8,
        description='Labels of callers that `/metrics` counts by value: "team,app". At most 8, '
        "with 100 values each.",
    )
    bridge_state_dir: Path = Field(
        default_factory=_state_folder,
        description="Folder for the session log, the keys and the stored responses.",
    )
    bridge_api_keys: Annotated[tuple[Key, ...], NoDecode] = Field(
        (), description="API keys, comma-separated: secret, name=secret or name:admin:mine=secret."
    )
    bridge_keys_file: Path | None = Field(
        None,
        description="File of the keys created by `bridge keys`. "
        "Default: keys.json in BRIDGE_STATE_DIR, or in Redis with BRIDGE_REDIS_URL.",
    )
    bridge_responses_store: Literal["file", "memory", "redis"] | None = Field(
        None,
        description="Where responses are stored: file (in BRIDGE_STATE_DIR), memory (gone with the "
        "process) or redis. Default: redis with BRIDGE_REDIS_URL, otherwise file.",
    )
    bridge_responses_days: float = Field(
        30.0,
        ge=0,
        description="Days to keep a conversation's stored responses after its last; 0 stores none.",
    )
    bridge_responses_megabytes: int = Field(
        256,
        ge=1,
        description="Size limit of the stored responses, in MB; the oldest are deleted first.",
    )
    bridge_detached_seconds: float = Field(
        600.0,
        ge=0,
        le=86400,
        description="Seconds for which the events of a detached answer are kept after its end.",
    )
    bridge_detached_megabytes: int = Field(
        128,
        ge=4,
        description="Memory for the events of detached answers, in MB; one may use a quarter.",
    )

    bridge_redis_url: Annotated[RedisAddress | None, NoDecode, BeforeValidator(_redis)] = Field(
        None,
        description="Redis in which several servers keep what they share: "
        "redis://USER:PASSWORD@HOST:PORT/DATABASE, rediss:// for TLS, or unix:///PATH. See "
        "docs/redis.md.",
    )

    @model_validator(mode="before")
    @classmethod
    def _has_home(cls, values: Any) -> Any:
        # First: some defaults are paths below it.
        try:
            Path.home()
        except RuntimeError:
            raise ValueError(NO_HOME.format(uid=os.geteuid())) from None
        return values

    @field_validator("bridge_api_keys", mode="before")
    @classmethod
    def _hash_keys(cls, value: object) -> object:
        return parse_given(value) if isinstance(value, str) else value

    @field_validator("bridge_claude_tools", mode="before")
    @classmethod
    def _parse_rules(cls, value: object) -> object:
        return parsed_rules(value) if isinstance(value, str) else value

    @field_validator("bridge_system_prompt")
    @classmethod
    def _readable(cls, value: str) -> str:
        if value not in ("claude_code", "none") and not Path(value).is_file():
            raise ValueError(f"{value!r} is neither claude_code, none, nor an existing file")
        return value

    @field_validator("bridge_claude_path")
    @classmethod
    def _runs(cls, value: str | None) -> str | None:
        if value is not None and shutil.which(Path(value).expanduser()) is None:
            raise ValueError(f"{value!r} is neither an executable file nor a command on PATH")
        return value

    @model_validator(mode="after")
    def _fits(self) -> Settings:
        if self.bridge_max_processes is not None and self.bridge_max_processes < self.pool_size:
            raise ValueError(
                f"BRIDGE_MAX_PROCESSES is {self.bridge_max_processes}, but must be at least "
                f"POOL_SIZE ({self.pool_size})"
            )
        if self.bridge_claude_tools and self.bridge_claude_folder is None:
            raise ValueError(
                "BRIDGE_CLAUDE_TOOLS requires BRIDGE_CLAUDE_FOLDER, the folder they run in"
            )
        if self.bridge_responses_store == "redis" and self.bridge_redis_url is None:
            raise ValueError("BRIDGE_RESPONSES_STORE=redis requires BRIDGE_REDIS_URL")
        try:
            self.builtin_tools()
        except ValueError as error:
            raise ValueError(f"BRIDGE_CLAUDE_FOLDER: {error}") from None
        return self

    @property
    def responses_store(self) -> Literal["file", "memory", "redis"]:
        """Where responses are stored."""
        if self.bridge_responses_store is not None:
            return self.bridge_responses_store
        return "file" if self.bridge_redis_url is None else "redis"

    @property
    def max_processes(self) -> int:
        """The maximum number of processes."""
        if self.bridge_max_processes is not None:
            return self.bridge_max_processes
        return self.pool_size + self.bridge_spares + 2

    @property
    def keys_file(self) -> Path:
        return self.bridge_keys_file or self.bridge_state_dir / KEYS_FILE

    def claude_path(self) -> Path | None:
        """The `claude` to run instead of the SDK's; None is the SDK's."""
        if self.bridge_claude_path is None:
            return None
        found = shutil.which(Path(self.bridge_claude_path).expanduser())
        # Resolved once: a `claude` that updates itself moves the link, but all processes of a
        # server run the version that was checked.
        return Path(found or self.bridge_claude_path).resolve()

    def builtin_tools(self) -> BuiltinTools | None:
        """Claude Code's enabled built-in tools. Raises ValueError for an invalid folder."""
        if not self.bridge_claude_tools or self.bridge_claude_folder is None:
            return None
        home = Path.home()
        config = os.environ.get("CLAUDE_CONFIG_DIR") or home / ".claude"
        # Reading the TLS key, or writing the keys or the CA, would grant access or trust.
        tls = (self.bridge_tls_key, self.bridge_tls_cert, self.bridge_tls_client_ca)
        files = (self.keys_file, *tls)
        private = (Path(config), self.bridge_state_dir, *filter(None, files))
        folder = check_folder(self.bridge_claude_folder, home=home, private=private)
        return BuiltinTools(folder, self.bridge_claude_tools)

    @property
    def session_log_path(self) -> Path | None:
        """The session log; None if it is off."""
        if self.bridge_session_log == "off":
            return None
        return self.bridge_state_dir / "sessions.jsonl"

    def system_prompt(self) -> str | None:
        """The default system prompt; None is Claude Code's preset. Reads the file, if any."""
        match self.bridge_system_prompt:
            case "claude_code":
                return None
            case "none":
                return ""
            case path:
                return Path(path).read_text(encoding="utf-8")
