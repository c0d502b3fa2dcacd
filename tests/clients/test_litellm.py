"""LiteLLM's `anthropic/` provider, in an environment of its own: it does not fit into the lock."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.clients.programs import environment, python_with
from tests.support.harness import LONG, PATIENCE, RunningBridge, sim
from tests.support.http.upstream import spoken, upstream

VERSION = "1.108.7"
PROGRAM = Path(__file__).parent / "litellm_program.py"
CALL = {"name": "weather", "input": {"city": "Oslo"}, "id": "toolu_1"}


def run(bridge: RunningBridge, folder: Path, prompts: dict[str, str]) -> dict[str, Any]:
    """What the program got for its prompts."""
    python = python_with("litellm", VERSION)
    # Otherwise it downloads a list of prices.
    variables = environment(folder, LITELLM_LOCAL_MODEL_COST_MAP="True")
    done = subprocess.run(
        (str(python), str(PROGRAM), bridge.url, "any", json.dumps(prompts)),
        env=variables,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@LONG
def test_it_reads_answers_streams_calls_thinking_and_errors(
    bridge: RunningBridge, tmp_path: Path, marker: str
) -> None:
    found = run(
        bridge,
        tmp_path,
        {
            "whole": f"{marker} " + sim(text="Good day"),
            "streamed": sim(tokens=5),
            "tool": sim(tools=[CALL]),
            "result": sim(text="It rains in Oslo."),
            "thinking": f"{marker} thinking " + sim(thinking="Hm.", text="two"),
            "again": sim(text="three"),
            "error": sim(error={"status": 429, "message": "slow down"}),
        },
    )

    assert found.pop("error").startswith("litellm.RateLimitError")
    assert found == {
        "whole": "Good day",
        "usage": 2,
        "pieces": ["w0 ", "w1 ", "w2 ", "w3 ", "w4 "],
        "call": ["weather", {"city": "Oslo"}],
        "called": "It rains in Oslo.",
        "thinking": "Hm.",
        "again": "three",
    }
    body = upstream(bridge, f"{marker} thinking")
    assert [block["type"] for block in spoken(body)[1]["content"]] == ["thinking", "text"]
    assert upstream(bridge, f"{marker} [[")["system"][-1]["text"] == "Be kind."
