"""A small HTTP client of the running server, for the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx


class ChatError(Exception):
    """What the server answered instead, or why it could not be reached, in one line."""


def stream_chat(
    url: str, prompt: str, *, model: str = "default", system: str | None = None
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
            httpx.Client(timeout=httpx.Timeout(10.0, read=None)) as client,
            client.stream("POST", f"{url}/v1/chat/completions", json=body) as response,
        ):
            if response.status_code != 200:
                response.read()
                raise ChatError(_problem(response))
            for line in response.iter_lines():
                data = line.removeprefix("data: ")
                if data == "[DONE]":
                    complete = True
                elif data != line:
                    yield from _text(json.loads(data))
    except httpx.HTTPError as error:
        raise _unreachable(url, error) from error
    if not complete:
        raise ChatError("The answer was cut off.")


def list_models(url: str) -> list[str]:
    """The names of the models on offer; raises ChatError."""
    try:
        response = httpx.get(f"{url}/v1/models", timeout=30.0)
    except httpx.HTTPError as error:
        raise _unreachable(url, error) from error
    if response.status_code != 200:
        raise ChatError(_problem(response))
    return [entry["id"] for entry in response.json()["data"]]


def _text(chunk: dict[str, Any]) -> Iterator[str]:
    if "error" in chunk:
        raise ChatError(chunk["error"]["message"])
    for choice in chunk["choices"]:
        if text := choice["delta"].get("content"):
            yield text


def _problem(response: httpx.Response) -> str:
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"{response.url} answered with status {response.status_code}."


def _unreachable(url: str, error: Exception) -> ChatError:
    return ChatError(f"No answer from {url} ({error}). Is `bridge serve` running?")
