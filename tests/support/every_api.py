"""A plain question over each API, and its outcome in the same words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
import httpx

from bridge.v1 import completion_pb2 as pb
from bridge.v1.completion_pb2_grpc import CompletionServiceStub
from tests.support.harness import PATIENCE, RunningBridge

_STATUS: Mapping[int, str] = {
    401: "UNAUTHENTICATED",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
}


class Client:
    """Connections to both servers of a bridge."""

    def __init__(self, running: RunningBridge) -> None:
        self.http = httpx.Client(base_url=running.url, timeout=PATIENCE, trust_env=False)
        self.channel = grpc.insecure_channel(running.target)

    def close(self) -> None:
        self.http.close()
        self.channel.close()


@dataclass(frozen=True)
class Reply:
    status: str
    message: str = ""


OK = Reply("ok")


def _over_http(path: str, **body: Any) -> Callable[[Client, str, str], Reply]:
    def ask(client: Client, secret: str, text: str) -> Reply:
        asked = {name: text if value is None else value for name, value in body.items()}
        if "messages" in body:
            asked["messages"] = [{"role": "user", "content": text}]
        reply = client.http.post(
            path, json={"model": "default", **asked}, headers={"authorization": f"Bearer {secret}"}
        )
        if reply.status_code == 200:
            return OK
        status = _STATUS[reply.status_code]
        return Reply(status, reply.json()["error"]["message"])

    return ask


def _over_grpc(client: Client, secret: str, text: str) -> Reply:
    message = pb.Message(role=pb.ROLE_USER, parts=[pb.Part(text=text)])
    spec = pb.CompletionSpec(model="default", messages=[message])
    call = CompletionServiceStub(client.channel).Complete(
        pb.CompleteRequest(completion=spec),
        timeout=PATIENCE,
        metadata=(("authorization", f"Bearer {secret}"),),
    )
    try:
        list(call)
    except grpc.RpcError as error:
        return Reply(call.code().name, str(call.details()) or str(error))
    return OK


Ask = Callable[[Client, str, str], Reply]
APIS: dict[str, Ask] = {
    "chat": _over_http("/v1/chat/completions", messages=None),
    "responses": _over_http("/v1/responses", input=None),
    "messages": _over_http("/v1/messages", messages=None, max_tokens=99),
    "grpc": _over_grpc,
}
