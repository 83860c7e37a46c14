// One record: what it says, how it was delivered, and what each service got.

import { record as fetchRecord, related as fetchRelated } from "./api.js";
import { delivery } from "./delivery.js";
import { byId, h } from "./dom.js";
import { exceptionTree, ofTrakerr, parseTraceback } from "./exceptions.js";
import { SERVICES, clock, duration, levelName, nameOf, serviceBadge, severity, shown } from "./format.js";
import { masked, parse, pretty, prettyText } from "./json.js";
import { activityTree, traceList } from "./related.js";
import { extrasOf, extrasTable, snapshotTables } from "./values.js";

const PATHS = { trakerr: "/api/v1/events", jkool: "/", otlp: "/v1/logs" };

export class Detail {
  /** `filter(name, value)`: show records with this value; `open(record)`: show another one. */
  constructor({ filter, open }) {
    this.element = byId("detail");
    this.content = byId("detail-content");
    this.filter = filter;
    this.open = open;
    this.asked = 0;
  }

  get isOpen() {
    return !this.element.hidden;
  }

  close() {
    this.asked += 1;
    this.element.hidden = true;
  }

  /** Shows the record with this number or id; what is already shown is only brought up to date. */
  async show(name, again = false) {
    const asked = ++this.asked;
    try {
      const found = await fetchRecord(name);
      if (asked !== this.asked) return null;
      this.render(found);
      this.element.hidden = false;
      if (!again) this.element.scrollTop = 0;
      this.relatives(found, asked);
      return found;
    } catch (error) {
      if (asked !== this.asked || again) return null;
      this.element.hidden = false;
      const reason = error.status === 404 ? `No record has the id “${name}”. It was removed to make room, cleared, or never arrived here.` : error.message;
      byId("detail-badges").replaceChildren();
      this.content.replaceChildren(h("p", { class: "unknown", role: "alert" }, ...shown(reason)));
      return null;
    }
  }

  render(record) {
    const bodies = Object.fromEntries(record.events.map((each) => [each.service, parse(each.body)]));
    const services = [...new Set([...record.events, ...record.attempts].map((each) => each.service))];
    services.sort((a, b) => Object.keys(SERVICES).indexOf(a) - Object.keys(SERVICES).indexOf(b));
    const extras = extrasOf(bodies, JSON.parse(record.extras));
    const snapshots = Array.isArray(bodies.jkool?.snapshots) ? bodies.jkool.snapshots : [];
    byId("detail-badges").replaceChildren(
      h("span", { class: `badge level ${severity(record.rank)}` }, levelName(record.level)),
      h("time", {}, clock(record.at, { date: true })),
    );
    const parts = [
      h("h2", { class: "headline", tabindex: "-1" }, h("bdi", {}, ...shown(record.message || nameOf(record)))),
      this.facts(record, bodies),
      h("section", { id: "detail-tree", hidden: true }),
      section("Delivery", ...services.map((service) => delivery(record, service))),
      ...this.exceptions(bodies),
      ...stack(bodies, record),
      extras.length > 0 && section("Extras", extrasTable(extras.filter(([name]) => name !== "stack_info"), (name, value) => this.filter(`extra.${name}`, value))),
      snapshots.length > 0 && section("Snapshots", h("div", { class: "snapshots" }, ...snapshotTables(snapshots))),
      h("section", { id: "detail-trace", hidden: true }),
      record.events.length > 0 && section("What was sent", h("div", { class: "payloads" }, ...inOrder(record.events).map(payload))),
    ];
    this.content.replaceChildren(...parts.filter(Boolean));
  }

  facts(record, bodies) {
    const attributes = bodies.otlp?.attributes ?? {};
    const location = bodies.jkool?.location ?? (attributes["code.file.path"] && `${attributes["code.file.path"]}:${attributes["code.line.number"]}`);
    const filterable = [["logger", record.logger], ["app", record.app], ["host", record.host], ["pid", record.pid], ["trace", record.trace]];
    const list = h("dl", { class: "facts" });
    const add = (name, content) => list.append(h("div", {}, h("dt", {}, name), h("dd", {}, content)));
    for (const [name, value] of filterable) {
      if (value) add(name, h("button", { type: "button", class: "value", title: `filter by this ${name}`, on: { click: () => this.filter(name, value) } }, ...shown(value)));
    }
    if (record.kind !== "log") add("kind", record.kind);
    if (record.took !== null) add("duration", duration(record.took));
    if (bodies.jkool?.status) add("status", String(bodies.jkool.status));
    if (location) add("place", h("code", {}, ...shown(String(location))));
    if (record.ident) add("id", h("code", {}, ...shown(record.ident)));
    return list;
  }

  exceptions(bodies) {
    const text = bodies.jkool?.exception ?? bodies.otlp?.attributes["exception.stacktrace"];
    if (typeof text === "string" && text) {
      const found = parseTraceback(text);
      return [section("Exception", found ? exceptionTree(found) : h("pre", {}, ...shown(text)))];
    }
    const found = ofTrakerr(bodies.trakerr?.eventStacktrace ?? []);
    return found ? [section("Exception", exceptionTree(found))] : [];
  }

  async relatives(record, asked) {
    if (!record.trace && !record.parent && record.kind !== "activity") return;
    const found = await fetchRelated(record.id).catch(() => null);
    if (!found || asked !== this.asked) return;
    if (found.tree.length > 1) fill("detail-tree", "Activity", activityTree(found.tree, record.id, this.open));
    if (found.trace.length > 1) fill("detail-trace", `Trace: ${found.trace.length} records`, traceList(found.trace, record.id, this.open));
  }
}

const inOrder = (events) => Object.keys(SERVICES).flatMap((service) => events.filter((each) => each.service === service));

function section(title, ...content) {
  return h("section", {}, h("h3", {}, title), ...content);
}

function fill(id, title, content) {
  const place = byId(id);
  if (!place) return;
  place.hidden = false;
  place.replaceChildren(h("h3", {}, title), content);
}

function stack(bodies, record) {
  const given = bodies.otlp?.attributes["code.stacktrace"] ?? JSON.parse(record.extras).stack_info;
  return typeof given === "string" ? [section("Stack", h("pre", {}, ...shown(given)))] : [];
}

function payload(event) {
  return h(
    "figure",
    { class: "payload" },
    h("figcaption", {}, serviceBadge(event.service), copier("Copy JSON", () => prettyText(event.body)), copier("Copy curl", () => curl(event))),
    h("pre", { class: "json", tabindex: "0", "aria-label": `what ${SERVICES[event.service]} got` }, pretty(event.body)),
  );
}

function copier(label, text) {
  const button = h("button", { type: "button", class: "small" }, label);
  button.addEventListener("click", async () => {
    await copy(text());
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = label; }, 1200);
  });
  return button;
}

/** Also over plain HTTP from another machine, where browsers have no clipboard for pages. */
async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = h("textarea", { class: "offscreen" });
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
  return undefined;
}

/** A command that sends the same again. OTLP is kept in another shape than it was sent in. */
function curl(event) {
  const body = event.service === "otlp" ? otlpRequest(parse(event.body)) : masked(event.body, "any-key").join(" ");
  const headers = { "Content-Type": "application/json" };
  if (event.service === "trakerr" && event.key) headers["Idempotency-Key"] = event.key;
  if (event.service === "jkool") headers["X-API-Key"] = "any-token";
  const quoted = (value) => `'${value.replaceAll("'", "'\\''")}'`;
  const given = Object.entries(headers).map(([name, value]) => `-H ${quoted(`${name}: ${value}`)}`);
  return `curl ${quoted(location.origin + PATHS[event.service])} ${given.join(" ")} --data-binary ${quoted(body)}`;
}

function otlpRequest(record) {
  const number = (value) => String(value);
  const any = (value) => {
    if (typeof value === "string") return { stringValue: value };
    if (typeof value === "boolean") return { boolValue: value };
    if (typeof value === "bigint" || Number.isInteger(value)) return { intValue: number(value) };
    if (typeof value === "number") return { doubleValue: value };
    if (Array.isArray(value)) return { arrayValue: { values: value.map(any) } };
    return value === null ? {} : { kvlistValue: { values: pairs(value) } };
  };
  const pairs = (values) => Object.entries(values).map(([key, value]) => ({ key, value: any(value) }));
  const log = {
    timeUnixNano: number(record.timeUnixNano), severityNumber: Number(record.severityNumber), severityText: record.severityText,
    body: any(record.body), attributes: pairs(record.attributes), traceId: record.traceId, spanId: record.spanId, flags: Number(record.flags),
  };
  return JSON.stringify({ resourceLogs: [{ resource: { attributes: pairs(record.resource) }, scopeLogs: [{ scope: { name: record.scope }, logRecords: [log] }] }] });
}
