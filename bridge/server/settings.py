"""The settings: read once, from flags, then the environment, then the defaults."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from bridge.core.access import KEYS_FILE, Key, parse_given
from bridge.core.system import check_host, check_origin
from bridge.core.validation import BuiltinTools, check_folder, parsed_rules

NO_HOME = (
    "There is no home folder: HOME is not set, and the system does not know the user id {uid}. "
    "Set HOME to a folder that this user can write to, which is where Claude Code keeps its login"
)


def _state_folder() -> Path:
    return Path.home() / ".local" / "state" / "claude-code-bridge"


def _parts(value: str) -> list[str]:
    return [part.strip() for part in value.split(",") if part.strip()]


# wide: one field a setting.
class Settings(BaseSettings):
    """Everything that can be set. The environment variable is the field's name in capitals.

    A wrong value raises pydantic.ValidationError; `wrong_values` says it to people.
    """

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        env_ignore_empty=True,
        # It may hold a secret.
        hide_input_in_errors=True,
        # No disk is that large, and nobody waits that long.
        allow_inf_nan=False,
    )

    host: str = Field("127.0.0.1", description="Address that both doors listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port of the HTTP door; 0 takes any.")
    grpc_port: int = Field(50051, ge=0, le=65535, description="Port of the gRPC door; 0 takes any.")
    pool_size: int = Field(3, ge=1, le=64, description="Turns that run at once.")
    claude_timeout: float = Field(
        120.0, gt=0, description="Seconds a whole request may take, waiting included."
    )
    bridge_queue_timeout: float = Field(
        0.0, ge=0, description="Seconds a request may wait for a process; 0 is no limit."
    )
    bridge_first_token_timeout: float = Field(
        90.0, ge=0, description="Seconds from there to the first token, or thought; 0 is no limit."
    )
    bridge_idle_timeout: float = Field(
        120.0,
        ge=0,
        description="Seconds of silence in an answer, thinking not counted; 0 is no limit.",
    )
    bridge_spares: int = Field(
        1, ge=0, le=64, description="Blank processes kept ready beyond those in use."
    )
    bridge_max_processes: int | None = Field(
        None,
        ge=1,
        description="Processes at once, about 210 MB each. Default: POOL_SIZE + BRIDGE_SPARES + 2.",
    )
    bridge_park_seconds: float = Field(
        120.0,
        ge=0,
        description="Seconds a conversation is held open for its next message; 0 never does.",
    )
    bridge_queue_size: int = Field(
        32, ge=0, description="Requests of one key that may wait for a turn."
    )
    bridge_drain_seconds: float = Field(
        30.0, ge=0, description="Seconds that running answers have to finish at the end."
    )
    bridge_http_keep_alive: int = Field(
        75,
        ge=1,
        le=86400,
        description="Seconds an HTTP connection may be idle; longer than a proxy's own limit.",
    )
    bridge_upload_megabytes: int = Field(
        512,
        ge=64,
        description="Size of all unfinished requests together, of which one key may have half.",
    )
    bridge_system_prompt: str = Field(
        "claude_code",
        description="What a request without a system message gets: claude_code, none, or a file.",
    )
    bridge_setting_sources: Annotated[tuple[str, ...], NoDecode] = Field(
        ("user",),
        description="Claude Code settings that are read, separated by commas; of the user's only "
        "the default model and the login.",
    )
    bridge_claude_path: str | None = Field(
        None,
        description="Another `claude` to run: a path, or a command on PATH. Checked once per "
        "version. Default: the one that claude-agent-sdk brings.",
    )
    bridge_claude_tools: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Claude Code's own tools that it may use for callers, with rules: "
        '"Read,Grep,Bash(git log:*)".',
    )
    bridge_claude_folder: Path | None = Field(
        None, description="Folder in which those tools run; required with them."
    )
    bridge_model_aliases: Annotated[tuple[tuple[str, str], ...], NoDecode] = Field(
        (), description='Other names for models: "gpt-4*=opus,*-mini=haiku".'
    )
    bridge_unknown_model: Literal["default", "error"] = Field(
        "default", description="What becomes of another maker's model name."
    )
    bridge_strict: bool = Field(
        False, description="Refuse parameters without effect instead of naming them."
    )
    bridge_use_api_key: bool = Field(
        False, description="Let ANTHROPIC_API_KEY pay even where there is a login."
    )
    bridge_pass_env: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Environment variables that Claude Code gets besides those that it needs: "
        '"NAME,PREFIX_*".',
    )
    bridge_stop_before_overage: bool = Field(
        False, description="Stop serving when paid extra usage would begin."
    )
    bridge_log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="What the server prints on stderr; info has a line for each request."
    )
    bridge_log_format: Literal["text", "json"] = Field(
        "text", description="How it prints that; with json each line is an object, for programs."
    )
    bridge_session_log: Literal["off", "metadata", "full"] = Field(
        "metadata", description="What the session log keeps; full includes prompts and answers."
    )
    bridge_session_log_megabytes: float = Field(
        16.0, ge=0, description="Size at which the session log is rotated; 0 never does."
    )
    bridge_session_log_files: int = Field(
        5, ge=0, le=1000, description="Rotated session logs that are kept."
    )
    bridge_state_dir: Path = Field(
        default_factory=_state_folder,
        description="Folder of the session log, the keys and the stored responses.",
    )
    bridge_api_keys: Annotated[tuple[Key, ...], NoDecode] = Field(
        (), description="Keys: secret, name=secret or name:admin=secret, separated by commas."
    )
    bridge_keys_file: Path | None = Field(
        None,
        description="File of the keys made by `bridge keys`. "
        "Default: keys.json in BRIDGE_STATE_DIR.",
    )
    bridge_allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description='Other names of this server: "bridge.example.com,*.lan".'
    )
    bridge_allowed_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description='Web pages that may use it: "https://chat.example.com".'
    )

    bridge_uds: Path | None = Field(
        None, description="Unix socket that the HTTP door listens on instead of a port."
    )
    bridge_grpc_uds: Path | None = Field(
        None, description="Unix socket that the gRPC door listens on instead of a port."
    )
    bridge_tls_cert: Path | None = Field(
        None, description="Certificate with its chain, in PEM: both doors speak TLS."
    )
    bridge_tls_key: Path | None = Field(None, description="Key of the certificate, in PEM.")
    bridge_tls_client_ca: Path | None = Field(
        None,
        description="Certificates of those who sign clients' certificates, in PEM: "
        "the gRPC door asks for one.",
    )
    bridge_responses_days: float = Field(
        30.0,
        ge=0,
        description="Days that a stored response is kept after its conversation's last; 0: none.",
    )
    bridge_responses_megabytes: int = Field(
        256, ge=1, description="Size of the stored responses; the oldest conversations go first."
    )

    @model_validator(mode="before")
    @classmethod
    def _has_home(cls, values: Any) -> Any:
        # Before anything else: the defaults of some settings are below it.
        try:
            Path.home()
        except RuntimeError:
            raise ValueError(NO_HOME.format(uid=os.geteuid())) from None
        return values

    @field_validator("bridge_api_keys", mode="before")
    @classmethod
    def _hash_keys(cls, value: object) -> object:
        return parse_given(value) if isinstance(value, str) else value

    @field_validator("bridge_allowed_hosts", mode="before")
    @classmethod
    def _split_hosts(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(check_host(part) for part in _parts(value))

    @field_validator("bridge_allowed_origins", mode="before")
    @classmethod
    def _split_origins(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(check_origin(part) for part in _parts(value))

    @field_validator("bridge_setting_sources", mode="before")
    @classmethod
    def _split_sources(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        sources = tuple(part.strip() for part in value.split(",") if part.strip())
        for source in sources:
            if source not in ("user", "project", "local"):
                raise ValueError(f"{source!r} is none of user, project, local")
        return sources

    @field_validator("bridge_claude_tools", mode="before")
    @classmethod
    def _parse_rules(cls, value: object) -> object:
        return parsed_rules(value) if isinstance(value, str) else value

    @field_validator("bridge_pass_env", mode="before")
    @classmethod
    def _split_variables(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        # Here, since it imports the Agent SDK: commands that only need the settings start without.
        from bridge.core.claude import check_passed

        return tuple(check_passed(part) for part in _parts(value))

    @field_validator("bridge_model_aliases", mode="before")
    @classmethod
    def _split_aliases(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        pairs = []
        for part in filter(None, (part.strip() for part in value.split(","))):
            name, separator, target = (piece.strip() for piece in part.partition("="))
            if not (name and separator and target):
                raise ValueError(f"{part!r} is not of the form NAME=MODEL")
            pairs.append((name, target))
        return tuple(pairs)

    @field_validator("bridge_system_prompt")
    @classmethod
    def _readable(cls, value: str) -> str:
        if value not in ("claude_code", "none") and not Path(value).is_file():
            raise ValueError(f"{value!r} is neither claude_code, none, nor a file that exists")
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
                f"BRIDGE_MAX_PROCESSES is {self.bridge_max_processes}, and must be at least "
                f"POOL_SIZE, which is {self.pool_size}"
            )
        if self.bridge_claude_tools and self.bridge_claude_folder is None:
            raise ValueError("BRIDGE_CLAUDE_TOOLS needs BRIDGE_CLAUDE_FOLDER, where they run")
        try:
            self.builtin_tools()
        except ValueError as error:
            raise ValueError(f"BRIDGE_CLAUDE_FOLDER: {error}") from None
        return self

    @property
    def max_processes(self) -> int:
        """Processes at once."""
        if self.bridge_max_processes is not None:
            return self.bridge_max_processes
        return self.pool_size + self.bridge_spares + 2

    @property
    def keys_file(self) -> Path:
        """The file of keys."""
        return self.bridge_keys_file or self.bridge_state_dir / KEYS_FILE

    def claude_path(self) -> Path | None:
        """The `claude` that is to be run in place of the SDK's; None is the SDK's."""
        if self.bridge_claude_path is None:
            return None
        found = shutil.which(Path(self.bridge_claude_path).expanduser())
        # A link is followed once: a `claude` that updates itself changes where the link points, and
        # the processes of a server are all of the version that was checked.
        return Path(found or self.bridge_claude_path).resolve()

    def builtin_tools(self) -> BuiltinTools | None:
        """Claude Code's own tools that are on. Raises ValueError for a folder that cannot be."""
        if not self.bridge_claude_tools or self.bridge_claude_folder is None:
            return None
        home = Path.home()
        config = os.environ.get("CLAUDE_CONFIG_DIR") or home / ".claude"
        # Whoever reads the key of the certificate, or writes the keys or who signs certificates,
        # is let in or trusted.
        tls = (self.bridge_tls_key, self.bridge_tls_cert, self.bridge_tls_client_ca)
        files = (self.keys_file, *tls)
        private = (Path(config), self.bridge_state_dir, *filter(None, files))
        folder = check_folder(self.bridge_claude_folder, home=home, private=private)
        return BuiltinTools(folder, self.bridge_claude_tools)

    @property
    def session_log_path(self) -> Path | None:
        """The session log; None where none is kept."""
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
