// The status page: shows the state of the server, and sends a completion.
// The key is kept in this variable and nowhere else.
"use strict";

let key = "";
let state = null;
let chosen = null;
let running = null;
let watching = false;
let answeredAt = null;

const $ = (id) => document.getElementById(id);
const STATES = ["running", "idle", "parked", "blank", "starting", "preparing", "resetting", "closing"];
const PAUSE_MS = 1000;

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

// Unchanged content is left alone: it may be selected, and a screen reader would repeat it.
const shown = new Map();

function changed(name, value) {
  const text = JSON.stringify(value);
  if (shown.get(name) === text) return false;
  shown.set(name, text);
  return true;
}

function say(id, text) {
  if ($(id).textContent !== text) $(id).textContent = text;
}

function words(name) {
  return name.toLowerCase().replaceAll("_", " ");
}

function headers(more) {
  return key ? { ...more, authorization: `Bearer ${key}` } : { ...more };
}

// The state

async function refresh() {
  let reply;
  let body;
  try {
    reply = await fetch("bridge/state", { headers: headers(), cache: "no-store" });
    body = await reply.json();
  } catch {
    lost();
    return true;
  }
  if (reply.status === 401 || reply.status === 403) {
    askForKey(key ? body.error?.message ?? "" : "");
    if (reply.status === 403 && key) await showOwn();
    return false;
  }
  if (!reply.ok) {
    lost(body.error?.message ?? `The server returned status ${reply.status}.`);
    return true;
  }
  state = body;
  answeredAt = new Date();
  $("key-form").hidden = true;
  $("main").hidden = false;
  $("main").className = "";
  show();
  const { answered, failed, left } = body.pool.totals;
  await refreshUsage(`${answered} ${failed} ${left}`);
  return true;
}

// A key without the scope admin sees what it has used, and nothing of the server.
async function showOwn() {
  forgetUsage();
  if (!(await refreshUsage(""))) return;
  $("main").hidden = false;
  $("main").className = "own";
  badge("own usage", true);
  say("key-error", "This key does not have the scope admin: the page shows only what it has used.");
}

function lost(why) {
  badge("no connection", false);
  $("main").classList.add("stale");
  const since = answeredAt ? ` Showing the state as of ${answeredAt.toLocaleTimeString()}.` : "";
  say("detail", why ?? `The server does not respond. Retrying every second.${since}`);
}

function askForKey(error) {
  state = null;
  shown.clear();
  forgetUsage();
  $("main").hidden = true;
  $("key-form").hidden = false;
  say("detail", "");
  say("key-error", error);
  badge("key needed", false);
  $("key").focus();
}

function badge(text, good) {
  say("status", text);
  $("status").className = `badge ${good ? "ok" : "bad"}`;
  document.title = good ? "claude-code-bridge" : `${text} · claude-code-bridge`;
}

function show() {
  const { pool } = state;
  say("version", state.replica ? `${state.version} on ${state.replica}` : state.version);
  badge(words(pool.status), pool.status === "ok");
  say("detail", pool.detail);
  if (changed("figures", [pool.totals, pool.processes.running, pool.waiting])) showFigures(pool);
  if (changed("processes", pool.processes)) showProcesses(pool.processes);
  if (changed("facts", [pool, state.keys])) showFacts(pool);
  if (changed("payers", pool.payers)) showPayers(pool.payers);
  if (changed("plan", [pool.plan, pool.payers.length])) {
    $("plan").replaceChildren(...(pool.payers.length ? [] : planParts(pool.plan, true)));
  }
  if (changed("recent", state.recent)) showRecent(state.recent);
  if (changed("clients", [state.keys, state.grpc])) showClients();
  say("pays", pool.simulated ? " Simulated model." : pool.logged_in ? ` ${pool.account} pays for the answer.` : "");
}

function showFigures({ totals, processes, waiting, pool_size }) {
  const figures = [
    ["running", processes.running ?? 0, `of ${pool_size}`],
    ["waiting", waiting],
    ["answered", totals.answered],
    ["failed", totals.failed, totals.left ? `+ ${totals.left} disconnected` : ""],
  ];
  $("figures").replaceChildren(...figures.map(([name, value, more]) => {
    const figure = element("div");
    const number = element("dd", String(value));
    if (more) number.append(" ", element("small", more));
    figure.append(element("dt", name), number);
    return figure;
  }));
}

function showProcesses(processes) {
  const present = STATES.filter((name) => processes[name]);
  $("pool").replaceChildren(
    ...present.flatMap((name) => Array.from({ length: processes[name] }, () => element("i", undefined, name))),
  );
  const counts = present.map((name) => `${processes[name]} ${name}`);
  $("pool").setAttribute("aria-label", `Processes: ${counts.join(", ") || "none"}`);
  $("legend").replaceChildren(...present.map((name, n) => element("li", counts[n], name)));
}

function showFacts(pool) {
  const { totals } = pool;
  const sessions = Object.entries(totals.sessions).map(([how, count]) => `${count} ${how}`);
  list("counts", [
    ["Sessions", sessions.join(", ") || "none yet"],
    ["Processes", `${totals.processes_started} started, ${totals.processes_ended} ended, at most ${pool.max_processes}`],
  ]);
  const facts = [
    ["Account", pool.simulated ? "none: simulated model" : pool.account],
    ["Claude Code", pool.cli_version || "starting"],
    ["Keys", state.keys ? "required" : "none: every client that can connect may use it"],
  ];
  if (pool.subscription && pool.subscription !== pool.account) facts.splice(1, 0, ["Plan", pool.subscription]);
  if (pool.lacking.length) facts.push(["Missing features", pool.lacking.join("; ")]);
  list("facts", facts);
}

function list(id, facts) {
  $(id).replaceChildren(...facts.flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
}

const PLAN_WORDS = {
  allowed: ["Within the limits.", ""],
  allowed_warning: ["Near a limit.", "warn"],
  rejected: ["Usage limit reached.", "error"],
};

function planParts(plan, subscription) {
  if (!plan) {
    const text = subscription ? "The plan's usage is known after the first answer." : "Billed per token: no plan limits it.";
    return [element("p", text, "quiet")];
  }
  const [sentence, className] = PLAN_WORDS[plan.status] ?? [`${words(plan.status)}.`, ""];
  const summary = element("p", sentence, className);
  summary.append(" ", element("span", `As of ${when(plan.said_at)}.`, "quiet small"));
  const parts = [summary];
  const windows = plan.windows.length ? plan.windows : plan.utilization === null ? [] : [plan];
  for (const window of windows) parts.push(...usage(window));
  if (!windows.length && plan.resets_at !== null) {
    parts.push(element("p", `${plan.limit ? `${words(plan.limit)}: ` : ""}resets ${when(plan.resets_at)}`));
  }
  if (plan.using_overage) parts.push(element("p", "Paid extra usage has begun.", "error"));
  return parts;
}

function usage(window) {
  const name = window.limit ? `${words(window.limit)}: ` : "";
  const resets = window.resets_at === null ? "" : `, resets ${when(window.resets_at)}`;
  const text = `${name}${Math.round(window.utilization * 100)} % used${resets}`;
  const meter = element("meter");
  Object.assign(meter, { min: 0, max: 1, low: 0.7, high: 0.9, optimum: 0, value: window.utilization });
  meter.setAttribute("aria-label", text);
  return [element("p", text), meter];
}

function when(seconds) {
  const moment = new Date(seconds * 1000);
  const today = moment.toDateString() === new Date().toDateString();
  const time = { hour: "2-digit", minute: "2-digit" };
  return today ? moment.toLocaleTimeString([], time) : moment.toLocaleString([], { weekday: "short", ...time });
}

function milliseconds(value) {
  if (value === null || value === undefined) return "";
  return value < 1000 ? `${value} ms` : `${(value / 1000).toFixed(value < 10000 ? 2 : 1)} s`;
}

// Name, text of a row, classes. A column that is empty in every row is left out.
const COLUMNS = [
  ["Time", (line) => new Date(line.time).toLocaleTimeString()],
  ["Model", (line) => line.model ?? line.model_asked ?? "default", "model"],
  ["API", (line) => line.api],
  ["Key", (line) => line.key],
  ["Session", (line) => line.session ?? ""],
  ["Queue", (line) => milliseconds(line.queue_ms), "number"],
  ["First token", (line) => milliseconds(line.first_token_ms), "number"],
  ["Total", (line) => milliseconds(line.total_ms), "number"],
  ["Tokens", (line) => String(line.output_tokens ?? ""), "number"],
  ["End", (line) => words(line.error ?? line.finish ?? ""), "end"],
  ["Id", (line) => line.request_id.slice(0, 12), "id"],
];

function showRecent(recent) {
  $("none").hidden = recent.length > 0;
  const columns = COLUMNS.filter(([, text]) => recent.some(text));
  $("columns").replaceChildren(...columns.map(([name, , className]) => {
    const head = element("th", name, className === "number" ? className : "");
    head.scope = "col";
    head.setAttribute("role", "columnheader");
    return head;
  }));
  $("recent").replaceChildren(...recent.map((line) => {
    const row = element("tr");
    row.setAttribute("role", "row");
    for (const [name, text, className] of columns) {
      const cell = element("td", text(line), className);
      cell.setAttribute("role", "cell");
      cell.dataset.label = name.toLowerCase();
      // A client that left, or cancelled its request, is not a failure.
      const wanted = ["CLIENT_CLOSED", "REQUEST_CANCELLED"].includes(line.error);
      if (name === "End" && line.error) cell.classList.add(wanted ? "quiet" : "error");
      if (name === "Id") cell.title = line.request_id;
      if (name === "Model" && line.labels) cell.append(labelsOf(line.labels));
      row.append(cell);
    }
    return row;
  }));
}

const SHOWN_LABELS = 120;

function labelsOf(labels) {
  const all = Object.entries(labels).map(([name, value]) => `${name}=${value}`).join(" ");
  const shown = element("span", all.length > SHOWN_LABELS ? `${all.slice(0, SHOWN_LABELS)}…` : all, "labels");
  shown.title = all;
  return shown;
}

// Client settings

const CLIENTS = {
  curl: () => `curl -N ${base()}/chat/completions \\
  -H 'content-type: application/json' \\${state.keys ? `
  -H 'authorization: Bearer ${shownKey()}' \\` : ""}
  -d '{"model": "default", "stream": true,
       "messages": [{"role": "user", "content": "Hello"}]}'`,
  "OpenAI Python": () => `from openai import OpenAI

client = OpenAI(base_url="${base()}", api_key="${shownKey()}")
stream = client.chat.completions.create(
    model="default",
    messages=[{"role": "user", "content": "Hello"}],
    stream=True,
)
for chunk in stream:
    print(chunk.choices[0].delta.content or "", end="", flush=True)`,
  "OpenAI JavaScript": () => `import OpenAI from "openai";

const client = new OpenAI({ baseURL: "${base()}", apiKey: "${shownKey()}" });
const stream = await client.chat.completions.create({
  model: "default",
  messages: [{ role: "user", content: "Hello" }],
  stream: true,
});
for await (const chunk of stream) {
  process.stdout.write(chunk.choices[0]?.delta?.content ?? "");
}`,
  grpcurl: () => state.grpc ? `grpcurl ${secure() ? "" : "-plaintext "}${isSocket() ? "-unix " : ""}\\${state.keys ? `
  -H 'authorization: Bearer ${shownKey()}' \\` : ""}
  -d '{"completion": {"messages": [{"role": "ROLE_USER", "parts": [{"text": "Hello"}]}]}}' \\
  ${target().replace("unix:", "")} bridge.v1.CompletionService/Complete` : NO_GRPC,
  "gRPC Python": () => state.grpc ? `import grpc
from bridge.v1 import completion_pb2 as pb
from bridge.v1.completion_pb2_grpc import CompletionServiceStub

with grpc.${secure() ? "secure" : "insecure"}_channel("${target()}"${secure() ? ", grpc.ssl_channel_credentials()" : ""}) as channel:
    message = pb.Message(role=pb.ROLE_USER, parts=[pb.Part(text="Hello")])
    request = pb.CompleteRequest(completion=pb.CompletionSpec(messages=[message]))${state.keys ? `
    metadata = (("authorization", "Bearer ${shownKey()}"),)` : ""}
    for response in CompletionServiceStub(channel).Complete(request${state.keys ? ", metadata=metadata" : ""}):
        print(response.event.text_delta.text, end="", flush=True)` : NO_GRPC,
  "Open WebUI": () => `Settings, Connections, OpenAI API, +

URL      ${base()}
Key      ${shownKey()}

In Docker, "localhost" is the container: use the host's name instead,
and list it in BRIDGE_ALLOWED_HOSTS.`,
  LangChain: () => `from langchain_openai import ChatOpenAI

model = ChatOpenAI(model="default", base_url="${base()}", api_key="${shownKey()}")
for chunk in model.stream("Hello"):
    print(chunk.content, end="", flush=True)`,
};

const NO_GRPC = "This server does not serve gRPC: start it with `bridge serve`.";

function base() {
  return `${location.origin}/v1`;
}

function secure() {
  return location.protocol === "https:";
}

function isSocket() {
  return state.grpc.startsWith("unix:");
}

function target() {
  // A server on every address is reached by the host name of this page.
  return state.grpc.replace(/^(0\.0\.0\.0|\[::\])(?=:\d+$)/, location.hostname);
}

function shownKey() {
  // Never the key itself: screens are shared, and snippets are pasted into files.
  return state.keys ? "YOUR_KEY" : "unused";
}

function showClients() {
  say("code", CLIENTS[chosen]());
  say("place", state.keys ? "Replace YOUR_KEY with a key from bridge keys add NAME --mine." : "No key required: any value works.");
}

function choose(name) {
  chosen = name;
  for (const tab of $("tabs").children) {
    const selected = tab.textContent === name;
    tab.setAttribute("aria-selected", String(selected));
    tab.tabIndex = selected ? 0 : -1;
    if (selected) $("snippet").setAttribute("aria-labelledby", tab.id);
  }
  if (state) showClients();
}

function makeTabs() {
  for (const [n, name] of Object.keys(CLIENTS).entries()) {
    const tab = element("button", name);
    tab.type = "button";
    tab.id = `tab-${n}`;
    tab.setAttribute("role", "tab");
    tab.setAttribute("aria-controls", "snippet");
    tab.addEventListener("click", () => choose(name));
    $("tabs").append(tab);
  }
  $("tabs").addEventListener("keydown", (event) => {
    const tabs = [...$("tabs").children];
    const here = tabs.indexOf(document.activeElement);
    const to = { ArrowRight: here + 1, ArrowLeft: here - 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const tab = tabs[(to + tabs.length) % tabs.length];
    tab.focus();
    choose(tab.textContent);
  });
  choose(Object.keys(CLIENTS)[0]);
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

// Try it

async function listModels() {
  const reply = await fetch("v1/models", { headers: headers() });
  if (!reply.ok) return false;
  const names = (await reply.json()).data.map((model) => model.id);
  const before = $("model").value;
  $("model").replaceChildren(...["default", ...names.filter((name) => name !== "default")].map((name) => element("option", name)));
  $("model").value = names.includes(before) ? before : "default";
  return true;
}

async function send(event) {
  event.preventDefault();
  if (running) return;
  running = new AbortController();
  const answer = $("answer");
  answer.hidden = false;
  answer.textContent = "";
  answer.className = "";
  // Read out when it is complete, not token by token.
  answer.setAttribute("aria-busy", "true");
  say("times", "waiting for the first token");
  swap("send", "cancel");
  const began = performance.now();
  try {
    await stream(began);
  } catch (error) {
    if (error.name === "AbortError") say("times", `cancelled after ${since(began)}`);
    else fail(error.message);
  } finally {
    running = null;
    answer.setAttribute("aria-busy", "false");
    swap("cancel", "send");
  }
}

function swap(from, to) {
  const focused = document.activeElement === $(from);
  $(from).hidden = true;
  $(to).hidden = false;
  if (focused) $(to).focus();
}

function since(began) {
  return milliseconds(Math.round(performance.now() - began));
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
  if (!reply.ok) throw new Error((await reply.json().catch(() => ({}))).error?.message ?? `The server returned status ${reply.status}.`);
  const seen = { first: null, tokens: null, model: "", finish: "", whole: false };
  let rest = "";
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    const frames = (rest + value).split("\n\n");
    rest = frames.pop();
    for (const frame of frames) read(frame, seen, began);
  }
  if (!seen.whole) throw new Error("The answer ended prematurely.");
  const parts = [
    `first token ${seen.first ?? since(began)}`,
    `total ${since(began)}`,
    seen.tokens === null ? "" : `${seen.tokens} tokens`,
    seen.model,
    seen.finish === "stop" ? "" : `ended by ${words(seen.finish)}`,
  ];
  say("times", parts.filter(Boolean).join(" · "));
}

function read(frame, seen, began) {
  if (!frame.startsWith("data: ")) return;
  if (frame === "data: [DONE]") {
    seen.whole = true;
    return;
  }
  const chunk = JSON.parse(frame.slice(6));
  if (chunk.error) throw new Error(chunk.error.message);
  const choice = chunk.choices[0];
  if (choice?.delta?.content) {
    if (seen.first === null) {
      seen.first = since(began);
      say("times", `first token ${seen.first}`);
    }
    add(choice.delta.content);
  }
  seen.model = chunk.model;
  seen.finish = choice?.finish_reason ?? seen.finish;
  seen.tokens = chunk.usage?.completion_tokens ?? seen.tokens;
}

function add(text) {
  const answer = $("answer");
  const atEnd = answer.scrollHeight - answer.scrollTop - answer.clientHeight < 4;
  answer.append(text);
  // If the user has scrolled up to read, stay there.
  if (atEnd) answer.scrollTop = answer.scrollHeight;
}

function fail(message) {
  const failure = element("span", message, "error");
  // The partial answer stays readable.
  $("answer").append(...($("answer").textContent ? ["\n\n", failure] : [failure]));
  say("times", "failed");
}

// Begin

async function watch() {
  if (watching) return;
  watching = true;
  let listed = false;
  for (;;) {
    if (!document.hidden) {
      if (!(await refresh())) break;
      // Not known until the first process is ready.
      if (!listed && state) listed = await listModels().catch(() => false);
    }
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }
  watching = false;
}

makeTabs();
$("try").addEventListener("submit", send);
$("cancel").addEventListener("click", () => running?.abort());
$("try").addEventListener("keydown", (event) => {
  if (event.key === "Escape") running?.abort();
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("try").requestSubmit();
});
$("copy").addEventListener("click", copy);
$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  key = $("key").value.trim();
  $("key").value = "";
  watch();
});
$("by").addEventListener("change", () => refreshUsage(usageOf));
watch();
