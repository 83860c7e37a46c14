// What the application attached to a record: extras and snapshots, as tables with types.

import { h } from "./dom.js";
import { shown } from "./format.js";

const CONVENTIONS = /^(?:log\.record|code|process|thread|exception|asyncio\.task)\./;

/** [name, type, value] of each extra, from the service that says most of it. */
export function extrasOf(bodies, fallback) {
  if (bodies.otlp) return Object.entries(bodies.otlp.attributes).filter(([name]) => !CONVENTIONS.test(name)).map(([name, value]) => [name, typeOf(value), value]);
  if (Array.isArray(bodies.jkool?.properties)) return bodies.jkool.properties.map((each) => [String(each.name), String(each.type), each.value]);
  return Object.entries(fallback).map(([name, value]) => [name, "text", value]);
}

export function typeOf(value) {
  if (value === null) return "none";
  if (Array.isArray(value)) return "list";
  if (typeof value === "bigint") return "int";
  if (typeof value === "number") return Number.isInteger(value) ? "int" : "float";
  return { string: "text", boolean: "bool", object: "map" }[typeof value];
}

export const spelled = (value) =>
  typeof value === "string" ? value : JSON.stringify(value, (_, each) => (typeof each === "bigint" ? Number(each) : each), 2);

const exact = (value) => (typeof value === "bigint" ? String(value) : spelled(value));

/** `filter(name, value)` is called when a value is clicked. */
export function extrasTable(extras, filter) {
  return h(
    "table",
    { class: "values" },
    h("thead", {}, h("tr", {}, ...["name", "type", "value"].map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, ...extras.map(([name, type, value]) => extra(name, type, value, filter))),
  );
}

function extra(name, type, value, filter) {
  const text = exact(value);
  const isSimple = typeof value !== "object" || value === null;
  const content =
    isSimple && text.length < 200
      ? h("button", { type: "button", class: "value", title: "filter by this value", on: { click: () => filter(name, text) } }, ...shown(text))
      : h("pre", {}, ...shown(text));
  return h("tr", {}, h("th", { scope: "row" }, ...shown(name)), h("td", { class: "type" }, type), h("td", {}, content));
}

/** Snapshots of jKool, each as a small table. */
export function snapshotTables(snapshots) {
  return snapshots.filter((each) => each && typeof each === "object").map((each) =>
    h(
      "table",
      { class: "values snapshot" },
      h("caption", {}, ...shown(String(each.name)), each.severity ? ` · ${each.severity}` : ""),
      h("tbody", {}, ...rowsOf(each).map(([name, value]) => h("tr", {}, h("th", { scope: "row" }, ...shown(name)), h("td", {}, ...shown(exact(value)))))),
    ),
  );
}

function rowsOf(snapshot) {
  const properties = Array.isArray(snapshot.properties) ? snapshot.properties : [];
  return properties.map((each) => [String(each?.name), each?.value ?? null]);
}
