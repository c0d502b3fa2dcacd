"""The link to a real Redis: it goes away and comes back, and nothing waits for it meanwhile."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bridge.core.redis import RedisLink, RedisUnavailableError, Script, parse_redis_url
from bridge.core.redis import link as link_module
from tests.support.certificates import certificate
from tests.support.harness import PATIENCE
from tests.support.redis_server import RedisServer
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

COUNT = Script("return redis.call('INCRBY', KEYS[1], ARGV[1])")


@asynccontextmanager
async def linked(url: str) -> AsyncIterator[RedisLink]:
    link = RedisLink(parse_redis_url(url))
    await link.start()
    try:
        yield link
    finally:
        await link.aclose()


async def changed(link: RedisLink, *, up: bool) -> None:
    """Wait until the link is up, or away."""
    came = asyncio.Event()
    link.follow(lambda now: came.set() if now is up else None)
    if link.up is not up:
        await asyncio.wait_for(came.wait(), PATIENCE)
    assert link.up is up


def link_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [line.message for line in caplog.records if line.name == "bridge.core.redis.link"]


async def test_commands_and_scripts_have_text_back(redis_server: RedisServer) -> None:
    async with linked(redis_server.url) as link:
        key = link.key("a", "b")
        assert key == "claude-code-bridge:1:a:b"
        assert await link.execute("SET", key, "häh \ud800") is True
        assert await link.execute("GET", key) == "häh \ud800"
        assert await link.run(COUNT, [link.key("n")], [2]) == 2


async def test_over_a_unix_socket(tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "r", unix=True)
    server.start()
    try:
        async with linked(f"{server.url}?db=3") as link:
            assert await link.run(COUNT, ["n"], [1]) == 1
    finally:
        server.close()


async def test_over_tls_with_a_password(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ca = certificate("ca")
    ca_file, _ = ca.write(tmp_path, "ca")
    own = certificate("redis", also=("127.0.0.1",), signed_by=ca)
    cert, key = own.write(tmp_path, "redis")
    files = ("--tls-cert-file", str(cert), "--tls-key-file", str(key))
    options = ("--tls-auth-clients", "no", "--requirepass", "sesame", *files)
    server = RedisServer(tmp_path / "r", tls=True, options=options)
    server.start()
    port = server.port
    try:
        url = f"rediss://:sesame@127.0.0.1:{port}?ssl_ca_certs={ca_file}"
        async with linked(url) as link:
            assert await link.execute("PING") is True
        async with linked(f"rediss://:sesame@127.0.0.1:{port}") as link:
            assert not link.up
            assert "CERTIFICATE_VERIFY_FAILED" in link.why
        async with linked(url.replace("sesame", "seed")) as link:
            assert not link.up
            assert "invalid username-password pair" in link.why
        assert "seed" not in caplog.text
        assert "sesame" not in caplog.text
    finally:
        server.close()


async def test_a_restart_is_no_event_for_scripts_and_dead_connections(
    redis_server: RedisServer,
) -> None:
    async with linked(redis_server.url) as link:
        await asyncio.gather(*(link.run(COUNT, ["n"], [1]) for _ in range(20)))
        await asyncio.to_thread(redis_server.restart)
        await changed(link, up=True)
        # Each of the connections is dead, and Redis knows the script no longer.
        await asyncio.gather(*(link.run(COUNT, ["n"], [1]) for _ in range(20)))
        assert await link.execute("GET", "n") == "20"


async def test_absence_is_said_once_and_so_is_the_return(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with linked(redis_server.url) as link:
        assert link_lines(caplog) == []
        redis_server.kill()
        for _ in range(5):
            with pytest.raises(RedisUnavailableError):
                await link.execute("PING")
        assert not link.up
        (said,) = link_lines(caplog)
        assert f"Redis at 127.0.0.1:{redis_server.port} is unavailable (" in said
        back = asyncio.create_task(changed(link, up=True))
        redis_server.start()
        await back
        assert await link.execute("SET", "first", "write") is True
        assert [line.split(" is ")[1][:4] for line in link_lines(caplog)] == ["unav", "back"]


async def test_a_start_without_redis_is_a_start(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    redis_server.kill()
    async with linked(redis_server.url) as link:
        assert not link.up
        assert link.why == "Connection refused"
        assert len(link_lines(caplog)) == 1
        redis_server.start()
        await changed(link, up=True)
        assert await link.execute("PING") is True


async def test_a_stalled_redis_costs_one_command_its_time_and_the_next_nothing(
    redis_server: RedisServer,
) -> None:
    async with linked(redis_server.url) as link:
        await link.execute("SET", "n", 1)
        redis_server.stall()
        with pytest.raises(RedisUnavailableError, match="no reply within"):
            await link.execute("INCR", "n", seconds=0.2)
        assert not link.up
        # Nothing is sent, so there is nothing to wait for, however slow this machine is.
        with pytest.raises(RedisUnavailableError):
            await link.execute("INCR", "n", seconds=PATIENCE)
        redis_server.resume()
        await changed(link, up=True)
        # What was sent has been executed; what was refused has not. No reply is another's.
        assert await link.execute("GET", "n") == "2"


async def test_a_stall_is_found_out_without_a_command(redis_server: RedisServer) -> None:
    async with linked(redis_server.url) as link:
        redis_server.stall()
        await changed(link, up=False)
        redis_server.resume()
        await changed(link, up=True)


async def test_more_commands_than_connections_wait_for_one(redis_server: RedisServer) -> None:
    async with linked(redis_server.url) as link:
        results = await asyncio.gather(
            *(link.run(COUNT, ["n"], [1], seconds=PATIENCE) for _ in range(500))
        )
        assert sorted(results) == list(range(1, 501))
        clients = await link.execute("CLIENT", "LIST")
        assert len(clients.splitlines()) <= 33


async def test_a_command_that_redis_refuses_leaves_the_link_up(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with linked(redis_server.url) as link:
        await link.execute("SET", "n", 1)
        await link.execute("CONFIG", "SET", "maxmemory", 1)
        with pytest.raises(RedisUnavailableError, match="maxmemory"):
            await link.execute("SET", "n", 2)
        with pytest.raises(RedisUnavailableError, match="maxmemory"):
            await link.run(COUNT, ["n"], [1])
        assert link.up
        assert await link.execute("GET", "n") == "1"
        assert len(link_lines(caplog)) == 1


async def test_what_others_have_written_is_refused_and_leaves_the_link_up(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with linked(redis_server.url) as link:
        await link.execute("SET", "text", "secret")
        await link.execute("SET", "bytes", b"\xff")
        await link.execute("RPUSH", "list", "a", b"\xff", "b")
        for command in (("INCR", "text"), ("HGET", "text", "x"), ("GET", "bytes")):
            with pytest.raises(RedisUnavailableError):
                await link.execute(*command)
        with pytest.raises(RedisUnavailableError):
            await link.run(COUNT, ["text"], [1])
        with pytest.raises(RedisUnavailableError, match="not UTF-8"):
            await link.execute("LRANGE", "list", 0, -1)
        assert link.up
        # No reply is another's.
        assert await link.execute("GET", "text") == "secret"
        (said,) = link_lines(caplog)
        assert "refuses a command: " in said
        assert "secret" not in said


async def test_a_failing_test_of_the_link_is_not_the_last_one(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with linked(redis_server.url) as link:
        failures = iter([RuntimeError("once")])

        def fail(up: bool) -> None:
            for failure in failures:
                raise failure

        link.follow(fail)
        redis_server.kill()
        await until(lambda: not link.up)
        redis_server.start()
        await until(lambda: link.up)
        assert "could not be tested" in caplog.text


async def test_a_name_server_that_does_not_answer_holds_one_thread(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    answers = threading.Event()
    resolve = socket.getaddrinfo

    def slow(host: str, *args: Any, **options: Any) -> Any:
        if host != "redis.test":
            return resolve(host, *args, **options)
        asked.append(host)
        answers.wait()
        return resolve("127.0.0.1", *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    monkeypatch.setattr(link_module, "COMMAND_SECONDS", 0.05)
    try:
        async with linked(redis_server.url.replace("127.0.0.1", "redis.test")) as link:
            for _ in range(5):
                await link._look()
            assert not link.up
            assert asked == ["redis.test"]
            monkeypatch.setattr(link_module, "COMMAND_SECONDS", PATIENCE)
            answers.set()
            await until(lambda: link.up)
    finally:
        answers.set()


async def test_a_name_that_is_none_is_a_reason() -> None:
    async with linked(f"redis://{'a' * 64}.test") as link:
        assert not link.up
        assert link.why


async def test_what_has_become_a_replica_is_left_for_the_new_primary(
    redis_server: RedisServer,
) -> None:
    async with linked(redis_server.url) as link:
        connection = await link.execute("CLIENT", "ID")
        redis_server.command("REPLICAOF", "127.0.0.1", "1")
        with pytest.raises(RedisUnavailableError, match="read only replica"):
            await link.execute("SET", "n", 1)
        redis_server.command("REPLICAOF", "NO", "ONE")
        assert await link.execute("SET", "n", 1) is True
        # A new one, which leads to whatever the name stands for now.
        assert await link.execute("CLIENT", "ID") != connection


async def test_a_user_without_the_rights_is_refused_by_name(redis_server: RedisServer) -> None:
    redis_server.command("ACL", "SETUSER", "bridge", "on", ">pw", "~a*", "+ping", "+eval|evalsha")
    redis_server.command("ACL", "SETUSER", "bridge", "+eval", "+evalsha", "+get")
    url = redis_server.url.replace("//", "//bridge:pw@")
    async with linked(url) as link:
        with pytest.raises(RedisUnavailableError, match="no permissions"):
            await link.execute("SET", "a", 1)
        with pytest.raises(RedisUnavailableError, match="user executing the script"):
            await link.run(COUNT, ["a"], [1])
        assert link.up
