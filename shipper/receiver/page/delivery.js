// How a record got to its services: when it was tried, how long it took, what was answered.

import { h } from "./dom.js";
import { SERVICES, bytes, clock, duration, plural, serviceBadge } from "./format.js";

/** `failed`, `wanted` and what was answered, as a mark. */
export function outcomeMark(request) {
  const kind = request.failed ? (request.wanted ? "wanted" : "failed") : "good";
  const answer = request.status === null ? request.outcome : String(request.status);
  return h("span", { class: `outcome ${kind}` }, answer, request.wanted ? h("small", {}, " asked for") : null);
}

/** The section of one service. */
export function delivery(record, service) {
  const event = record.events.find((each) => each.service === service);
  const attempts = record.attempts.filter((each) => each.service === service);
  return h(
    "div",
    { class: "delivery" },
    h("p", {}, serviceBadge(service), " ", summary(record, event, attempts)),
    meanwhile(record, service),
    (attempts.length > 1 || !event) && table(record, attempts),
  );
}

function summary(record, event, attempts) {
  if (!event) return `not accepted in ${plural(attempts.length, "attempt")}`;
  const late = event.received - record.at;
  const parts = [`accepted ${Math.abs(late) < 1e7 && late >= 0 ? `${duration(late)} after it was logged` : clock(event.received, { date: true })}`];
  const before = attempts.filter((each) => !each.stored).length;
  if (before) parts.push(`at attempt ${before + 1}`);
  if (event.copies > 1) parts.push(`${event.copies} copies arrived`);
  if (attempts.length === 1) parts.push(`${attempts[0].status} in ${duration(attempts[0].took)}, request #${attempts[0].id}`);
  return parts.join(" · ");
}

function meanwhile(record, service) {
  const found = record.meanwhile[service];
  if (!found) return null;
  const total = found.reduce((sum, each) => sum + each.count, 0);
  const parts = found.map((each) => `${each.count} × ${each.outcome}${each.wanted ? " (asked for)" : ""}`);
  return h("p", { class: "meanwhile" }, `Meanwhile ${plural(total, "other request")} to ${SERVICES[service]} failed: ${parts.join(", ")}`);
}

function table(record, attempts) {
  const head = ["attempt", "when", "after", "took", "answer", "request"];
  return h(
    "table",
    { class: "attempts" },
    h("thead", {}, h("tr", {}, ...head.map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, ...attempts.map((each, place) => attempt(record, each, place))),
  );
}

function attempt(record, each, place) {
  return h(
    "tr",
    {},
    h("td", {}, String(place + 1)),
    h("td", {}, clock(each.at)),
    h("td", {}, Math.abs(each.at - record.at) < 1e7 ? `+${duration(Math.max(0, each.at - record.at))}` : ""),
    h("td", {}, duration(each.took)),
    h("td", {}, outcomeMark(each)),
    h("td", { class: "soft" }, `#${each.id}, ${plural(each.events, "event")}, ${bytes(each.size)}`),
  );
}
