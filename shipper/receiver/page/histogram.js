// How many records there are at which time, by severity. A range is chosen with the mouse, or with the keyboard.

import { svg } from "./dom.js";
import { clock, count } from "./format.js";

const KINDS = ["bad", "warning", "rest"];

export class Histogram {
  /** `chosen` is called with the seconds of a range, or with two empty values. */
  constructor(element, labels, chosen) {
    this.element = element;
    this.labels = labels;
    this.chosen = chosen;
    this.data = null;
    this.range = [null, null];
    this.drag = null;
    element.addEventListener("pointerdown", (event) => this.start(event));
    element.addEventListener("pointermove", (event) => this.move(event));
    element.addEventListener("pointerup", (event) => this.end(event));
    element.addEventListener("pointercancel", () => { this.drag = null; this.draw(); });
    element.addEventListener("dblclick", () => this.chosen("", ""));
    element.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.draw()).observe(element);
  }

  /** How many parts fit. */
  get buckets() {
    return Math.max(20, Math.min(200, Math.floor((this.element.clientWidth || 800) / 7)));
  }

  show(data, since, until) {
    this.data = data;
    this.range = [since === "" ? null : Number(since), until === "" ? null : Number(until)];
    this.draw();
  }

  get last() {
    return this.data.from + this.data.step * this.data.buckets.length;
  }

  draw() {
    const width = this.element.clientWidth;
    const height = this.element.clientHeight;
    this.element.replaceChildren();
    if (!this.data || !width) {
      this.labels.textContent = "";
      return;
    }
    this.element.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.bars(width, height);
    this.brush(width, height);
    const days = [this.data.from, this.last, Date.now() / 1000].map((each) => new Date(each * 1000).toDateString());
    const milliseconds = this.last - this.data.from < 10;
    const [since, until] = this.range;
    const from = clock(since ?? this.data.from, { date: days[0] !== days[2], milliseconds });
    const to = clock(until ?? this.last, { date: days[0] !== days[1], milliseconds });
    this.labels.textContent = `${from} – ${to}`;
    this.element.setAttribute("aria-label", `Records by time, ${this.labels.textContent}. Arrow keys choose a range.`);
  }

  bars(width, height) {
    const most = Math.max(1, ...this.data.buckets.map((each) => each[0] + each[1] + each[2]));
    const step = width / this.data.buckets.length;
    this.data.buckets.forEach((counts, place) => {
      const total = counts[0] + counts[1] + counts[2];
      if (!total) return;
      let top = height;
      [counts[2], counts[1], counts[0]].forEach((number, kind) => {
        if (!number) return;
        const size = Math.max(1.5, (number / most) * (height - 3));
        top -= size;
        this.element.append(
          svg("rect", { class: KINDS[kind], x: place * step, y: top, width: Math.max(1, step - 1), height: size, rx: 1 }),
        );
      });
      const title = svg("title");
      title.textContent = `${clock(this.data.from + place * this.data.step)}: ${count(total)}, ${count(counts[2])} of them errors`;
      this.element.append(svg("rect", { class: "hit", x: place * step, y: 0, width: step, height }, title));
    });
  }

  brush(width, height) {
    const [since, until] = this.drag ?? this.range;
    if (since === null && until === null) return;
    const scale = (time) => Math.max(0, Math.min(width, ((time - this.data.from) / (this.last - this.data.from)) * width));
    const left = since === null ? 0 : scale(Math.min(since, until ?? since));
    const right = until === null ? width : scale(Math.max(since ?? until, until));
    this.element.append(
      svg("rect", { class: "shade", x: 0, y: 0, width: left, height }),
      svg("rect", { class: "shade", x: right, y: 0, width: Math.max(0, width - right), height }),
      svg("rect", { class: "brush", x: left, y: 0.5, width: Math.max(2, right - left), height: height - 1 }),
    );
  }

  time(event) {
    const box = this.element.getBoundingClientRect();
    const part = Math.max(0, Math.min(1, (event.clientX - box.left) / box.width));
    return this.data.from + part * (this.last - this.data.from);
  }

  start(event) {
    if (!this.data || event.button !== 0) return;
    this.element.setPointerCapture(event.pointerId);
    this.drag = [this.time(event), this.time(event)];
  }

  move(event) {
    if (!this.drag) return;
    this.drag[1] = this.time(event);
    this.draw();
  }

  end(event) {
    if (!this.drag) return;
    const [since, until] = [this.drag[0], this.time(event)].sort((a, b) => a - b);
    this.drag = null;
    const isClick = until - since < this.data.step / 2;
    if (isClick) this.bucket(Math.floor((since - this.data.from) / this.data.step));
    else this.chosen(since.toFixed(3), until.toFixed(3));
  }

  bucket(place) {
    const since = this.data.from + place * this.data.step;
    this.chosen((since - 0.001).toFixed(3), (since + this.data.step + 0.001).toFixed(3));
  }

  key(event) {
    if (!this.data) return;
    const last = this.data.buckets.length - 1;
    const middle = this.range[0] === null ? null : (this.range[0] + (this.range[1] ?? this.last)) / 2;
    const place = middle === null ? -1 : Math.floor((middle - this.data.from) / this.data.step);
    if (event.key === "ArrowRight") this.bucket(Math.min(last, place + 1));
    else if (event.key === "ArrowLeft") this.bucket(Math.max(0, place < 0 ? last : place - 1));
    else if (event.key === "Escape" || event.key === "Delete") this.chosen("", "");
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}
