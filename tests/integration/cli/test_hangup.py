"""SIGHUP: reloads what can be reloaded, and drains where it means that the terminal is gone."""

from __future__ import annotations

import os
import pty
import signal
import socket
import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.integration.cli.test_serve import Served, served
from tests.support.certificates import Certificate, certificate
from tests.support.harness import LONG, PATIENCE, sim

_BECOME = """
import fcntl, os, signal, sys, termios
os.setsid()
os.dup2(os.open(sys.argv[2], os.O_RDWR), 0)
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGHUP, signal.SIG_IGN if sys.argv[1] == "nohup" else signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, "-m", "bridge", *sys.argv[3:]])
"""


class OnTerminal:
    """A terminal that a server is started from."""

    def __init__(self) -> None:
        self.master, self.slave = pty.openpty()

    def program(self, how: str = "") -> tuple[str, ...]:
        return (sys.executable, "-c", _BECOME, how, os.ttyname(self.slave))

    def hang_up(self) -> None:
        if self.master >= 0:
            os.close(self.master)
            self.master = -1


@contextmanager
def terminal() -> Iterator[OnTerminal]:
    made = OnTerminal()
    try:
        yield made
    finally:
        made.hang_up()
        os.close(made.slave)


@contextmanager
def streaming(
    url: str, *, tokens: int = 40, verify: ssl.SSLContext | bool = True
) -> Iterator[Iterator[str]]:
    """An answer under way: its lines after the first."""
    content = sim(tokens=tokens, delay_ms=50)
    body = {
        "model": "default",
        "stream": True,
        "messages": [{"role": "user", "content": content}],
    }
    with (
        httpx.Client(verify=verify, timeout=PATIENCE) as client,
        client.stream("POST", f"{url}/v1/chat/completions", json=body) as response,
    ):
        lines = response.iter_lines()
        assert next(lines).startswith("data: ")
        yield lines


def url_of(running: Served) -> str:
    running.wait_for(r"Claude Code process(es are| is) warm")
    return running.wait_for(r"(https?://127\.0\.0\.1:\d+)/v1")[1]


def test_it_reloads_without_ending_an_answer(tmp_path: Path) -> None:
    with served(tmp_path, "--demo", "--http") as running:
        url = url_of(running)
        with streaming(url) as lines:
            running.process.send_signal(signal.SIGHUP)
            running.wait_for(r"INFO bridge.*reloaded: the keys \(0\)")
            assert "data: [DONE]" in lines
        assert httpx.get(f"{url}/health", timeout=PATIENCE).status_code == 200
        assert "stopping" not in running.output


def shown(port: int, context: ssl.SSLContext) -> bytes:
    """The certificate that a server shows a client which sends no name."""
    with (
        socket.create_connection(("127.0.0.1", port), PATIENCE) as plain,
        context.wrap_socket(plain) as connection,
    ):
        found = connection.getpeercert(binary_form=True)
    assert found is not None
    return found


def der(made: Certificate) -> bytes:
    return ssl.PEM_cert_to_DER_cert(made.cert.decode())


def test_both_servers_show_the_certificate_that_was_put_in_place(tmp_path: Path) -> None:
    first, second = (certificate(name, also=("127.0.0.1",)) for name in ("first", "second"))
    cert, key = first.write(tmp_path, "server")
    files = {"BRIDGE_TLS_CERT": str(cert), "BRIDGE_TLS_KEY": str(key)}
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    with served(tmp_path, "--demo", **files) as running:
        url = url_of(running)
        ports = [
            int(running.wait_for(pattern)[1])
            for pattern in (r"https://127\.0\.0\.1:(\d+)/v1", r"gRPC +127\.0\.0\.1:(\d+)")
        ]
        assert [shown(port, context) for port in ports] == [der(first)] * 2
        with streaming(url, verify=context) as lines:
            second.write(tmp_path, "server")
            running.process.send_signal(signal.SIGHUP)
            running.wait_for(r"reloaded: the TLS files, the keys")
            assert [shown(port, context) for port in ports] == [der(second)] * 2
            assert "data: [DONE]" in lines
        # A key that does not match: the previous one stays in force, and the log has the reason.
        first_key = tmp_path / "server.key"
        first_key.write_bytes(first.key)
        running.process.send_signal(signal.SIGHUP)
        running.wait_for(r"ERROR bridge.*not reloaded: BRIDGE_TLS_KEY: .* does not match")
        assert [shown(port, context) for port in ports] == [der(second)] * 2


def test_keys_are_read_and_what_takes_a_restart_is_named(tmp_path: Path) -> None:
    prompt = tmp_path / "prompt.txt"
    prompt.write_text("Be brief.")
    with served(tmp_path, "--demo", "--http", BRIDGE_SYSTEM_PROMPT=str(prompt)) as running:
        url_of(running)
        prompt.write_text("Be long.")
        running.process.send_signal(signal.SIGHUP)
        running.wait_for(r"WARNING bridge.*not reloaded: the BRIDGE_SYSTEM_PROMPT file")


@LONG
def test_a_terminal_that_is_there_reloads_and_one_that_hangs_up_drains(tmp_path: Path) -> None:
    with (
        terminal() as made,
        served(tmp_path, "--demo", "--http", program=made.program()) as running,
    ):
        url = url_of(running)
        running.process.send_signal(signal.SIGHUP)
        running.wait_for("reloaded: the keys")
        with streaming(url) as lines:
            made.hang_up()
            running.wait_for("stopping")
            # A shell sends it again when it ends.
            running.process.send_signal(signal.SIGHUP)
            assert "data: [DONE]" in lines
        assert running.end() == 0


def test_with_nohup_it_outlives_its_terminal(tmp_path: Path) -> None:
    with (
        terminal() as made,
        served(tmp_path, "--demo", "--http", program=made.program("nohup")) as running,
    ):
        url = url_of(running)
        made.hang_up()
        running.wait_for("reloaded: the keys")
        assert httpx.get(f"{url}/health", timeout=PATIENCE).status_code == 200
        assert "stopping" not in running.output
