"""One table of scenarios, each as both doors take it, and how to run them to one transcript."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc
import openai
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from bridge.v1 import completion_pb2 as pb
from bridge.v1.completion_pb2_grpc import CompletionServiceStub
from tests.harness import PATIENCE, RunningBridge, sim

Json = dict[str, Any]


def user(text: str) -> pb.Message:
    return pb.Message(role=pb.ROLE_USER, parts=[pb.Part(text=text)])


def assistant(text: str) -> pb.Message:
    return pb.Message(role=pb.ROLE_ASSISTANT, parts=[pb.Part(text=text)])


@dataclass(frozen=True)
class Transcript:
    """What came of a request, whichever door it went through."""

    text: str = ""
    chunks: int = 0
    model: str = ""
    finish: str = ""
    prompt_tokens: int = 0
    output_tokens: int = 0
    ignored: tuple[str, ...] = ()
    error: str = ""
    """The reason of the error, by the core's name."""
    error_field: str = ""


@dataclass(frozen=True)
class Scenario:
    """A request in both forms. `{id}` in a text is replaced, so that requests can be told apart."""

    name: str
    http: Json
    grpc: pb.CompleteRequest
    headers: Mapping[str, str] = field(default_factory=dict)

    def http_body(self, marker: str) -> Json:
        body: Json = json.loads(json.dumps(self.http).replace("{id}", marker))
        return {"model": "default", "stream": True, **body}

    def grpc_request(self, marker: str) -> pb.CompleteRequest:
        request = pb.CompleteRequest()
        request.CopyFrom(self.grpc)
        for message in request.messages:
            for part in message.parts:
                part.text = part.text.replace("{id}", marker)
        request.system = request.system.replace("{id}", marker)
        return request


HTTP_FINISH = {"stop": "STOP", "length": "LENGTH", "content_filter": "REFUSAL"}


def through_http(running: RunningBridge, scenario: Scenario, marker: str) -> Transcript:
    """Run it with OpenAI's own client."""
    text: list[str] = []
    finish = model = ""
    usage: Any = None
    with openai.OpenAI(
        base_url=f"{running.url}/v1", api_key="unused", max_retries=0, timeout=PATIENCE
    ) as client:
        try:
            raw = client.chat.completions.with_raw_response.create(
                **scenario.http_body(marker),
                stream_options={"include_usage": True},
                extra_headers=scenario.headers,
            )
            stream: Any = raw.parse()
            for chunk in stream:
                model = chunk.model
                usage = chunk.usage or usage
                for choice in chunk.choices:
                    if choice.delta.content:
                        text.append(choice.delta.content)
                    finish = choice.finish_reason or finish
        except openai.APIError as error:
            body: Any = error.body
            return Transcript(
                text="".join(text), error=str(error.code), error_field=str(body.get("param") or "")
            )
    ignored = raw.headers.get("x-bridge-ignored-params", "")
    return Transcript(
        "".join(text),
        len(text),
        model,
        HTTP_FINISH[finish],
        usage.prompt_tokens,
        usage.completion_tokens,
        tuple(filter(None, ignored.split(","))),
    )


def through_grpc(running: RunningBridge, scenario: Scenario, marker: str) -> Transcript:
    """Run it with the generated stub."""
    text: list[str] = []
    started, finished = pb.Started(), pb.Finished()
    with grpc.insecure_channel(running.target) as channel:
        call = CompletionServiceStub(channel).Complete(
            scenario.grpc_request(marker), timeout=PATIENCE
        )
        try:
            for response in call:
                kind = response.WhichOneof("event")
                if kind == "text_delta":
                    text.append(response.text_delta.text)
                elif kind == "started":
                    started = response.started
                elif kind == "finished":
                    finished = response.finished
        except grpc.RpcError as error:
            reason, violated = _details(error)
            return Transcript(text="".join(text), error=reason, error_field=violated)
    usage = finished.usage
    return Transcript(
        "".join(text),
        len(text),
        started.model,
        pb.FinishReason.Name(finished.reason).removeprefix("FINISH_REASON_"),
        usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens,
        usage.output_tokens,
        tuple(started.ignored_params),
    )


def _details(error: Any) -> tuple[str, str]:
    status = rpc_status.from_call(error)
    assert status is not None, f"no details: {error}"
    info = error_details_pb2.ErrorInfo()
    for detail in status.details:
        detail.Unpack(info)
    return info.reason, info.metadata.get("field", "")


DOORS: dict[str, Callable[[RunningBridge, Scenario, str], Transcript]] = {
    "http": through_http,
    "grpc": through_grpc,
}


def new_marker() -> str:
    return uuid.uuid4().hex


def chat(*messages: tuple[str, str], **more: Any) -> Json:
    return {"messages": [{"role": role, "content": text} for role, text in messages], **more}


SCENARIOS = [
    Scenario(
        "a question",
        chat(("user", "{id} Hello " + sim(text="Good day to you."))),
        pb.CompleteRequest(messages=[user("{id} Hello " + sim(text="Good day to you."))]),
    ),
    Scenario(
        "200 tokens",
        chat(("user", "{id} " + sim(tokens=200))),
        pb.CompleteRequest(messages=[user("{id} " + sim(tokens=200))]),
    ),
    Scenario(
        "a system prompt",
        chat(("system", "Be {id}."), ("user", "{id} Hi " + sim(text="ok"))),
        pb.CompleteRequest(system="Be {id}.", messages=[user("{id} Hi " + sim(text="ok"))]),
    ),
    Scenario(
        "a history",
        chat(
            ("user", "{id} one"),
            ("assistant", "two"),
            ("user", "three"),
            ("assistant", "four"),
            ("user", "five " + sim(text="six")),
        ),
        pb.CompleteRequest(
            messages=[
                user("{id} one"),
                assistant("two"),
                user("three"),
                assistant("four"),
                user("five " + sim(text="six")),
            ]
        ),
    ),
    Scenario(
        "a history that starts with the assistant, two users in a row",
        chat(("assistant", "Welcome {id}"), ("user", "a"), ("user", "b " + sim(text="c"))),
        pb.CompleteRequest(
            messages=[assistant("Welcome {id}"), user("a"), user("b " + sim(text="c"))]
        ),
    ),
    Scenario(
        "a limit",
        chat(("user", "{id} " + sim(tokens=200)), max_tokens=7),
        pb.CompleteRequest(messages=[user("{id} " + sim(tokens=200))], max_output_tokens=7),
    ),
    Scenario(
        "a model by its alias",
        chat(("user", "{id} " + sim(text="small")), model="haiku"),
        pb.CompleteRequest(model="haiku", messages=[user("{id} " + sim(text="small"))]),
    ),
    Scenario(
        "another maker's model",
        chat(("user", "{id} " + sim(text="any")), model="gpt-4o"),
        pb.CompleteRequest(model="gpt-4o", messages=[user("{id} " + sim(text="any"))]),
    ),
    Scenario(
        "a model that does not exist",
        chat(("user", "{id}"), model="claude-nonexistent-9"),
        pb.CompleteRequest(model="claude-nonexistent-9", messages=[user("{id}")]),
    ),
    Scenario(
        "another maker's model where that is an error",
        chat(("user", "{id}"), model="gpt-4o"),
        pb.CompleteRequest(model="gpt-4o", messages=[user("{id}")], strict=True),
        headers={"x-bridge-strict": "true"},
    ),
    Scenario(
        "a refusal",
        chat(("user", "{id} " + sim(text="I cannot", stop_reason="refusal"))),
        pb.CompleteRequest(messages=[user("{id} " + sim(text="I cannot", stop_reason="refusal"))]),
    ),
    Scenario(
        "upstream refuses the request",
        chat(
            (
                "user",
                "{id} "
                + sim(error={"status": 400, "type": "invalid_request_error", "message": "no"}),
            )
        ),
        pb.CompleteRequest(
            messages=[
                user(
                    "{id} "
                    + sim(error={"status": 400, "type": "invalid_request_error", "message": "no"})
                )
            ]
        ),
    ),
    Scenario(
        "upstream breaks off",
        chat(("user", "{id} " + sim(tokens=50, error_after=5))),
        pb.CompleteRequest(messages=[user("{id} " + sim(tokens=50, error_after=5))]),
    ),
    Scenario("no messages", {"messages": []}, pb.CompleteRequest()),
    Scenario(
        "it ends with the assistant",
        chat(("user", "{id}"), ("assistant", "b")),
        pb.CompleteRequest(messages=[user("{id}"), assistant("b")]),
    ),
]
