"""What `bridge serve --try` does: one streamed completion through each door, and what next."""

from __future__ import annotations

import sys

import grpc

from bridge.v1 import completion_pb2 as pb
from bridge.v1.completion_pb2_grpc import CompletionServiceStub

_QUESTION = "What are you?"


async def take_tour(host: str, http_port: int, grpc_port: int, key: str | None = None) -> None:
    """Ask through every door that is open (its port is not 0) and print the answers.

    `key` is the secret that the doors ask for, if they do; it is not printed.
    """
    if http_port:
        await _through_http(f"http://{host}:{http_port}/v1", key)
    if grpc_port:
        await _through_grpc(f"{host}:{grpc_port}", key)
    _print(_next_lines(host, http_port, grpc_port, asks_for_key=key is not None))


async def _through_http(base_url: str, key: str | None) -> None:
    try:
        from openai import AsyncOpenAI
    except ImportError:
        _print("\nThe `openai` package is not installed: pip install 'claude-code-bridge[demo]'\n")
        return
    _print(f"\nHTTP, by the openai client at {base_url}:\n  {_QUESTION}\n  > ")
    async with AsyncOpenAI(base_url=base_url, api_key=key or "unused") as client:
        stream = await client.chat.completions.create(
            model="default", messages=[{"role": "user", "content": _QUESTION}], stream=True
        )
        async for chunk in stream:
            if chunk.choices:
                _print(chunk.choices[0].delta.content or "")
    _print("\n")


async def _through_grpc(target: str, key: str | None) -> None:
    _print(f"\ngRPC, by the generated stub at {target}:\n  {_QUESTION}\n  > ")
    request = pb.CompleteRequest(
        messages=[pb.Message(role=pb.ROLE_USER, parts=[pb.Part(text=_QUESTION)])]
    )
    metadata = (("authorization", f"Bearer {key}"),) if key else None
    async with grpc.aio.insecure_channel(target) as channel:
        stub = CompletionServiceStub(channel)
        async for response in stub.Complete(request, metadata=metadata):
            _print(response.text_delta.text)
    _print("\n")


def _next_lines(host: str, http_port: int, grpc_port: int, *, asks_for_key: bool) -> str:
    lines = "\nIt goes on serving. Try next:\n"
    header, key = "", "'unused'"
    if asks_for_key:
        lines += "\n  export BRIDGE_API_KEY=...  # one of your keys\n"
        header, key = ' -H "authorization: Bearer $BRIDGE_API_KEY"', "'$BRIDGE_API_KEY'"
    if http_port:
        base = f"http://{host}:{http_port}"
        lines += f"""
  curl -N {base}/v1/chat/completions -H 'content-type: application/json'{header} \\
    -d '{{"model":"default","stream":true,"messages":[{{"role":"user","content":"Hello"}}]}}'

  python -c "from openai import OpenAI; c = OpenAI(base_url='{base}/v1', api_key={key});
print(c.chat.completions.create(model='default', messages=[
    dict(role='user', content='Hello')]).choices[0].message.content)"
"""
    if grpc_port:
        lines += f"""
  grpcurl -plaintext{header} \\
    -d '{{"messages":[{{"role":"ROLE_USER","parts":[{{"text":"Hello"}}]}}]}}' \\
    {host}:{grpc_port} bridge.v1.CompletionService/Complete
"""
    return lines + "\n"


def _print(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
