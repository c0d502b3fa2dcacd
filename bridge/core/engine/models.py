"""The models on offer, and which of them a request's `model` means. Pure."""

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
"""How much a name must be like one on offer to be taken for that name misspelt (difflib)."""
_CLAUDE_NAME = re.compile(r"claude|^(opus|sonnet|haiku|fable|mythos|default)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Choice:
    """What a request's `model` comes to."""

    name: str | None
    """What the CLI is asked for; None is its own default."""
    replaced: bool = False
    """Whether another maker's model was asked for, so that the default answers instead."""


@dataclass(frozen=True, slots=True)
class ModelNames:
    """The names of models that the operator has added or refused."""

    aliases: tuple[tuple[str, str], ...] = ()
    """Patterns of names (`gpt-4*`) and the model each stands for."""
    refuse_unknown: bool = False
    """Whether another maker's name is an error instead of the default."""


@dataclass(frozen=True, slots=True)
class Catalog:
    """What Claude Code offers, with the names the operator added."""

    models: tuple[Model, ...] = ()
    aliases: Mapping[str, str] | None = None
    """Patterns of names (`gpt-4*`) and the model each stands for."""
    refuse_unknown: bool = False
    """Whether another maker's name is an error instead of the default."""

    @classmethod
    def from_cli(
        cls,
        offered: Sequence[Mapping[str, Any]],
        *,
        aliases: Mapping[str, str] | None = None,
        refuse_unknown: bool = False,
    ) -> Catalog:
        """Build it from the `models` of the CLI's `initialize` answer."""
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
        # The full names, then the operator's own; a pattern stands for no one name.
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
        """What to ask the CLI for, by a request's `model`; raises ModelNotFoundError.

        To a strict request another maker's name is an error, whatever the operator wants.
        """
        if not name:
            return Choice(None)
        asked = self._without_alias(name)
        target = _bare(asked)
        offered = self._offered(target)
        if offered is not None:
            return Choice(None if offered.default else offered.id)
        if _FULL_NAME.fullmatch(target):
            # The API has more than the CLI lists, and answers with 404 where it has not.
            return Choice(target)
        # A name that is meant for one of Claude's is not answered by another model unsaid, and
        # what an alias stands for is never another maker's.
        own = asked != name or _CLAUDE_NAME.search(target) or self._like(target)
        if strict or self.refuse_unknown or own:
            raise self._unknown(name)
        return Choice(None, replaced=True)

    def find(self, name: str) -> Model:
        """One model by any of its names; raises ModelNotFoundError."""
        for asked in (name.lower(), _bare(self._without_alias(name))):
            offered = self._offered(asked)
            if offered is not None:
                return offered
        raise self._unknown(name)

    def wrong_aliases(self) -> Iterator[str]:
        """What is wrong with the operator's aliases, a sentence each."""
        for pattern, target in (self.aliases or {}).items():
            bare = _bare(target)
            if self._offered(bare) is None and not _FULL_NAME.fullmatch(bare):
                yield (
                    f"BRIDGE_MODEL_ALIASES: {pattern}={target} names no model on offer, and "
                    f"requests for it are refused.{self._hint(bare)}"
                )

    def permits(self, name: str | None, allowed: tuple[str, ...]) -> bool:
        """Whether the model that answers for a request's `model` is one of those allowed.

        None allowed means all. Raises ModelNotFoundError as `choose` does.
        """
        if not allowed:
            return True
        answering = self._full_name(self.choose(name))
        return any(answering == self._full_name(choice) for choice in self._named(allowed))

    def limited_to(self, allowed: tuple[str, ...]) -> Catalog:
        """The same without the models that are not allowed."""
        models = (model for model in self.models if self.permits(model.id, allowed))
        return replace(self, models=tuple(models))

    def _named(self, allowed: tuple[str, ...]) -> Iterator[Choice]:
        for name in allowed:
            with suppress(ModelNotFoundError):
                choice = self.choose(name)
                # A name that means no model must not come to mean the default one.
                if not choice.replaced:
                    yield choice

    def _full_name(self, choice: Choice) -> str:
        asked = choice.name or "default"
        return next((model.resolved for model in self.models if model.id == asked), asked)

    def offered(self, name: str | None) -> str:
        """The full name of the model on offer that a name means, None the default; else empty."""
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
        """The model on offer whose name is closest to this one; empty if none is close."""
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
            f"On offer: {offered or 'none known yet'}."
        )


def _bare(name: str) -> str:
    """A name as it is compared: in small letters, without its maker's."""
    return name.lower().removeprefix(_VENDOR_PREFIX)
