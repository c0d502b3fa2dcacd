// What was used, and the payers. Uses the helpers of page.js, which starts it.
"use strict";

const MOST_ROWS = 10;
const LEAST_MS = 5000;
const MOST_MS = 60000;
const SUMS = [
  "requests", "input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens",
  "cost_usd", "billed_usd", "unknown_costs",
];

let usageAt = 0;
let usageOf = null;
let usageBy = null;

// Reads it if something has ended since, and then not too often. `ended` changes with each request.
async function refreshUsage(ended) {
  const by = $("by").value;
  const age = Date.now() - usageAt;
  const due = by !== usageBy || age > MOST_MS || (ended !== usageOf && age > LEAST_MS);
  if (!due) return true;
  const since = `${today().slice(0, 8)}01`;
  const [days, rows] = await Promise.all([usageSums("day", since), usageSums(by, since)]);
  if (!days || !rows) return false;
  [usageAt, usageOf, usageBy] = [Date.now(), ended, by];
  const ofToday = days.data.find((row) => row.day === today()) ?? empty();
  $("usage").hidden = false;
  if (changed("usage", [ofToday, days.total, rows])) showUsage(ofToday, days.total, rows);
  return true;
}

function forgetUsage() {
  [usageAt, usageOf, usageBy] = [0, null, null];
  $("usage").hidden = true;
}

async function usageSums(by, since) {
  const reply = await fetch(`v1/usage?by=${by}&since=${since}`, { headers: headers(), cache: "no-store" }).catch(() => null);
  return reply?.ok ? reply.json() : null;
}

// The ledger's days are those of UTC.
function today() {
  return new Date().toISOString().slice(0, 10);
}

function empty() {
  return Object.fromEntries(SUMS.map((name) => [name, 0]));
}

function added(rows) {
  return rows.reduce((sum, row) => Object.fromEntries(SUMS.map((name) => [name, sum[name] + row[name]])), empty());
}

function tokensOf(row) {
  return row.input_tokens + row.cache_read_tokens + row.cache_write_tokens + row.output_tokens;
}

function count(number) {
  return new Intl.NumberFormat(undefined, { notation: number < 100000 ? "standard" : "compact" }).format(number);
}

function dollars(usd) {
  const digits = usd >= 100 ? 0 : 2;
  return `$${usd >= 0.01 ? usd.toFixed(digits) : Number(usd.toPrecision(2))}`;
}

function costOf(row) {
  const unknown = row.unknown_costs ? ` + ${row.unknown_costs} unknown` : "";
  if (!row.cost_usd) return unknown ? `unknown (${row.unknown_costs})` : "$0";
  if (row.billed_usd <= 0) return `${dollars(row.cost_usd)}, not billed${unknown}`;
  const all = Math.abs(row.billed_usd - row.cost_usd) < 1e-6;
  return `${dollars(row.cost_usd)}${all ? " billed" : `, ${dollars(row.billed_usd)} billed`}${unknown}`;
}

function showUsage(ofToday, month, rows) {
  list("used", [["Today", sentenceOf(ofToday)], ["This month", sentenceOf(month)]]);
  const sorted = [...rows.data].sort((a, b) => b.cost_usd - a.cost_usd || tokensOf(b) - tokensOf(a));
  const lines = sorted.slice(0, MOST_ROWS).map((row) => [nameOf(row[rows.by], rows.by), row]);
  const rest = sorted.slice(MOST_ROWS);
  if (rest.length) lines.push([`${rest.length} more`, added(rest)]);
  $("used-by").textContent = $("by").selectedOptions[0].textContent;
  $("usage-rows").replaceChildren(...lines.map(([name, row]) => {
    const made = element("tr");
    made.setAttribute("role", "row");
    const cells = [[name, "model"], [count(row.requests), "number", "requests"], [count(tokensOf(row)), "number", "tokens"], [costOf(row), "end"]];
    for (const [text, className, label] of cells) {
      const cell = element("td", text, className);
      cell.setAttribute("role", "cell");
      if (label) cell.dataset.label = label;
      made.append(cell);
    }
    return made;
  }));
  $("usage-table").hidden = !lines.length;
}

function sentenceOf(row) {
  return `${count(row.requests)} requests · ${count(tokensOf(row))} tokens · ${costOf(row)}`;
}

function nameOf(name, by) {
  return name || (by === "key" ? "without a key" : "none");
}

// The payers of a server that has a list of them.

function showPayers(payers) {
  $("payers").replaceChildren(...payers.map((payer) => {
    const made = element("div", undefined, "payer");
    const head = element("h3", payer.name);
    head.append(" ", element("small", `${words(payer.kind.replaceAll("-", " "))} · ${payer.answered} answered`));
    head.append(" ", element("span", words(payer.status), `badge ${payer.status === "ok" ? "ok" : "bad"}`));
    made.append(head);
    if (payer.detail) made.append(element("p", payer.detail, "error"));
    for (const mark of payer.limited) {
      const model = mark.model || "every model";
      made.append(element("p", `Not used for ${model} until ${when(mark.until)}: ${words(mark.reason)}.`, "warn"));
    }
    made.append(...planParts(payer.plan, payer.subscription));
    return made;
  }));
}
