"""The callers: what they ask, how they behave, and whether what they get is right.

Each conversation has a name that stands in all of its messages and in its answers: an answer, or
a request that reached the model, with the name of another conversation belongs to another caller.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from random import Random

import grpc

from bridge.core.contract.request import Message, TextPart, ToolResultPart
from bridge.v1 import completion_pb2 as pb
from tests.support.grpc.client import Talk
from tests.support.harness import sim, user
from tests.support.http.client import Json
from tests.support.replies import GONE, Reply
from tests.system.soak.asking import Api, Ask, GrpcApi, HttpApi

NAME = re.compile(r"soak-[0-9a-f]{12}")

FAIR = (
    "claude_process_error",
    "upstream_error",
    "timeout",
    "queue_full",
    "UNAVAILABLE",
    "DEADLINE_EXCEEDED",
    "RESOURCE_EXHAUSTED",
)
"""How any request may end while processes are killed and the queue is full."""
QUEUE_FULL = ("queue_full", "RESOURCE_EXHAUSTED")
WRITE_FAILED = "INTERNAL: Internal error from Core"
REFUSED = ("400", "404", "INVALID_ARGUMENT", "NOT_FOUND")

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}},
    "required": ["name"],
    "additionalProperties": False,
}


class Wrong(Exception):
    """An answer that is neither right nor an error that may be."""


@dataclass
class Tally:
    """What became of all requests."""

    right: Counter[str] = field(default_factory=Counter)
    """Whole and right, by scenario."""
    errors: Counter[str] = field(default_factory=Counter)
    """In an error, by scenario and error."""
    wrong: list[str] = field(default_factory=list)

    @property
    def unlucky(self) -> int:
        """Errors that were not scripted: of a process or of the time limit."""
        foreseen = ("leaving", "impatient", "upstream fails")
        return sum(
            count
            for kind, count in self.errors.items()
            if not kind.startswith(foreseen) and not kind.endswith(QUEUE_FULL)
        )


class Caller:
    """One of many: goes through scenarios at random until the time is over."""

    def __init__(self, http: HttpApi, grpc: GrpcApi, tally: Tally, random: Random) -> None:
        self._http = http
        self._grpc = grpc
        self._tally = tally
        self._random = random
        self._name = ""
        self._wait = 0.0
        self._scenarios: Sequence[tuple[int, Callable[[], Awaitable[None]]]] = (
            (6, self.plain),
            (4, self.conversation),
            (4, self.tool_loop),
            (2, self.structured),
            (3, self.leaving),
            (2, self.impatient),
            (1, self.long_answer_read_slowly),
            (2, self.wrong_request),
            (3, self.upstream_fails),
            (2, self.text_completion),
            (4, self.converse),
        )

    async def run(self, until: float) -> None:
        """Call until then, in the time of time.monotonic."""
        weights = [weight for weight, _ in self._scenarios]
        while time.monotonic() < until:
            (_, scenario), *_ = self._random.choices(self._scenarios, weights)
            self._name = f"soak-{self._random.getrandbits(48):012x}"
            try:
                await self._pause()
                await scenario()
            except Wrong as wrong:
                self._tally.wrong.append(f"{scenario.__name__} {self._name}: {wrong}")
            except Exception as error:  # noqa: BLE001 - whatever it is, it must not be
                self._tally.wrong.append(f"{scenario.__name__} {self._name}: {error!r}")

    async def _pause(self) -> None:
        """Come back later, as one does who was refused for the length of the queue."""
        seconds, self._wait = self._wait, 0.0
        await asyncio.sleep(seconds)

    # What is said

    def _user(self, words: str) -> Message:
        return user(f"{self._name} {words}")

    def _answer(self) -> str:
        return f"The answer is {self._random.randrange(10**9)}, says {self._name}."

    def _api(self) -> Api:
        return self._random.choice((self._http, self._grpc))

    async def _ask(self, scenario: str, api: Api, ask: Ask, expected: str | None) -> Reply | None:
        """Ask; None where it ended in an error that may be."""
        return self._judged(f"{scenario} {api.name}", await api.ask(ask), expected)

    def _judged(
        self, scenario: str, reply: Reply, expected: str | None, *allowed: str
    ) -> Reply | None:
        if set(NAME.findall(reply.text)) - {self._name}:
            raise Wrong(f"somebody else's text: {reply.text!r}")
        if reply.failure is not None:
            error = reply.failure.summary
            if not error.endswith((*FAIR, *allowed)):
                raise Wrong(f"{error} after {reply.text!r}")
            if error.endswith(QUEUE_FULL) and reply.failure.retry_after is None:
                raise Wrong(f"{error} does not say when to try again")
            if expected is not None and not expected.startswith(reply.text):
                raise Wrong(f"{reply.text!r} before {error} is not of {expected!r}")
            self._tally.errors[f"{scenario}: {error}"] += 1
            if error.endswith(QUEUE_FULL):
                self._wait = self._random.uniform(0.2, 1.0)
            return None
        if expected is not None and reply.text != expected:
            raise Wrong(f"{reply.text!r} is not {expected!r}")
        self._tally.right[scenario] += 1
        return reply

    # Scenarios

    async def plain(self) -> None:
        """One question, streamed or not, with a system prompt or without."""
        answer = self._answer()
        messages = (self._user(sim(text=answer)),)
        api = self._api()
        system = ""
        if api is self._http and self._random.random() < 0.5:
            system = f"You are {self._name}."
        stream = self._random.random() < 0.5
        await self._ask("plain", api, Ask(messages, system, stream=stream), answer)

    async def conversation(self) -> None:
        """Several turns, each with the whole history; now and then at the other API."""
        messages: tuple[Message, ...] = ()
        for _ in range(self._random.randint(2, 4)):
            answer = self._answer()
            messages = (*messages, self._user(sim(text=answer)))
            reply = await self._ask("conversation", self._api(), Ask(messages), answer)
            if reply is None:
                return
            messages = (*messages, reply.message)

    async def tool_loop(self) -> None:
        """One or two calls, and their results; now and then the caller never brings them."""
        names = self._random.sample(("alpha", "beta", "gamma"), self._random.randint(1, 2))
        answer = self._answer()
        calls = [{"name": name, "input": {"of": self._name}} for name in names]
        question = self._user(sim(turns=[{"tools": calls}, {"text": answer}]))
        api = self._api()
        stream = self._random.random() < 0.5
        tools = ("alpha", "beta", "gamma")
        reply = await self._ask("calls", api, Ask((question,), tools=tools, stream=stream), "")
        if reply is None or self._random.random() < 0.2:
            return
        made = [(call.name, call.arguments) for call in reply.calls]
        wanted = [(name, {"of": self._name}) for name in names]
        if [(name, json.loads(arguments)) for name, arguments in made] != wanted:
            raise Wrong(f"calls {made}")
        results = user(
            *(
                ToolResultPart(call.id, (TextPart(f"{self._name} says {call.name}"),))
                for call in reply.calls
            )
        )
        messages = (question, reply.message, results)
        await self._ask("results", api, Ask(messages, tools=tools, stream=stream), answer)

    async def structured(self) -> None:
        """An object by a schema."""
        ask = Ask((self._user(sim(json={"name": self._name})),), schema=SCHEMA)
        reply = await self._ask("structured", self._api(), ask, None)
        if reply is not None and json.loads(reply.text) != {"name": self._name}:
            raise Wrong(reply.text)

    async def leaving(self) -> None:
        """Go away in the middle of an answer."""
        ask = Ask(
            (self._user(sim(endless=True, delay_ms=5)),), leave_after=self._random.randint(0, 40)
        )
        api = self._api()
        self._judged(f"leaving {api.name}", await api.ask(ask), None, GONE)

    async def impatient(self) -> None:
        """Wait for an answer without a stream, or for one that never begins, and not for long."""
        directive = sim(hang=True) if self._random.random() < 0.5 else sim(endless=True, delay_ms=5)
        ask = Ask((self._user(directive),), stream=False, timeout=self._random.uniform(0.005, 1.0))
        api = self._api()
        self._judged(f"impatient {api.name}", await api.ask(ask), None, GONE)

    async def long_answer_read_slowly(self) -> None:
        """Take an answer of many pieces at a pace of one's own."""
        count = self._random.randint(300, 1500)
        expected = "".join(f"w{number} " for number in range(count))
        ask = Ask((self._user(sim(tokens=count)),), pause=0.001)
        await self._ask("slow reader", self._api(), ask, expected)

    async def wrong_request(self) -> None:
        """What is not served is refused."""
        extra: Json = self._random.choice(
            (
                {"messages": []},
                {"messages": "what"},
                {"messages": [{"role": "robot", "content": self._name}]},
                {"n": 3},
                {"response_format": {"type": "json_schema"}},
                {"tools": [{"type": "function"}]},
                {"max_completion_tokens": -1},
            )
        )
        api = self._api()
        reply = await api.ask(Ask((self._user("hello"),), extra=extra))
        if reply.failure is None or not reply.failure.summary.startswith(REFUSED):
            raise Wrong(f"{extra} over {api.name}: {reply}")
        self._tally.right[f"refused {api.name}"] += 1

    async def upstream_fails(self) -> None:
        """The model's API fails in one of its ways."""
        answer = self._answer()
        after = self._random.randint(0, 5)
        status = self._random.choice((429, 500, 529))
        directive: Json = self._random.choice(
            (
                {"text": answer, "error": {"status": status}},
                {"text": answer, "error": {"status": status, "times": 1}},
                {"text": answer, "error_after": after},
                {"text": answer, "cut_after": after},
            )
        )
        api = self._api()
        ask = Ask((self._user(sim(**directive, note=self._name)),))
        reply = await api.ask(ask)
        self._judged(
            f"upstream fails {api.name}", reply, answer, "overloaded_error", "rate_limit_exceeded"
        )

    async def text_completion(self) -> None:
        """OpenAI's older API."""
        answer = self._answer()
        stream = self._random.random() < 0.5
        body = {
            "model": "default",
            "prompt": f"{self._name} {sim(text=answer)}",
            "stream": stream,
            # Its default is 16.
            "max_tokens": 1000,
        }
        reply = await self._http.post("/v1/completions", body, Ask(()))
        self._judged("text completion http", reply, answer)

    async def converse(self) -> None:
        """A conversation on one call: turns, a turn cancelled, tools."""
        talk = Talk(self._grpc.channel, timeout=120)
        try:
            await talk.open(tools=[pb.Tool(name="alpha")])
            for _ in range(self._random.randint(1, 3)):
                if not await self._turn(talk):
                    return
            await talk.call.done_writing()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            # It has ended while something was sent: what is left to read says how, unless
            # grpc.aio has put this in its place.
            self._judged("converse grpc", await talk.outcome(), None, WRITE_FAILED)
        finally:
            talk.call.cancel()

    async def _turn(self, talk: Talk) -> bool:
        answer = self._answer()
        kind = self._random.choice(("text", "tool", "cancel"))
        directives: dict[str, Json] = {
            "text": {"text": answer},
            "tool": {"turns": [{"tools": [{"name": "alpha"}]}, {"text": answer}]},
            "cancel": {"endless": True, "delay_ms": 5},
        }
        await talk.say(f"{self._name} {sim(**directives[kind])}")
        if kind == "cancel":
            await talk.cancel_turn()
            return self._judged("cancelled turn grpc", await talk.outcome(), None) is not None
        reply = self._judged("turn grpc", await talk.outcome(), "" if kind == "tool" else answer)
        if reply is None or kind == "text":
            return reply is not None
        await talk.give(**{call.id: self._name for call in reply.calls})
        return self._judged("turn grpc", await talk.outcome(), answer) is not None
