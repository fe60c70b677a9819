// Duplicates: groups of pictures that are almost the same, and deleting some of them. The address keeps what is looked at.

import { ask } from "/static/api.js";
import { byId, decimal, fill, make, time } from "/static/dom.js";
import { offerBack } from "/static/choosing.js";
import { remove } from "/static/edit.js";
import { figure, leave } from "/static/gallery.js";
import { nothing, sorry, waiting } from "/static/parts.js";
import { t } from "/static/text.js";

const LEAST = 0.95; // of the score of two pictures that are shown as one group
const GROUPS = 12; // a page
const IDS = 100; // records that one answer brings
let running = null;

/** Draw the groups for what the address says. */
export async function drawDuplicates(query) {
  running?.abort();
  running = new AbortController();
  const { signal } = running;
  const asked = { least: query.get("min_score") ?? String(LEAST), collection: query.get("collection") ?? "" };
  const list = make("div", { class: "groups" });
  const more = make("p", { class: "more" });
  try {
    const { items } = await ask("/v1/collections", { signal });
    fill(byId("duplicates-body"), controls(asked, items.map((item) => item.name)), list, more);
    await page(asked, null, list, more, signal);
  } catch (problem) {
    if (!signal.aborted) fill(byId("duplicates-body"), sorry(problem));
  }
}

function controls({ least, collection }, names) {
  const shown = make("output", {}, decimal(least, 3));
  const score = make("input", { type: "range", min: "0.8", max: "1", step: "0.005", value: least, "aria-label": t("Lowest score of two pictures that are almost the same"), oninput: () => (shown.textContent = decimal(score.value, 3)), onchange: () => go() });
  const picker = make("select", { "aria-label": t("Collection"), onchange: () => go() }, make("option", { value: "" }, t("All collections")), names.map((name) => make("option", { value: name }, name)));
  picker.value = collection;
  const go = () => (location.hash = `#duplicates?${new URLSearchParams({ min_score: score.value, ...(picker.value ? { collection: picker.value } : {}) })}`);
  return make("div", { class: "narrowing" }, names.length > 1 || collection ? make("label", { class: "slim" }, picker) : null, make("label", { class: "closeness" }, t("Lowest score"), score, shown));
}

/** One page of groups. The server stops looking after a while: it is asked again until there is one, or an end. */
async function page({ least, collection }, cursor, list, more, signal) {
  let answer = { items: [], next_cursor: cursor };
  let examined = 0;
  do {
    fill(more, waiting(examined ? t("{examined, plural, one {Comparing pictures: # so far} other {Comparing pictures: # so far}}", { examined }) : t("Comparing pictures")));
    const query = { min_score: least, limit: GROUPS, ...(collection ? { collection } : {}), ...(answer.next_cursor ? { cursor: answer.next_cursor } : {}) };
    answer = await ask(`/v1/duplicates?${new URLSearchParams(query)}`, { signal });
    examined += answer.examined;
  } while (!answer.items.length && answer.next_cursor);
  const records = await recordsOf(answer.items.flatMap((group) => group.pictures.map(({ id }) => id)), signal);
  const groups = answer.items.map((one) => group(one, records)).filter(Boolean);
  list.append(...groups);
  if (cursor) groups[0]?.querySelector("a")?.focus();
  if (!list.childElementCount) list.append(nothing(t("No two pictures are that similar."), t("A lower score finds pictures that are less alike.")));
  const next = make("button", { type: "button", onclick: () => page({ least, collection }, answer.next_cursor, list, more, signal).catch((problem) => signal.aborted || fill(more, sorry(problem))) }, t("More"));
  fill(more, answer.next_cursor ? next : null);
}

/** The records of these pictures by id: captions, collections and sizes say which one to keep. */
async function recordsOf(ids, signal) {
  const records = new Map();
  for (let at = 0; at < ids.length; at += IDS) {
    const filter = JSON.stringify({ must: [{ key: "id", match: { any: ids.slice(at, at + IDS) } }] });
    const answer = await ask(`/v1/pictures?${new URLSearchParams({ limit: IDS, filter })}`, { signal });
    for (const item of answer.items) records.set(item.id, item);
  }
  return records;
}

function group({ pictures, more }, records) {
  const items = pictures.filter(({ id }) => records.has(id)).map((near, place) => ({ ...records.get(near.id), ...near, score: place ? near.score : null })); // to the first one
  if (items.length < 2) return null; // the others were deleted meanwhile
  const grid = make("div", { class: "grid figures" }, items.map((item) => figure(item, "en", (element) => details(item, element))));
  const element = make("section", { class: "group" }, make("h2", { class: "small-title" }, more ? t("{count, plural, one {# picture} other {# pictures}}, and more", { count: items.length }) : t("{count, plural, one {# picture} other {# pictures}}", { count: items.length })), grid);
  grid.addEventListener("left", () => {
    if (grid.childElementCount > 1) return;
    const next = element.nextElementSibling ?? element.previousElementSibling;
    element.remove();
    (next?.querySelector("a") ?? byId("main")).focus();
  });
  return element;
}

function details(item, element) {
  const gone = async () => {
    if (!(await remove(item))) return;
    leave(element());
    offerBack(item.id, () => drawDuplicates(new URLSearchParams(location.hash.split("?")[1])));
  };
  return [
    make("p", { class: "fine" }, `${item.width} × ${item.height}`, item.collection === "default" ? null : ` · ${item.collection}`),
    item.metadata.folder ? make("p", { class: "fine", dir: "auto" }, item.metadata.folder) : null,
    make("p", { class: "fine" }, time(item.shown_at)),
    make("button", { type: "button", class: "quiet", "data-needs": "write", "aria-label": t("Delete {id}", { id: item.id }), onclick: gone }, t("Delete")),
  ];
}
