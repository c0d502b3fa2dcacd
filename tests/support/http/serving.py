"""The app behind a real server on a free loopback port, for clients that want a socket."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager

import uvicorn

from bridge.core.access import Access, Uploads
from bridge.core.ledger import Ledger
from bridge.http_server import HttpSettings, all_dialects, connections, create_app
from bridge.http_server.dialect import Dialect
from tests.support.fakes import FakeService
from tests.support.harness import PATIENCE


class _Server(uvicorn.Server):
    """Reports when it is up."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()


@contextmanager
def serving(
    service: FakeService,
    settings: HttpSettings | None = None,
    access: Access | None = None,
    dialects: Sequence[Dialect] | None = None,
    uploads: Uploads | None = None,
    ledger: Ledger | None = None,
) -> Generator[str, None, None]:
    """Serve, and give the base URL of the API."""
    # With the protocol named, asyncio turns Nagle's algorithm off: else each write waits 40 ms.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        dialects = dialects or all_dialects()
        app = create_app(
            service,
            dialects,
            version="1.2.3",
            settings=settings,
            access=access,
            uploads=uploads,
            ledger=ledger,
        )
        server = _Server(
            uvicorn.Config(
                app,
                http=connections(settings or HttpSettings(), dialects),
                log_config=None,
                lifespan="off",
                ws="none",
            )
        )
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
        thread.start()
        try:
            assert server.up.wait(PATIENCE)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        finally:
            server.should_exit = True
            thread.join(PATIENCE)
            assert not thread.is_alive()
