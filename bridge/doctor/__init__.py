"""`bridge doctor`: whether everything is there that `bridge serve` needs, and what to do if not."""

from bridge.doctor.examination import examine
from bridge.doctor.findings import Finding
from bridge.doctor.proving import question

__all__ = ["Finding", "examine", "question"]
