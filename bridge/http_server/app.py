"""The HTTP server as an ASGI app, for any dialects."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from bridge.core.access import Access, Uploads
from bridge.core.contract import Service
from bridge.core.ledger import Ledger
from bridge.http_server.context import HttpSettings, ServerContext
from bridge.http_server.dialect import Dialect
from bridge.http_server.fallback import answer_http_exception, answer_validation_error
from bridge.http_server.middleware import (
    NEEDS,
    AccessMiddleware,
    BrowserRules,
    HeadMiddleware,
    RequestIdMiddleware,
)
from bridge.http_server.openapi import add_schemas
from bridge.http_server.operations import add_operations
from bridge.http_server.routing import DialectRouting


def new_hex_id() -> str:
    """Return 32 hexadecimal digits that were never used before."""
    return uuid.uuid4().hex


# long: an app has many parts, and each is named here once.
def create_app(
    service: Service,
    dialects: Sequence[Dialect],
    *,
    version: str,
    settings: HttpSettings | None = None,
    access: Access | None = None,
    uploads: Uploads | None = None,
    clock: Callable[[], float] = time.time,
    timer: Callable[[], float] = time.perf_counter,
    new_id: Callable[[], str] = new_hex_id,
    metrics: Callable[[str], tuple[bytes, str]] | None = None,
    recent: Callable[[], Sequence[Mapping[str, Any]]] = tuple,
    ledger: Ledger | None = None,
    redis_up: Callable[[], bool] | None = None,
) -> FastAPI:
    """Build the app that serves a service in some dialects; the first is the default.

    Without `access`, no key is required. `uploads` counts the bodies being received, `clock`
    returns the time of day, `timer` measures durations, `new_id` generates ids, `metrics` renders
    the metrics for an `Accept` header, `recent` returns the latest requests, `ledger` what they
    used, and `redis_up` whether Redis can be used, if there is one.
    """
    settings = settings or HttpSettings()
    keys = access or Access()
    server = ServerContext(
        service,
        settings,
        version,
        clock,
        new_id,
        metrics,
        recent,
        asks_for_keys=lambda: keys.required,
        uploads=uploads or Uploads(),
        ledger=ledger,
        redis_up=redis_up,
    )
    routing = DialectRouting(dialects)
    headers = tuple(dialect.browser_headers for dialect in dialects)
    rules = BrowserRules(settings.allowed_hosts, settings.allowed_origins, headers)

    async def limit_headers(dialect: Dialect, caller: str) -> Mapping[str, str]:
        return dialect.limit_headers(await service.allowances(caller), clock())

    open_urls = {url: None for dialect in dialects for url in dialect.open_urls}
    app = FastAPI(
        title="Claude Code bridge",
        version=version,
        # The pages for browsing the description load their scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        # A redirected POST arrives as a GET in some clients.
        redirect_slashes=False,
        middleware=[
            Middleware(HeadMiddleware),
            Middleware(
                RequestIdMiddleware,
                dialect_for=routing.dialect_for,
                new_id=new_id,
                timer=timer,
                limit_headers=limit_headers,
                replica=settings.replica,
            ),
            Middleware(AccessMiddleware, access=keys, rules=rules, needs={**NEEDS, **open_urls}),
        ],
        exception_handlers={
            HTTPException: answer_http_exception,
            RequestValidationError: answer_validation_error,
        },
    )
    routing.add_to(app, server)
    add_operations(app, server)
    add_schemas(app, dialects)
    return app
