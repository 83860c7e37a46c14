// Builds elements. What arrived is hostile: it only ever becomes text nodes, never markup.

export const byId = (id) => document.getElementById(id);

/** An element with properties and children; children are elements, texts, or null. */
export function h(name, properties = {}, ...children) {
  const made = document.createElement(name);
  assign(made, properties);
  made.append(...children.flat().filter((each) => each !== null && each !== undefined && each !== false));
  return made;
}

/** The same for SVG. */
export function svg(name, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  made.append(...children);
  return made;
}

function assign(made, properties) {
  for (const [key, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "class") made.className = value;
    else if (key === "on") for (const [type, listener] of Object.entries(value)) made.addEventListener(type, listener);
    else if (key === "style") for (const [name, text] of Object.entries(value)) made.style.setProperty(name, text);
    else if (key === "data") Object.assign(made.dataset, value);
    else made.setAttribute(key, value === true ? "" : String(value));
  }
}

/** A function that runs at most once in `milliseconds`, and once more at the end. */
export function throttle(run, milliseconds) {
  let timer = null;
  let again = false;
  const turn = () => {
    timer = null;
    if (!again) return;
    again = false;
    start();
  };
  const start = () => {
    run();
    timer = setTimeout(turn, milliseconds);
  };
  return () => {
    if (timer === null) start();
    else again = true;
  };
}

/** A function that runs `milliseconds` after its last call. */
export function debounce(run, milliseconds) {
  let timer = null;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => run(...given), milliseconds);
  };
}
