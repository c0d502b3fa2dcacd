"""What a probe found, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bridge.core.claude import Capabilities
from bridge.probe.behaviours import BEHAVIOURS
from bridge.probe.checks.check import Behaviour


@dataclass(frozen=True, slots=True)
class Report:
    """What a probe found."""

    cli_version: str
    """As the CLI reports it; empty if it never got that far."""
    found: Mapping[str, bool]
    """Whether each behaviour was seen, by its id."""
    details: Mapping[str, str] = field(default_factory=dict)
    """Why each behaviour that was not seen was not, by its id: for the log."""

    @property
    def lacking(self) -> tuple[Behaviour, ...]:
        """The behaviours that were looked for and not seen."""
        return tuple(b for b in BEHAVIOURS if self.found.get(b.id) is False)


def missing(report: Report) -> tuple[str, ...]:
    """The sentences of what the bridge cannot do without and the CLI lacks.

    If no process ever answered, that is the only one.
    """
    first = BEHAVIOURS[0]
    if not any(report.found.values()) and report.found.get(first.id) is False:
        return (first.sentence,)
    return tuple(b.sentence for b in report.lacking if b.required)


def capabilities_of(report: Report) -> Capabilities:
    """How the bridge is to use this CLI, where nothing is missing."""
    lacking = report.lacking
    return Capabilities(
        rewind=all(behaviour.required for behaviour in lacking),
        lacking=tuple(behaviour.id for behaviour in lacking),
    )


def fallbacks(report: Report) -> tuple[str, ...]:
    """What is done instead of what is lacking, one line each: for the log."""
    return tuple(
        f"{behaviour.id}: each process is closed after its conversation instead of being reset"
        for behaviour in report.lacking
        if not behaviour.required
    )
