"""A request with nothing reusable, with a blank process ready."""

from __future__ import annotations

from contextlib import AsyncExitStack

from benchmarks.record import SDK, Line, Samples, Target, not_supported
from benchmarks.scenarios.base import SYSTEM, question, rounds, unseen_system, warm_up
from benchmarks.stage import Stage
from benchmarks.subjects import NotSupportedError, Request, Sdk, Subject
from benchmarks.subjects.base import now

COLD = "SDK client, newly started"
PLAIN = "first token, new system prompt and 8 turns of history"
FULL = "first token, tools and sampling as well"
LIMIT = 4.0
HISTORY = 8


class AllNew:
    """The cost of a new system prompt, a history, tools and sampling."""

    name = "all_new"
    about = (
        "A new system prompt, 8 turns of history, tools and sampling; a blank process is ready. "
        "The hot SDK client gets a plain question; the newly started one has no history."
    )

    async def run(self, stage: Stage) -> list[Line]:
        """Measure; rejected requests are reported as not supported."""
        http, grpc = await stage.front_ends(await stage.bridge(), blanks=1)
        sdk = await stage.sdk(SYSTEM)
        front_ends: list[Subject] = [http, grpc]
        await warm_up([sdk, *front_ends])
        refused: dict[tuple[str, str], str] = {}
        samples = Samples()
        # The order of the subjects changes from round to round, that of PLAIN and FULL does not.
        for subject in rounds(stage.fewer(2 if stage.quick else 1), [sdk, None, *front_ends]):
            if subject is None:
                samples.add(PLAIN, COLD, await _cold(stage) * 1000)
                continue
            for what in (PLAIN, FULL):
                if (what, subject.name) in refused:
                    continue
                request = _request(extras=what == FULL)
                try:
                    answer = await subject.ask(request)
                except NotSupportedError as error:
                    refused[what, subject.name] = str(error)
                else:
                    samples.add(what, subject.name, answer.first * 1000)
                await subject.reset()
        lines = [samples.line(PLAIN, SDK, "ms"), samples.line(PLAIN, COLD, "ms")]
        for what in (PLAIN, FULL):
            for subject in front_ends:
                if reason := refused.get((what, subject.name)):
                    lines.append(not_supported(what, subject.name, reason))
                    continue
                target = Target(f"≤ {LIMIT:g} x SDK", LIMIT, samples.to(what, subject.name, SDK))
                lines.append(samples.line(what, subject.name, "ms", target=target))
        return lines


def _request(*, extras: bool) -> Request:
    turns = [f"Turn {n} of a conversation held elsewhere." for n in range(HISTORY)]
    return Request(unseen_system(), (*turns, question(tokens=20)), extras)


async def _cold(stage: Stage) -> float:
    """Seconds to the first token of a client started for one question."""
    system = unseen_system()
    async with AsyncExitStack() as stack:
        client = Sdk(system, stage.folder, name=COLD)
        stack.push_async_callback(client.aclose)
        started = now()
        await client.connect()
        answer = await client.ask(Request(system, (question(tokens=20),)))
        return answer.started + answer.first - started
