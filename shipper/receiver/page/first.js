// The first rows are asked for while the rest of the page is still loading.

import { read } from "./address.js";
import { findRecords } from "./api.js";

const { q, since, until } = read();

/** What the list begins with: without a histogram, for which all records are read. Null when it failed. */
export const first = findRecords({ q, since, until, limit: 100 }).catch(() => null);
