"""`bridge serve --try`: one streamed completion through each API, then commands to try."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from shlex import quote as shell_quote
from typing import TYPE_CHECKING

import grpc

from bridge.cli.common import printable
from bridge.client import certified_name, target_of
from bridge.server import (
    Address,
    Tcp,
    Tls,
    Unix,
    first_certificate,
    local_address,
    local_url,
    own_client_context,
)
from bridge.v1 import completion_pb2 as pb
from bridge.v1.completion_pb2_grpc import CompletionServiceStub

if TYPE_CHECKING:
    from openai import AsyncOpenAI

_QUESTION = "What are you?"


async def take_tour(
    http: Address | None,
    grpc: Address | None,
    tls: Tls | None,
    key: str | None,
    write: Callable[[str], None],
) -> None:
    """Send one completion through each API that is served, and write the answers.

    `key` is the secret of a key, if the server requires one; it is not written.
    """
    if http is not None:
        await _through_http(http, tls, key, write)
    if grpc is not None:
        if tls is not None and tls.client_ca is not None:
            write("\nSkipping gRPC: it requires a client certificate.\n")
        else:
            await _through_grpc(grpc, tls, key, write)
    write(next_lines(http, grpc, tls, needs_key=key is not None))


async def _through_http(
    address: Address, tls: Tls | None, key: str | None, write: Callable[[str], None]
) -> None:
    try:
        client = _http_client(address, tls, key)
    except ImportError:
        write("\nThe `openai` package is not installed: pip install openai httpx2\n")
        return
    write(f"\nHTTP API, with the openai client at {client.base_url}:\n  {_QUESTION}\n  > ")
    async with client:
        stream = await client.chat.completions.create(
            model="default", messages=[{"role": "user", "content": _QUESTION}], stream=True
        )
        async for chunk in stream:
            if chunk.choices:
                write(printable(chunk.choices[0].delta.content or ""))
    write("\n")


def _http_client(address: Address, tls: Tls | None, key: str | None) -> AsyncOpenAI:
    """Make an openai client; raises ImportError if the package is not installed."""
    import httpx2
    from openai import AsyncOpenAI, DefaultAsyncHttpxClient

    transport = httpx2.AsyncHTTPTransport(
        verify=True if tls is None else own_client_context(tls.files.cert),
        uds=str(address.path) if isinstance(address, Unix) else None,
    )
    return AsyncOpenAI(
        base_url=f"{local_url(address, tls=tls is not None)}/v1",
        api_key=key or "unused",
        http_client=DefaultAsyncHttpxClient(transport=transport),
    )


async def _through_grpc(
    address: Address, tls: Tls | None, key: str | None, write: Callable[[str], None]
) -> None:
    write(f"\ngRPC API, with the generated stub at {local_address(address)}:\n  {_QUESTION}\n  > ")
    messages = [pb.Message(role=pb.ROLE_USER, parts=[pb.Part(text=_QUESTION)])]
    request = pb.CompleteRequest(completion=pb.CompletionSpec(messages=messages))
    metadata = (("authorization", f"Bearer {key}"),) if key else None
    async with await _channel(address, tls) as channel:
        stub = CompletionServiceStub(channel)
        async for response in stub.Complete(request, metadata=metadata):
            write(printable(response.event.text_delta.text))
    write("\n")


async def _channel(address: Address, tls: Tls | None) -> grpc.aio.Channel:
    local = local_address(address)
    if tls is None:
        return grpc.aio.insecure_channel(target_of(local))
    credentials = grpc.ssl_channel_credentials(first_certificate(tls.cert))
    # In a thread: the server runs on this loop.
    name = await asyncio.to_thread(certified_name, local, tls.files.cert)
    options = [("grpc.ssl_target_name_override", name)]
    return grpc.aio.secure_channel(target_of(local), credentials, options=options)


def next_lines(
    http: Address | None, grpc: Address | None, tls: Tls | None, *, needs_key: bool
) -> str:
    """Commands to try against the same server."""
    lines = "\nThe server is running (Ctrl-C stops it). Next:\n"
    header, key = "", "'unused'"
    if needs_key:
        lines += "\n  export BRIDGE_API_KEY=...  # one of your keys\n"
        header, key = ' -H "authorization: Bearer $BRIDGE_API_KEY"', "'$BRIDGE_API_KEY'"
    if http is not None:
        base = local_url(http, tls=tls is not None)
        options = f" --unix-socket {shell_quote(str(http.path))}" if isinstance(http, Unix) else ""
        options += " --insecure" if tls else ""
        lines += f"""
  curl -N{options} {base}/v1/chat/completions -H 'content-type: application/json'{header} \\
    -d '{{"model":"default","stream":true,"messages":[{{"role":"user","content":"Hello"}}]}}'
"""
        if isinstance(http, Tcp) and tls is None:
            lines += f"""
  python -c "from openai import OpenAI; c = OpenAI(base_url='{base}/v1', api_key={key});
print(c.chat.completions.create(model='default', messages=[
    dict(role='user', content='Hello')]).choices[0].message.content)"
"""
    if grpc is not None:
        local = local_address(grpc)
        options = "-insecure" if tls else "-plaintext"
        options += " -cert CERT -key KEY" if tls and tls.client_ca else ""
        options += " -unix" if isinstance(local, Unix) else ""
        where = shell_quote(str(local.path)) if isinstance(local, Unix) else str(local)
        lines += f"""
  grpcurl {options}{header} \\
    -d '{{"completion":{{"messages":[{{"role":"ROLE_USER","parts":[{{"text":"Hello"}}]}}]}}}}' \\
    {where} bridge.v1.CompletionService/Complete
"""
    return lines + "\n"
