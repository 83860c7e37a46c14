// Faults at a click: what the services shall do wrong, and what is left of it.

import { addFault, clearFaults } from "./api.js";
import { byId, h } from "./dom.js";
import { SERVICES, serviceBadge } from "./format.js";

const KINDS = [
  ["503", "503 Service Unavailable", { status: 503 }],
  ["429", "429 Too Many Requests, with Retry-After", { status: 429 }, true],
  ["413", "413 Content Too Large", { status: 413 }],
  ["404", "404 Not Found", { status: 404 }],
  ["slow", "the right answer, 3 seconds late", { delay: 3 }],
  ["hang", "no answer, the connection stays open", { hang: true }],
  ["reset", "the connection is reset", { reset: true }],
  ["half", "a 200 that is cut in its middle", { half: true }],
];

export class Faults {
  constructor(problem) {
    this.problem = problem;
    this.left = [];
    this.since = 0;
    const rows = [...Object.entries(SERVICES), ["", "All"]].map(([service, name]) => this.row(service, name));
    byId("fault-rows").replaceChildren(...rows);
    byId("faults-stop").addEventListener("click", () => this.run(clearFaults()));
    setInterval(() => this.draw(), 250);
  }

  row(service, name) {
    const buttons = KINDS.map(([label, title, fault, retries]) =>
      h("button", { type: "button", title, "aria-label": `${name}: ${title}`, on: { click: () => this.add(service, fault, retries) } }, label),
    );
    return h("div", { class: "fault-row", role: "group", "aria-label": name }, service ? serviceBadge(service) : h("span", { class: "badge" }, name), ...buttons);
  }

  add(service, fault, retries) {
    const [unit, amount] = byId("fault-amount").value.split(" ");
    const retry = retries ? { retry_after: byId("fault-retry").value || "5" } : {};
    this.run(addFault({ ...fault, ...retry, [unit]: Number(amount), ...(service ? { service } : {}) }));
  }

  async run(asked) {
    try {
      this.show(await asked);
    } catch (error) {
      this.problem(error.message);
    }
  }

  show(left) {
    this.left = left;
    this.since = performance.now();
    this.draw();
  }

  draw() {
    const passed = (performance.now() - this.since) / 1000;
    const left = this.left.filter((each) => !each.begun || each.seconds === undefined || each.seconds > passed);
    const texts = left.map((each) => describe(each, each.begun ? passed : 0));
    for (const id of ["faults-left", "faults-banner-text"]) {
      const place = byId(id);
      const key = texts.join("|");
      if (place.dataset.key === key) continue;
      place.dataset.key = key;
      place.replaceChildren(...texts.slice(0, 6).map((text) => h("span", { class: "fault" }, text)));
    }
    byId("faults-banner").hidden = left.length === 0;
    byId("faults-stop").disabled = left.length === 0;
    byId("faults-count").textContent = left.length ? String(left.length) : "";
  }
}

function describe(fault, passed) {
  const kind = fault.status ?? ["hang", "reset", "half"].find((name) => fault[name]) ?? "slow";
  const parts = [`${fault.service ? SERVICES[fault.service] : "All"}: ${kind}`];
  if (fault.retry_after) parts.push(`Retry-After ${fault.retry_after}`);
  if (fault.delay) parts.push(`${fault.delay} s late`);
  if (fault.count) parts.push(fault.count === 1 ? "next request" : `next ${fault.count} requests`);
  if (fault.seconds) parts.push(`${Math.max(0, fault.seconds - passed).toFixed(0)} s left`);
  return parts.join(", ");
}
