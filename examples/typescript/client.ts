// Use the bridge over gRPC from TypeScript: stream an answer, run a tool, cancel a call.
//
//   npm start -- [PROMPT] [PROMPT_FOR_THE_TOOL] [PROMPT_FOR_A_LONG_ANSWER]
//
// BRIDGE_TARGET is the address (default 127.0.0.1:50051), BRIDGE_API_KEY the key if the server
// requires one. How to build it is in ../README.md.
import type { MessageInitShape } from "@bufbuild/protobuf";
import { type CallOptions, Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import {
  CompletionService,
  type CompletionSpecSchema,
  FinishReason,
  type PartSchema,
  Role,
  ToolChoice_Mode,
} from "./gen/bridge/v1/completion_pb.js";
import { ErrorInfoSchema } from "./gen/google/rpc/error_details_pb.js";

// What may be passed where a message is expected: an object with any of its fields.
type Spec = MessageInitShape<typeof CompletionSpecSchema>;
type Part = MessageInitShape<typeof PartSchema>;
type Call = { id: string; name: string; argumentsJson: string };

const target = process.env.BRIDGE_TARGET ?? "127.0.0.1:50051";
const key = process.env.BRIDGE_API_KEY;
const client = createClient(
  CompletionService,
  createGrpcTransport({ baseUrl: `http://${target}` }),
);
const options: CallOptions = {
  timeoutMs: 300_000, // the deadline covers the whole answer, including the wait for a process
  headers: key ? { authorization: `Bearer ${key}` } : {},
};

const ADD = {
  name: "add",
  description: "Adds two numbers.",
  parametersJson: JSON.stringify({
    type: "object",
    properties: { a: { type: "number" }, b: { type: "number" } },
    required: ["a", "b"],
  }),
};

/**
 * Prints the text of an answer as it arrives. Returns it, and the tool calls.
 *
 * It reads the call to its end: a loop that is left early does not cancel the call, so the answer and
 * the program run on. `cancel` shows how to stop one.
 */
async function answer(completion: Spec) {
  const calls: Call[] = [];
  let text = "";
  let reason: FinishReason | undefined;
  for await (const { event } of client.complete({ completion }, options)) {
    switch (event?.event.case) {
      case "textDelta":
        text += event.event.value.text;
        process.stdout.write(event.event.value.text);
        break;
      case "toolCallStart":
        calls.push({ ...event.event.value, argumentsJson: "" });
        break;
      case "toolCallDelta":
        calls[event.event.value.index]!.argumentsJson += event.event.value.argumentsJson;
        break;
      case "finished":
        reason = event.event.value.reason;
    }
  }
  if (reason === undefined) throw new Error("incomplete answer");
  return { text, calls, reason };
}

/** Prints an answer, running the tool as often as the model calls it. */
async function answerWithTool(prompt: string) {
  const messages = [user(textPart(prompt))];
  let mode = ToolChoice_Mode.REQUIRED;
  while (true) {
    const { text, calls, reason } = await answer({ messages, tools: [ADD], toolChoice: { mode } });
    if (reason !== FinishReason.TOOL_CALLS) return;
    // The server keeps nothing: send back what the model said, then the results of its calls.
    const said = text ? [textPart(text)] : [];
    said.push(...calls.map((call): Part => ({ part: { case: "toolCall", value: call } })));
    messages.push({ role: Role.ASSISTANT, parts: said }, user(...calls.map(run)));
    mode = ToolChoice_Mode.AUTO; // otherwise the model would have to call the tool again, for ever
  }
}

function user(...parts: Part[]) {
  return { role: Role.USER, parts };
}

function textPart(text: string): Part {
  return { part: { case: "text", value: text } };
}

/** Runs the tool; an error becomes a failed result. */
function run({ id, name, argumentsJson }: Call): Part {
  const { a, b } = JSON.parse(argumentsJson || "{}");
  const isError = typeof a !== "number" || typeof b !== "number";
  const result = isError ? "a and b must be numbers" : String(a + b);
  console.log(`${name}(${argumentsJson}) = ${result}`);
  const value = { callId: id, content: [textPart(result)], isError };
  return { part: { case: "toolResult", value } };
}

/** Cancels a call after the first piece of text. Returns that, and how the call ended. */
async function cancel(prompt: string) {
  const completion = { messages: [user(textPart(prompt))] };
  const controller = new AbortController();
  let text = "";
  try {
    const call = client.complete({ completion }, { ...options, signal: controller.signal });
    for await (const { event } of call) {
      if (event?.event.case !== "textDelta") continue;
      text ||= event.event.value.text;
      controller.abort();
    }
  } catch (error) {
    const { code } = ConnectError.from(error);
    if (code === Code.Canceled) return `${text}… CANCELLED`;
    throw error;
  }
  return `${text}… complete before it was cancelled`;
}

/** Describes an error by its status and google.rpc.ErrorInfo, whose reason never changes. */
function explain(error: unknown) {
  const failure = ConnectError.from(error);
  const [info] = failure.findDetails(ErrorInfoSchema);
  const reason = info ? ` (${info.reason}, retryable: ${info.metadata.retryable})` : "";
  return `${Code[failure.code]}: ${failure.rawMessage}${reason}`;
}

const [prompt, sumPrompt, longPrompt] = process.argv.slice(2);
try {
  await answer({ messages: [user(textPart(prompt ?? "Why is the sky blue?"))] });
  console.log();
  await answerWithTool(sumPrompt ?? "What is 19 + 23?");
  console.log();
  console.log(await cancel(longPrompt ?? "Tell a long story."));
} catch (error) {
  console.error(explain(error));
  process.exitCode = 1;
}
