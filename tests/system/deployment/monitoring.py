"""The queries of the dashboard and of the alerts, and what they select."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml

from tests.support.paths import ROOT

ALERTS: Final = ROOT / "deploy" / "prometheus" / "alerts.yaml"
DASHBOARD: Final[Mapping[str, Any]] = json.loads(
    (ROOT / "deploy" / "grafana" / "dashboard.json").read_text()
)

_SELECTED: Final = re.compile(r"\b((?:bridge|process)_\w+|up\b)(?:\{([^}]*)\})?")
_LABEL: Final = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"([^\"]*)\"")
_GROUPED: Final = re.compile(r"\b(?:by|on|without)\s*\(([^)]*)\)")
_VARIABLE: Final = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


@dataclass(frozen=True)
class Query:
    """An expression, and where it stands."""

    place: str
    text: str

    def selected(self) -> dict[str, set[str]]:
        """The metrics that it reads, each with the labels that it must have."""
        grouped = {
            label.strip() for labels in _GROUPED.findall(self.text) for label in labels.split(",")
        }
        return {
            name: {label for label, _ in _LABEL.findall(labels)} | grouped
            for name, labels in _SELECTED.findall(self.text)
        }

    def values(self, label: str) -> set[str]:
        """The values of a label that it names, those of patterns each for itself."""
        return {
            value
            for _, labels in _SELECTED.findall(self.text)
            for name, pattern in _LABEL.findall(labels)
            if name == label
            for value in pattern.split("|")
        }


def alerts() -> list[Query]:
    """The expressions of the alerts."""
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return [Query(rule["alert"], rule["expr"]) for group in groups for rule in group["rules"]]


def panels() -> Iterator[Query]:
    """The queries of the dashboard, with every variable set to all."""
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            yield Query(panel["title"], _VARIABLE.sub(_all, target["expr"]))


def _all(found: re.Match[str]) -> str:
    return "1m" if found[2] == "__rate_interval" else ".*"


def variables_used() -> set[str]:
    """The dashboard's own variables in its panels."""
    found = _VARIABLE.findall(json.dumps(DASHBOARD["panels"]))
    return {braced or bare for braced, bare in found if not bare.startswith("__")}
