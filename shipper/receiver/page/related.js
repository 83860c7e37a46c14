// The relatives of a record: the events of its trace, and activities as a tree with their durations.

import { h } from "./dom.js";
import { clock, duration, levelName, nameOf, severity, shown } from "./format.js";

/** Activities as a tree; `open(record)` is called with the one that is clicked. */
export function activityTree(records, current, open) {
  const known = new Map(records.map((each) => [each.ident, each]));
  const roots = records.filter((each) => !known.has(each.parent));
  const longest = Math.max(0.000001, ...records.map((each) => each.took ?? 0));
  const seen = new Set();
  const branch = (each) => {
    if (seen.has(each.ident)) return null;
    seen.add(each.ident);
    const below = records.filter((other) => other.parent === each.ident).map(branch);
    return h("li", {}, node(each, current, longest, open), below.length > 0 && h("ul", {}, ...below));
  };
  return h("ul", { class: "tree" }, ...roots.map(branch));
}

function node(each, current, longest, open) {
  return h(
    "button",
    { type: "button", class: `node ${severity(each.rank)}`, "aria-current": each.id === current ? "true" : null, on: { click: () => open(each) } },
    h("span", { class: "kind" }, each.kind === "log" ? levelName(each.level) : each.kind),
    h("span", { class: "message" }, ...shown(each.message || each.logger)),
    each.took !== null && h("span", { class: "bar" }, h("i", { style: { width: `${Math.max(2, (each.took / longest) * 100)}%` } })),
    each.took !== null && h("span", { class: "took" }, duration(each.took)),
  );
}

/** The events of a trace in the order of time. */
export function traceList(records, current, open) {
  const begin = records[0].at;
  return h(
    "ul",
    { class: "tree" },
    ...records.map((each) =>
      h(
        "li",
        {},
        h(
          "button",
          { type: "button", class: `node ${severity(each.rank)}`, "aria-current": each.id === current ? "true" : null, on: { click: () => open(each) } },
          h("span", { class: "took", title: clock(each.at, { date: true }) }, `+${duration(each.at - begin)}`),
          h("span", { class: "kind" }, levelName(each.level)),
          h("span", { class: "logger" }, ...shown(each.logger)),
          h("span", { class: "message" }, ...shown(each.message || nameOf(each))),
        ),
      ),
    ),
  );
}
