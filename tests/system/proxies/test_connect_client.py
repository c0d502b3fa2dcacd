"""Connect's client for gRPC-Web, as pages use it, through Envoy; its types are the descriptors'."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.clients.programs import environment, libraries
from tests.support.harness import PATIENCE, sim
from tests.system.proxies.recipes import DESCRIPTORS, KEY, NAME, Proxy

PACKAGES = (
    "@connectrpc/connect-node@2.3.0",
    "@connectrpc/connect@2.3.0",
    "@bufbuild/protobuf@2.17.0",
)
PROGRAM = """
const fs = require("node:fs");
const { createClient } = require("@connectrpc/connect");
const { createGrpcWebTransport } = require("@connectrpc/connect-node");
const { createFileRegistry, fromBinary } = require("@bufbuild/protobuf");
const { FileDescriptorSetSchema } = require("@bufbuild/protobuf/wkt");
const [baseUrl, servername, descriptors, key, question] = process.argv.slice(2);
const set = fromBinary(FileDescriptorSetSchema, fs.readFileSync(descriptors));
const registry = createFileRegistry(set);
const nodeOptions = { servername };
const transport = createGrpcWebTransport({ baseUrl, httpVersion: "1.1", nodeOptions });
const service = (name) => createClient(registry.getService(`bridge.v1.${name}`), transport);
const options = { headers: { authorization: `Bearer ${key}` } };
const message = { role: 1, parts: [{ part: { case: "text", value: question } }] };
(async () => {
  let text = "";
  let last;
  const answer = service("CompletionService").complete(
    { completion: { messages: [message] } }, options);
  for await (const { event } of answer) {
    last = event.event.case;
    if (last === "textDelta") text += event.event.value.text;
  }
  let error;
  try {
    await service("ModelService").getModel({ id: "no-such-model" }, options);
  } catch (caught) {
    error = { code: caught.code, details: caught.details.map((detail) => detail.type) };
  }
  console.log(JSON.stringify({ text, last, error }));
})();
"""


def test_it_reads_a_stream_and_an_error(envoy: Proxy, tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    script, trusted = tmp_path / "ask.cjs", tmp_path / "bridge.pem"
    script.write_text(PROGRAM)
    trusted.write_bytes(envoy.cert)
    modules = str(libraries(*PACKAGES))
    done = subprocess.run(
        (node, script, envoy.url, NAME, DESCRIPTORS, KEY, sim(text="Good day")),
        env=environment(tmp_path, NODE_PATH=modules, NODE_EXTRA_CA_CERTS=str(trusted)),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["text"], found["last"]) == ("Good day", "finished")
    assert found["error"]["code"] == 5
    assert "google.rpc.ErrorInfo" in found["error"]["details"]
