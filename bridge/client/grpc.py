"""A client of the gRPC API."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from typing import Any, Final

import grpc
from google.protobuf.json_format import MessageToDict

from bridge.client.asking import Asked, ChatError, Done, Image, Question, Text, Turn
from bridge.client.connection import GIVE_KEY, GrpcAddress
from bridge.v1 import completion_pb2 as pb
from bridge.v1 import model_pb2, pool_pb2
from bridge.v1.completion_pb2_grpc import CompletionServiceStub
from bridge.v1.model_pb2_grpc import ModelServiceStub
from bridge.v1.pool_pb2_grpc import PoolServiceStub

# With --http alone the server has no gRPC API.
_IS_IT_RUNNING: Final = "Is `bridge serve` running with the gRPC API?"
_LIST_SECONDS: Final = 30.0
_ROLES: Final = {"user": pb.ROLE_USER, "assistant": pb.ROLE_ASSISTANT}
# OpenAI's values, as in the HTTP client.
_REASONS: Final = {
    pb.FINISH_REASON_STOP: "stop",
    pb.FINISH_REASON_LENGTH: "length",
    pb.FINISH_REASON_TOOL_CALLS: "tool_calls",
    pb.FINISH_REASON_REFUSAL: "content_filter",
}


class GrpcClient:
    """A client on the generated stubs. Every method raises ChatError."""

    def __init__(self, server: GrpcAddress, api_key: str | None = None) -> None:
        self._server = server
        self._metadata = server.metadata(api_key)

    def ask(self, question: Question) -> Generator[Asked, None, None]:
        """Yield the answer as it comes, then Done; closing the generator cancels the answer."""
        model = ""
        done: Done | None = None
        with self._server.channel() as channel:
            call = CompletionServiceStub(channel).Complete(
                request_of(question), metadata=self._metadata
            )
            try:
                for response in call:
                    event = response.event
                    match event.WhichOneof("event"):
                        case "started":
                            model = event.started.model
                        case "text_delta":
                            yield Text(event.text_delta.text)
                        case "finished":
                            done = _done(model, event.finished)
            except grpc.RpcError as error:
                raise self._problem(error) from error
            finally:
                call.cancel()
        if done is None:
            raise ChatError("The answer ended prematurely.")
        yield done

    def models(self) -> list[dict[str, Any]]:
        """The available models, as ModelService lists them."""
        try:
            with self._server.channel() as channel:
                reply = ModelServiceStub(channel).ListModels(
                    model_pb2.ListModelsRequest(),
                    metadata=self._metadata,
                    timeout=_LIST_SECONDS,
                )
        except grpc.RpcError as error:
            raise self._problem(error) from error
        return [MessageToDict(model, preserving_proto_field_name=True) for model in reply.models]

    def pool(self) -> pool_pb2.Pool:
        """The current state of the pool."""
        try:
            with self._server.channel() as channel:
                reply = PoolServiceStub(channel).GetPool(
                    pool_pb2.GetPoolRequest(), metadata=self._metadata, timeout=_LIST_SECONDS
                )
        except grpc.RpcError as error:
            raise self._problem(error) from error
        return reply.pool

    def watch_pool(self) -> Iterator[pool_pb2.Pool]:
        """Yield the state of the pool now and after each change, until the generator is closed."""
        with self._server.channel() as channel:
            call = PoolServiceStub(channel).WatchPool(
                pool_pb2.WatchPoolRequest(), metadata=self._metadata
            )
            try:
                for response in call:
                    yield response.pool
            except grpc.RpcError as error:
                raise self._problem(error) from error
            finally:
                call.cancel()

    def _problem(self, error: grpc.RpcError) -> ChatError:
        # The exception is also the call; the type stubs do not say so.
        call: Any = error
        trailing = dict(call.trailing_metadata() or ())
        details = str(call.details() or call.code().name)
        if "grpc-status-details-bin" in trailing:
            # The bridge's own error message.
            if call.code() is grpc.StatusCode.UNAUTHENTICATED:
                details += f" {GIVE_KEY}"
            return ChatError(details)
        if call.code() is grpc.StatusCode.UNIMPLEMENTED:
            return ChatError(f"{self._server} is not the bridge's gRPC API. {_IS_IT_RUNNING}")
        return ChatError(f"No answer from {self._server} ({details}). {_IS_IT_RUNNING}")


def request_of(question: Question) -> pb.CompleteRequest:
    completion = pb.CompletionSpec(
        # Over gRPC the default model has no name.
        model="" if question.model == "default" else question.model,
        system=question.system or "",
        messages=[
            pb.Message(role=_ROLES[turn.role], parts=_parts(turn)) for turn in question.turns
        ],
    )
    if question.schema is not None:
        completion.output_format.CopyFrom(
            pb.OutputFormat(
                kind=pb.OutputFormat.KIND_JSON_SCHEMA,
                name="answer",
                schema_json=json.dumps(question.schema),
            )
        )
    return pb.CompleteRequest(completion=completion)


def _parts(turn: Turn) -> list[pb.Part]:
    images = [pb.Part(image=_image(image)) for image in turn.images]
    return [*images, *([pb.Part(text=turn.text)] if turn.text else [])]


def _image(image: Image) -> pb.Image:
    if image.url:
        return pb.Image(url=image.url)
    return pb.Image(data=pb.Blob(media_type=image.media_type, content=image.content))


def _done(model: str, finished: pb.Finished) -> Done:
    usage = finished.usage
    return Done(
        model,
        _REASONS.get(finished.reason, ""),
        usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens,
        usage.output_tokens,
    )
