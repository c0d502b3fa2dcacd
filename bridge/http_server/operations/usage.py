"""`GET /v1/usage`: what was used and what it cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Final

from fastapi import APIRouter
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from bridge.core.contract import InvalidRequestError
from bridge.core.ledger import (
    Asker,
    Entry,
    Ledger,
    Totals,
    dimension_of,
    found,
    period_of,
)
from bridge.http_server.context import ServerContext, caller_of, is_admin
from bridge.http_server.dialect import JsonDict
from bridge.http_server.errors import json_response
from bridge.http_server.openapi import describe
from bridge.http_server.operations.usage_schemas import PARAMETERS, REPLY

_OF_SUMS: Final = ("by", "since", "until", "key")
_OF_REQUESTS: Final = ("request_id",)


def usage_routes(server: ServerContext) -> APIRouter:
    """Build the route; without a ledger there is none."""
    router = APIRouter()
    ledger = server.ledger
    if ledger is None:
        return router

    @router.get("/v1/usage", **describe(reply=REPLY, parameters=PARAMETERS, error="Error"))
    async def usage(request: Request) -> Response:
        """Requests, tokens and cost, by day, key, model or payer; or of one request.

        A key sees its own; one with the scope admin, that of all.
        """
        given = request.query_params
        asker = Asker(caller_of(request.scope), is_admin(request.scope))
        if "request_id" in given:
            _check_names(given, _OF_REQUESTS)
            id = given["request_id"]
            content = request_object(found(await ledger.request(id, asker.keys()), id))
        else:
            _check_names(given, _OF_SUMS)
            content = await _sums(ledger, given, asker, server.clock())
        return json_response(content, headers={"cache-control": "no-store"})

    return router


def _check_names(given: QueryParams, known: tuple[str, ...]) -> None:
    for name, value in given.items():
        if name not in known:
            raise InvalidRequestError(
                f"Unknown parameter: '{name}'. Known here: {', '.join(known)}.", field=name
            )
        if not value:
            raise InvalidRequestError(f"'{name}' is empty: omit it instead.", field=name)
        if len(given.getlist(name)) > 1:
            raise InvalidRequestError(f"'{name}' is given more than once.", field=name)


async def _sums(ledger: Ledger, given: Mapping[str, str], asker: Asker, now: float) -> JsonDict:
    by = dimension_of(given.get("by", ""))
    period = period_of(given.get("since", ""), given.get("until", ""), now)
    key = asker.keys(given.get("key", ""))
    rows = await ledger.usage(by, since=period.since, until=period.until, key=key)
    return {
        "object": "usage",
        "by": by,
        "data": [{by: row.name, **totals_object(row.totals)} for row in rows],
        "total": totals_object(sum((row.totals for row in rows), Totals())),
    }


def totals_object(totals: Totals) -> JsonDict:
    """Return sums with the ledger's own names; US dollars to the billionth."""
    usd = {name: round(getattr(totals, name), 9) for name in ("cost_usd", "billed_usd")}
    return {**asdict(totals), **usd}


def request_object(entry: Entry) -> JsonDict:
    """Return what is known of one request; `cost_usd` is null if it is unknown."""
    totals = entry.totals
    return {
        "object": "usage.request",
        "request_id": entry.request_id,
        "ended_at": entry.ended_on,
        "key": entry.key,
        "model": entry.model or None,
        "error": entry.error or None,
        "input_tokens": totals.input_tokens,
        "cache_read_tokens": totals.cache_read_tokens,
        "cache_write_tokens": totals.cache_write_tokens,
        "output_tokens": totals.output_tokens,
        "cost_usd": entry.cost_usd,
        "billed": entry.billed,
        "payer": entry.payer,
    }
