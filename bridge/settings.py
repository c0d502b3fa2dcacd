"""The settings: read once, from flags, then the environment, then the defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


def _state_folder() -> Path:
    return Path.home() / ".local" / "state" / "claude-code-bridge"


class Settings(BaseSettings):
    """Everything that can be set. The environment variable is the field's name in capitals.

    A wrong value raises pydantic.ValidationError, which names the variable.
    """

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    host: str = Field("127.0.0.1", description="Address that both doors listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port of the HTTP door; 0 takes any.")
    grpc_port: int = Field(50051, ge=0, le=65535, description="Port of the gRPC door; 0 takes any.")
    pool_size: int = Field(3, ge=1, le=64, description="Turns that run at once.")
    claude_timeout: float = Field(
        120.0, gt=0, description="Seconds a whole request may take, waiting included."
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
    bridge_system_prompt: str = Field(
        "claude_code",
        description="What a request without a system message gets: claude_code, none, or a file.",
    )
    bridge_setting_sources: Annotated[tuple[str, ...], NoDecode] = Field(
        ("user",), description="Claude Code settings that are read, separated by commas."
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
    bridge_session_log: Literal["off", "metadata", "full"] = Field(
        "metadata", description="What the session log keeps; full includes prompts and answers."
    )
    bridge_state_dir: Path = Field(
        default_factory=_state_folder, description="Folder of the session log."
    )
    bridge_responses_days: float = Field(
        30.0,
        ge=0,
        description="Days that a stored response is kept after its conversation's last; 0: none.",
    )
    bridge_responses_megabytes: int = Field(
        256, ge=1, description="Size of the stored responses; the oldest conversations go first."
    )

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

    @model_validator(mode="after")
    def _fits(self) -> Settings:
        if self.bridge_max_processes is not None and self.bridge_max_processes < self.pool_size:
            raise ValueError("BRIDGE_MAX_PROCESSES must be at least POOL_SIZE")
        return self

    @property
    def max_processes(self) -> int:
        """Processes at once."""
        if self.bridge_max_processes is not None:
            return self.bridge_max_processes
        return self.pool_size + self.bridge_spares + 2

    def system_prompt(self) -> str | None:
        """The default system prompt; None is Claude Code's preset. Reads the file, if any."""
        match self.bridge_system_prompt:
            case "claude_code":
                return None
            case "none":
                return ""
            case path:
                return Path(path).read_text(encoding="utf-8")
