"""The probe: what the Claude Code at hand can do of all that the bridge relies on.

The real CLI, in a hermetic environment and in front of the embedded simulator, is put through a
list of behaviours, each in the way in which the bridge itself uses it; what reached the model
stands in the simulator's ledger. That takes seconds: the report for the CLI that the pinned SDK
brings is shipped with the package (`make probe`), any other is made at the first start with it.
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
