"""What is measured: each way to get an answer, behind one small interface."""

from benchmarks.subjects.base import Answer, NotSupportedError, Request, Subject, Usage
from benchmarks.subjects.direct import Direct
from benchmarks.subjects.doors import Grpc, Http
from benchmarks.subjects.sdk import Sdk

__all__ = [
    "Answer",
    "Direct",
    "Grpc",
    "Http",
    "NotSupportedError",
    "Request",
    "Sdk",
    "Subject",
    "Usage",
]
