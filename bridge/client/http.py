"""A client of the HTTP API."""

from __future__ import annotations

import base64
import json
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

import httpx

from bridge.client.asking import Asked, ChatError, Done, Image, Question, Text, Turn
from bridge.client.connection import GIVE_KEY, IS_IT_RUNNING, ServerAddress
from bridge.core.ledger import Totals, UsageRow

_UNEXPECTED: Final = (ValueError, KeyError, TypeError, AttributeError)
_LIST_SECONDS: Final = 30.0
_TOTALS: Final = tuple(each.name for each in fields(Totals))


@dataclass(frozen=True, slots=True)
class ReplicaUsage:
    """The ledger of one server, summed."""

    replica: str
    """The server's name; empty if it says none."""
    rows: list[UsageRow]


class HttpClient:
    """A client of OpenAI's API. Every method raises ChatError."""

    def __init__(self, server: ServerAddress, api_key: str | None = None) -> None:
        self._server = server
        self._api_key = api_key

    def ask(self, question: Question) -> Generator[Asked, None, None]:
        """Yield the answer as it comes, then Done; closing the generator cancels the answer."""
        done = Done()
        complete = False
        try:
            with (
                self._server.client(self._api_key) as client,
                client.stream(
                    "POST", f"{self._server.url}/v1/chat/completions", json=body_of(question)
                ) as response,
            ):
                if response.status_code != 200:
                    response.read()
                    raise ChatError(_problem(response))
                for line in _lines(response):
                    data = line.removeprefix("data: ")
                    if data == "[DONE]":
                        complete = True
                    elif data != line:
                        texts, done = self._read(data, done)
                        for text in texts:
                            yield Text(text)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        if not complete:
            raise ChatError("The answer ended prematurely.")
        yield done

    def models(self) -> list[dict[str, Any]]:
        """The available models, as OpenAI's API lists them."""
        response = self._get("/v1/models")
        try:
            return [{**entry, "id": str(entry["id"])} for entry in response.json()["data"]]
        except _UNEXPECTED as error:
            raise self._not_a_bridge() from error

    def usage(self, by: str, since: str) -> ReplicaUsage:
        """What this server has answered, summed; `since` is empty for all of it."""
        response = self._get("/v1/usage", {"by": by} | ({"since": since} if since else {}))
        try:
            rows = [
                UsageRow(str(entry[by]), Totals(**{name: entry[name] for name in _TOTALS}))
                for entry in response.json()["data"]
            ]
        except _UNEXPECTED as error:
            raise ChatError(f"{self._server} has no usage to show. {IS_IT_RUNNING}") from error
        return ReplicaUsage(response.headers.get("x-bridge-replica", ""), rows)

    def _get(self, path: str, parameters: Mapping[str, str] | None = None) -> httpx.Response:
        try:
            with self._server.client(self._api_key) as client:
                response = client.get(
                    f"{self._server.url}{path}", params=parameters, timeout=_LIST_SECONDS
                )
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        if response.status_code != 200:
            raise ChatError(_problem(response))
        return response

    def _read(self, data: str, done: Done) -> tuple[list[str], Done]:
        try:
            chunk: dict[str, Any] = json.loads(data)
            if "error" in chunk:
                raise ChatError(str(chunk["error"]["message"]))
            usage = chunk.get("usage") or {}
            choices = chunk["choices"]
            contents = [choice["delta"].get("content") for choice in choices]
            reasons = [choice.get("finish_reason") for choice in choices]
            done = Done(
                str(chunk.get("model") or done.model),
                next((str(reason) for reason in reasons if reason), done.reason),
                int(usage.get("prompt_tokens", done.prompt_tokens)),
                int(usage.get("completion_tokens", done.output_tokens)),
            )
        except _UNEXPECTED as error:
            raise self._not_a_bridge() from error
        return [content for content in contents if content], done

    def _not_a_bridge(self) -> ChatError:
        return ChatError(f"{self._server} did not answer with OpenAI's API. {IS_IT_RUNNING}")

    def _unreachable(self, error: Exception) -> ChatError:
        return ChatError(f"No answer from {self._server} ({error}). {IS_IT_RUNNING}")


def body_of(question: Question) -> dict[str, Any]:
    messages = [_message(turn) for turn in question.turns]
    if question.system is not None:
        messages.insert(0, {"role": "system", "content": question.system})
    body: dict[str, Any] = {
        "model": question.model,
        "messages": messages,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if question.schema is not None:
        schema = {"name": "answer", "schema": question.schema, "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    return body


def _message(turn: Turn) -> dict[str, Any]:
    if not turn.images:
        return {"role": turn.role, "content": turn.text}
    images = [{"type": "image_url", "image_url": {"url": _url(image)}} for image in turn.images]
    text = [{"type": "text", "text": turn.text}] if turn.text else []
    return {"role": turn.role, "content": [*images, *text]}


def _url(image: Image) -> str:
    if image.url:
        return image.url
    return f"data:{image.media_type};base64,{base64.b64encode(image.content).decode()}"


def _lines(response: httpx.Response) -> Iterator[str]:
    # httpx also splits at U+2028 and the like, which may be part of an answer.
    rest = ""
    for text in response.iter_text():
        *lines, rest = (rest + text).split("\n")
        yield from lines


def _problem(response: httpx.Response) -> str:
    try:
        message = str(response.json()["error"]["message"])
        if response.status_code == 401:
            message += f" {GIVE_KEY}"
        return message
    except (ValueError, KeyError, TypeError):
        return f"{response.url} answered with status {response.status_code}. {IS_IT_RUNNING}"
