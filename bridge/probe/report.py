"""The results of a probe and their consequences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bridge.core.claude import Capabilities
from bridge.probe.behaviours import BEHAVIOURS
from bridge.probe.checks.check import NO_REWIND, Behaviour


@dataclass(frozen=True, slots=True)
class Report:
    """The results of a probe."""

    cli_version: str
    """As the CLI reports it; empty if it did not get that far."""
    found: Mapping[str, bool]
    """Whether each behaviour was observed, by its id."""
    details: Mapping[str, str] = field(default_factory=dict)
    """Why a behaviour was not observed, by its id: for the log."""

    @property
    def lacking(self) -> tuple[Behaviour, ...]:
        """The behaviours that were tested and not observed."""
        return tuple(b for b in BEHAVIOURS if self.found.get(b.id) is False)


def missing(report: Report) -> tuple[str, ...]:
    """Return the sentences of the required behaviours that the CLI lacks.

    If no process ever answered, only the first one.
    """
    first = BEHAVIOURS[0]
    if not any(report.found.values()) and report.found.get(first.id) is False:
        return (first.sentence,)
    return tuple(b.sentence for b in report.lacking if b.required)


def capabilities_of(report: Report) -> Capabilities:
    """Return how the bridge uses this CLI, if nothing is missing."""
    lacking = report.lacking
    return Capabilities(
        rewind=all(behaviour.fallback != NO_REWIND for behaviour in lacking),
        lacking=tuple(behaviour.id for behaviour in lacking),
    )


def fallbacks(report: Report) -> tuple[str, ...]:
    """Return the fallbacks for lacking behaviours, one line each: for the log."""
    return tuple(
        f"{behaviour.id}: {behaviour.fallback}"
        for behaviour in report.lacking
        if not behaviour.required
    )
