"""gRPC's own client for Node, which loads the .proto files at run time: no generated code."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clients.programs import environment, libraries
from tests.support.harness import PATIENCE, RunningBridge, sim

PACKAGES = ("@grpc/grpc-js@1.14.7", "@grpc/proto-loader@0.8.1")
PROGRAM = """
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");
const [target, protos, question, sum] = process.argv.slice(2);
const options = { keepCase: true, defaults: true, enums: String, longs: Number, oneofs: true };
const files = ["bridge/v1/completion", "google/rpc/error_details", "google/rpc/status"];
const names = files.map((file) => `${file}.proto`);
const definition = loader.loadSync(names, { ...options, includeDirs: [protos] });
const { CompletionService } = grpc.loadPackageDefinition(definition).bridge.v1;
const client = new CompletionService(target, grpc.credentials.createInsecure());
const spec = (text) => ({ completion: { messages: [{ role: "ROLE_USER", parts: [{ text }] }] } });

async function complete() {
  let text = "";
  const call = client.Complete(spec(question), { deadline: Date.now() + 100_000 });
  for await (const { event } of call) {
    if (event.event === "text_delta") text += event.text_delta.text;
    if (event.event === "finished") return { text, reason: event.finished.reason };
  }
}

async function converse() {
  const call = client.Converse();
  call.write({ open: { completion: { tools: [{ name: "add" }] } } });
  call.write({ message: { parts: [{ text: sum }] } });
  let text = "";
  let called;
  for await (const { event } of call) {
    if (event.event === "text_delta") text += event.text_delta.text;
    if (event.event === "tool_call_start") called = { ...event.tool_call_start, json: "" };
    if (event.event === "tool_call_delta") called.json += event.tool_call_delta.arguments_json;
    if (event.event !== "finished") continue;
    if (event.finished.reason === "FINISH_REASON_TOOL_CALLS") {
      const { a, b } = JSON.parse(called.json);
      const result = { call_id: called.id, content: [{ text: String(a + b) }] };
      call.write({ tool_results: { results: [result] } });
    } else {
      call.end();
    }
  }
  return { text, name: called.name, json: called.json };
}

async function fail() {
  try {
    for await (const _ of client.Complete(spec(""))) continue;
  } catch (error) {
    const [bytes] = error.metadata.get("grpc-status-details-bin");
    const { details } = definition["google.rpc.Status"].deserialize(bytes);
    const one = details.find(({ type_url }) => type_url.endsWith("google.rpc.ErrorInfo"));
    const info = definition["google.rpc.ErrorInfo"].deserialize(one.value);
    return { code: grpc.status[error.code], reason: info.reason, field: info.metadata.field };
  }
}

(async () => {
  console.log(JSON.stringify([await complete(), await converse(), await fail()]));
  client.close();
})();
"""


def test_it_streams_converses_and_reads_an_error(bridge: RunningBridge, tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    modules = libraries(*PACKAGES)
    script, protos = tmp_path / "ask.cjs", tmp_path / "protos"
    script.write_text(PROGRAM)
    subprocess.run(
        (sys.executable, "-m", "bridge", "protos", protos), check=True, capture_output=True
    )
    call = {"tools": [{"name": "add", "input": {"a": 19, "b": 23}}]}
    prompts = sim(text="Good day"), sim(turns=[call, {"text": "It is 42."}])
    done = subprocess.run(
        (node, script, bridge.target, protos, *prompts),
        env=environment(tmp_path, NODE_PATH=str(modules), no_grpc_proxy="127.0.0.1"),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer, conversation, error = json.loads(done.stdout)
    assert answer == {"text": "Good day", "reason": "FINISH_REASON_STOP"}
    assert conversation["text"] == "It is 42."
    assert (conversation["name"], json.loads(conversation["json"])) == ("add", {"a": 19, "b": 23})
    assert error == {
        "code": "INVALID_ARGUMENT",
        "reason": "INVALID_VALUE",
        "field": "completion.messages[0]",
    }
