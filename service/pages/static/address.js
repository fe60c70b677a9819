// What a search asks for, as the address keeps it: a link can be shared, and the back button works. Sends nothing.

import { t } from "/static/text.js";

const KEY = /^(?:metadata\.)?[a-z0-9_]{1,64}$/;
const DAY = /^\d{4}-\d{2}-\d{2}$/;
const DATE = /^\d{4}-\d{2}-\d{2}(?:[Tt ]\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:[Zz]|[+-]\d{2}:\d{2})?)?$/;
const MODES = ["meaning", "words", "both"];
const DEFAULTS = { q: "", minus: "", language: "auto", picture: "", file: "", mode: "both", collection: "", min: "" };

/** What a search asks for when nothing is said; `is` are values that a picture must have (of a list, one), `ranges` bounds of a key. */
export const nothingAsked = () => ({ ...DEFAULTS, is: [], ranges: [] });

/** The search that the parameters of an address name; what is not understood is left out. */
export function read(query) {
  const asked = nothingAsked();
  for (const name of Object.keys(DEFAULTS)) asked[name] = query.get(name) ?? DEFAULTS[name];
  if (!MODES.includes(asked.mode)) asked.mode = DEFAULTS.mode;
  if (!(Number(asked.min) > 0)) asked.min = "";
  asked.is = query.getAll("is").map(split).filter(Boolean).map(([key, text]) => ({ key, value: valueOf(text) }));
  asked.ranges = query.getAll("range").map(split).filter(Boolean).map(bounds).filter((range) => !wrong(range));
  return asked;
}

/** The address of a search. */
export function write(asked) {
  const query = new URLSearchParams();
  for (const [name, usual] of Object.entries(DEFAULTS)) if (asked[name] && asked[name] !== usual) query.set(name, asked[name]);
  for (const { key, value } of asked.is) query.append("is", `${key}:${textOf(value)}`);
  for (const { key, from, to } of asked.ranges) query.append("range", `${key}:${from}..${to}`);
  return `#search${query.size ? `?${query}` : ""}`;
}

/** The filter of a search in the grammar of the service, or null when it has none. */
export function filterOf({ collection, is, ranges }) {
  const must = [
    ...(collection ? [{ key: "collection", match: { value: collection } }] : []),
    ...is.map(({ key, value }) => ({ key, match: Array.isArray(value) ? { any: value } : { value } })),
    ...ranges.map(({ key, from, to }) => ({ key, range: limits(from, to) })),
  ];
  return must.length ? { must } : null;
}

/** Why a range cannot be asked for, as a sentence; "" when it can. */
export function wrong({ key, from, to }) {
  if (!KEY.test(key)) return t("Choose a detail from those that are offered.");
  const given = [from, to].filter(Boolean);
  if (!given.length) return t("Enter a value, or where the range begins or ends.");
  if (given.every(isNumber) || given.every(isDate)) return "";
  return t("A range is of numbers, or of dates as 1950-01-31.");
}

/** The value that a person typed for a key whose values are of this kind; of an unknown kind, all that it may be. */
export function typed(text, kind) {
  if (["number", undefined].includes(kind) && isNumber(text)) return kind ? Number(text) : [Number(text), text];
  if (["boolean", undefined].includes(kind) && ["true", "false"].includes(text)) return kind ? text === "true" : [text === "true", text];
  return text;
}

const isNumber = (text) => text.trim() !== "" && Number.isFinite(Number(text));
const isDate = (text) => DATE.test(text) && !Number.isNaN(Date.parse(text.replace(" ", "T")));
const split = (text) => (text.includes(":") && KEY.test(text.slice(0, text.indexOf(":"))) ? [text.slice(0, text.indexOf(":")), text.slice(text.indexOf(":") + 1)] : null);

function bounds([key, text]) {
  const at = text.indexOf("..");
  return { key, from: at < 0 ? "" : text.slice(0, at), to: at < 0 ? "" : text.slice(at + 2) };
}

/** Both ends are included: the last day of a range ends where the next one begins. */
function limits(from, to) {
  const value = (text) => (isNumber(text) ? Number(text) : text);
  return {
    ...(from ? { gte: value(from) } : {}),
    ...(to ? (DAY.test(to) ? { lt: dayAfter(to) } : { lte: value(to) }) : {}),
  };
}

function dayAfter(day) {
  const next = new Date(`${day}T00:00:00Z`);
  next.setUTCDate(next.getUTCDate() + 1);
  return next.toISOString().slice(0, 10);
}

/** In the address, texts stand as they are, unless they would be read as another value. */
function textOf(value) {
  return typeof value !== "string" || typeof valueOf(value) !== "string" || value.startsWith('"') ? JSON.stringify(value) : value;
}

function valueOf(text) {
  try {
    const value = JSON.parse(text);
    const plain = [value].flat();
    if (plain.length && plain.every((one) => ["string", "number", "boolean"].includes(typeof one))) return value;
  } catch {
    // no JSON: a text as it is
  }
  return text;
}
