"""What a probe found, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bridge.core.claude import SETTINGS, Capabilities
from bridge.probe.behaviours import BEHAVIOURS
from bridge.probe.checks.check import Behaviour


@dataclass(frozen=True, slots=True)
class Report:
    """What a probe found."""

    cli_version: str
    """As the CLI itself says; empty where it never came to say it."""
    cli_sha256: str
    found: Mapping[str, bool]
    """Whether each behaviour was seen, by its id."""
    at_start: frozenset[str] = frozenset()
    """Ids of late settings that are lacking, but hold when a process is started with them."""
    details: Mapping[str, str] = field(default_factory=dict)
    """Why each behaviour that was not seen was not, by its id: for the log."""

    @property
    def lacking(self) -> tuple[Behaviour, ...]:
        """The behaviours that were looked for and not seen."""
        return tuple(b for b in BEHAVIOURS if self.found.get(b.id) is False)


def missing(report: Report) -> tuple[str, ...]:
    """The sentences of what the bridge cannot do without and the CLI lacks.

    Where no process came so far as to be asked anything, that is all that is said.
    """
    first = BEHAVIOURS[0]
    if not any(report.found.values()) and report.found.get(first.id) is False:
        return (first.sentence,)
    return tuple(b.sentence for b in report.lacking if not _replaceable(report, b))


def capabilities_of(report: Report) -> Capabilities:
    """How the bridge is to use this CLI, where nothing is missing."""
    lacking = report.lacking
    late = {behaviour.setting for behaviour in lacking if behaviour.setting is not None}
    return Capabilities(
        rewind=all(behaviour.kind != "rewind" for behaviour in lacking),
        late_settings=SETTINGS - late,
        lacking=tuple(behaviour.id for behaviour in lacking),
    )


def fallbacks(report: Report) -> tuple[str, ...]:
    """What is done instead of what is lacking, one line each: for the log."""
    return tuple(
        f"{behaviour.id}: "
        + (
            "each process is closed after its conversation instead of being emptied"
            if behaviour.kind == "rewind"
            else f"a process is started for each value of {behaviour.setting}"
        )
        for behaviour in report.lacking
        if _replaceable(report, behaviour)
    )


def _replaceable(report: Report, behaviour: Behaviour) -> bool:
    return behaviour.kind == "rewind" or behaviour.id in report.at_start
