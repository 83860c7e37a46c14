// The page of the receiver. What arrived is hostile: it only ever becomes text nodes, never markup.
"use strict";

const PAGE = 100;
const EVERY = 1000; // ms between two looks
const SERVICES = { trakerr: "Trakerr", jkool: "jKool", otlp: "OTLP" };
const BAD = new Set(["error", "failure", "critical", "fatal", "halt"]);
const WARNING = new Set(["warning", "notice"]);

const at = (id) => document.getElementById(id);
const state = { before: null, paused: false, selected: null, seen: "", asked: 0, opened: 0, text: "", rows: [] };

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function severity(level) {
  const name = level.toLowerCase();
  if (BAD.has(name)) return "bad";
  if (WARNING.has(name)) return "warning";
  return name === "info" ? "info" : "";
}

async function ask(path) {
  const answer = await fetch(path, { cache: "no-store" });
  if (!answer.ok) throw new Error(`${answer.status} ${path}`);
  return answer;
}

function clock(seconds, withDate) {
  if (seconds === null) return "";
  const date = new Date(seconds * 1000);
  if (Number.isNaN(date.getTime())) return String(seconds);
  const two = (n) => String(n).padStart(2, "0");
  const ms = String(date.getMilliseconds()).padStart(3, "0");
  const time = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.${ms}`;
  return withDate ? `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${time}` : time;
}

// The list.

function query() {
  const chosen = new FormData(at("filters"));
  const wanted = new URLSearchParams({ limit: PAGE + 1, bodies: 0 });
  for (const name of ["service", "level", "q"]) if (chosen.get(name)) wanted.set(name, chosen.get(name));
  if (state.before !== null) wanted.set("before", state.before);
  return wanted.toString();
}

function row(event) {
  const line = element("tr", severity(event.level));
  line.dataset.id = event.id;
  line.tabIndex = 0;
  line.setAttribute("aria-selected", String(event.id === state.selected));
  line.append(element("td", "time", clock(event.time ?? event.received)));
  const from = element("td", "from");
  from.append(element("span", `badge ${event.service}`, SERVICES[event.service]));
  const level = element("td", "level");
  level.append(element("span", `name ${severity(event.level)}`, event.level));
  const message = element("td", "message", event.message.slice(0, 500));
  if (event.copies > 1) message.append(element("span", "badge copies", `×${event.copies}`));
  const logger = element("td", "logger", event.logger);
  logger.title = event.logger;
  line.append(from, level, logger, message);
  return line;
}

async function list() {
  const asked = ++state.asked;
  const wanted = query();
  const events = await (await ask(`/_control/events?${wanted}`)).json();
  if (asked !== state.asked) return; // a later question is on its way
  const focused = document.activeElement?.closest?.("#events tr")?.dataset.id;
  state.rows = events.slice(0, PAGE);
  at("events").replaceChildren(...state.rows.map(row));
  if (focused) at("events").querySelector(`[data-id="${focused}"]`)?.focus({ preventScroll: true });
  at("older").disabled = events.length <= PAGE;
  at("newest").disabled = state.before === null;
  at("empty").hidden = events.length > 0;
  const filtered = /(service|level|q)=/.test(wanted);
  at("empty").textContent = filtered ? "Nothing that arrived matches." : "Nothing has arrived yet.";
}

function showCounts(counts) {
  for (const [service, numbers] of Object.entries(counts)) {
    const card = document.querySelector(`.service[data-service="${service}"]`);
    for (const shown of card.querySelectorAll("[data-count]")) {
      const number = numbers[shown.dataset.count];
      shown.textContent = number.toLocaleString("en");
      shown.classList.toggle("bad", shown.dataset.count === "failed" && number > 0);
    }
  }
}

function describe(fault) {
  const kind = ["hang", "reset", "half"].find((name) => fault[name]) ?? (fault.status ? `status ${fault.status}` : "late");
  const parts = [fault.service ? `${SERVICES[fault.service]}: ${kind}` : kind];
  if (fault.delay) parts.push(`after ${fault.delay} s`);
  if (fault.count) parts.push(`${fault.count} more`);
  if (fault.seconds) parts.push(`for ${fault.seconds.toFixed(1)} s`);
  return parts.join(", ");
}

function showFaults(faults) {
  at("faults").hidden = faults.length === 0;
  at("faults").textContent = `Failing on purpose - ${faults.slice(0, 5).map(describe).join(" · ")}`;
}

function showLive(text, className) {
  at("live").textContent = text;
  at("live").className = `live ${className}`;
}

async function look() {
  try {
    const [counts, faults] = await Promise.all([ask("/_control/counts"), ask("/_control/faults")]);
    const text = await counts.text();
    showCounts(JSON.parse(text));
    showFaults(await faults.json());
    showLive(state.paused ? "paused" : "live", state.paused ? "" : "on");
    if (state.paused || text === state.seen) return;
    await list();
    state.seen = text;
  } catch (error) {
    showLive("receiver is not answering", "off");
  }
}

async function watch() {
  if (!document.hidden) await look();
  setTimeout(watch, EVERY);
}

async function relist() {
  state.seen = "";
  try {
    await list();
    document.querySelector(".list").scrollTop = 0;
  } catch (error) {
    showLive("receiver is not answering", "off");
  }
}

// One event.

function fact(name, value, className) {
  at("detail-facts").append(element("dt", "", name), element("dd", className, String(value)));
}

function traces(service, body) {
  if (service === "jkool") return typeof body.exception === "string" ? [element("pre", "", body.exception)] : [];
  if (service === "otlp") {
    const trace = body.attributes["exception.stacktrace"];
    return typeof trace === "string" ? [element("pre", "", trace)] : [];
  }
  return (body.eventStacktrace ?? []).map((raised) => {
    const trace = element("div", "trace");
    trace.append(element("div", "raised", raised.message ? `${raised.type}: ${raised.message}` : raised.type));
    const lines = element("ol");
    for (const line of raised.traceLines) {
      const item = element("li");
      item.append(element("span", "", line.function), element("span", "where", `  ${line.file}:${line.line}`));
      lines.append(item);
    }
    trace.append(lines);
    return trace;
  });
}

// Pretty printing works on the text itself: numbers keep all their digits, and depth is no recursion.
function pretty(text) {
  const shown = document.createDocumentFragment();
  const kinds = [];
  const tokens = text.match(/"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g) ?? [];
  const indent = () => `\n${"  ".repeat(Math.min(kinds.length, 40))}`;
  tokens.forEach((token, i) => {
    if (token === "{" || token === "[") {
      const empty = tokens[i + 1] === "}" || tokens[i + 1] === "]";
      kinds.push(token);
      shown.append(empty ? token : token + indent());
    } else if (token === "}" || token === "]") {
      kinds.pop();
      const empty = tokens[i - 1] === "{" || tokens[i - 1] === "[";
      shown.append(empty ? token : indent() + token);
    } else if (token === ",") {
      shown.append(token + indent());
    } else if (token === ":") {
      shown.append(": ");
    } else if (token.startsWith('"')) {
      shown.append(element("span", tokens[i + 1] === ":" ? "k" : "s", JSON.stringify(JSON.parse(token))));
    } else {
      shown.append(element("span", /^[-\d]/.test(token) ? "n" : "w", token));
    }
  });
  return shown;
}

function show(event, bodyText) {
  const body = JSON.parse(bodyText);
  at("detail-badges").replaceChildren(
    element("span", `badge ${event.service}`, SERVICES[event.service]),
    element("span", `badge name ${severity(event.level)}`, event.level),
  );
  at("detail-time").textContent = clock(event.time ?? event.received, true);
  at("detail-message").textContent = event.message || "(no message)";
  at("detail-facts").replaceChildren();
  fact("Logger", event.logger);
  fact("Key", event.key ?? "none", "code");
  fact("Received", clock(event.received, true));
  if (event.copies > 1) fact("Arrived", `${event.copies} times`);
  if (body.location) fact("Location", body.location, "code");
  if (body["source-fqn"]) fact("Source", body["source-fqn"], "code");
  const found = traces(event.service, body);
  at("detail-trace").replaceChildren(...found);
  at("detail-trace-section").hidden = found.length === 0;
  at("detail-body").replaceChildren(pretty(bodyText));
  state.text = bodyText;
  at("detail").hidden = false;
  at("detail").scrollTop = 0;
}

async function open(id) {
  const opened = ++state.opened;
  select(id);
  try {
    const text = await (await ask(`/_control/events/${id}`)).text();
    if (opened !== state.opened) return;
    // The body is the last member: cut it out as text.
    const event = JSON.parse(text);
    show(event, text.slice(text.indexOf(', "body": ', JSON.stringify(event.id).length) + 10, -1));
  } catch (error) {
    showLive("receiver is not answering", "off");
  }
}

function select(id) {
  state.selected = id;
  history.replaceState(null, "", id === null ? location.pathname : `#${id}`);
  for (const line of at("events").rows) line.setAttribute("aria-selected", String(Number(line.dataset.id) === id));
}

function close() {
  state.opened += 1;
  select(null);
  at("detail").hidden = true;
}

function step(by) {
  const index = state.rows.findIndex((event) => event.id === state.selected);
  const next = state.rows[index < 0 ? 0 : index + by];
  if (!next) return;
  open(next.id);
  at("events").querySelector(`[data-id="${next.id}"]`)?.scrollIntoView({ block: "nearest" });
}

// What the user does.

let typing;
at("filters").addEventListener("submit", (event) => event.preventDefault());
at("filters").addEventListener("input", () => {
  state.before = null;
  clearTimeout(typing);
  typing = setTimeout(relist, 150);
});
at("older").addEventListener("click", () => {
  state.before = state.rows.at(-1)?.id ?? null;
  relist();
});
at("newest").addEventListener("click", () => {
  state.before = null;
  relist();
});
at("pause").addEventListener("click", () => {
  state.paused = !state.paused;
  at("pause").setAttribute("aria-pressed", String(state.paused));
  at("pause").textContent = state.paused ? "Resume" : "Pause";
  state.seen = "";
  look();
});
at("events").addEventListener("click", (event) => {
  const line = event.target.closest("tr");
  if (line) open(Number(line.dataset.id));
});
at("close").addEventListener("click", close);
at("copy").addEventListener("click", () => navigator.clipboard?.writeText(state.text));
document.addEventListener("visibilitychange", () => !document.hidden && look());
document.addEventListener("keydown", (event) => {
  if (event.target.matches("input, select")) return;
  if (event.key === "Escape") close();
  if (event.key === "Enter" && event.target.matches("tr")) open(Number(event.target.dataset.id));
  if (event.key === "ArrowDown" || event.key === "j") { event.preventDefault(); step(1); }
  if (event.key === "ArrowUp" || event.key === "k") { event.preventDefault(); step(-1); }
});
// An address with an event's number shows that event.
if (/^#\d+$/.test(location.hash)) open(Number(location.hash.slice(1)));
watch();
