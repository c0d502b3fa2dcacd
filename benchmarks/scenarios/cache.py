"""The share of a prompt that is read from the prompt cache."""

from __future__ import annotations

from benchmarks.record import Line, Samples
from benchmarks.scenarios.base import question, rounds, unseen_system, warm_up
from benchmarks.stage import Stage
from benchmarks.subjects import Request, Subject, Usage

TURNS = ("first turn", "continued", "replayed", "branched")
# Prompts below 1,024 tokens are not cached; the simulator counts four characters per token.
_SYSTEM = "Mind the gap between the train and the platform. " * 200
_QUESTION = "Consider the following text with care, and then forget it again. " * 120


class Cache:
    """The share of prompt tokens that the API bills as cache reads."""

    name = "cache"
    about = (
        "Share of prompt tokens read from the cache: a first turn (with a long system prompt in "
        "use), a second turn, the same request once more, and another second turn. The simulated "
        "API is called with a breakpoint after the system prompt and on the last user turn, which "
        "is the optimum. The SDK client can only continue."
    )

    async def run(self, stage: Stage) -> list[Line]:
        """Hold conversations with the subjects in turn."""
        system = f"{unseen_system()} {_SYSTEM}"
        http, grpc = await stage.front_ends(await stage.bridge())
        direct = stage.direct()
        subjects: list[Subject] = [direct, await stage.sdk(system), http, grpc]
        await warm_up(subjects)
        samples = Samples()
        for subject in rounds(1 + stage.fewer(10), subjects):
            await _converse(subject, system, samples)
        # The system prompt was not yet in use in the first round.
        return [
            Line(turn, subject.name, "%", tuple(samples.values(turn, subject.name)[1:]))
            for turn in TURNS
            for subject in subjects
            if samples.values(turn, subject.name)
        ]


async def _converse(subject: Subject, system: str, samples: Samples) -> None:
    await subject.reset()
    request = Request(system, (_long(),))
    shares: dict[str, Usage | None] = {}
    answer = await subject.ask(request)
    shares["first turn"] = answer.usage
    second = request.then(answer.text, _long())
    await subject.pause()
    shares["continued"] = (await subject.ask(second)).usage
    if not subject.holds_conversation:
        await subject.pause()
        shares["replayed"] = (await subject.ask(second)).usage
        await subject.pause()
        other = request.then(answer.text, _long())
        shares["branched"] = (await subject.ask(other)).usage
    for turn, usage in shares.items():
        if usage is not None:
            samples.add(turn, subject.name, usage.share * 100)
    await subject.reset()


def _long() -> str:
    return f"{_QUESTION} {question(tokens=20)}"
