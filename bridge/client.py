"""A small HTTP client of the running server, for the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx

_UNEXPECTED = (ValueError, KeyError, TypeError, AttributeError)


class ChatError(Exception):
    """What the server answered instead, or why it could not be reached, in one line."""


def stream_chat(
    url: str,
    prompt: str,
    *,
    model: str = "default",
    system: str | None = None,
    api_key: str | None = None,
) -> Iterator[str]:
    """Yield the text of an answer as it comes; raises ChatError."""
    messages = [{"role": "user", "content": prompt}]
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    body = {"model": model, "messages": messages, "stream": True}
    complete = False
    try:
        with (
            # The server has its own limit for an answer, and a model may think for long.
            httpx.Client(
                timeout=httpx.Timeout(10.0, read=None), headers=_headers(api_key)
            ) as client,
            client.stream("POST", f"{url}/v1/chat/completions", json=body) as response,
        ):
            if response.status_code != 200:
                response.read()
                raise ChatError(_problem(response))
            for line in _lines(response):
                data = line.removeprefix("data: ")
                if data == "[DONE]":
                    complete = True
                elif data != line:
                    yield from _text(url, data)
    except httpx.HTTPError as error:
        raise _unreachable(url, error) from error
    if not complete:
        raise ChatError("The answer was cut off.")


def list_models(url: str, *, api_key: str | None = None) -> list[str]:
    """The names of the models on offer; raises ChatError."""
    try:
        response = httpx.get(f"{url}/v1/models", timeout=30.0, headers=_headers(api_key))
    except httpx.HTTPError as error:
        raise _unreachable(url, error) from error
    if response.status_code != 200:
        raise ChatError(_problem(response))
    try:
        return [entry["id"] for entry in response.json()["data"]]
    except _UNEXPECTED as error:
        raise _no_bridge(url) from error


def _headers(api_key: str | None) -> dict[str, str]:
    if not api_key:
        return {}
    if not (api_key.isascii() and api_key.isprintable()):
        raise ChatError("The key holds characters that no key has. Is it copied whole?")
    return {"authorization": f"Bearer {api_key}"}


def _lines(response: httpx.Response) -> Iterator[str]:
    # httpx's own lines end at U+2028 and the like too, which may stand within an answer.
    rest = ""
    for text in response.iter_text():
        *lines, rest = (rest + text).split("\n")
        yield from lines


def _text(url: str, data: str) -> list[str]:
    try:
        chunk: dict[str, Any] = json.loads(data)
        if "error" in chunk:
            raise ChatError(chunk["error"]["message"])
        contents = [choice["delta"].get("content") for choice in chunk["choices"]]
    except _UNEXPECTED as error:
        raise _no_bridge(url) from error
    return [content for content in contents if content]


def _problem(response: httpx.Response) -> str:
    try:
        message = str(response.json()["error"]["message"])
        if response.status_code == 401:
            message += " Give it with --api-key or BRIDGE_API_KEY."
        return message
    except (ValueError, KeyError, TypeError):
        return f"{response.url} answered with status {response.status_code}."


def _no_bridge(url: str) -> ChatError:
    return ChatError(f"What {url} answered is not OpenAI's API. Is it `bridge serve`?")


def _unreachable(url: str, error: Exception) -> ChatError:
    return ChatError(f"No answer from {url} ({error}). Is `bridge serve` running?")
