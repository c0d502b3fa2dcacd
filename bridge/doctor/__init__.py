"""`bridge doctor`: checks what `bridge serve` needs, and suggests a fix for each problem."""

from bridge.doctor.examination import examine
from bridge.doctor.findings import Finding
from bridge.doctor.payers import check_payers
from bridge.doctor.proving import question

__all__ = ["Finding", "check_payers", "examine", "question"]
