// The description of the control endpoints, from their OpenAPI document.

import { byId, h } from "./dom.js";

const openapi = await (await fetch("/_control/openapi.json")).json();

function parameters(given) {
  if (!given.length) return null;
  return h(
    "table",
    { class: "values" },
    h("tbody", {}, ...given.map((each) => h("tr", {}, h("th", { scope: "row" }, each.name), h("td", { class: "type" }, each.schema.type ?? "one of"), h("td", {}, described(each))))),
  );
}

function described(each) {
  const choices = (each.schema.enum ?? []).join(", ");
  return choices ? `${each.description}: ${choices}` : each.description;
}

byId("api-about").textContent = openapi.info.description;
for (const [path, methods] of Object.entries(openapi.paths)) {
  for (const [method, operation] of Object.entries(methods)) {
    byId("api").append(
      h("section", { class: "operation" }, h("h2", {}, h("span", { class: `method ${method}` }, method.toUpperCase()), " ", h("code", {}, path)), h("p", {}, operation.summary), parameters(operation.parameters ?? [])),
    );
  }
}
for (const [name, schema] of Object.entries(openapi.components.schemas)) {
  const rows = Object.entries(schema.properties).map(([field, each]) => h("tr", {}, h("th", { scope: "row" }, field), h("td", {}, each.type ?? (each.enum ?? []).map(String).join(", "))));
  byId("api").append(h("section", { class: "operation" }, h("h2", {}, name), h("pre", {}, schema.description ?? ""), h("table", { class: "values" }, h("tbody", {}, ...rows))));
}
