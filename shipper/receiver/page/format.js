// How values are written.

import { h } from "./dom.js";

export const SERVICES = { trakerr: "Trakerr", jkool: "jKool", otlp: "OTLP" };

const two = (number) => String(number).padStart(2, "0");

/** Seconds since the epoch as a time of day, with the date if wanted. */
export function clock(seconds, { date = false, milliseconds = true } = {}) {
  const at = new Date(seconds * 1000);
  if (Number.isNaN(at.getTime())) return String(seconds);
  const rest = milliseconds ? `.${String(at.getMilliseconds()).padStart(3, "0")}` : "";
  const time = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}${rest}`;
  return date ? `${at.getFullYear()}-${day(at)} ${time}` : time;
}

const day = (at) => `${two(at.getMonth() + 1)}-${two(at.getDate())}`;

/** A moment in a list: the time of day, with the date instead of milliseconds when it was not today. */
export function moment(seconds) {
  const at = new Date(seconds * 1000);
  if (at.toDateString() === new Date().toDateString() || Number.isNaN(at.getTime())) return clock(seconds);
  return `${day(at)} ${clock(seconds, { milliseconds: false })}`;
}

/** A duration with three digits and its unit. */
export function duration(seconds) {
  const size = Math.abs(seconds);
  if (size < 0.001) return `${Math.round(seconds * 1e6)} µs`;
  if (size < 1) return `${(seconds * 1000).toPrecision(size < 0.01 ? 2 : 3)} ms`;
  if (size < 100) return `${seconds.toPrecision(3)} s`;
  if (size < 7200) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

export function bytes(size) {
  if (size < 1024) return `${size} B`;
  return size < 1024 * 1024 ? `${(size / 1024).toFixed(1)} KiB` : `${(size / 1024 / 1024).toFixed(1)} MiB`;
}

export const count = (number) => number.toLocaleString("en");

export const plural = (number, one, more = `${one}s`) => `${count(number)} ${number === 1 ? one : more}`;

/** A level's name, as all services would spell it. */
export const levelName = (level) => ({ warn: "warning" })[level.toLowerCase()] ?? level.toLowerCase();

/** What is shown of a record without a message: an activity has an operation and a duration. */
export function nameOf(record) {
  if (record.kind === "log") return "(no message)";
  return record.took === null ? record.logger : `${record.logger} · ${duration(record.took)}`;
}

/** The class of a level's number: "bad", "warning", "info", or "". */
export function severity(rank) {
  if (rank >= 40) return "bad";
  if (rank >= 25) return "warning";
  return rank >= 20 ? "info" : "quiet";
}

// Characters that change how others are shown, or show nothing: a text with them says something else than it shows.
const HIDDEN = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u061c\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/;
const NAMES = {
  0x202a: "left-to-right embedding", 0x202b: "right-to-left embedding", 0x202c: "end of embedding",
  0x202d: "left-to-right override", 0x202e: "right-to-left override", 0x2066: "left-to-right isolate",
  0x2067: "right-to-left isolate", 0x2068: "first strong isolate", 0x2069: "end of isolate",
  0x200e: "left-to-right mark", 0x200f: "right-to-left mark", 0x061c: "Arabic letter mark",
  0x200b: "zero width space", 0xfeff: "byte order mark",
};

/** A text as nodes, in which hidden characters are shown by their number. */
export function shown(text) {
  if (!HIDDEN.test(text)) return [text];
  return text.split(new RegExp(`(${HIDDEN.source})`)).filter(Boolean).map((part) => {
    if (part.length !== 1 || !HIDDEN.test(part)) return part;
    const code = part.codePointAt(0);
    const number = `U+${code.toString(16).toUpperCase().padStart(4, "0")}`;
    return h("span", { class: "hidden-character", title: NAMES[code] ?? "control character" }, number);
  });
}

export function serviceBadge(service, ...more) {
  return h("span", { class: `badge ${service}` }, SERVICES[service] ?? service, ...more);
}
