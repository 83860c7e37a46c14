// The page of the receiver: what is shown, and what the user does.

import { read, write } from "./address.js";
import { clearEverything, findRecords, follow } from "./api.js";
import { Detail } from "./detail.js";
import { byId, debounce, throttle } from "./dom.js";
import { Faults } from "./faults.js";
import { first } from "./first.js";
import { count, plural } from "./format.js";
import { Histogram } from "./histogram.js";
import { RecordList } from "./list.js";
import { replaced, term, termsOf, toggled } from "./query.js";
import { Requests } from "./requests.js";
import { fillExamples } from "./start.js";

let state = read();
let pin = null; // the last record that the list has
let last = 0; // the last record that there is
let generation = null; // changes when records were removed
let asked = 0;
let pause = 300; // ms between two looks at a stream of records
let pointed = -Infinity; // when the pointer last moved over the list
const AIMING = 1500; // ms

const detail = new Detail({ filter: filterBy, open: (row) => openRecord(row.ident ?? row.id) });
const list = new RecordList(byId("list"), {
  opened: (row) => openRecord(row.ident ?? row.id),
  moved: (row) => detail.isOpen && openSoon(row),
});
const histogram = new Histogram(byId("histogram"), byId("histogram-range"), (since, until) => change({ since, until }));
const requests = new Requests();
const faults = new Faults(problem);
const openSoon = debounce((row) => openRecord(row.ident ?? row.id), 60);

function problem(text) {
  byId("problem").textContent = text;
  byId("problem").hidden = !text;
}

// The list.

/** Shows the rows that first.js has asked for. */
async function begin() {
  const found = await first;
  if (found === null || asked > 0) return;
  pin = found.pin;
  list.show({ q: state.q, since: state.since, until: state.until }, found, false);
  showTotals(found);
}

/** Asks for the list anew, up to the newest record. */
async function load(keepPlace = false) {
  const mine = ++asked;
  const query = { q: state.q, since: state.since, until: state.until };
  const begin = performance.now();
  byId("list").setAttribute("aria-busy", "true");
  try {
    const found = await findRecords({ ...query, buckets: histogram.buckets, limit: 100 });
    if (mine !== asked) return;
    pause = Math.max(300, 4 * (performance.now() - begin));
    pin = found.pin;
    list.show(query, found, keepPlace);
    histogram.show(found.histogram, state.since, state.until);
    showTotals(found);
    problem(found.notes.join(" · "));
  } catch (error) {
    if (mine === asked) problem(error.message);
  } finally {
    byId("list").removeAttribute("aria-busy");
  }
}

function showTotals(found) {
  const isFiltered = Boolean(state.q || state.since || state.until);
  const isEmpty = found.total === 0;
  byId("total").textContent = plural(found.total, isFiltered ? "match" : "record", isFiltered ? "matches" : "records");
  byId("list").hidden = isEmpty;
  byId("nothing").hidden = !isEmpty || !isFiltered;
  byId("start").hidden = !isEmpty || isFiltered;
  byId("timeline").hidden = isEmpty && !isFiltered;
  byId("range-clear").hidden = !(state.since || state.until);
  byId("new").hidden = true;
}

const loadSoon = debounce(load, 150);

/** Whether new records may come in: nobody reads, has selected one, or is about to click one. */
const isFollowing = () => list.isAtTop && list.selected === null && !detail.isOpen && !isPointing();
const isPointing = () => performance.now() - pointed < AIMING;

let waiting = null;
function newRecords() {
  if (waiting !== null) return;
  waiting = setTimeout(async () => {
    waiting = null;
    if (pin === null || last <= pin) await list.refresh().catch(() => {});
    else if (isFollowing() || list.total === 0) await load(true);
    else await Promise.all([countNew(), list.refresh()]).catch(() => {});
    if (isPointing() && last > pin) setTimeout(newRecords, AIMING);
  }, pause);
}

async function countNew() {
  const found = await findRecords({ q: state.q, since: state.since, until: state.until, after: pin });
  byId("new").hidden = found.total === 0;
  byId("new").textContent = `${count(found.total)} new`;
}

// What is shown.

function change(changes, push = false) {
  state = { ...state, ...changes };
  write(state, push);
  showState();
  load();
}

function showState() {
  if (document.activeElement !== byId("search")) byId("search").value = state.q;
  const terms = termsOf(state.q);
  for (const button of document.querySelectorAll("[data-service]")) {
    button.setAttribute("aria-pressed", String(terms.includes(`service:${button.dataset.service}`)));
  }
  const level = terms.find((each) => each.startsWith("level:")) ?? "";
  byId("level").value = [...byId("level").options].some((each) => each.value === level) ? level : "";
  const isRequests = state.view === "requests";
  byId("records").hidden = isRequests;
  byId("show-records").setAttribute("aria-pressed", String(!isRequests));
  byId("show-requests").setAttribute("aria-pressed", String(isRequests));
  if (isRequests) requests.show();
  else requests.element.hidden = true;
}

function filterBy(name, value) {
  const q = toggled(state.q, term(name, value));
  byId("search").value = q;
  change({ q });
}

async function openRecord(name) {
  const isAnother = state.record !== String(name);
  state.record = String(name);
  if (isAnother) write(state, !detail.isOpen);
  document.body.classList.add("reading");
  const found = await detail.show(String(name));
  if (found && list.selected !== found.id) list.select(found.id);
}

function closeRecord() {
  state.record = "";
  write(state);
  detail.close();
  document.body.classList.remove("reading", "wide");
  byId("list").focus({ preventScroll: true });
}

function showCounts(counts) {
  for (const [service, numbers] of Object.entries(counts)) {
    for (const shown of document.querySelectorAll(`[data-service="${service}"] [data-count]`)) {
      const number = numbers[shown.dataset.count];
      shown.textContent = count(number);
      shown.parentElement.hidden = shown.dataset.count !== "events" && number === 0;
    }
  }
}

// What the receiver says.

const refreshRequests = throttle(() => requests.refresh(), 500);
const refreshDetail = throttle(() => detail.isOpen && state.record && detail.show(state.record, true), 1000);

function changed(said) {
  showCounts(said.counts);
  faults.show(said.faults);
  last = said.last;
  byId("removed").hidden = said.removed === 0;
  byId("removed").textContent = `the oldest ${plural(said.removed, "record")} removed to make room`;
  const isOther = generation !== null && generation !== said.generation && said.removed === 0;
  generation = said.generation;
  if (isOther) load();
  else if (pin !== null) newRecords();
  refreshRequests();
  refreshDetail();
}

function live(isLive) {
  byId("live").textContent = isLive ? "live" : "not connected";
  byId("live").className = isLive ? "live on" : "live off";
}

// What the user does.

byId("search").addEventListener("input", () => {
  byId("list").setAttribute("aria-busy", "true");
  state = { ...state, q: byId("search").value.trim() };
  write(state);
  showState();
  loadSoon();
});
byId("list").addEventListener("pointermove", () => {
  pointed = performance.now();
});
byId("search-form").addEventListener("submit", (event) => {
  event.preventDefault();
  byId("list").focus();
});
byId("level").addEventListener("change", () => {
  change({ q: replaced(state.q, "level", byId("level").value) });
});
for (const button of document.querySelectorAll("[data-service]")) {
  button.addEventListener("click", () => change({ q: toggled(state.q, `service:${button.dataset.service}`) }));
}
byId("new").addEventListener("click", () => {
  list.select(null);
  load();
  byId("list").focus();
});
byId("range-clear").addEventListener("click", () => change({ since: "", until: "" }));
byId("nothing-clear").addEventListener("click", () => change({ q: "", since: "", until: "" }));
byId("close").addEventListener("click", closeRecord);
byId("widen").addEventListener("click", () => {
  const isWide = document.body.classList.toggle("wide");
  byId("widen").setAttribute("aria-pressed", String(isWide));
});
byId("show-records").addEventListener("click", () => change({ view: "" }));
byId("show-requests").addEventListener("click", () => change({ view: "requests" }));
byId("show-faults").addEventListener("click", () => {
  const isShown = byId("faults").toggleAttribute("hidden") === false;
  byId("show-faults").setAttribute("aria-expanded", String(isShown));
});
byId("banner-stop").addEventListener("click", () => byId("faults-stop").click());
byId("clear").addEventListener("click", () => byId("clear-dialog").showModal());
byId("clear-dialog").addEventListener("close", async () => {
  if (byId("clear-dialog").returnValue !== "clear") return;
  await clearEverything().catch((error) => problem(error.message));
  list.select(null);
  detail.close();
  document.body.classList.remove("reading", "wide");
  change({ record: "", since: "", until: "" });
});
byId("help").addEventListener("click", () => byId("help-dialog").showModal());
for (const dialog of document.querySelectorAll("dialog")) {
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close("no"));
}
window.addEventListener("popstate", () => {
  state = read();
  byId("search").value = state.q;
  showState();
  load();
  if (state.record) openRecord(state.record);
  else if (detail.isOpen) closeRecord();
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const isTyping = event.target.matches("input, select, textarea");
  if (event.key === "Escape") {
    if (detail.isOpen && !isTyping) closeRecord();
    else if (isTyping) byId("list").focus();
    else {
      list.select(null);
      newRecords();
    }
  } else if (isTyping) return;
  else if (event.key === "/") byId("search").focus();
  else if (event.key === "?") byId("help-dialog").showModal();
  else if (["ArrowDown", "ArrowUp", "j", "k"].includes(event.key) && event.target === document.body) {
    byId("list").focus();
    list.key(event);
  } else return;
  event.preventDefault();
});

fillExamples();
byId("search").value = state.q;
showState();
await begin();
await load(true);
if (state.record) openRecord(state.record);
follow(changed, live);
