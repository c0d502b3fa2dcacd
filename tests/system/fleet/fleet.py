"""Three replicas behind Envoy with a Redis, as docs/scaling.md sets them up."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bridge.simulator import Exchange, Simulator
from tests.support.harness import LoopThread
from tests.support.redis_server import RedisServer
from tests.support.user_server import running_simulator
from tests.support.waiting import at_once
from tests.system.fleet.envoy import Envoy, envoy
from tests.system.fleet.programs import eventually, left_behind
from tests.system.fleet.replica import NAMES, Replica, replica, token_of
from tests.system.proxies.recipes import KEY, NAME

DRAIN_DELAY_SECONDS: Final = 5
"""As in the manifests of deploy."""


@dataclass(frozen=True)
class Fleet:
    """The replicas, what stands in front of them, and the model's API behind them."""

    replicas: tuple[Replica, ...]
    envoy: Envoy
    redis: RedisServer
    simulator: Simulator

    def __getitem__(self, name: str) -> Replica:
        (found,) = (one for one in self.replicas if one.name == name)
        return found

    def without(self, *names: str) -> list[Replica]:
        return [one for one in self.replicas if one.name not in names]

    def accounts(self, **accounts: Any) -> None:
        """Say what the API accepts from each replica's login; everything from the others."""
        by_token = {token_of(name): accounts.get(name, "everything") for name in NAMES}
        self.simulator.accounts.load({"accounts": by_token})

    def upstream(self, mark: str) -> tuple[Exchange, ...]:
        """The calls of the model with this text in them."""
        return self.simulator.ledger.exchanges(containing=mark)

    def serving(self, mark: str) -> Replica:
        """The replica that called the model with this text, and the only one."""
        (token,) = {one.credential for one in self.upstream(mark)}
        (found,) = (one for one in self.replicas if one.token == token)
        return found

    def mend(self) -> None:
        """Make the fleet whole again, whatever a test has done to it."""
        self.accounts()
        self.redis.restore()
        for one in self.replicas:
            one.log_in()
            if one.program.running:
                one.program.signal(signal.SIGCONT)
        unready = [one for one in self.replicas if one.program.running and not one.ready]
        for one in unready:
            one.program.kill()
        if unready:
            # It knows the limits of their accounts, too.
            self.redis.restart()
        start([one for one in self.replicas if not one.program.running])
        self.envoy.wait_for(self.replicas)


@contextmanager
def running_fleet(folder: Path, loop: LoopThread, **settings: str) -> Iterator[Fleet]:
    """Run a fleet; what it has started is gone at the end."""
    with running_simulator(loop) as simulator, ExitStack() as stack:
        redis = RedisServer(folder / "redis")
        stack.callback(redis.close)
        redis.start()
        shared = {
            "ANTHROPIC_BASE_URL": simulator.base_url,
            "BRIDGE_API_KEYS": f"someone:admin:mine={KEY}",
            "BRIDGE_ALLOWED_HOSTS": NAME,
            "BRIDGE_REDIS_URL": redis.url,
            "BRIDGE_DRAIN_DELAY": str(DRAIN_DELAY_SECONDS),
            **settings,
        }
        replicas = tuple(replica(name, folder, shared) for name in NAMES)
        front = envoy(folder / "envoy", replicas)
        fleet = Fleet(replicas, front, redis, simulator)
        fleet.accounts()
        # Each takes the delay before its drain.
        stack.callback(at_once, *(one.program.close for one in replicas))
        stack.callback(front.program.close)
        start(replicas)
        front.program.start()
        front.program.accepting(front.proxy.port)
        front.wait_for(replicas)
        yield fleet
    eventually(lambda: not left_behind(folder), lambda: f"{left_behind(folder)} have ended")


def start(replicas: Sequence[Replica]) -> None:
    """Start these at the same time."""
    if replicas:
        at_once(*(one.start for one in replicas))
