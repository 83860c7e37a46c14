// The list of records. Only the rows in sight exist; pages of rows are fetched when they come into sight.

import { findRecords } from "./api.js";
import { debounce, h } from "./dom.js";
import { clock, levelName, moment, nameOf, serviceBadge, severity, shown } from "./format.js";

const PAGE = 100;
const KEPT = 4000; // rows in memory
const SPARE = 8; // rows above and below those in sight
const HIGHEST = 30_000_000; // pixels: browsers cut higher elements
const MESSAGE = 400; // characters of a message in a row

export class RecordList {
  /** `element` scrolls and has the focus; `opened` is called with a row that is clicked or gets Enter. */
  constructor(element, { opened, moved }) {
    this.element = element;
    this.space = element.firstElementChild;
    this.opened = opened;
    this.moved = moved;
    this.rows = new Map(); // place → row
    this.asked = new Set(); // pages that are on their way
    this.made = new Map(); // place → element
    this.query = {};
    this.total = 0;
    this.selected = null; // id
    this.place = -1; // of the selected row
    this.fetchSoon = debounce(() => this.fetch(), 40);
    element.addEventListener("scroll", () => this.draw(), { passive: true });
    element.addEventListener("click", (event) => {
      const line = event.target.closest("[data-place]");
      if (line) this.choose(Number(line.dataset.place), true);
    });
    element.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.draw(true)).observe(element);
  }

  get rowHeight() {
    return parseFloat(getComputedStyle(this.element).getPropertyValue("--row")) || 34;
  }

  get isAtTop() {
    return this.element.scrollTop < this.rowHeight;
  }

  /** Shows another result; its first rows are known. */
  show(query, found, keepPlace) {
    this.query = { ...query, pin: found.pin };
    this.total = found.total;
    this.rows.clear();
    this.asked.clear();
    found.rows.forEach((row, place) => this.rows.set(place, row));
    this.place = -1;
    for (const [place, row] of this.rows) if (row.id === this.selected) this.place = place;
    if (!keepPlace) this.element.scrollTop = 0;
    this.draw(true);
  }

  select(id) {
    this.selected = id;
    this.place = -1;
    for (const [place, row] of this.rows) if (row.id === id) this.place = place;
    this.draw(true);
  }

  /** Fetches what is in sight again: services have got more. */
  async refresh() {
    const query = this.query;
    const [first, last] = this.inSight();
    const offset = Math.max(0, first - SPARE);
    if (!this.total) return;
    const found = await findRecords({ ...query, offset, limit: Math.min(last - offset + SPARE, 200) });
    if (query !== this.query) return;
    found.rows.forEach((row, index) => this.rows.set(offset + index, row));
    this.draw(true);
  }

  inSight() {
    const height = this.rowHeight;
    const first = Math.floor(this.element.scrollTop / height);
    const last = Math.ceil((this.element.scrollTop + this.element.clientHeight) / height);
    return [Math.max(0, Math.min(first, this.total)), Math.min(this.total, last)];
  }

  draw(anew = false) {
    const height = this.rowHeight;
    this.space.style.height = `${Math.min(this.total * height, HIGHEST)}px`;
    const [first, last] = this.inSight();
    const from = Math.max(0, first - SPARE);
    const to = Math.min(this.total, last + SPARE);
    for (const [place, line] of this.made) {
      if (!anew && place >= from && place < to) continue;
      line.remove();
      this.made.delete(place);
    }
    for (let place = from; place < to; place += 1) this.put(place, height);
    const active = this.made.get(this.place);
    if (active) this.element.setAttribute("aria-activedescendant", active.id);
    else this.element.removeAttribute("aria-activedescendant");
    this.fetchSoon();
  }

  put(place, height) {
    const there = this.made.get(place);
    const row = this.rows.get(place);
    if (there && (there.dataset.id || !row)) return;
    there?.remove();
    const line = row ? this.line(row, place) : h("div", { class: "row waiting" });
    line.style.transform = `translateY(${place * height}px)`;
    line.id = `row-${place}`;
    line.setAttribute("role", "option");
    line.setAttribute("aria-setsize", this.total);
    line.setAttribute("aria-posinset", place + 1);
    line.setAttribute("aria-selected", String(Boolean(row) && row.id === this.selected));
    if (!row) line.setAttribute("aria-label", "loading");
    line.dataset.place = place;
    this.made.set(place, line);
    // In the order of the screen, for those who read it aloud.
    const next = [...this.space.children].find((each) => Number(each.dataset.place) > place);
    this.space.insertBefore(line, next ?? null);
  }

  line(row, place) {
    const kind = severity(row.rank);
    const message = row.message.slice(0, MESSAGE);
    return h(
      "div",
      { class: `row ${kind}`, data: { id: row.id, place } },
      h("time", { class: "time", title: clock(row.at, { date: true }) }, moment(row.at)),
      h("span", { class: `level ${kind}` }, levelName(row.level)),
      h("span", { class: "logger", title: row.logger }, ...shown(row.logger)),
      h(
        "span",
        { class: "message" },
        row.kind !== "log" && h("span", { class: "kind" }, row.kind),
        h("bdi", {}, ...shown(message || nameOf(row))),
      ),
      h("span", { class: "badges" }, ...badges(row)),
    );
  }

  fetch() {
    const [first, last] = this.inSight();
    for (let page = Math.floor(first / PAGE); page * PAGE < last; page += 1) this.fetchPage(page);
  }

  async fetchPage(page) {
    const offset = page * PAGE;
    const end = Math.min(offset + PAGE, this.total);
    let isWhole = true;
    for (let place = offset; place < end; place += 1) isWhole &&= this.rows.has(place);
    if (isWhole || this.asked.has(page)) return;
    this.asked.add(page);
    const query = this.query;
    try {
      const found = await findRecords({ ...query, offset, limit: PAGE });
      if (query !== this.query) return;
      found.rows.forEach((row, index) => this.rows.set(offset + index, row));
      this.total = Math.min(this.total, found.total); // the oldest may have gone
      this.forget(offset);
      this.draw();
    } finally {
      if (query === this.query) this.asked.delete(page);
    }
  }

  /** Keeps the rows around a place only: somebody may scroll through all of them. */
  forget(place) {
    if (this.rows.size < KEPT) return;
    for (const each of this.rows.keys()) if (Math.abs(each - place) > KEPT / 4) this.rows.delete(each);
  }

  choose(place, open) {
    const row = this.rows.get(place);
    if (!row) return;
    this.place = place;
    this.selected = row.id;
    this.reveal(place);
    this.draw(true);
    if (open) this.opened(row);
    else this.moved(row);
  }

  reveal(place) {
    const height = this.rowHeight;
    const { scrollTop, clientHeight } = this.element;
    if (place * height < scrollTop) this.element.scrollTop = place * height;
    if ((place + 1) * height > scrollTop + clientHeight) this.element.scrollTop = (place + 1) * height - clientHeight;
  }

  step(by) {
    const from = this.place < 0 ? this.inSight()[0] - Math.sign(by) : this.place;
    this.choose(Math.max(0, Math.min(this.total - 1, from + by)), false);
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const page = Math.max(1, Math.floor(this.element.clientHeight / this.rowHeight) - 1);
    const steps = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1, PageDown: page, PageUp: -page };
    if (event.key in steps) this.step(steps[event.key]);
    else if (event.key === "Home") this.choose(0, false);
    else if (event.key === "End") this.toEnd();
    else if (event.key === "Enter" && this.place >= 0) this.choose(this.place, true);
    else return;
    event.preventDefault();
  }

  async toEnd() {
    const last = this.total - 1;
    if (last < 0) return;
    this.element.scrollTop = this.space.offsetHeight;
    await this.fetchPage(Math.floor(last / PAGE));
    this.choose(last, false);
  }
}

function badges(row) {
  const found = Object.keys({ ...row.services, ...row.tries }).sort();
  return found.map((service) => {
    const copies = row.services[service];
    const tries = row.tries[service];
    if (!copies) return h("span", { class: "badge missing", title: "tried, and not accepted" }, serviceName(service), ` ${tries.outcome}`);
    const badge = serviceBadge(service);
    if (copies > 1) badge.append(h("b", { title: `arrived ${copies} times` }, `×${copies}`));
    if (tries) badge.append(h("i", { title: `${tries.failed} failed attempts` }, `↻${tries.failed}`));
    return badge;
  });
}

const serviceName = (service) => serviceBadge(service).textContent;
