// The filter bar: chosen filters as chips, collections, counts of what can be chosen. Runs no search: the address does.

import { filterOf, typed, wrong, write } from "/static/address.js";
import { ask } from "/static/api.js";
import { byId, fill, make, whole } from "/static/dom.js";
import { atTime, called, groups as libraryGroups, keyOf, rangeWords } from "/static/library.js";
import { sorry } from "/static/parts.js";
import { t } from "/static/text.js";

const FIELDS = ["tags", "collection", "id", "created_at", "shown_at"]; // keys of filters that name no metadata
const COUNTED = ["id", "created_at", "collection", "folder", "camera", "file_name"]; // not counted, or as albums and cameras
const MOST_FACETS = 8; // that one answer counts
const SHOWN = 12; // values of a key, until more are asked for
const LONGEST = 40; // characters of a value that can be chosen: a whole sentence names one picture
const kinds = new Map(); // key of metadata -> "string", "number", "boolean", "date" or "list", as seen in pictures
const unfolded = new Set(); // keys whose values are all shown
let asked = null; // the search that is shown
let running = null; // the counting that is under way
let counted = ""; // what the facets on the page were counted for

/** Connect the bar; `go` gets the address of a search with another filter. Called once. */
export function prepare(go) {
  byId("filters-button").addEventListener("click", () => open(byId("filters-panel").hidden));
  byId("collection").addEventListener("change", () => go({ ...asked, collection: byId("collection").value }));
  byId("filter-form").addEventListener("submit", (event) => {
    event.preventDefault();
    add(go);
  });
  byId("filter-key").addEventListener("input", suit);
  byId("chips").addEventListener("click", (event) => leave(event, go));
  byId("facets").addEventListener("click", (event) => choose(event, go));
}

/** Show the filters of a search, and count what else could be chosen if the panel is open. */
export function show(search) {
  asked = search;
  const chips = [
    ...asked.is.map(({ key, value }, place) => chip("is", place, key, String([value].flat()[0]))),
    ...asked.ranges.map(({ key, from, to }, place) => chip("ranges", place, key, rangeWords({ key, from, to }))),
  ];
  const held = byId("chips").contains(document.activeElement);
  fill(byId("chips"), chips);
  if (held) (byId("chips").querySelector("button") ?? byId("filters-button")).focus();
  byId("filters-button").textContent = chips.length ? t("Refine ({count})", { count: chips.length }) : t("Refine");
  pick();
  count();
}

/** Note the keys of metadata of pictures that came, so that they can be counted and chosen. */
export function notice(items) {
  for (const { metadata } of items) for (const [key, value] of Object.entries(metadata ?? {})) kinds.set(key, kindOf(value));
  fill(byId("filter-keys"), ["created_at", ...[...kinds.keys()].sort().map(nameOf)].map((key) => make("option", { value: called(key) })));
  count();
}

/** The picker of collections; it is there when there is more than one, or one is chosen. */
export async function loadCollections() {
  const { items } = await ask("/v1/collections");
  const names = items.map((item) => item.name);
  byId("collection").replaceChildren(make("option", { value: "" }, t("All collections")), ...items.map(({ name, count: pictures }) => make("option", { value: name }, `${name} (${whole(pictures)})`)));
  byId("collection-label").hidden = names.length < 2;
  if (asked) pick();
  return names;
}

/** Count all anew, after pictures were changed. */
export async function recount() {
  counted = "";
  await loadCollections();
}

/** Whether a search has any filter. */
export const filtered = (search) => filterOf(search) !== null;

/** What a filter leaves, in words, for a search that found nothing. */
export const none = () => make("button", { type: "button", onclick: () => (location.hash = write({ ...asked, is: [], ranges: [], collection: "" })) }, t("Remove the filters"));

/** Sentences about the collection and keys of a search that no picture has. */
export async function unknown({ collection, is, ranges }) {
  const keys = [...new Set([...is, ...ranges].map(({ key }) => key))].filter((key) => !FIELDS.includes(key)).slice(0, MOST_FACETS);
  const query = new URLSearchParams({ limit: "1", fields: "id", facets: keys.join(",") });
  const [names, { facets }] = await Promise.all([collection ? loadCollections() : [], keys.length ? ask(`/v1/pictures?${query}`) : { facets: {} }]);
  return [
    ...(collection && !names.includes(collection) ? [t("There is no collection “{collection}”.", { collection })] : []),
    ...keys.filter((key) => !facets[key]?.length).map((key) => t("No picture has the detail “{key}”.", { key: called(key) })),
  ];
}

/** The chosen collection, also one that is empty or was not there when the list came. */
function pick() {
  const picker = byId("collection");
  if (asked.collection && ![...picker.options].some((option) => option.value === asked.collection)) picker.append(make("option", { value: asked.collection }, asked.collection));
  picker.value = asked.collection;
  if (asked.collection) byId("collection-label").hidden = false;
}

function chip(list, place, key, value) {
  return make("li", { class: "chip" }, make("span", { class: "key" }, called(key)), make("bdi", {}, value), make("button", { type: "button", "data-list": list, "data-place": place, "aria-label": t("Remove the filter {key} {value}", { key: called(key), value }) }, "×"));
}

function leave(event, go) {
  const { list, place } = event.target.dataset;
  if (!list) return;
  go({ ...asked, [list]: asked[list].filter((_, at) => at !== Number(place)) });
}

function open(is) {
  byId("filters-panel").hidden = !is;
  byId("filters-button").setAttribute("aria-expanded", String(is));
  count();
}

/** The keys that are counted: tags, then those of metadata that are no measures, rarest kinds last. */
function keys() {
  const chosen = chosenKeys();
  const worth = [...kinds].filter(([, kind]) => ["string", "list", "boolean"].includes(kind)).map(([key]) => nameOf(key));
  return [...new Set(["tags", ...chosen, ...worth])].filter((key) => !COUNTED.includes(key)).slice(0, MOST_FACETS);
}

const chosenKeys = () => asked.is.map(({ key }) => key);
const nameOf = (key) => (FIELDS.includes(key) ? `metadata.${key}` : key);

/** Count the values of keys among all that the filter leaves; the text of a search does not matter. */
async function count() {
  if (byId("filters-panel").hidden || !asked) return;
  const filter = filterOf(asked);
  const query = new URLSearchParams({ limit: "1", fields: "id", facets: keys().join(","), ...(filter ? { filter: JSON.stringify(filter) } : {}) });
  if (counted === String(query) && byId("facets").childElementCount) return;
  counted = String(query);
  running?.abort();
  running = new AbortController();
  const { signal } = running;
  try {
    const [{ facets, items }, library] = await Promise.all([ask(`/v1/pictures?${query}`, { signal }), ask(`/v1/facets?${filter ? new URLSearchParams({ filter: JSON.stringify(filter) }) : ""}`, { signal })]);
    const { key, value, time } = byId("facets").contains(document.activeElement) ? document.activeElement.dataset : {};
    fill(byId("facets"), groups(facets, library, items.length));
    if (key ?? time) byId("facets").querySelector(time ? `[data-time="${time}"]` : `[data-key="${CSS.escape(key)}"][data-value="${CSS.escape(value)}"]`)?.focus();
  } catch (problem) {
    if (signal.aborted) return;
    counted = "";
    fill(byId("facets"), sorry(problem));
  }
}

function groups(facets, library, left) {
  const shown = Object.entries(facets).map(([key, values]) => [key, values.filter(({ value }) => String(value).length <= LONGEST)]).filter(([key, values]) => values.length && (values.length < SHOWN || values[0].count > 1 || chosenKeys().includes(key)));
  const own = libraryGroups(library, asked);
  if (!shown.length && !own.length) return make("p", { class: "fine" }, left ? t("The pictures here have no tags, and no metadata to choose from.") : t("No picture is left to choose from."));
  return make("div", { class: "facets" }, own, shown.map(([key, values]) => group(key, values)));
}

function group(key, values) {
  const few = unfolded.has(key) ? values : values.slice(0, SHOWN);
  const more = values.length - few.length;
  return make(
    "section",
    { "data-facet": key },
    make("h2", { class: "small-title" }, called(key)),
    make("ul", { class: "chips" }, few.map((each) => make("li", {}, value(key, each))), more ? make("li", {}, make("button", { type: "button", class: "quiet", "data-more": key }, t("{more} more", { more }))) : null),
  );
}

function value(key, { value: own, count: pictures }) {
  const chosen = asked.is.some((one) => one.key === key && [one.value].flat().includes(own));
  return make("button", { type: "button", class: "facet", "data-key": key, "data-value": JSON.stringify(own), "aria-pressed": String(chosen), "aria-label": t("{key} {own}: {pictures, plural, one {# picture} other {# pictures}}", { key: called(key), own, pictures }) }, make("bdi", {}, String(own)), make("span", { class: "number" }, whole(pictures)));
}

function choose(event, go) {
  const button = event.target.closest("button");
  if (button?.dataset.more) {
    unfolded.add(button.dataset.more);
    counted = "";
    count();
  } else if (button?.dataset.time) {
    go(atTime(asked, button.dataset.time));
  } else if (button?.dataset.key) {
    const chosen = { key: button.dataset.key, value: JSON.parse(button.dataset.value) };
    const same = (one) => one.key === chosen.key && [one.value].flat().includes(chosen.value);
    const others = asked.is.filter((one) => !same(one));
    go({ ...asked, is: others.length < asked.is.length ? others : [...asked.is, chosen] });
  }
}

/** The key that was entered by its name, or as pictures have it. */
function entered() {
  const name = byId("filter-key").value.trim();
  return kinds.has(name) ? name : keyOf(name);
}

/** Dates are picked, where the key is known to be one. */
function suit() {
  const key = entered().replace(/^metadata\./, "");
  const type = ["created_at", "shown_at"].includes(key) || kinds.get(key) === "date" ? "date" : "text";
  for (const id of ["filter-from", "filter-to"]) if (byId(id).type !== type) byId(id).type = type;
}

/** Add what the form says: a value, or a range. */
function add(go) {
  const [is, from, to] = ["is", "from", "to"].map((name) => byId(`filter-${name}`).value.trim());
  const key = entered();
  const trouble = wrong({ key, from: is && !from ? "0" : from, to });
  fill(byId("filter-trouble"), trouble || null);
  if (trouble) {
    byId(key ? "filter-from" : "filter-key").focus();
    return;
  }
  const name = key.replace(/^metadata\./, "");
  const chosen = { key, value: typed(is, FIELDS.includes(key) ? "string" : kinds.get(name)) };
  go({ ...asked, is: is ? [...asked.is, chosen] : asked.is, ranges: from || to ? [...asked.ranges, { key, from, to }] : asked.ranges });
  byId("filter-form").reset();
  suit();
  byId("filter-key").focus();
}

function kindOf(value) {
  if (Array.isArray(value)) return "list";
  if (typeof value !== "string") return typeof value;
  return /^\d{4}-\d{2}-\d{2}/.test(value) && !Number.isNaN(Date.parse(value)) ? "date" : "string";
}
