"""Endpoints for the operator, in no dialect: health, metrics, usage, the status page."""

from fastapi import FastAPI

from bridge.http_server.context import ServerContext
from bridge.http_server.operations.health import health_routes
from bridge.http_server.operations.metrics import metrics_routes
from bridge.http_server.operations.page import page_routes
from bridge.http_server.operations.usage import usage_routes

__all__ = ["add_operations"]


def add_operations(app: FastAPI, server: ServerContext) -> None:
    for routes in (health_routes, metrics_routes, page_routes, usage_routes):
        app.include_router(routes(server))
