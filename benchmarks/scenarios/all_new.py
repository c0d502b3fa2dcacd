"""A request of which nothing was seen before, with a blank process ready."""

from __future__ import annotations

from contextlib import AsyncExitStack

from benchmarks.record import SDK, Aim, Line, Samples, not_supported
from benchmarks.scenarios.base import SYSTEM, question, rounds, unseen_system, warm_up
from benchmarks.stage import Stage
from benchmarks.subjects import NotSupportedError, Request, Sdk, Subject
from benchmarks.subjects.base import now

COLD = "SDK client, started for it"
PLAIN = "first token, new system prompt and 8 turns of history"
FULL = "first token, tools and sampling as well"
LIMIT = 4.0
HISTORY = 8


class AllNew:
    """What a request pays for having a system prompt, a history, tools and sampling of its own."""

    name = "all_new"
    about = (
        "An unseen system prompt, 8 turns of history, tools and sampling, a blank process ready. "
        "The hot SDK client is asked a plain question; the one started for it has no history."
    )

    async def run(self, stage: Stage) -> list[Line]:
        """Measure; what is refused is reported as not supported."""
        http, grpc = await stage.doors(await stage.bridge(), blanks=1)
        sdk = await stage.sdk(SYSTEM)
        doors: list[Subject] = [http, grpc]
        await warm_up([sdk, *doors])
        refused: dict[tuple[str, str], str] = {}
        samples = Samples()
        # The order of the subjects changes from round to round, that of the forms does not.
        for subject in rounds(stage.fewer(2 if stage.quick else 1), [sdk, None, *doors]):
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
                await subject.afresh()
        lines = [samples.line(PLAIN, SDK, "ms"), samples.line(PLAIN, COLD, "ms")]
        for what in (PLAIN, FULL):
            for subject in doors:
                if reason := refused.get((what, subject.name)):
                    lines.append(not_supported(what, subject.name, reason))
                    continue
                aim = Aim(f"≤ {LIMIT:g} x SDK", LIMIT, samples.to(what, subject.name, SDK))
                lines.append(samples.line(what, subject.name, "ms", aim=aim))
        return lines


def _request(*, extras: bool) -> Request:
    turns = [f"Turn {n} of a conversation held elsewhere." for n in range(HISTORY)]
    return Request(unseen_system(), (*turns, question(tokens=20)), extras)


async def _cold(stage: Stage) -> float:
    """Seconds to the first token of a client that is started for one question."""
    system = unseen_system()
    async with AsyncExitStack() as stack:
        client = Sdk(system, stage.folder, name=COLD)
        stack.push_async_callback(client.aclose)
        started = now()
        await client.connect()
        answer = await client.ask(Request(system, (question(tokens=20),)))
        return answer.started + answer.first - started
