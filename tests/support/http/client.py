"""The HTTP API's driver: chat completions, and completions, which answer in the same shape."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any, TypeAlias

import httpx

from bridge.core.contract.usage import Usage
from tests.support.harness import PATIENCE
from tests.support.replies import LOST, Call, Failure, Reading, Reply

Json: TypeAlias = dict[str, Any]

CHAT = "/v1/chat/completions"


class HttpCall(Reading):
    """One request, on its way from the moment it is made."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        body: Json,
        *,
        path: str = CHAT,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.reply = Reply()
        request = client.build_request("POST", path, json=body, headers=headers)
        self._sending = asyncio.create_task(client.send(request, stream=True))
        self._response: httpx.Response | None = None
        self._lines: AsyncIterator[str] | None = None

    async def read(self) -> bool:
        """Take the next piece of the answer; False at its end."""
        try:
            async with asyncio.timeout(PATIENCE):
                if self._response is None:
                    self._response = await self._sending
                    await self._begin(self._response)
                if self._lines is not None and await self._next(self._lines):
                    return True
        except httpx.TransportError as error:
            self.reply.failure = Failure(LOST, message=repr(error))
        await self.leave()
        return False

    async def _begin(self, response: httpx.Response) -> None:
        headers = response.headers
        if response.status_code == 503 and "x-request-id" not in headers:
            # In the words of a proxy that has found no bridge.
            text = (await response.aread()).decode()
            self.reply.failure = Failure(response.status_code, message=text)
            return
        self.reply.request_id = headers["x-request-id"]
        names = headers.get("x-bridge-ignored-params", "")
        self.reply.ignored = tuple(filter(None, names.split(",")))
        if headers["content-type"].startswith("text/event-stream"):
            self._lines = response.aiter_lines()
            return
        await response.aread()
        if response.status_code == 200:
            _take_whole(self.reply, response.json())
        else:
            self.reply.failure = _failure(response)

    async def _next(self, lines: AsyncIterator[str]) -> bool:
        async for line in lines:
            if line.startswith(":"):
                self.reply.comments += 1
            elif line == "data: [DONE]":
                assert [rest async for rest in lines] in ([], [""]), "more after the end"
                return False
            elif line:
                chunk = json.loads(line.removeprefix("data: "))
                if "error" in chunk:
                    self.reply.failure = _streamed_failure(chunk["error"])
                    return False
                _take_chunk(self.reply, chunk)
                return True
        self.reply.failure = Failure(LOST)
        return False

    async def leave(self) -> None:
        """Close the connection, unless the answer has come to its end."""
        if self._response is not None:
            await self._response.aclose()
            return
        self._sending.cancel()
        await asyncio.wait((self._sending,))
        if not self._sending.cancelled() and self._sending.exception() is None:
            await self._sending.result().aclose()


def _take_chunk(reply: Reply, chunk: Json) -> None:
    reply.model = chunk["model"]
    if chunk.get("usage"):
        reply.usage = _usage(chunk["usage"])
    for choice in chunk["choices"]:
        reply.finish = choice["finish_reason"] or reply.finish
        if "text" in choice:
            reply.add_text(choice["text"])
            continue
        delta = choice["delta"]
        reply.add_text(delta.get("content") or "")
        reply.thinking += delta.get("reasoning_content") or ""
        for call in delta.get("tool_calls") or ():
            function = call["function"]
            if "id" in call:
                reply.begin_call(call["index"], call["id"], function["name"])
                assert function["arguments"] == ""
            else:
                assert "name" not in function
                reply.add_arguments(call["index"], function["arguments"])


def _take_whole(reply: Reply, body: Json) -> None:
    (choice,) = body["choices"]
    reply.model, reply.finish = body["model"], choice["finish_reason"]
    reply.usage = _usage(body["usage"])
    if "text" in choice:
        reply.text = choice["text"]
        return
    message = choice["message"]
    reply.text = message["content"] or ""
    reply.thinking = message.get("reasoning_content") or ""
    for call in message.get("tool_calls") or ():
        function = call["function"]
        reply.calls.append(Call(call["id"], function["name"], (function["arguments"],)))


def _usage(usage: Json) -> Usage:
    prompt = usage["prompt_tokens_details"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    cached, written = prompt["cached_tokens"], prompt["cache_write_tokens"]
    return Usage(
        input_tokens=usage["prompt_tokens"] - cached - written,
        cache_read_tokens=cached,
        cache_write_tokens=written,
        output_tokens=usage["completion_tokens"],
        thinking_tokens=usage["completion_tokens_details"]["reasoning_tokens"],
    )


def _streamed_failure(error: Json) -> Failure:
    assert error.keys() >= {"message", "type", "param", "code"}
    return Failure(200, str(error["code"]), message=error["message"], field=error["param"] or "")


def _failure(response: httpx.Response) -> Failure:
    error = response.json()["error"]
    assert error.keys() >= {"message", "type", "param", "code"}
    status, headers = response.status_code, response.headers
    after = headers.get("retry-after")
    # As OpenAI's clients decide.
    retryable = (status in (408, 409, 429) or status >= 500) and (
        headers.get("x-should-retry") != "false"
    )
    return Failure(
        status,
        str(error["code"]),
        None if after is None else float(after),
        error["message"],
        error["param"] or "",
        retryable,
    )
