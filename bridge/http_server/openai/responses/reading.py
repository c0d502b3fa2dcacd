"""Reads the bodies that ask for a response, together with what is stored of their past."""

from __future__ import annotations

from dataclasses import replace

from starlette.requests import Request

from bridge.core.answers import ResponseStore
from bridge.http_server.context import CallOptions, ServerContext, owner_of
from bridge.http_server.openai.responses.decode import (
    Purpose,
    ResponseCall,
    decode_responses,
    parse_responses,
)
from bridge.http_server.openai.responses.past import PastReader


class ResponseReader:
    """Decodes what is asked for on one server."""

    def __init__(self, server: ServerContext, store: ResponseStore | None) -> None:
        self._server = server
        self._store = store

    def past_for(self, request: Request) -> PastReader:
        """Return a reader of what the sender of a request has stored."""
        limit = self._server.settings.max_body_bytes
        return PastReader(self._store, owner_of(request.scope), limit)

    async def decode(
        self,
        request: Request,
        body: object,
        options: CallOptions,
        purpose: Purpose = Purpose.ANSWER,
    ) -> ResponseCall:
        """Decode a body."""
        wire = await options.off_loop(parse_responses, body, purpose)
        past = await self.past_for(request).read(wire)
        # What is stored of it may be as large as any body.
        options = replace(options, large=options.large or bool(past.items))
        return await options.off_loop(
            decode_responses,
            wire,
            body,
            options,
            past,
            options.request_id.removeprefix("req_"),
            keeps=self._store is not None,
            purpose=purpose,
        )
