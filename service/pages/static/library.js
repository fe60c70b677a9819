// Albums, a timeline and cameras: what a gallery has, counted, to choose from. Sends nothing.

import { make, monthName, whole } from "/static/dom.js";
import { t } from "/static/text.js";

const SHOWN = 24; // albums and cameras, until more are asked for

const NAMES = {
  tags: t("Tags"),
  shown_at: t("Time"),
  taken_at: t("Date taken"),
  created_at: t("Added"),
  camera: t("Camera"),
  folder: t("Album"),
  collection: t("Collection"),
  file_name: t("File"),
  title: t("Title"),
  description: t("Description"),
  place: t("Place"),
  city: t("City"),
  region: t("Region"),
  country: t("Country"),
  latitude: t("Latitude"),
  longitude: t("Longitude"),
  creator: t("Made by"),
  copyright: t("Copyright"),
};

/** What a key is called where people read it, and the key that is called so; others have their own name. */
export const called = (key) => NAMES[key] ?? key;
export const keyOf = (name, keys = Object.keys(NAMES)) => keys.find((key) => NAMES[key].toLowerCase() === name.toLowerCase()) ?? name;

/** The keys with a name that people write into records. */
export const DETAILS = Object.keys(NAMES).filter((key) => !["tags", "shown_at", "created_at", "collection"].includes(key));

/** The first and last day of a year or month: `2019`, `2019-07`. */
function days(time) {
  const [year, month] = time.split("-").map(Number);
  const last = month ? new Date(Date.UTC(year, month, 0)).getUTCDate() : 31;
  return { key: "shown_at", from: `${time}${month ? "" : "-01"}-01`, to: `${time}${month ? "" : "-12"}-${last}` };
}

/** A range in words: a year or a month by its name. */
export function rangeWords({ key, from, to }) {
  const same = (time) => JSON.stringify(days(time)) === JSON.stringify({ key: "shown_at", from, to });
  if (key === "shown_at" && same(from.slice(0, 4))) return from.slice(0, 4);
  if (key === "shown_at" && same(from.slice(0, 7))) return monthName(from.slice(0, 7));
  return !from ? t("to {to}", { to }) : !to ? t("from {from}", { from }) : `${from} – ${to}`;
}

/** The groups to choose from; `counts` is the answer of the service. */
export function groups({ months, folders, cameras }, asked) {
  return [group(t("Time"), timeline(months, asked)), group(t("Albums"), values("folder", folders, asked)), group(t("Cameras"), values("camera", cameras, asked))].filter(Boolean);
}

const group = (title, buttons) => (buttons.length ? make("section", {}, make("h2", { class: "small-title" }, title), make("ul", { class: "chips" }, buttons.map((button) => make("li", {}, button)))) : null);

/** Years; of a single one, its months. */
function timeline(months, asked) {
  const years = new Map();
  for (const { value, count } of months) years.set(value.slice(0, 4), (years.get(value.slice(0, 4)) ?? 0) + count);
  const chosen = asked.ranges.some(({ key }) => key === "shown_at");
  if (years.size < 2 && months.length < 2 && !chosen) return [];
  const times = years.size > 1 ? [...years].map(([value, count]) => ({ value, count })) : months;
  return times.map(({ value, count }) => {
    const { from } = days(value);
    const pressed = asked.ranges.some((one) => one.key === "shown_at" && one.from === from && one.to === days(value).to);
    return button({ "data-time": value }, value.length > 4 ? monthName(value) : value, count, pressed);
  });
}

function values(key, list, asked) {
  const chosen = (value) => asked.is.some((one) => one.key === key && [one.value].flat().includes(value));
  return list.filter(({ value }) => value !== "").slice(0, SHOWN).map(({ value, count }) => button({ "data-key": key, "data-value": JSON.stringify(value) }, value.slice(value.lastIndexOf("/") + 1) || value, count, chosen(value), value));
}

function button(data, words, count, pressed, title = null) {
  return make("button", { type: "button", class: "facet", ...data, title, "aria-pressed": String(pressed), "aria-label": t("{words}: {count, plural, one {# picture} other {# pictures}}", { words, count }) }, make("bdi", {}, words), make("span", { class: "number" }, whole(count)));
}

/** The search with a year or month chosen, in place of another one, or no more. */
export function atTime(asked, time) {
  const range = days(time);
  const others = asked.ranges.filter(({ key }) => key !== "shown_at");
  const was = asked.ranges.some((one) => one.key === "shown_at" && one.from === range.from && one.to === range.to);
  return { ...asked, ranges: was ? others : [...others, range] };
}
