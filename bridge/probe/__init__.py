"""The probe: tests whether a Claude Code CLI has all the behaviours that the bridge relies on.

The real CLI runs in a hermetic environment against the embedded simulator. Each behaviour is tested
in the way the bridge itself uses it, and the simulator's ledger shows what reached the model. That
takes seconds: the report for the CLI of the pinned SDK ships with the package (`make probe`); any
other CLI is probed at its first start.
"""

from bridge.probe.bundled import Shipped
from bridge.probe.keeping import report_for
from bridge.probe.report import Report, capabilities_of, fallbacks, missing
from bridge.probe.run import ProbeError, probe

__all__ = [
    "ProbeError",
    "Report",
    "Shipped",
    "capabilities_of",
    "fallbacks",
    "missing",
    "probe",
    "report_for",
]
