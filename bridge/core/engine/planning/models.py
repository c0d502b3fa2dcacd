"""The models on offer, and how a request's `model` is resolved. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

from bridge.core.contract import Model, ModelNotFoundError, shown

_VENDOR_PREFIX = "anthropic/"
_FULL_NAME = re.compile(r"claude-[a-z0-9]+(-[a-z0-9]+)*(\[1m\])?")
_PATTERN = re.compile(r"[*?\[]")
_CLOSE = 0.75
"""How similar a name must be to one on offer to be suggested (difflib)."""
_CLAUDE_NAME = re.compile(r"claude|^(opus|sonnet|haiku|fable|mythos|default)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Choice:
    """The result of resolving a request's `model`."""

    name: str | None
    """The name sent to the CLI; None is its own default."""
    replaced: bool = False
    """Whether another provider's model was requested, so that the default answers instead."""


@dataclass(frozen=True, slots=True)
class ModelNames:
    """The model names that the operator has added or refused."""

    aliases: tuple[tuple[str, str], ...] = ()
    """Patterns of names (`gpt-4*`), each with its model."""
    refuse_unknown: bool = False
    """Whether another provider's name is an error instead of the default."""


@dataclass(frozen=True, slots=True)
class Catalog:
    """The models that Claude Code offers, and the names that the operator added."""

    models: tuple[Model, ...] = ()
    aliases: Mapping[str, str] | None = None
    """Patterns of names (`gpt-4*`), each with its model."""
    refuse_unknown: bool = False
    """Whether another provider's name is an error instead of the default."""

    @classmethod
    def from_cli(
        cls,
        offered: Sequence[Mapping[str, Any]],
        *,
        aliases: Mapping[str, str] | None = None,
        refuse_unknown: bool = False,
    ) -> Catalog:
        """Build it from the `models` of the CLI's answer to `initialize`."""
        models: list[Model] = []
        for entry in offered:
            value, resolved = str(entry.get("value", "")), str(entry.get("resolvedModel", ""))
            models.append(
                Model(
                    id=value,
                    resolved=resolved or value,
                    display_name=str(entry.get("displayName", value)),
                    description=str(entry.get("description", "")),
                    efforts=tuple(entry.get("supportedEffortLevels") or ()),
                    default=value == "default",
                )
            )
        # The full names, then the operator's own; a pattern is not a name.
        named = {model.id: model for model in models}
        for model in tuple(models):
            named.setdefault(model.resolved, model)
        for name, target in (aliases or {}).items():
            model_meant = named.get(_bare(target))
            if model_meant is not None and not _PATTERN.search(name):
                named.setdefault(name, model_meant)
        listed = (
            model if model.id == name else replace(model, id=name, default=False)
            for name, model in named.items()
        )
        return cls(tuple(listed), aliases, refuse_unknown)

    def choose(self, name: str | None, *, strict: bool = False) -> Choice:
        """Resolve a request's `model` to the CLI's name; raises ModelNotFoundError.

        In a strict request another provider's name is an error, whatever the operator's settings.
        """
        if not name:
            return Choice(None)
        asked = self._without_alias(name)
        target = _bare(asked)
        offered = self._offered(target)
        if offered is not None:
            return Choice(None if offered.default else offered.id)
        if _FULL_NAME.fullmatch(target):
            # The API has more models than the CLI lists, and answers 404 if it does not have one.
            return Choice(target)
        # A name meant for a Claude model is not silently answered by another model, and the target
        # of an alias never counts as another provider's.
        own = asked != name or _CLAUDE_NAME.search(target) or self._like(target)
        if strict or self.refuse_unknown or own:
            raise self._unknown(name)
        return Choice(None, replaced=True)

    def find(self, name: str) -> Model:
        """Return one model by any of its names; raises ModelNotFoundError."""
        for asked in (name.lower(), _bare(self._without_alias(name))):
            offered = self._offered(asked)
            if offered is not None:
                return offered
        raise self._unknown(name)

    def wrong_aliases(self) -> Iterator[str]:
        """Yield an error message for each invalid alias."""
        for pattern, target in (self.aliases or {}).items():
            bare = _bare(target)
            if self._offered(bare) is None and not _FULL_NAME.fullmatch(bare):
                yield (
                    f"BRIDGE_MODEL_ALIASES: the target of {pattern}={target} is not a model on "
                    f"offer; requests for it are refused.{self._hint(bare)}"
                )

    def permits(self, name: str | None, allowed: tuple[str, ...]) -> bool:
        """Whether the model that answers for a request's `model` is one of those allowed.

        An empty `allowed` means all. Raises ModelNotFoundError as `choose` does.
        """
        if not allowed:
            return True
        answering = self._full_name(self.choose(name))
        return any(answering == self._full_name(choice) for choice in self._named(allowed))

    def limited_to(self, allowed: tuple[str, ...]) -> Catalog:
        """Return the catalog without the models that are not allowed."""
        models = (model for model in self.models if self.permits(model.id, allowed))
        return replace(self, models=tuple(models))

    def _named(self, allowed: tuple[str, ...]) -> Iterator[Choice]:
        for name in allowed:
            with suppress(ModelNotFoundError):
                choice = self.choose(name)
                # An unknown name must not resolve to the default model.
                if not choice.replaced:
                    yield choice

    def _full_name(self, choice: Choice) -> str:
        asked = choice.name or "default"
        return next((model.resolved for model in self.models if model.id == asked), asked)

    def offered(self, name: str | None) -> str:
        """Return the full name of the model on offer with this name (None: the default), or ""."""
        if not name:
            return next((model.resolved for model in self.models if model.default), "")
        try:
            return self.find(name).resolved
        except ModelNotFoundError:
            return ""

    def _without_alias(self, name: str) -> str:
        for pattern, target in (self.aliases or {}).items():
            if fnmatchcase(name.lower(), pattern.lower()):
                return target
        return name

    def _offered(self, name: str) -> Model | None:
        return next((model for model in self.models if model.id.lower() == name), None)

    def _like(self, name: str) -> str:
        """Return the model on offer with the most similar name; empty if none is close."""
        added = {alias.lower() for alias in self.aliases or ()}
        names = [model.id.lower() for model in self.models if model.id.lower() not in added]
        return next(iter(get_close_matches(name, names, n=1, cutoff=_CLOSE)), "")

    def _hint(self, name: str) -> str:
        like = self._like(name)
        return f" Did you mean {shown(like)}?" if like else ""

    def _unknown(self, name: str) -> ModelNotFoundError:
        offered = ", ".join(model.id for model in self.models)
        asked = self._without_alias(name)
        meant = f" (an alias of {shown(asked)})" if asked != name else ""
        return ModelNotFoundError(
            f"The model {shown(name)}{meant} does not exist.{self._hint(_bare(asked))} "
            f"Available: {offered or 'none known yet'}.",
            model=name,
        )


def _bare(name: str) -> str:
    """Return a name for comparison: in lower case, without its provider's prefix."""
    return name.lower().removeprefix(_VENDOR_PREFIX)
