"""Starts and stops the simulator: uvicorn on its own socket."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator, Mapping, MutableMapping
from types import TracebackType
from typing import Any, Self

import uvicorn

from bridge.simulator.accounts import Accounts
from bridge.simulator.api import PromptCache
from bridge.simulator.app import Application
from bridge.simulator.ledger import Ledger
from bridge.simulator.playing import Scripts

# Longer than any client keeps an idle connection, so that none is closed during a new request.
_KEEP_ALIVE_SECONDS = 600


class _Server(uvicorn.Server):
    """uvicorn without signal handlers (they belong to the embedding program), with `abort`."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.accepting = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.accepting.set()

    def abort(self, client: object = None) -> None:
        """Reset the connections from this client address, or all of them."""
        for connection in list(self.server_state.connections):
            if client is None or getattr(connection, "client", None) == client:
                connection.transport.abort()


class Simulator:
    """A scripted Anthropic Messages API on loopback.

    `cache_minimum_tokens` is the shortest prefix that the prompt cache keeps; `keep_requests`
    bounds the ledger; `pace_ms` is the pause between the pieces of an unscripted answer. `accounts`
    has the fields of `Accounts.load`; `scripts` has those of `Scripts.put`, by name.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        cache_minimum_tokens: int = 1024,
        keep_requests: int = 10_000,
        pace_ms: float = 15.0,
        accounts: Mapping[str, Any] | None = None,
        scripts: Mapping[str, Any] | None = None,
    ) -> None:
        self.ledger = Ledger(keep_requests)
        self._host = host
        self._port = port
        self._app = Application(
            ledger=self.ledger,
            cache=PromptCache(minimum_tokens=cache_minimum_tokens),
            pace_ms=pace_ms,
            abort=self._abort,
        )
        self._app.accounts.load(dict(accounts or {}))
        for name, value in (scripts or {}).items():
            self._app.scripts.put(name, value)
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port it listens on; known once started."""
        return self._port

    @property
    def base_url(self) -> str:
        """The base URL for clients."""
        return f"http://{self._host}:{self._port}"

    @property
    def login_accepted(self) -> bool:
        """Whether logins are accepted; if False, every login is refused as expired."""
        return self._app.login_accepted

    @login_accepted.setter
    def login_accepted(self, accepted: bool) -> None:
        self._app.login_accepted = accepted

    @property
    def accounts(self) -> Accounts:
        """The accounts; if there are none, any credential is accepted."""
        return self._app.accounts

    @property
    def scripts(self) -> Scripts:
        """The scripts that directives may name."""
        return self._app.scripts

    async def start(self) -> None:
        """Bind and serve on the running loop; return when it accepts connections. OSError: port
        taken."""
        if self._serving is not None:
            raise RuntimeError("already started")
        listener = socket.create_server((self._host, self._port), backlog=1024)
        # Accepted connections inherit it: each event is sent at once, as by the real API.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._port = listener.getsockname()[1]
        config = uvicorn.Config(
            self._app,
            lifespan="off",
            log_config=None,
            access_log=False,
            ws="none",
            http="h11",
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        )
        self._server = _Server(config)
        self._serving = asyncio.create_task(self._server.serve([listener]), name="simulator")
        accepting = asyncio.create_task(self._server.accepting.wait())
        await asyncio.wait({self._serving, accepting}, return_when=asyncio.FIRST_COMPLETED)
        accepting.cancel()
        if self._serving.done():
            await self._serving

    async def aclose(self) -> None:
        """Stop promptly: open answers are cut, their connections reset. Safe to call twice."""
        server, serving = self._server, self._serving
        self._server = self._serving = None
        if server is None or serving is None:
            return
        self._app.delivery.closing = True
        # No new connections first: one could arrive after the resets and stay open.
        for listening in server.servers:
            listening.close()
        server.should_exit = True
        server.abort()
        await serving
        self._app.delivery.closing = False

    def _abort(self, scope: MutableMapping[str, Any]) -> None:
        if self._server is not None:
            self._server.abort(scope["client"])

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()
