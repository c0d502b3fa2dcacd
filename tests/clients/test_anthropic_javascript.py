"""Anthropic's client for JavaScript, against the bridge."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.clients.programs import environment, installed
from tests.support.harness import PATIENCE, RunningBridge, sim

VERSION = "1.14.0"
PROGRAM = """
const Anthropic = require("@anthropic-ai/sdk").default;
const [baseURL, question] = process.argv.slice(2);
const client = new Anthropic({ baseURL, apiKey: "any", maxRetries: 0 });
const asked = {
  model: "opus",
  max_tokens: 999,
  thinking: { type: "adaptive" },
  messages: [{ role: "user", content: question }],
};
(async () => {
  const whole = await client.messages.create(asked);
  const streamed = await client.messages.stream(asked).finalMessage();
  let error;
  try {
    await client.messages.create({ ...asked, max_tokens: 0 });
  } catch (caught) {
    error = { status: caught.status, type: caught.error.error.type, id: caught.requestID };
  }
  console.log(JSON.stringify({ whole: whole.content, streamed: streamed.content, error }));
})();
"""


def test_it_reads_a_message_a_stream_and_an_error(bridge: RunningBridge, tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    program = installed("@anthropic-ai/sdk", VERSION, "anthropic-ai-sdk")
    script = tmp_path / "ask.cjs"
    script.write_text(PROGRAM)
    modules = str(program.parent.parent)
    done = subprocess.run(
        (node, str(script), bridge.url, sim(thinking="Hm.", text="Good day")),
        env=environment(tmp_path, NODE_PATH=modules),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)

    assert [block["type"] for block in found["whole"]] == ["thinking", "text"]
    assert found["streamed"] == found["whole"]
    assert found["error"].pop("id").startswith("req_")
    assert found["error"] == {"status": 400, "type": "invalid_request_error"}
