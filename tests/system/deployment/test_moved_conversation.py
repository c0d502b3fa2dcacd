"""What a conversation costs that goes on at another replica: docs/scaling.md has the figures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import pytest

from tests.support.harness import PATIENCE, LoopThread, RunningBridge
from tests.support.user_server import running_simulator, user_bridge

# Four characters count as a token: 1,200 for each question.
QUESTION: Final = "Mind the gap between the train and the platform. " * 100
QUESTIONS: Final = 4


@pytest.fixture(scope="module")
def replicas(
    tmp_path_factory: pytest.TempPathFactory, loop_thread: LoopThread
) -> Iterator[tuple[RunningBridge, RunningBridge]]:
    """Two servers with one account."""
    home = tmp_path_factory.mktemp("replicas")
    with running_simulator(loop_thread) as simulator, pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANTHROPIC_BASE_URL", simulator.base_url)
        patch.setenv("CLAUDE_CODE_OAUTH_TOKEN", "sk-ant-oat01-replicas")
        for name in ("ANTHROPIC_API_KEY", "CLAUDE_CONFIG_DIR"):
            patch.delenv(name, raising=False)
        with (
            user_bridge(home, loop_thread, simulator) as one,
            user_bridge(home, loop_thread, simulator, bridge_state_dir=home / "other") as other,
        ):
            yield one, other


@dataclass
class Conversation:
    """A conversation whose client keeps the history."""

    messages: list[dict[str, str]] = field(default_factory=list)

    def ask(self, replica: RunningBridge, text: str) -> float:
        """Ask a replica; return the share of the prompt that was read from the cache."""
        self.messages.append({"role": "user", "content": text})
        body = {"model": "default", "messages": self.messages}
        reply = httpx.post(f"{replica.url}/v1/chat/completions", json=body, timeout=PATIENCE)
        assert reply.status_code == 200, reply.text
        answer: dict[str, Any] = reply.json()
        self.messages.append(
            {"role": "assistant", "content": answer["choices"][0]["message"]["content"]}
        )
        usage = answer["usage"]
        read: float = usage["prompt_tokens_details"]["cached_tokens"] / usage["prompt_tokens"]
        return read


def test_the_first_turn_elsewhere_reads_a_part_from_the_cache_and_the_next_nearly_all(
    replicas: tuple[RunningBridge, RunningBridge],
) -> None:
    one, other = replicas
    conversation = Conversation()
    shares = [conversation.ask(one, f"{number} {QUESTION}") for number in range(QUESTIONS)]
    # All but the last question.
    assert shares[-1] > 0.7
    moved = conversation.ask(other, "And here?")
    # The system prompt and the first question: what follows stands elsewhere in a replay.
    assert 0.3 < moved < 0.45
    assert conversation.ask(other, "And now?") > 0.95
    # It is replayed again, where its earlier turns stand as they did.
    assert conversation.ask(one, "And back?") > 0.9
