// The search line: terms are added and removed by clicks; the server understands it.

/** `name:value`, quoted where needed; `*` and quotes in the value are meant as they are. */
export function term(name, value) {
  const text = String(value);
  return /^[^\s"\\]+$/.test(text) ? `${name}:${text}` : `${name}:"${text.replace(/["\\]/g, "\\$&")}"`;
}

const TERMS = /-?(?:[A-Za-z][^\s:"]*:)?(?:"(?:[^"\\]|\\.)*"?|\S+)/g;

export const termsOf = (query) => query.match(TERMS) ?? [];

/** The query with the term, or without it if it had it. */
export function toggled(query, wanted) {
  const terms = termsOf(query);
  const rest = terms.filter((each) => each !== wanted);
  return (rest.length < terms.length ? rest : [...terms, wanted]).join(" ");
}

/** The query with the term in place of all others of its field. */
export function replaced(query, name, wanted) {
  const rest = termsOf(query).filter((each) => !each.startsWith(`${name}:`));
  return (wanted ? [...rest, wanted] : rest).join(" ");
}
