// Exceptions: Python's traceback text becomes a tree of causes, contexts and members of groups.

import { h } from "./dom.js";
import { shown } from "./format.js";

const JOINTS = {
  "The above exception was the direct cause of the following exception:": "cause",
  "During handling of the above exception, another exception occurred:": "context",
};
const LABELS = { raised: "raised", cause: "caused by", context: "while handling", group: "member" };
const FRAME = /^\s*File "(.*)", line (\d+), in (.*)$/;
const MEMBERS = /^\s*\+-\+-{4,} 1 -+$/;
const MEMBER = /^\s*\+-{4,} \d+ -+$/;
const END = /^\s*\+-{10,}$/;
const GROUP_END = "end of a group";

/** The exception that a traceback text ends with, with its causes and members; null when it is no traceback. */
export function parseTraceback(text) {
  const lines = text.replace(/\s+$/, "").split("\n");
  return lines.length > 3000 ? null : chain(lines, 0);
}

function chain(lines, depth) {
  if (depth > 12) return null;
  const parts = [[]];
  const joints = [];
  for (const line of lines) {
    const joint = JOINTS[line.trim()];
    if (joint) {
      joints.push(joint);
      parts.push([]);
    } else parts.at(-1).push(line);
  }
  const found = parts.map((part) => one(part, depth));
  if (found.some((each) => each === null)) return null;
  // The last one was raised; each one's cause stands before it.
  for (let place = found.length - 1; place > 0; place -= 1) {
    found[place - 1].relation = joints[place - 1];
    found[place].related.push(found[place - 1]);
  }
  return found.at(-1);
}

function one(lines, depth) {
  const given = lines.filter((line, place) => line.trim() || place > 0);
  const start = given.findIndex((line) => MEMBERS.test(line));
  const head = (start < 0 ? given : given.slice(0, start)).map((line) => line.replace(/^\s*[|+] ?/, (margin) => (start < 0 ? margin : "")));
  const found = plain(head);
  if (found === null || start < 0) return found;
  for (const part of members(given.slice(start))) {
    const member = chain(part, depth + 1);
    if (member === null) return null;
    found.related.push(Object.assign(member, { relation: "group" }));
  }
  return found;
}

/** The lines of each member of a group, without their margin. */
function members(lines) {
  const indent = lines[0].search(/\S/) + 2;
  const parts = [];
  for (const line of lines) {
    const isHere = line.search(/\S/) === indent;
    if (MEMBERS.test(line) && line.search(/\S/) === indent - 2) parts.push([]);
    else if (isHere && MEMBER.test(line)) parts.push([]);
    else if (isHere && END.test(line)) parts.push(GROUP_END);
    else if (parts.at(-1) !== GROUP_END) parts.at(-1)?.push(margined(line, indent));
  }
  return parts.filter((part) => part !== GROUP_END);
}

function margined(line, indent) {
  return line.slice(indent).startsWith("|") ? line.slice(indent + 1).replace(/^ /, "") : line;
}

function plain(lines) {
  const frames = [];
  let place = 0;
  const first = lines.findIndex((line) => line.trim());
  if (first < 0) return null;
  place = first;
  const hasHeader = /^\s*(?:\+ )?(?:Exception Group )?Traceback \(most recent call last\):$/.test(lines[place]);
  if (hasHeader) place += 1;
  while (hasHeader && place < lines.length && /^\s+\S/.test(lines[place])) {
    const frame = FRAME.exec(lines[place]);
    if (frame) frames.push({ file: frame[1], line: Number(frame[2]), function: frame[3], source: "" });
    else if (frames.length && !frames.at(-1).source && !/^[\s~^]+$/.test(lines[place])) frames.at(-1).source = lines[place].trim();
    else if (/^\s*\[Previous line repeated/.test(lines[place])) frames.at(-1).repeated = lines[place].trim();
    place += 1;
  }
  const ending = /^([A-Za-z_][\w.<>]*)(?:: ([^]*))?$/.exec(lines.slice(place).join("\n").trimEnd());
  if (!ending) return null;
  const [message, ...notes] = (ending[2] ?? "").split("\n");
  return { relation: "raised", type: ending[1], message, notes, frames, related: [] };
}

/** Trakerr's list: the exception first; how the others are related it is not told. */
export function ofTrakerr(list) {
  const [first, ...others] = list.map((each) => {
    const [message, ...notes] = each.message.split("\n");
    const frames = each.traceLines.map((line) => ({ ...line, source: "" }));
    return { relation: "context", label: "related", type: each.type.replace(/^builtins\./, ""), message, notes, frames, related: [] };
  });
  return first && { ...first, relation: "raised", label: null, related: others };
}

/** The tree of an exception, as an element. */
export function exceptionTree(found) {
  const members = found.related.filter((each) => each.relation === "group");
  const others = found.related.filter((each) => each.relation !== "group");
  return h(
    "div",
    { class: "exception" },
    h(
      "p",
      { class: "raised" },
      h("span", { class: `relation ${found.relation}` }, found.label ?? LABELS[found.relation]),
      h("b", {}, ...shown(found.type)),
      found.message ? h("bdi", {}, ": ", ...shown(found.message)) : null,
    ),
    found.notes.length > 0 && h("pre", { class: "notes", title: "notes, or further lines of the message" }, ...shown(found.notes.join("\n"))),
    found.frames.length > 0 && h("ol", { class: "frames" }, ...found.frames.map(frame)),
    members.length > 0 && h("ul", { class: "members" }, ...members.map((each) => h("li", {}, exceptionTree(each)))),
    ...others.map(exceptionTree),
  );
}

function frame(each) {
  const isForeign = /site-packages|dist-packages|\/lib\/python\d|<frozen/.test(each.file);
  return h(
    "li",
    { class: isForeign ? "foreign" : "" },
    h("span", { class: "function" }, ...shown(each.function)),
    h("span", { class: "file" }, ...shown(`${each.file}:${each.line}`)),
    each.source && h("code", {}, ...shown(each.source)),
    each.repeated && h("i", {}, each.repeated),
  );
}
