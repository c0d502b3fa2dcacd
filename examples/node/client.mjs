// Use the bridge over gRPC from Node: one completion, then a conversation with a tool.
//
//   bridge protos protos && npm install && node client.mjs [HOST:PORT] [PROMPT] [PROMPT FOR THE TOOL]
//
// The .proto files are loaded at run time, without generated code. PROTO_PATH is their folder,
// BRIDGE_API_KEY the key if the server requires one.
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";

const PROTOS =
  process.env.PROTO_PATH ?? fileURLToPath(new URL("protos", import.meta.url));
const [
  target = "127.0.0.1:50051",
  prompt = "Why is the sky blue?",
  sum = "What is 19 + 23? Use the tool.",
] = process.argv.slice(2);

const definition = protoLoader.loadSync("bridge/v1/completion.proto", {
  includeDirs: [PROTOS],
  keepCase: true,
  defaults: true, // fields that are not sent get their default: an index of 0, an empty string
  enums: String,
  longs: Number,
  oneofs: true, // `response.event.event` names the field that is set
});
const { CompletionService } = grpc.loadPackageDefinition(definition).bridge.v1;
const client = new CompletionService(target, grpc.credentials.createInsecure());
const metadata = new grpc.Metadata();
if (process.env.BRIDGE_API_KEY) {
  metadata.set("authorization", `Bearer ${process.env.BRIDGE_API_KEY}`);
}

const ADD = {
  name: "add",
  description: "Adds two numbers.",
  parameters_json: JSON.stringify({
    type: "object",
    properties: { a: { type: "number" }, b: { type: "number" } },
    required: ["a", "b"],
  }),
};

async function complete(text) {
  const completion = { messages: [{ role: "ROLE_USER", parts: [{ text }] }] };
  // The deadline covers the whole answer, including the wait for a process.
  const call = client.Complete({ completion }, metadata, { deadline: Date.now() + 300_000 });
  for await (const { event } of call) {
    if (event.event === "text_delta") process.stdout.write(event.text_delta.text);
    if (event.event === "finished") return event.finished.reason;
  }
  throw new Error("incomplete answer");
}

async function converse(text) {
  const call = client.Converse(metadata);
  try {
    call.write({ open: { completion: { tools: [ADD] } } });
    call.write({ message: { parts: [{ text }] } });
    let calls = [];
    for await (const { event, turn_failed } of call) {
      // The call stays open, but there is nothing else to say.
      if (turn_failed) throw new Error(turn_failed.message);
      switch (event.event) {
        case "text_delta":
          process.stdout.write(event.text_delta.text);
          break;
        case "tool_call_start":
          calls.push({ ...event.tool_call_start, json: "" });
          break;
        case "tool_call_delta":
          calls[event.tool_call_delta.index].json += event.tool_call_delta.arguments_json;
          break;
        case "finished":
          if (event.finished.reason === "FINISH_REASON_TOOL_CALLS") {
            call.write({ tool_results: { results: calls.map(answered) } });
            calls = [];
          } else {
            call.end(); // nothing more to say
          }
      }
    }
  } finally {
    call.cancel(); // no effect if the call has ended
  }
}

function answered({ id, name, json }) {
  const { a, b } = JSON.parse(json || "{}");
  console.log(`${name}(${a}, ${b})`);
  return { call_id: id, content: [{ text: String(a + b) }] };
}

try {
  console.log(`\n${await complete(prompt)}`);
  await converse(sum);
  console.log();
} catch (error) {
  // A status: error.code, and error.metadata with its details.
  console.error(`${grpc.status[error.code] ?? "failed"}: ${error.details ?? error.message}`);
  process.exitCode = 1;
} finally {
  client.close();
}
