// JSON as it was sent: parsed with all digits of its numbers, and printed in colours with keys of services masked.

import { h } from "./dom.js";
import { shown } from "./format.js";

const SECRET = new Set(["apiKey"]);
export const MASK = "••••••";

/** The value of a JSON text; integers that a double can't hold are BigInt. */
export function parse(text) {
  try {
    return JSON.parse(text, (key, value, context) =>
      typeof value === "number" && context && !Number.isSafeInteger(value) && /^-?\d+$/.test(context.source)
        ? BigInt(context.source)
        : value,
    );
  } catch (error) {
    if (error instanceof RangeError) return JSON.parse(text); // too deep for the function above
    throw error;
  }
}

const tokensOf = (text) => text.match(/"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g) ?? [];

/** The text with the keys of services replaced. */
export function masked(text, mask = MASK) {
  let key = "";
  return tokensOf(text).map((token, place, all) => {
    if (all[place + 1] === ":") key = token;
    const isSecret = all[place - 1] === ":" && SECRET.has(key.slice(1, -1)) && token.startsWith('"');
    return isSecret ? JSON.stringify(mask) : token;
  });
}

/** The text with line breaks, as nodes. Works on the text itself: numbers keep their digits, and depth is no recursion. */
export function pretty(text) {
  const found = document.createDocumentFragment();
  const tokens = masked(text);
  let depth = 0;
  const indent = () => `\n${"  ".repeat(Math.min(depth, 40))}`;
  tokens.forEach((token, place) => {
    const [before, after] = [tokens[place - 1], tokens[place + 1]];
    if (token === "{" || token === "[") {
      depth += 1;
      found.append(after === "}" || after === "]" ? token : token + indent());
    } else if (token === "}" || token === "]") {
      depth -= 1;
      found.append(before === "{" || before === "[" ? token : indent() + token);
    } else if (token === ",") found.append(token + indent());
    else if (token === ":") found.append(": ");
    else if (token.startsWith('"')) found.append(string(token, after === ":"));
    else found.append(h("span", { class: /^[-\d]/.test(token) ? "number" : "word" }, token));
  });
  return found;
}

function string(token, isKey) {
  const value = JSON.parse(token);
  if (value === MASK) return h("span", { class: "masked", title: "the key of the service is not shown" }, JSON.stringify(MASK));
  return h("span", { class: isKey ? "name" : "string" }, ...shown(JSON.stringify(value)));
}

/** The text with line breaks, as text. */
export const prettyText = (text) => pretty(text).textContent;
