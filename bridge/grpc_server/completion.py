"""CompletionService."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import grpc

from bridge.core.service import Service
from bridge.grpc_server.codec import decode_request, encode_event
from bridge.grpc_server.request_id import current_request_id
from bridge.v1 import completion_pb2 as pb
from bridge.v1 import completion_pb2_grpc as pb_grpc


def caller_of(context: grpc.aio.ServicerContext[Any, Any]) -> str:
    """Name the key that a call came with. Empty: the door asks for none yet."""
    return ""


class CompletionServicer(pb_grpc.CompletionServiceServicer):
    """Answers with the core's events, one response an event."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def Complete(
        self,
        request: pb.CompleteRequest,
        context: grpc.aio.ServicerContext[pb.CompleteRequest, pb.CompleteResponse],
    ) -> AsyncGenerator[pb.CompleteResponse, None]:
        """Stream the answer to one conversation."""
        completion = decode_request(
            request,
            request_id=current_request_id.get(),
            caller=caller_of(context),
            timeout=context.time_remaining(),
        )
        async with aclosing(self._service.complete(completion)) as events:
            async for event in events:
                for response in encode_event(event, completion.request_id):
                    yield response
