"""Who may call: keys, what each is good for, web pages, certificates of clients."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from bridge.core.access.authentication import Access
from bridge.core.access.keys import KeyFile, KeyScope, parse_given
from bridge.core.contract.errors import PermissionDeniedError
from bridge.core.contract.events import Event
from bridge.core.contract.request import CompletionRequest
from bridge.grpc_server import ConnectionLimits
from bridge.grpc_server.authenticator import NEEDS, CallAuthenticator, needed_for
from bridge.grpc_server.interceptors import KEYLESS_BYTES
from bridge.grpc_server.reflection import NAMES as REFLECTION
from bridge.grpc_server.server import SERVICES, GrpcServer
from bridge.v1 import completion_pb2 as pb
from bridge.v1 import completion_pb2_grpc, model_pb2, pool_pb2, pool_pb2_grpc, usage_pb2
from tests.integration.grpc_server.conftest import Serve
from tests.support.certificates import Certificate, certificate
from tests.support.fakes import STARTED, STOP, FakeService
from tests.support.grpc.client import Talk, question, whole
from tests.support.grpc.details import details_of
from tests.support.waiting import soon

OK = grpc.StatusCode.OK
UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
DENIED = grpc.StatusCode.PERMISSION_DENIED

MINE = "a-secret-of-some-length"
ADMIN = "another-secret-of-some-length"
KEYS = parse_given(f"mine={MINE},boss:admin={ADMIN}")

CONVERSE = pb.ConverseRequest(open=pb.OpenConversation())
METHODS: dict[str, Any] = {
    "/bridge.v1.CompletionService/Complete": question(),
    "/bridge.v1.CompletionService/CreateCompletion": whole(),
    "/bridge.v1.CompletionService/Converse": CONVERSE,
    "/bridge.v1.CompletionService/CountTokens": pb.CountTokensRequest(
        completion=question().completion
    ),
    "/bridge.v1.CompletionService/AttachCompletion": pb.AttachCompletionRequest(request_id="req_1"),
    "/bridge.v1.CompletionService/CancelCompletion": pb.CancelCompletionRequest(request_id="req_1"),
    "/bridge.v1.ModelService/ListModels": model_pb2.ListModelsRequest(),
    "/bridge.v1.ModelService/GetModel": model_pb2.GetModelRequest(id="opus"),
    "/bridge.v1.PoolService/GetPool": pool_pb2.GetPoolRequest(),
    "/bridge.v1.PoolService/WatchPool": pool_pb2.WatchPoolRequest(),
    "/bridge.v1.PoolService/ListRecentRequests": pool_pb2.ListRecentRequestsRequest(),
    "/bridge.v1.UsageService/GetUsage": usage_pb2.GetUsageRequest(),
    "/bridge.v1.UsageService/GetRequestUsage": usage_pb2.GetRequestUsageRequest(request_id="r"),
    **{
        f"/{name}/ServerReflectionInfo": reflection_pb2.ServerReflectionRequest(list_services="")
        for name in REFLECTION
    },
    "/grpc.health.v1.Health/Check": health_pb2.HealthCheckRequest(),
    "/grpc.health.v1.Health/Watch": health_pb2.HealthCheckRequest(),
}
ENDLESS = ("WatchPool", "Health/Watch")
POOL = [method for method in METHODS if "Pool" in method]
HEALTH = [method for method in METHODS if "health" in method]
OTHERS = [method for method in METHODS if method not in (*POOL, *HEALTH)]


def bearer(secret: str, scheme: str = "Bearer") -> tuple[str, str]:
    return ("authorization", f"{scheme} {secret}")


async def outcome(
    channel: grpc.aio.Channel, method: str, *metadata: tuple[str, str]
) -> grpc.StatusCode:
    """Call a method with one message; OK where it answers, whether or not that has an end."""
    # On the wire every method is a stream. As one of the client's it would be told of a write
    # that failed instead of why the server had refused it.
    call: Any = channel.unary_stream(method)(METHODS[method].SerializeToString(), metadata=metadata)
    try:
        while await soon(call.read()) is not grpc.aio.EOF:
            if method.endswith(ENDLESS):
                call.cancel()
                return OK
    except grpc.aio.AioRpcError as error:
        # That there is no such answer is an answer, too.
        return OK if error.code() is grpc.StatusCode.NOT_FOUND else error.code()
    return await soon(call.code())


def test_every_service_is_in_the_table() -> None:
    served = {*SERVICES, health.SERVICE_NAME, *REFLECTION}
    assert set(NEEDS) == served
    assert {method.split("/")[1] for method in METHODS} == served


def test_a_service_that_was_forgotten_needs_the_most() -> None:
    assert needed_for("/bridge.v1.NewService/Do") is KeyScope.ADMIN


@pytest.fixture
async def guarded(serve: Serve) -> grpc.aio.Channel:
    _, channel = await serve(access=Access(KEYS), allowed_origins=("https://chat.example.com",))
    return channel


async def test_without_a_key_there_is_only_the_health(
    guarded: grpc.aio.Channel, service: FakeService
) -> None:
    for method in (*OTHERS, *POOL):
        assert await outcome(guarded, method) is UNAUTHENTICATED, method
        assert await outcome(guarded, method, bearer("wrong")) is UNAUTHENTICATED, method
    for method in HEALTH:
        assert await outcome(guarded, method) is OK, method
        assert await outcome(guarded, method, bearer("wrong")) is OK, method
    assert service.requests == []


@pytest.mark.parametrize("method", HEALTH)
async def test_a_request_that_needs_no_key_may_not_be_large(
    guarded: grpc.aio.Channel, method: str
) -> None:
    """Unpacked it would take thirty thousand times what it took on the way."""
    large = health_pb2.HealthCheckRequest(service="x" * 30_000_000).SerializeToString()
    ask: Any = guarded.unary_stream(method)
    call = ask(large, compression=grpc.Compression.Gzip)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await soon(call.read())
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert str(KEYLESS_BYTES) in str(refused.value.details())


async def test_an_unimplemented_health_method_is_not_an_internal_error(
    guarded: grpc.aio.Channel, caplog: pytest.LogCaptureFixture
) -> None:
    ask: Any = guarded.unary_unary("/grpc.health.v1.Health/List")
    assert await soon(ask(b"").code()) is grpc.StatusCode.UNIMPLEMENTED
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_clients_without_a_key_do_not_get_all_file_descriptors(serve: Serve) -> None:
    server, channel = await serve(access=Access(KEYS))
    method = "/bridge.v1.ModelService/ListModels"
    assert await outcome(channel, method, bearer(MINE)) is OK
    writers = []
    try:
        refused = 0
        for _ in range(ConnectionLimits().max_connections + 3):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writers.append(writer)
            writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)))
            with suppress(ConnectionError):
                # Whom it takes it greets; whom it does not, it closes.
                refused += not await soon(reader.read(1))
                continue
            refused += 1
        assert refused >= 3
        # Who was there before is served on.
        assert await outcome(channel, method, bearer(MINE)) is OK
    finally:
        for writer in writers:
            writer.close()


async def test_a_key_is_good_for_completions_and_one_for_all(guarded: grpc.aio.Channel) -> None:
    for method in METHODS:
        expected = DENIED if method in POOL else OK
        assert await outcome(guarded, method, bearer(MINE)) is expected, method
        assert await outcome(guarded, method, bearer(ADMIN)) is OK, method


async def test_without_keys_everyone_may_everything(serve: Serve) -> None:
    _, channel = await serve()
    for method in METHODS:
        assert await outcome(channel, method) is OK, method


@pytest.mark.parametrize(
    "metadata",
    [
        [bearer(MINE, "Basic")],
        [("authorization", MINE)],
        [bearer("")],
        [bearer(f"{MINE}x")],
        [bearer(MINE), bearer(ADMIN)],
        [("api-key", MINE)],
        [("authorization-bin", MINE)],
    ],
)
async def test_a_key_is_taken_from_one_place_only(
    guarded: grpc.aio.Channel, metadata: list[tuple[str, str]]
) -> None:
    sent = [(key, value.encode() if key.endswith("-bin") else value) for key, value in metadata]
    method = "/bridge.v1.ModelService/ListModels"
    assert await outcome(guarded, method, *sent) is UNAUTHENTICATED  # type: ignore[arg-type]


async def test_the_scheme_may_be_written_in_any_case(guarded: grpc.aio.Channel) -> None:
    for scheme in ("bearer", "BEARER"):
        given = bearer(MINE, scheme)
        assert await outcome(guarded, "/bridge.v1.ModelService/ListModels", given) is OK


@pytest.mark.parametrize(
    ("method", "metadata", "code", "reason"),
    [
        ("CompletionService/Complete", (), UNAUTHENTICATED, "INVALID_API_KEY"),
        ("ModelService/ListModels", (), UNAUTHENTICATED, "INVALID_API_KEY"),
        ("PoolService/GetPool", (bearer(MINE),), DENIED, "PERMISSION_DENIED"),
    ],
)
async def test_a_refusal_has_the_details_of_every_error(
    guarded: grpc.aio.Channel,
    method: str,
    metadata: tuple[tuple[str, str], ...],
    code: grpc.StatusCode,
    reason: str,
) -> None:
    unary: Any = guarded.unary_unary(f"/bridge.v1.{method}")
    call = unary(b"", metadata=metadata)
    details = await details_of(call)
    assert (details.code, details.info.reason) == (code, reason)
    assert details.info.domain == "claude-code-bridge"
    trailing = dict(tuple(await call.trailing_metadata()))
    assert details.request_id == trailing["x-request-id"]
    # A client's retry policy is not to try the same key again.
    assert trailing["grpc-retry-pushback-ms"] == "-1"


@pytest.mark.parametrize("method", sorted({*OTHERS, *POOL}))
async def test_a_refusal_waits_for_no_message(guarded: grpc.aio.Channel, method: str) -> None:
    """No client without a key makes the server read 32 MB."""
    call: Any = guarded.stream_stream(method)()
    assert await soon(call.code()) is UNAUTHENTICATED


async def test_an_unknown_method_is_unimplemented_for_everyone(guarded: grpc.aio.Channel) -> None:
    for method in ("/bridge.v1.CompletionService/Nothing", "/nobody.v1.Service/Nothing"):
        unary: Any = guarded.unary_unary(method)
        call = unary(b"")
        assert await soon(call.code()) is grpc.StatusCode.UNIMPLEMENTED
        assert dict(tuple(await call.trailing_metadata()))["x-bridge-error"] == "UNKNOWN_METHOD"


async def test_the_name_of_the_key_goes_with_the_request(
    guarded: grpc.aio.Channel, service: FakeService
) -> None:
    for method in METHODS:
        if "CompletionService" in method:
            await outcome(guarded, method, bearer(MINE))
            await outcome(guarded, method, bearer(ADMIN))
    # Converse that was only opened asks for nothing.
    assert [request.caller for request in service.requests] == ["mine", "boss"] * 3


async def test_a_fault_of_the_guard_refuses_every_request(
    serve: Serve, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Access, *args: object) -> None:
        raise RuntimeError("a secret detail")

    _, channel = await serve(access=Access(KEYS))
    monkeypatch.setattr(Access, "authenticate", broken)
    unary: Any = channel.unary_unary("/bridge.v1.ModelService/ListModels")
    call = unary(b"")
    assert await soon(call.code()) is grpc.StatusCode.INTERNAL
    assert "secret" not in str(await call.details())


class Revocable:
    """A server whose keys come from a file."""

    def __init__(self, folder: Path) -> None:
        self.file = KeyFile(folder / "keys.json")
        self.secret = self.file.add("mine", KeyScope.ADMIN)
        self.access = Access((), self.file)

    async def start(self, serve: Serve) -> grpc.aio.Channel:
        server, channel = await serve(access=self.access)
        self.access.on_revoked = lambda name: server.keys_changed()
        return channel

    def revoke(self) -> None:
        """Revoke the key, and add another so that the file is not empty."""
        self.file.add("other")
        self.file.revoke("mine")


@pytest.fixture
def keys(tmp_path: Path) -> Revocable:
    return Revocable(tmp_path)


async def test_a_watch_of_the_pool_ends_with_its_key(
    serve: Serve, service: FakeService, keys: Revocable
) -> None:
    channel = await keys.start(serve)
    stub = pool_pb2_grpc.PoolServiceStub(channel)
    call: Any = stub.WatchPool(pool_pb2.WatchPoolRequest(), metadata=(bearer(keys.secret),))
    assert (await soon(call.read())).HasField("pool")
    keys.revoke()
    keys.access.refresh()
    assert await soon(call.code()) is UNAUTHENTICATED
    await service.until_closed()


async def test_a_conversation_between_turns_ends_with_its_key(
    serve: Serve, keys: Revocable
) -> None:
    talk = Talk(await keys.start(serve), metadata=(bearer(keys.secret),))
    await talk.open()
    assert (await talk.ask("Hello?")).text == "Hello"
    keys.revoke()
    keys.access.refresh()
    assert await soon(talk.call.code()) is UNAUTHENTICATED


async def test_the_key_is_asked_for_again_at_each_turn(
    serve: Serve, service: FakeService, keys: Revocable
) -> None:
    """Also in the moment before the server has noticed by itself."""
    talk = Talk(await keys.start(serve), metadata=(bearer(keys.secret),))
    await talk.open()
    await talk.ask("Hello?")
    keys.access.on_revoked = lambda name: None
    keys.revoke()
    await talk.say("Again?")
    assert await talk.code() is UNAUTHENTICATED
    assert len(service.requests) == 1


async def test_an_answer_that_has_begun_is_given_to_its_end(
    serve: Serve, service: FakeService, keys: Revocable
) -> None:
    more = asyncio.Event()

    async def script(request: CompletionRequest) -> AsyncGenerator[Event, None]:
        yield STARTED
        await more.wait()
        yield STOP

    service.script = script
    talk = Talk(await keys.start(serve), metadata=(bearer(keys.secret),))
    await talk.open()
    await talk.say("Hello?")
    await talk.until("started")
    keys.revoke()
    keys.access.refresh()
    more.set()
    await talk.until("finished")
    assert await talk.code() is UNAUTHENTICATED


async def test_a_call_whose_key_ends_before_its_message_comes_is_refused(
    serve: Serve, service: FakeService, keys: Revocable
) -> None:
    channel = await keys.start(serve)
    method = "/bridge.v1.PoolService/GetPool"
    call: Any = channel.stream_stream(method)(metadata=(bearer(keys.secret),))
    await soon(call.wait_for_connection())
    # The call has been let in once one that was begun after it is answered.
    assert await outcome(channel, method, bearer(keys.secret)) is OK
    keys.revoke()
    await soon(call.write(METHODS[method].SerializeToString()))
    assert await soon(call.code()) is UNAUTHENTICATED


async def test_when_keys_begin_to_be_asked_for_those_without_are_out(
    serve: Serve, tmp_path: Path
) -> None:
    file = KeyFile(tmp_path / "keys.json")
    access = Access((), file)
    server, channel = await serve(access=access)
    access.on_revoked = lambda name: server.keys_changed()
    talk = Talk(channel)
    await talk.open()
    await talk.ask("Hello?")
    file.add("first")
    access.refresh()
    assert await soon(talk.call.code()) is UNAUTHENTICATED


LISTED = ("origin", "https://chat.example.com")
FOREIGN = ("origin", "https://evil.example")


@pytest.mark.parametrize(
    ("metadata", "field"),
    [
        ([FOREIGN], "origin"),
        ([("origin", "null")], "origin"),
        ([LISTED, FOREIGN], "origin"),
        ([FOREIGN, ("sec-fetch-site", "none")], "origin"),
        ([("sec-fetch-site", "cross-site")], "sec-fetch-site"),
        ([("sec-fetch-site", "same-origin")], "sec-fetch-site"),
        ([("sec-fetch-site", "none"), ("sec-fetch-site", "same-site")], "sec-fetch-site"),
        ([LISTED], None),
        ([("origin", "HTTPS://chat.example.com"), ("sec-fetch-site", "cross-site")], None),
        ([("sec-fetch-site", "none")], None),
    ],
)
def test_a_web_page_is_refused_unless_it_is_listed(
    metadata: list[tuple[str, str]], field: str | None
) -> None:
    authenticator = CallAuthenticator(Access(), ("https://chat.example.com",))
    for method in METHODS:
        if field is None:
            authenticator.admit(method, metadata)
            continue
        with pytest.raises(PermissionDeniedError) as caught:
            authenticator.admit(method, metadata)
        assert caught.value.field == field


async def test_a_web_page_gets_the_reason(guarded: grpc.aio.Channel, service: FakeService) -> None:
    for method in METHODS:
        assert await outcome(guarded, method, FOREIGN, bearer(ADMIN)) is DENIED, method
    stub = completion_pb2_grpc.CompletionServiceStub(guarded)
    call = stub.Complete(question(), metadata=(FOREIGN,))
    details = await details_of(call)
    assert details.info.metadata["field"] == "origin"
    assert "BRIDGE_ALLOWED_ORIGINS" in details.message
    assert service.requests == []


def _literal(name: str, value: str) -> bytes:
    return bytes([0, len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    head = len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big")
    return head + payload


def _http2(*headers: tuple[str, str]) -> bytes:
    """Write a request by hand, as a client that is none of gRPC's sends it."""
    block = b"".join(_literal(name, value) for name, value in headers)
    message = _frame(0, 1, 1, bytes(5))
    return b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(4, 0, 0) + _frame(1, 4, 1, block) + message


async def _frames(reader: asyncio.StreamReader) -> AsyncGenerator[tuple[int, int], None]:
    while True:
        head = await soon(reader.readexactly(9))
        await soon(reader.readexactly(int.from_bytes(head[:3], "big")))
        yield head[3], int.from_bytes(head[5:], "big")


HEADERS, RST_STREAM = 1, 3
GRPC = (("te", "trailers"), ("content-type", "application/grpc"))


@pytest.mark.parametrize(
    ("headers", "answered"),
    [(GRPC, HEADERS), (GRPC[1:], RST_STREAM), ((("content-type", "text/plain"),), RST_STREAM)],
    ids=["a gRPC client", "without te", "a browser"],
)
async def test_a_browser_cannot_speak_grpc(
    serve: Serve, headers: tuple[tuple[str, str], ...], answered: int
) -> None:
    """It may not send `te`, whatever a page asks it to; so no name that an attacker points here
    gets a page of theirs in."""
    server, _ = await serve()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(
        _http2(
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/bridge.v1.ModelService/ListModels"),
            (":authority", "rebound.evil.example"),
            *headers,
        )
    )
    async for kind, stream in _frames(reader):
        if stream == 1:
            assert kind == answered
            break
    writer.close()


@pytest.mark.parametrize("line", [b"GET /", b"POST /bridge.v1.ModelService/ListModels"])
async def test_http_1_gets_nothing(serve: Serve, line: bytes) -> None:
    server, _ = await serve()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(line + b" HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 0\r\n\r\n")
    answer = b""
    with suppress(ConnectionError):
        answer = await soon(reader.read())
    # What it received is gRPC's own greeting, which every client gets.
    assert b"HTTP" not in answer
    writer.close()


class Certified:
    """A server that asks for certificates, and who has which."""

    def __init__(self) -> None:
        self.own = certificate("bridge.example.com")
        self.authority = certificate("authority")
        self.credentials = grpc.ssl_server_credentials(
            [(self.own.key, self.own.cert)], self.authority.cert, require_client_auth=True
        )

    def channel(self, server: GrpcServer, client: Certificate | None) -> grpc.aio.Channel:
        pair = (client.key, client.cert) if client is not None else ()
        return grpc.aio.secure_channel(
            f"127.0.0.1:{server.port}",
            grpc.ssl_channel_credentials(self.own.cert, *pair),
            options=[("grpc.ssl_target_name_override", "bridge.example.com")],
        )


@pytest.fixture(scope="module")
def certified() -> Certified:
    return Certified()


CertifiedServe = Callable[..., Any]


@pytest.fixture
async def serve_certified(serve: Serve, certified: Certified) -> CertifiedServe:
    async def start(**options: object) -> GrpcServer:
        server, _ = await serve(
            credentials=certified.credentials, client_certificates=True, **options
        )
        return server

    return start


@pytest.mark.parametrize(
    ("names", "caller"),
    [
        (("alice", ()), "cert:alice"),
        (("alice", ("alice.example",)), "cert:alice"),
        (("", ("alice.example",)), "cert:alice.example"),
    ],
)
async def test_without_keys_a_certificate_names_the_caller(
    serve_certified: CertifiedServe,
    certified: Certified,
    service: FakeService,
    names: tuple[str, tuple[str, ...]],
    caller: str,
) -> None:
    server = await serve_certified()
    client = certificate(names[0], also=names[1], signed_by=certified.authority)
    async with certified.channel(server, client) as channel:
        for method in METHODS:
            expected = DENIED if method in POOL else OK
            assert await outcome(channel, method) is expected, method
        talk = Talk(channel)
        await talk.open()
        await talk.ask("Hello?")
    assert {request.caller for request in service.requests} == {caller}
    assert len(service.requests) == 4


async def test_where_there_are_keys_one_is_needed_besides(
    serve_certified: CertifiedServe, certified: Certified, service: FakeService
) -> None:
    server = await serve_certified(access=Access(KEYS))
    alice = certificate("alice", signed_by=certified.authority)
    method = "/bridge.v1.CompletionService/Complete"
    async with certified.channel(server, alice) as channel:
        assert await outcome(channel, method) is UNAUTHENTICATED
        assert await outcome(channel, method, bearer(MINE)) is OK
        assert await outcome(channel, POOL[0], bearer(ADMIN)) is OK
    assert [request.caller for request in service.requests] == ["mine"]


async def test_a_certificate_without_a_name_identifies_no_caller(
    serve_certified: CertifiedServe, certified: Certified, service: FakeService
) -> None:
    server = await serve_certified()
    nobody = certificate("", signed_by=certified.authority)
    async with certified.channel(server, nobody) as channel:
        assert await outcome(channel, OTHERS[0]) is UNAUTHENTICATED
    assert service.requests == []


@pytest.mark.parametrize("who", ["no certificate", "of another authority", "made by oneself"])
async def test_a_client_without_a_trusted_certificate_is_refused(
    serve_certified: CertifiedServe, certified: Certified, who: str
) -> None:
    server = await serve_certified()
    client = {
        "no certificate": None,
        "of another authority": certificate("alice", signed_by=certificate("authority")),
        "made by oneself": certificate("authority"),
    }[who]
    async with certified.channel(server, client) as channel:
        assert await outcome(channel, HEALTH[0]) is grpc.StatusCode.UNAVAILABLE
