// What is shown stands in the address: it can be reloaded, shared, and left with the browser's back.

const NAMES = ["q", "since", "until", "record", "view"];

export function read() {
  const given = new URLSearchParams(location.search);
  return Object.fromEntries(NAMES.map((name) => [name, given.get(name) ?? ""]));
}

/** `push`: the browser's back leads to what was shown before. */
export function write(state, push = false) {
  const given = NAMES.filter((name) => state[name]).map((name) => [name, state[name]]);
  const url = given.length ? `?${new URLSearchParams(given)}` : location.pathname;
  if (push) history.pushState(null, "", url);
  else history.replaceState(null, "", url);
}
