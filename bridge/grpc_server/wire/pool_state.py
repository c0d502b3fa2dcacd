"""The state of the pool, as messages of bridge.v1."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from bridge import __version__
from bridge.core import contract
from bridge.grpc_server.wire.encode import timestamp
from bridge.v1 import pool_pb2

_PLAN_STATUSES: Final[Mapping[str, pool_pb2.Plan.Status.ValueType]] = {
    "allowed": pool_pb2.Plan.STATUS_ALLOWED,
    "allowed_warning": pool_pb2.Plan.STATUS_ALLOWED_WARNING,
    "rejected": pool_pb2.Plan.STATUS_REJECTED,
}
_STATUSES: Final[Mapping[str, pool_pb2.Pool.Status.ValueType]] = {
    "ok": pool_pb2.Pool.STATUS_OK,
    "starting": pool_pb2.Pool.STATUS_STARTING,
    "draining": pool_pb2.Pool.STATUS_DRAINING,
    "not_logged_in": pool_pb2.Pool.STATUS_NOT_LOGGED_IN,
    "unavailable": pool_pb2.Pool.STATUS_UNAVAILABLE,
    "overage_ahead": pool_pb2.Pool.STATUS_OVERAGE_AHEAD,
    "usage_limit": pool_pb2.Pool.STATUS_USAGE_LIMIT,
}
_KINDS: Final[Mapping[contract.PayerKind, pool_pb2.Payer.Kind.ValueType]] = {
    contract.PayerKind.LOGIN: pool_pb2.Payer.KIND_LOGIN,
    contract.PayerKind.TOKEN: pool_pb2.Payer.KIND_TOKEN,
    contract.PayerKind.API_KEY: pool_pb2.Payer.KIND_API_KEY,
    contract.PayerKind.BEDROCK: pool_pb2.Payer.KIND_BEDROCK,
    contract.PayerKind.VERTEX: pool_pb2.Payer.KIND_VERTEX,
    contract.PayerKind.FOUNDRY: pool_pb2.Payer.KIND_FOUNDRY,
}


def encode_pool(state: contract.PoolState, replica: str = "") -> pool_pb2.Pool:
    """Encode the state of the pool, without what this version of the API has no field for.

    `replica` is the name of this server.
    """
    health = state.health
    return pool_pb2.Pool(
        status=_STATUSES.get(health.status, pool_pb2.Pool.STATUS_UNSPECIFIED),
        account=health.account,
        logged_in=health.logged_in,
        simulated=health.simulated,
        cli_version=health.cli_version,
        lacking=health.lacking,
        pool_size=health.pool_size,
        max_processes=state.max_processes,
        waiting=health.waiting,
        processes=pool_pb2.Processes(**_known(pool_pb2.Processes, health.processes)),
        totals=_totals(state.totals),
        plan=None if state.plan is None else _plan(state.plan),
        detail=health.detail,
        version=__version__,
        subscription=health.subscription,
        payers=map(_payer, state.payers),
        replica=replica,
        reset_time=None if health.resets_at is None else timestamp(health.resets_at),
    )


def _payer(payer: contract.PayerState) -> pool_pb2.Payer:
    health = payer.health
    return pool_pb2.Payer(
        name=payer.name,
        kind=_KINDS[payer.kind],
        status=_STATUSES.get(health.status, pool_pb2.Pool.STATUS_UNSPECIFIED),
        account=health.account,
        subscription=health.subscription,
        detail=health.detail,
        answered=payer.answered,
        processes=pool_pb2.Processes(**_known(pool_pb2.Processes, health.processes)),
        limited_models=[
            pool_pb2.LimitedModel(
                model=each.model, reason=each.reason, end_time=timestamp(each.until)
            )
            for each in payer.limited
        ],
        plan=None if payer.plan is None else _plan(payer.plan),
    )


def _totals(totals: contract.Totals) -> pool_pb2.Totals:
    return pool_pb2.Totals(
        answered=totals.answered,
        failed=totals.failed,
        left=totals.left,
        sessions=pool_pb2.Sessions(**_known(pool_pb2.Sessions, totals.sessions)),
        processes_started=totals.processes_started,
        processes_ended=totals.processes_ended,
        processes_replaced=pool_pb2.Replaced(
            **_known(pool_pb2.Replaced, totals.processes_replaced)
        ),
    )


def _plan(plan: contract.UsageLimits) -> pool_pb2.Plan:
    return pool_pb2.Plan(
        status=_plan_status(plan.status),
        reset_time=None if plan.resets_at is None else timestamp(plan.resets_at),
        limit=plan.limit,
        utilization=plan.utilization,
        using_overage=plan.using_overage,
        overage_status=_plan_status(plan.overage_status),
        windows=[_window(window) for window in plan.windows],
        report_time=timestamp(plan.said_at),
    )


def _plan_status(status: str) -> pool_pb2.Plan.Status.ValueType:
    return _PLAN_STATUSES.get(status, pool_pb2.Plan.STATUS_UNSPECIFIED)


def _window(window: contract.UsageWindow) -> pool_pb2.PlanWindow:
    return pool_pb2.PlanWindow(
        limit=window.limit,
        utilization=window.utilization,
        of_model=window.of_model,
        reset_time=None if window.resets_at is None else timestamp(window.resets_at),
    )


def _known(
    kind: type[pool_pb2.Processes | pool_pb2.Sessions | pool_pb2.Replaced],
    counts: Mapping[str, int],
) -> dict[str, int]:
    return {name: counts[name] for name in counts if name in kind.DESCRIPTOR.fields_by_name}
