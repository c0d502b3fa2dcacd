// Reads answers as Node clients do, over HTTP or gRPC, and prints what was measured as JSON.
//
//   node reader.mjs http|grpc ADDRESS STREAMS PROMPT SYSTEM PROTOS
//
// It asks once to be warm, prints "ready", and asks again for each line of its input. A chunk is a
// token of the simulator, which ends with a space: deltas may have been joined.
import { createInterface } from "node:readline";
import http from "node:http";

const [api, address, streams, prompt, system, protos] = process.argv.slice(2);

function httpReader() {
  const [host, port] = address.split(":");
  const agent = new http.Agent({ keepAlive: true });
  const messages = [
    { role: "system", content: system },
    { role: "user", content: prompt },
  ];
  const body = JSON.stringify({ model: "default", stream: true, messages });
  const headers = { "content-type": "application/json" };
  return (onText) =>
    new Promise((resolve, reject) => {
      const path = "/v1/chat/completions";
      const request = http.request({ host, port, path, method: "POST", headers, agent });
      request.on("error", reject);
      request.on("response", (response) => {
        let rest = "";
        let done = false;
        response.setEncoding("utf8");
        response.on("data", (data) => {
          const lines = (rest + data).split("\n");
          rest = lines.pop();
          for (const line of lines) {
            if (!line.startsWith("data: ")) continue;
            if (line === "data: [DONE]") {
              done = true;
              continue;
            }
            const text = JSON.parse(line.slice(6)).choices[0]?.delta?.content;
            if (text) onText(text);
          }
        });
        response.on("end", () => (done ? resolve() : reject(new Error("incomplete answer"))));
        response.on("error", reject);
      });
      request.end(body);
    });
}

async function grpcReader() {
  const { default: grpc } = await import("@grpc/grpc-js");
  const { default: loader } = await import("@grpc/proto-loader");
  const options = { includeDirs: [protos], keepCase: true, oneofs: true, longs: Number };
  const definition = loader.loadSync("bridge/v1/completion.proto", options);
  const { CompletionService } = grpc.loadPackageDefinition(definition).bridge.v1;
  const client = new CompletionService(address, grpc.credentials.createInsecure());
  const messages = [{ role: "ROLE_USER", parts: [{ text: prompt }] }];
  return async (onText) => {
    let done = false;
    for await (const { event } of client.Complete({ completion: { system, messages } })) {
      if (event.text_delta) onText(event.text_delta.text);
      done ||= event.event === "finished";
    }
    if (!done) throw new Error("incomplete answer");
  };
}

const read = api === "http" ? httpReader() : await grpcReader();

async function measure() {
  let chunks = 0;
  let first;
  const gaps = [];
  const one = () => {
    let last;
    return read((text) => {
      const now = performance.now();
      first ??= now;
      if (last !== undefined) gaps.push(now - last);
      last = now;
      chunks += text.split(" ").length - 1;
    });
  };
  await Promise.all(Array.from({ length: Number(streams) }, one));
  const seconds = (performance.now() - first) / 1000;
  gaps.sort((a, b) => a - b);
  return { chunks, rate: chunks / seconds, gap: gaps[Math.floor(gaps.length * 0.95)] };
}

await measure();
console.log("ready");
for await (const _ of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await measure()));
}
process.exit();
