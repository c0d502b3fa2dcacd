"""The OpenAI door as an ASGI app."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from bridge.core.access import Access
from bridge.core.answers import ResponseStore
from bridge.core.contract import Service
from bridge.http_server.browsers import BrowserRules
from bridge.http_server.context import Door, HttpSettings
from bridge.http_server.fallback import answer_http_exception, answer_validation_error
from bridge.http_server.middleware.access import GuardMiddleware
from bridge.http_server.middleware.head import HeadMiddleware
from bridge.http_server.middleware.request_id import RequestIdMiddleware
from bridge.http_server.openai.chat.routes import chat_routes
from bridge.http_server.openai.completions.routes import completion_routes
from bridge.http_server.openai.models import model_routes
from bridge.http_server.openai.responses.routes import response_routes
from bridge.http_server.openapi import add_schemas
from bridge.http_server.operations.health import health_routes
from bridge.http_server.operations.metrics import metrics_routes
from bridge.http_server.operations.page import page_routes

__all__ = ["HttpSettings", "create_app"]


def new_hex_id() -> str:
    """Return 32 hexadecimal digits that were never used before."""
    return uuid.uuid4().hex


def create_app(
    service: Service,
    *,
    version: str,
    settings: HttpSettings | None = None,
    access: Access | None = None,
    store: ResponseStore | None = None,
    clock: Callable[[], float] = time.time,
    timer: Callable[[], float] = time.perf_counter,
    new_id: Callable[[], str] = new_hex_id,
    metrics: Callable[[str], tuple[bytes, str]] | None = None,
    recent: Callable[[], Sequence[Mapping[str, Any]]] = tuple,
) -> FastAPI:
    """Build the app that serves OpenAI's API from a service.

    `access` says who may come in; without it, everyone may. `store` keeps responses; without it
    none is kept. `clock` gives the time of day, `timer` measures durations, `new_id` makes the
    ids, `metrics` renders the metrics for an `Accept` header, `recent` gives the latest requests.
    """
    settings = settings or HttpSettings()
    who = access or Access()
    door = Door(
        service,
        settings,
        version,
        clock,
        new_id,
        metrics,
        store,
        recent,
        asks_for_keys=lambda: who.required,
    )
    rules = BrowserRules(settings.allowed_hosts, settings.allowed_origins)
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
            Middleware(RequestIdMiddleware, new_id=new_id, timer=timer),
            Middleware(GuardMiddleware, access=who, rules=rules),
        ],
        exception_handlers={
            HTTPException: answer_http_exception,
            RequestValidationError: answer_validation_error,
        },
    )
    for routes in (
        chat_routes,
        response_routes,
        completion_routes,
        model_routes,
        health_routes,
        metrics_routes,
        page_routes,
    ):
        app.include_router(routes(door))
    add_schemas(app)
    return app
