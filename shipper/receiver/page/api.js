// The control endpoints of the receiver; /_control/openapi.json describes them.

async function ask(path, options = {}) {
  const answer = await fetch(path, { cache: "no-store", ...options });
  if (answer.ok) return answer.json();
  const said = await answer.json().catch(() => ({}));
  throw Object.assign(new Error(said.error ?? `the receiver answered ${answer.status}`), { status: answer.status });
}

function withQuery(path, values) {
  const given = Object.entries(values).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return given.length ? `${path}?${new URLSearchParams(given)}` : path;
}

export const findRecords = (values) => ask(withQuery("/_control/records", values));
export const record = (name) => ask(`/_control/records/${encodeURIComponent(name)}`);
export const related = (name) => ask(`/_control/records/${encodeURIComponent(name)}/related`);
export const requests = (values) => ask(withQuery("/_control/requests", values));
export const clearEverything = () => ask("/_control/events", { method: "DELETE" });
export const clearFaults = () => ask("/_control/faults", { method: "DELETE" });
export const addFault = (fault) =>
  ask("/_control/faults", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(fault),
  });

/** Calls `changed` with every state of the receiver, and `live` with whether it is connected. */
export function follow(changed, live) {
  let source = null;
  const open = () => {
    source = new EventSource("/_control/stream");
    source.addEventListener("open", () => live(true));
    source.addEventListener("error", () => {
      live(false);
      // A refusal (403, a receiver that ends) closes it for good.
      if (source.readyState === EventSource.CLOSED) setTimeout(open, 2000);
    });
    source.addEventListener("message", (event) => changed(JSON.parse(event.data)));
  };
  open();
  // A browser has six connections for one address; pages that nobody sees do without.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) source.close();
    else if (source.readyState === EventSource.CLOSED) open();
  });
}
