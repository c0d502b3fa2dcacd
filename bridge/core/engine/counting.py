"""Counting the input tokens of a request that is not answered.

The conversation is replayed into an empty session, whose Claude Code has the API count it, and is
then wiped. It is an estimate: tools and the schema of the answer are counted as the text of their
definitions, and what Claude Code and the API add to a request is left out.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from bridge.core.claude import (
    ControlError,
    ProcessGoneError,
    Turn,
    TurnSettings,
    exact_definitions,
)
from bridge.core.contract import CompletionRequest, ProcessFailedError
from bridge.core.engine.admission import check_model, lease_for, limits_of
from bridge.core.engine.planning import Plan
from bridge.core.engine.resources import Resources
from bridge.core.engine.timeouts import MESSAGES, Deadlines, Limit
from bridge.core.pool import Lease, Need
from bridge.core.system import off_loop
from bridge.core.telemetry import kind_of
from bridge.core.validation import is_large

logger = logging.getLogger(__name__)

_MESSAGES: Final = {
    **MESSAGES,
    Limit.FIRST_TOKEN: "Claude Code did not count the tokens within {:g} seconds.",
}


async def count_tokens(
    request: CompletionRequest, resources: Resources, check: Callable[[], None] = lambda: None
) -> int:
    """Estimate the input tokens of a request, which is validated before; raises a BridgeError.

    `check` is called right before Claude Code is asked, and raises one if it may not be.
    """
    large = is_large(request)
    limits = resources.time_limits.within(limits_of(request))
    deadlines = Deadlines(limits, messages=_MESSAGES)
    at, limit = deadlines.next()
    try:
        async with asyncio.timeout_at(at):
            await resources.account.known()
    except TimeoutError as error:
        raise deadlines.error(limit) from error
    check_model(request, resources)
    await deadlines.bound(resources.schemas.admit(request))
    plan = await off_loop(large, resources.planner.plan, request)
    turns = await off_loop(large, counted_turns, plan)
    # Not one that holds this conversation, which counting would end.
    need = Need(plan.scope.profile, plan.scope.caller)
    failed: Exception | None = None
    for admitted in (False, True):
        lease = await lease_for(need, resources, deadlines, admitted=admitted)
        deadlines.leased()
        at, limit = deadlines.next()
        try:
            check()
            async with asyncio.timeout_at(at):
                return await _count(lease, plan, turns, resources)
        except TimeoutError as error:
            raise deadlines.error(limit) from error
        except (ControlError, ProcessGoneError) as error:
            lease.session.kill()
            logger.warning("process %s failed: %s", lease.session.pid, kind_of(error))
            failed = error
        finally:
            resources.pool.release(lease)
    raise ProcessFailedError("Claude Code failed to count the tokens.", retry_after=1) from failed


async def _count(lease: Lease, plan: Plan, turns: Sequence[Turn], resources: Resources) -> int:
    session = lease.session
    if session.profile is None:
        await session.initialise(plan.scope.profile)
        resources.account.learn(session.facts)
    await session.configure(TurnSettings(model=plan.settings.model))
    return await session.count_tokens(turns, plan.model)


def counted_turns(plan: Plan) -> tuple[Turn, ...]:
    """Return the turns of a plan, with what else takes input tokens as text in the first one."""
    first, *others = (*plan.history, plan.last)
    definitions = [tool.as_json() for tool in exact_definitions(plan.scope.tools, plan.tool_prefix)]
    schema = plan.settings.extra_body.output_schema or plan.scope.profile.json_schema
    texts = [*definitions, *([schema] if schema else [])]
    added = [{"type": "text", "text": text} for text in texts]
    return Turn(first.role, (*first.content, *added)), *others
