"""`GET /health`, `/livez` and `/readyz`."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from bridge.core.contract import Health, PayerState, UsageLimits
from bridge.http_server.context import ServerContext, is_admin
from bridge.http_server.dialect import JsonDict
from bridge.http_server.errors import json_response
from bridge.http_server.openapi import describe


def plan_object(plan: UsageLimits) -> JsonDict:
    """Return the account's usage limits as last reported by the API; times in Unix seconds."""
    return {
        "status": plan.status,
        "limit": plan.limit or None,
        "resets_at": plan.resets_at,
        "utilization": plan.utilization,
        "using_overage": plan.using_overage,
        "overage_status": plan.overage_status or None,
    }


def payer_object(payer: PayerState) -> JsonDict:
    """Return the state of a payer; times in Unix seconds."""
    return {
        "name": payer.name,
        "kind": payer.kind,
        "status": payer.health.status,
        "detail": payer.health.detail,
        "account": payer.health.account,
        "answered": payer.answered,
        "limited": [
            {"model": each.model or None, "reason": each.reason, "until": each.until}
            for each in payer.limited
        ],
        "plan": None if payer.plan is None else plan_object(payer.plan),
    }


def _details(server: ServerContext, now: Health) -> JsonDict:
    """Return all that `/health` has for those who may read it."""
    state = server.service.pool_state()
    plan = state.plan
    content: JsonDict = {
        "status": now.status,
        "detail": now.detail,
        "resets_at": now.resets_at,
        "replica": server.settings.replica,
        "version": server.version,
        "cli_version": now.cli_version,
        "logged_in": now.logged_in,
        "account": now.account,
        "simulated": now.simulated,
        "lacking": list(now.lacking),
        "pool": {
            "size": now.pool_size,
            "processes": now.processes,
            "waiting": now.waiting,
        },
        "plan": None if plan is None else plan_object(plan),
    }
    if state.payers:
        content["payers"] = [payer_object(payer) for payer in state.payers]
    if server.redis_up is not None:
        content["redis"] = {"up": server.redis_up()}
    return content


def health_routes(server: ServerContext) -> APIRouter:
    router = APIRouter()

    @router.get("/health", **describe())
    async def health(request: Request) -> Response:
        """200 if completions can be expected to work, otherwise 503 with the reason."""
        now = server.service.health()
        status = 200 if now.serving else 503
        if server.settings.public and not is_admin(request.scope):
            return json_response({"status": now.status}, status)
        return json_response(_details(server, now), status)

    @router.get("/livez", **describe())
    async def livez() -> Response:
        """200 while the process lives, whether it serves requests or not."""
        return json_response({"status": "ok"})

    @router.get("/readyz", **describe())
    async def readyz() -> Response:
        """200 if the server can take requests, otherwise 503 with the reason in `status`.

        `resets_at` is when it will, in Unix seconds, if that is known.
        """
        now = server.service.health()
        content = {"status": now.status, "resets_at": now.resets_at}
        return json_response(content, 200 if now.serving else 503)

    return router
