"""A small HTTP client of the running server, for the command line."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from bridge.listening import ListenError
from bridge.tls import own_client_context

_UNEXPECTED = (ValueError, KeyError, TypeError, AttributeError)


class ChatError(Exception):
    """What the server answered instead, or why it could not be reached, in one line."""


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """A server, and how it is reached."""

    url: str
    """Without /v1."""
    uds: Path | None = None
    """The Unix socket to go by."""
    cert: Path | None = None
    """The certificate that the server must show, whatever names are in it. None is any for the
    URL's host that this machine trusts."""

    def __str__(self) -> str:
        return self.url if self.uds is None else f"unix:{self.uds}"

    def client(self, api_key: str | None) -> httpx.Client:
        """Make a client of it, which waits without end for the next part of an answer."""
        transport: httpx.BaseTransport | None = None
        if self.uds is not None or self.cert is not None:
            verify = True if self.cert is None else _own_context(self.cert)
            uds = None if self.uds is None else str(self.uds)
            transport = httpx.HTTPTransport(verify=verify, uds=uds)
        return httpx.Client(
            # The server has its own limit for an answer, and a model may think for long.
            timeout=httpx.Timeout(10.0, read=None),
            headers=_headers(api_key),
            transport=transport,
        )


def _own_context(cert: Path) -> ssl.SSLContext:
    try:
        return own_client_context(cert)
    except ListenError as error:
        raise ChatError(str(error)) from error


def stream_chat(
    server: ServerAddress,
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
            server.client(api_key) as client,
            client.stream("POST", f"{server.url}/v1/chat/completions", json=body) as response,
        ):
            if response.status_code != 200:
                response.read()
                raise ChatError(_problem(response))
            for line in _lines(response):
                data = line.removeprefix("data: ")
                if data == "[DONE]":
                    complete = True
                elif data != line:
                    yield from _text(server, data)
    except httpx.HTTPError as error:
        raise _unreachable(server, error) from error
    if not complete:
        raise ChatError("The answer was cut off.")


def list_models(server: ServerAddress, *, api_key: str | None = None) -> list[str]:
    """The names of the models on offer; raises ChatError."""
    try:
        with server.client(api_key) as client:
            response = client.get(f"{server.url}/v1/models", timeout=30.0)
    except httpx.HTTPError as error:
        raise _unreachable(server, error) from error
    if response.status_code != 200:
        raise ChatError(_problem(response))
    try:
        return [entry["id"] for entry in response.json()["data"]]
    except _UNEXPECTED as error:
        raise _no_bridge(server) from error


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


def _text(server: ServerAddress, data: str) -> list[str]:
    try:
        chunk: dict[str, Any] = json.loads(data)
        if "error" in chunk:
            raise ChatError(chunk["error"]["message"])
        contents = [choice["delta"].get("content") for choice in chunk["choices"]]
    except _UNEXPECTED as error:
        raise _no_bridge(server) from error
    return [content for content in contents if content]


def _problem(response: httpx.Response) -> str:
    try:
        message = str(response.json()["error"]["message"])
        if response.status_code == 401:
            message += " Give it with --api-key or BRIDGE_API_KEY."
        return message
    except (ValueError, KeyError, TypeError):
        return f"{response.url} answered with status {response.status_code}."


def _no_bridge(server: ServerAddress) -> ChatError:
    return ChatError(f"What {server} answered is not OpenAI's API. Is it `bridge serve`?")


def _unreachable(server: ServerAddress, error: Exception) -> ChatError:
    return ChatError(f"No answer from {server} ({error}). Is `bridge serve` running?")
