"""The two APIs as Node's clients see them."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.processes import use_of
from benchmarks.record import Line, Samples, Target
from benchmarks.scenarios.base import question, rounds
from benchmarks.scenarios.throughput import POOL_SIZE
from benchmarks.stage import Served, Stage
from benchmarks.subjects import NodeClient

TOKENS = 20_000
PACED_STREAMS = 8
PACED_TOKENS = 2_000
PACED_MS = 2.0


@dataclass(frozen=True, slots=True)
class _Case:
    """A number of answers at once, and the limits of gRPC's figures relative to HTTP's."""

    about: str
    streams: int
    tokens: int
    delay_ms: float
    rate: float | None = None
    cpu: float | None = None
    gap: float | None = None


CASES = (
    _Case(f"one answer of {TOKENS:,} tokens", 1, TOKENS, 0, rate=0.8, cpu=1.5),
    _Case(
        f"{PACED_STREAMS} answers at {1000 / PACED_MS:g} tokens/s",
        PACED_STREAMS,
        PACED_TOKENS,
        PACED_MS,
        cpu=1.3,
        gap=1.0,
    ),
)


class Node:
    """The throughput and the cost of both APIs, with clients that are not Python."""

    name = "node"
    about = (
        "Answers read by Node, with its own HTTP client and with grpc-js. The CPU is that of the "
        "bridge alone."
    )

    async def run(self, stage: Stage) -> list[Line]:
        """Measure the clients in turn."""
        bridge = await stage.bridge(POOL_SIZE)
        lines: list[Line] = []
        for case in CASES:
            prompt = question(tokens=case.tokens, delay_ms=case.delay_ms)
            clients = await stage.node_clients(bridge, case.streams, prompt)
            lines += await _measured(stage, bridge, case, clients)
        return lines


async def _measured(
    stage: Stage, bridge: Served, case: _Case, clients: tuple[NodeClient, NodeClient]
) -> list[Line]:
    samples = Samples()
    rate, cpu, gap = (
        f"{what}, {case.about}" for what in ("chunks per second", "CPU of the bridge", "gap, p95")
    )
    for client in rounds(stage.fewer(10), [*clients]):
        await bridge.settle()
        before = use_of([bridge.pid]).cpu
        seen = await client.ask()
        used = use_of([bridge.pid]).cpu - before
        if seen.chunks != case.streams * case.tokens:
            raise AssertionError(f"{client.name}: {seen.chunks} chunks")
        samples.add(rate, client.name, seen.rate)
        samples.add(cpu, client.name, used * 1e6 / seen.chunks)
        samples.add(gap, client.name, seen.gap)
    http, grpc = clients

    def line(what: str, client: NodeClient, unit: str, limit: float | None) -> Line:
        if limit is None or client is not grpc:
            return samples.line(what, client.name, unit)
        figure = samples.to(what, grpc.name, http.name)
        at_most = what != rate
        words = f"{'≤' if at_most else '≥'} {limit} x {http.name}"
        target = Target(words, limit, figure, at_most=at_most)
        return samples.line(what, client.name, unit, target=target)

    figures = ((rate, "/s", case.rate), (cpu, "µs a chunk", case.cpu), (gap, "ms", case.gap))
    # Without pauses, the gaps are those between the reads of a socket.
    shown = [figure for figure in figures if figure[0] != gap or case.gap is not None]
    return [line(what, client, unit, limit) for what, unit, limit in shown for client in clients]
