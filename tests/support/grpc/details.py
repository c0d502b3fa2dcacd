"""The details of an error, as a client reads them: with the official helper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status


@dataclass
class Details:
    """The google.rpc details of a status; None for those it has not."""

    code: grpc.StatusCode
    message: str
    info: Any
    request_id: str
    bad_request: Any
    retry: Any
    resource: Any

    @property
    def fields(self) -> list[str]:
        """The fields that BadRequest names."""
        if self.bad_request is None:
            return []
        return [violation.field for violation in self.bad_request.field_violations]


def details_in(code: grpc.StatusCode, message: str | None, trailing: Any) -> Details | None:
    """Read the details out of a call's trailers; None where there are none."""

    class Ended:
        def code(self) -> grpc.StatusCode:
            return code

        def details(self) -> str | None:
            return message

        def trailing_metadata(self) -> list[Any]:
            return list(trailing or ())

    status = rpc_status.from_call(Ended())  # type: ignore[arg-type]
    if status is None:
        return None

    def unpacked(kind: Any) -> Any:
        for detail in status.details:
            if detail.Is(kind.DESCRIPTOR):
                found = kind()
                detail.Unpack(found)
                return found
        return None

    request = unpacked(error_details_pb2.RequestInfo)
    assert request is not None
    return Details(
        code,
        status.message,
        unpacked(error_details_pb2.ErrorInfo),
        request.request_id,
        unpacked(error_details_pb2.BadRequest),
        unpacked(error_details_pb2.RetryInfo),
        unpacked(error_details_pb2.ResourceInfo),
    )


async def details_of(call: Any) -> Details:
    """Read the details of an AioRpcError, or of a call that has ended."""
    if isinstance(call, grpc.aio.AioRpcError):
        code, message, trailing = call.code(), call.details(), call.trailing_metadata()
    else:
        code, message = await call.code(), await call.details()
        trailing = await call.trailing_metadata()
    details = details_in(code, message, trailing)
    assert details is not None, f"no details: {code} {message}"
    # Proxies decide by it whether to retry.
    assert dict(tuple(trailing or ()))["x-bridge-error"] == details.info.reason
    return details
