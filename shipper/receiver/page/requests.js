// The log of requests: what each service was sent, what it answered, and why.

import { requests } from "./api.js";
import { outcomeMark } from "./delivery.js";
import { byId, h } from "./dom.js";
import { bytes, clock, duration, serviceBadge, shown } from "./format.js";

const PAGE = 100;

export class Requests {
  constructor() {
    this.element = byId("requests");
    this.body = byId("requests-body");
    this.more = byId("requests-more");
    this.asked = 0;
    byId("requests-failed").addEventListener("change", () => this.show());
    byId("requests-service").addEventListener("change", () => this.show());
    this.more.addEventListener("click", () => this.add(Number(this.more.dataset.before)));
  }

  get isOpen() {
    return !this.element.hidden;
  }

  async show() {
    this.element.hidden = false;
    const asked = ++this.asked;
    const found = await this.fetch();
    if (asked === this.asked) this.fill(found, false);
  }

  /** New requests, unless somebody reads older ones. */
  refresh() {
    if (this.isOpen && this.element.scrollTop < 40) this.show();
  }

  async add(before) {
    const asked = ++this.asked;
    const found = await this.fetch(before);
    if (asked === this.asked) this.fill(found, true);
  }

  fetch(before) {
    const failed = byId("requests-failed").checked ? 1 : "";
    return requests({ service: byId("requests-service").value, failed, before, limit: PAGE });
  }

  fill(found, append) {
    const lines = found.map(line);
    if (append) this.body.append(...lines);
    else this.body.replaceChildren(...lines);
    this.more.hidden = found.length < PAGE;
    this.more.dataset.before = found.at(-1)?.id ?? "";
    byId("requests-empty").hidden = this.body.children.length > 0;
  }
}

function line(each) {
  return h(
    "tr",
    { class: each.failed && !each.wanted ? "bad" : "" },
    h("td", {}, h("a", { href: `/?q=request:${each.id}`, title: "the records in it" }, `#${each.id}`)),
    h("td", { class: "time" }, clock(each.at)),
    h("td", {}, serviceBadge(each.service)),
    h("td", {}, outcomeMark(each)),
    h("td", {}, duration(each.took)),
    h("td", {}, String(each.events)),
    h("td", {}, bytes(each.size)),
    h("td", { class: "reason" }, ...shown(each.reason)),
  );
}
