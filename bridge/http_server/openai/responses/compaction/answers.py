"""Answers that are summaries: `POST /v1/responses/compact`, and responses that compact."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from bridge.core.contract import Event, Finished, UnavailableError
from bridge.http_server.context import CallOptions, ServerContext
from bridge.http_server.dialect import Call, JsonDict, WholeCall
from bridge.http_server.endpoint import respond
from bridge.http_server.openai.responses.compaction.summaries import packed
from bridge.http_server.openai.responses.decode import Purpose
from bridge.http_server.openai.responses.encode import (
    INCOMPLETE,
    ResponseCollector,
    ResponseStreamEncoder,
)
from bridge.http_server.openai.responses.reading import ResponseReader
from bridge.http_server.openai.responses.replies import compaction_item
from bridge.http_server.openai.responses.wire import ResponsesRequest
from bridge.http_server.openai.shared.openapi import describe


class CompactionCollector(ResponseCollector):
    """Gathers a summary into a response with one compaction item."""

    def feed(self, event: Event) -> bytes:
        """Take one event; raises if a complete answer is no summary."""
        if isinstance(event, Finished) and event.reason not in INCOMPLETE and not self._summary:
            raise UnavailableError("The model wrote no summary. Retry the request.")
        return super().feed(event)

    @property
    def _summary(self) -> str:
        return "".join(self._pieces).strip()

    def on_text_start(self, *, cited: bool = False) -> None:
        """The text is not sent as such."""

    def on_text(self, text: str) -> None:
        """Note more of the summary."""
        self._pieces.append(text)

    def on_text_end(self) -> None:
        """Text may follow: the summary is all of it."""

    def on_finish(self, event: Finished) -> None:
        """Add the item, if the summary is whole."""
        if event.reason not in INCOMPLETE:
            self._output.append(self._item(packed(self._summary)))

    def _item(self, content: str) -> JsonDict:
        return compaction_item(self._item_id("compaction"), content)

    def compacted(self, messages: Sequence[JsonDict]) -> JsonDict:
        """Build the reply of `/compact`: the messages that stay, then the item."""
        reply = self.reply()
        if reply["status"] != "completed":
            why = reply["incomplete_details"]["reason"]
            raise UnavailableError(
                f"The model's summary is incomplete ({why}).",
                reason="UNFIT_ANSWER",
                retryable=False,
            )
        return {
            "id": reply["id"],
            "object": "response.compaction",
            "created_at": reply["created_at"],
            "output": [*messages, *reply["output"]],
            "usage": reply["usage"],
        }


class CompactionStreamEncoder(CompactionCollector, ResponseStreamEncoder):
    """Writes the events of a streamed response that compacts."""

    def on_text(self, text: str) -> None:
        """Say that the summary is being written, at its first piece."""
        if not self._pieces:
            item = self._item("")
            self._add_item(item)
            self._event("response.compaction.compacting", **self._place(item["id"]))
        super().on_text(text)

    def on_finish(self, event: Finished) -> None:
        """Send the item, if the summary is whole."""
        super().on_finish(event)
        if self._output:
            self._finish_item(self._output[-1])


def add_compacting_route(router: APIRouter, server: ServerContext, reader: ResponseReader) -> None:
    """Add the route that compacts."""

    @router.post("/v1/responses/compact", **describe(ResponsesRequest))
    async def compact_conversation(request: Request) -> Response:
        """Replace a conversation by the caller's messages and a summary of it, as one item.

        The reply is not stored. What concerns the form of an answer has no effect.
        """

        async def decode(body: object, options: CallOptions) -> Call:
            call = await reader.decode(request, body, options, Purpose.COMPACT)
            collector = CompactionCollector(
                hex=call.hex,
                created=int(server.clock()),
                echo=call.echo,
                store=False,
                clock=server.clock,
            )

            async def reply() -> JsonDict:
                return collector.compacted(call.messages)

            return WholeCall(call.request, collector, reply)

        return await respond(request, server, decode)
