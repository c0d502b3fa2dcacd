"""The measured ways to get an answer, behind one small interface."""

from benchmarks.subjects.apis import Grpc, Http
from benchmarks.subjects.base import (
    TOOL_ARGUMENTS,
    TOOL_NAME,
    Answer,
    FailedError,
    NotSupportedError,
    Request,
    Subject,
    Usage,
)
from benchmarks.subjects.direct import Direct
from benchmarks.subjects.node import NodeClient
from benchmarks.subjects.sdk import Sdk

__all__ = [
    "TOOL_ARGUMENTS",
    "TOOL_NAME",
    "Answer",
    "Direct",
    "FailedError",
    "Grpc",
    "Http",
    "NodeClient",
    "NotSupportedError",
    "Request",
    "Sdk",
    "Subject",
    "Usage",
]
