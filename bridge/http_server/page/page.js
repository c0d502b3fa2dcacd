// The page for people: shows what the server says of itself, and tries a completion.
// The key is kept in this variable and nowhere else.
"use strict";

let key = "";
let state = null;
let chosen = "curl";
let running = null;

const $ = (id) => document.getElementById(id);
const STATES = ["running", "idle", "parked", "blank", "starting", "preparing", "resetting", "closing"];
const PAUSE_MS = 1000;

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function headers(more) {
  return key ? { ...more, authorization: `Bearer ${key}` } : { ...more };
}

async function refresh() {
  let reply;
  try {
    reply = await fetch("bridge/state", { headers: headers(), cache: "no-store" });
  } catch {
    badge("no connection", false);
    return true;
  }
  if (reply.status === 401 || reply.status === 403) {
    const body = await reply.json().catch(() => ({}));
    askForKey(key ? body.error?.message ?? "" : "");
    return false;
  }
  if (!reply.ok) {
    badge(`error ${reply.status}`, false);
    return true;
  }
  const first = state === null;
  state = await reply.json();
  $("door").hidden = true;
  $("main").hidden = false;
  show();
  if (first) await listModels();
  return true;
}

function askForKey(error) {
  state = null;
  $("main").hidden = true;
  $("door").hidden = false;
  $("door-error").textContent = error;
  badge("key needed", false);
  $("key").focus();
}

function badge(text, good) {
  $("status").textContent = text;
  $("status").className = `badge ${good ? "ok" : "bad"}`;
}

function show() {
  const { pool } = state;
  $("version").textContent = state.version;
  badge(pool.status.replaceAll("_", " "), pool.status === "ok");
  $("detail").textContent = pool.detail;
  const totals = pool.totals;
  const facts = [
    ["Claude Code", pool.cli_version || "starting"],
    ["Account", pool.simulated ? "none: a simulated model answers" : pool.account],
    ["Turns at once", `${pool.processes.running ?? 0} of ${pool.pool_size}`],
    ["Waiting", String(pool.waiting)],
    ["Answered", `${totals.answered}, ${totals.failed} failed, ${totals.left} left early`],
    ["Sessions", Object.entries(totals.sessions).map(([how, n]) => `${n} ${how}`).join(", ") || "none yet"],
    ["Processes", `${totals.processes_started} started, ${totals.processes_ended} ended, limit ${pool.max_processes}`],
  ];
  $("facts").replaceChildren(
    ...facts.flatMap(([name, value]) => [element("dt", name), element("dd", value)]),
  );
  const present = STATES.filter((name) => pool.processes[name]);
  $("pool").replaceChildren(
    ...present.flatMap((name) => Array.from({ length: pool.processes[name] }, () => element("i", undefined, name))),
  );
  $("legend").replaceChildren(...present.map((name) => element("li", `${pool.processes[name]} ${name}`, name)));
  showPlan(pool.plan);
  showRecent(state.recent);
  showSnippet();
}

function showPlan(plan) {
  if (!plan) {
    $("plan").replaceChildren(element("p", "The API has not said anything of the plan yet.", "quiet"));
    return;
  }
  const parts = [element("p", `${plan.status.replaceAll("_", " ")}${plan.limit ? ` (${plan.limit.replaceAll("_", " ")})` : ""}`)];
  const windows = plan.windows.length ? plan.windows : plan.utilization === null ? [] : [plan];
  for (const window of windows) parts.push(...usage(window));
  if (plan.using_overage) parts.push(element("p", "Paid extra usage has begun.", "error"));
  $("plan").replaceChildren(...parts);
}

function usage(window) {
  const name = window.limit ? `${window.limit.replaceAll("_", " ")}: ` : "";
  const resets = window.resets_at === null ? "" : `, resets ${new Date(window.resets_at * 1000).toLocaleString()}`;
  const meter = element("meter");
  Object.assign(meter, { min: 0, max: 1, low: 0.7, high: 0.9, optimum: 0, value: window.utilization });
  return [element("p", `${name}${Math.round(window.utilization * 100)} % used${resets}`), meter];
}

function milliseconds(value) {
  return value === null || value === undefined ? "" : value < 10000 ? `${value} ms` : `${(value / 1000).toFixed(1)} s`;
}

function showRecent(recent) {
  $("none").hidden = recent.length > 0;
  $("recent").replaceChildren(...recent.map((line) => {
    const row = element("tr");
    row.title = line.request_id;
    row.append(
      element("td", new Date(line.time).toLocaleTimeString()),
      element("td", line.door),
      element("td", line.key),
      element("td", line.model ?? line.model_asked),
      element("td", line.session ?? ""),
      element("td", milliseconds(line.queue_ms), "number"),
      element("td", milliseconds(line.first_token_ms), "number"),
      element("td", milliseconds(line.total_ms), "number"),
      element("td", line.output_tokens === null ? "" : String(line.output_tokens), "number"),
      element("td", line.error ?? line.finish ?? "", line.error ? "error" : ""),
    );
    return row;
  }));
}

// Client settings

const CLIENTS = {
  curl: () => `curl -N ${base()}/chat/completions \\
  -H 'content-type: application/json' \\${state.keys ? `
  -H 'authorization: Bearer ${shownKey()}' \\` : ""}
  -d '{"model": "default", "stream": true,
       "messages": [{"role": "user", "content": "Hello"}]}'`,
  Python: () => `from openai import OpenAI

client = OpenAI(base_url="${base()}", api_key="${shownKey()}")
stream = client.chat.completions.create(
    model="default",
    messages=[{"role": "user", "content": "Hello"}],
    stream=True,
)
for chunk in stream:
    print(chunk.choices[0].delta.content or "", end="", flush=True)`,
  JavaScript: () => `import OpenAI from "openai";

const client = new OpenAI({ baseURL: "${base()}", apiKey: "${shownKey()}" });
const stream = await client.chat.completions.create({
  model: "default",
  messages: [{ role: "user", content: "Hello" }],
  stream: true,
});
for await (const chunk of stream) {
  process.stdout.write(chunk.choices[0]?.delta?.content ?? "");
}`,
  gRPC: () => state.grpc ? `grpcurl -plaintext \\${state.keys ? `
  -H 'authorization: Bearer ${shownKey()}' \\` : ""}
  -d '{"messages": [{"role": "ROLE_USER", "parts": [{"text": "Hello"}]}]}' \\
  ${state.grpc} bridge.v1.CompletionService/Complete` : "This server does not serve gRPC (bridge serve --grpc).",
  "Open WebUI": () => `Settings, Connections, OpenAI API, +

URL      ${base()}
Key      ${shownKey()}

In Docker, where "localhost" is the container, use the host's name, and list
that name in BRIDGE_ALLOWED_HOSTS.`,
  LangChain: () => `from langchain_openai import ChatOpenAI

model = ChatOpenAI(model="default", base_url="${base()}", api_key="${shownKey()}")
for chunk in model.stream("Hello"):
    print(chunk.content, end="", flush=True)`,
};

function base() {
  return `${location.origin}/v1`;
}

function shownKey() {
  // Never the key itself: a screen is seen by others, and a snippet is pasted into files.
  return state.keys ? "YOUR_KEY" : "unused";
}

function showSnippet() {
  const text = CLIENTS[chosen]();
  if ($("code").textContent !== text) $("code").textContent = text;
}

function choose(name) {
  chosen = name;
  for (const tab of $("tabs").children) tab.setAttribute("aria-selected", String(tab.textContent === name));
  showSnippet();
}

function makeTabs() {
  for (const name of Object.keys(CLIENTS)) {
    const tab = element("button", name);
    tab.type = "button";
    tab.setAttribute("role", "tab");
    tab.setAttribute("aria-selected", String(name === chosen));
    tab.addEventListener("click", () => choose(name));
    $("tabs").append(tab);
  }
}

async function copy() {
  try {
    await navigator.clipboard.writeText($("code").textContent);
    $("copy").textContent = "Copied";
  } catch {
    getSelection().selectAllChildren($("code"));
    $("copy").textContent = "Selected";
  }
  setTimeout(() => { $("copy").textContent = "Copy"; }, 1500);
}

// Trying it

async function listModels() {
  const reply = await fetch("v1/models", { headers: headers() });
  const names = reply.ok ? (await reply.json()).data.map((model) => model.id) : [];
  $("model").replaceChildren(...["default", ...names.filter((name) => name !== "default")].map((name) => element("option", name)));
}

async function send(event) {
  event.preventDefault();
  if (running) return;
  running = new AbortController();
  $("send").disabled = true;
  $("cancel").hidden = false;
  $("answer").textContent = "";
  $("answer").className = "";
  $("times").textContent = "";
  const began = performance.now();
  try {
    await stream(began);
  } catch (error) {
    if (error.name === "AbortError") $("times").textContent += " cancelled";
    else fail(error.message);
  } finally {
    running = null;
    $("send").disabled = false;
    $("cancel").hidden = true;
  }
}

async function stream(began) {
  const messages = [{ role: "user", content: $("prompt").value }];
  if ($("system").value) messages.unshift({ role: "system", content: $("system").value });
  const reply = await fetch("v1/chat/completions", {
    method: "POST",
    headers: headers({ "content-type": "application/json" }),
    body: JSON.stringify({ model: $("model").value, messages, stream: true, stream_options: { include_usage: true } }),
    signal: running.signal,
  });
  if (!reply.ok) throw new Error((await reply.json().catch(() => ({}))).error?.message ?? `error ${reply.status}`);
  let first = null;
  let tokens = null;
  let rest = "";
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    const frames = (rest + value).split("\n\n");
    rest = frames.pop();
    for (const frame of frames) {
      if (!frame.startsWith("data: ") || frame === "data: [DONE]") continue;
      const chunk = JSON.parse(frame.slice(6));
      if (chunk.error) throw new Error(chunk.error.message);
      const text = chunk.choices[0]?.delta?.content;
      if (text) {
        first ??= performance.now() - began;
        $("answer").append(text);
      }
      tokens = chunk.usage?.completion_tokens ?? tokens;
    }
  }
  const total = performance.now() - began;
  $("times").textContent = `first token ${milliseconds(Math.round(first ?? total))}, total ${milliseconds(Math.round(total))}${tokens === null ? "" : `, ${tokens} tokens`}`;
}

function fail(message) {
  $("answer").className = "error";
  $("answer").textContent = message;
}

// Begin

async function watch() {
  for (;;) {
    if (!document.hidden && !(await refresh())) return;
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }
}

makeTabs();
$("try").addEventListener("submit", send);
$("cancel").addEventListener("click", () => running?.abort());
$("copy").addEventListener("click", copy);
$("door").addEventListener("submit", (event) => {
  event.preventDefault();
  key = $("key").value.trim();
  $("key").value = "";
  watch();
});
watch();
