// Several pictures chosen on the wall: tagged, put into a collection or deleted at once, and that taken back.

import { ask } from "/static/api.js";
import { byId, fill, make, withModifier } from "/static/dom.js";
import { recount } from "/static/filters.js";
import { itemOf } from "/static/gallery.js";
import { dialog, sorry } from "/static/parts.js";
import { Wrong, collectionField, tagFields } from "/static/record.js";
import { may } from "/static/session.js";
import { t } from "/static/text.js";

const UNDO = 12000; // ms for which a change can be taken back here
const chosen = new Set(); // ids: a figure is replaced when its record changes
let last = null; // the figure chosen last: with Shift, all from there on are
let timer = null;
let wall = null;
let show = () => {}; // shows the wall anew

/** Let the pictures of a wall be chosen; `again` is called when they have changed. */
export function prepare(place, again) {
  [wall, show] = [place, again];
  wall.addEventListener("click", (event) => {
    const box = event.target.closest(".pick");
    if (box) pick(box.closest("figure"), box.checked, event.shiftKey);
  });
  wall.addEventListener("keydown", (event) => {
    const figure = event.target.closest(".frame")?.closest("figure");
    if (event.key === "x" && figure && !withModifier(event) && may("write")) pick(figure, !chosen.has(figure.dataset.picture));
    if (event.key === "Escape" && chosen.size) forget();
  });
  wall.addEventListener("leaving", ({ detail }) => chosen.delete(detail.dataset.picture) && draw());
}

const figureOf = (id) => wall.querySelector(`figure[data-picture="${CSS.escape(id)}"]`);

/** Choose a picture, or no more; with `row`, all from the last one on. */
function pick(figure, is, row = false) {
  const all = row && last?.isConnected ? [...wall.querySelectorAll("figure")] : [figure];
  const [from, to] = [all.indexOf(row && last?.isConnected ? last : figure), all.indexOf(figure)].sort((a, b) => a - b);
  for (const one of all.slice(from, to + 1)) {
    chosen[is ? "add" : "delete"](one.dataset.picture);
    one.querySelector(".pick").checked = is;
  }
  last = figure;
  draw();
}

/** Choose nothing any more. */
export function forget() {
  for (const box of wall.querySelectorAll(".pick:checked")) box.checked = false;
  chosen.clear();
  draw();
}

function draw() {
  clearTimeout(timer);
  byId("results").toggleAttribute("data-choosing", chosen.size > 0);
  if (!chosen.size) return fill(byId("chosen"));
  const button = (words, act, kind = "") => make("button", { type: "button", class: kind, onclick: act }, words);
  const held = byId("chosen").contains(document.activeElement);
  fill(
    byId("chosen"),
    make("p", { role: "status" }, t("{count, plural, one {# picture chosen} other {# pictures chosen}}", { count: chosen.size })),
    button(t("Tag …"), tag),
    button(t("Collection …"), move),
    button(t("Delete"), remove),
    button(t("Choose none"), forget, "quiet"),
  );
  if (held) byId("chosen").querySelector("button").focus();
}

/** Ask in a dialog for one field; its value, or null. */
function question(title, field, words) {
  return dialog(title, (close) => {
    const trouble = make("p", { class: "wrong", role: "alert" });
    const keep = (event) => {
      event.preventDefault();
      try {
        const value = field.value();
        if (value.length) close(value);
      } catch (problem) {
        if (!(problem instanceof Wrong)) throw problem;
        trouble.textContent = problem.message;
      }
    };
    return make("form", { class: "record", onsubmit: keep, novalidate: true }, field.element, trouble, make("div", { class: "actions" }, make("button", { type: "submit", class: "main" }, words)));
  });
}

/** What a field of each chosen picture was, by its id; null where that is not known of all, so that nothing could be taken back. */
function valuesOf(field) {
  const values = new Map([...chosen].map((id) => [id, itemOf(figureOf(id))?.[field]]));
  return [...values.values()].every((value) => value != null) ? values : null;
}

async function tag() {
  const tags = await question(t("Tag the chosen pictures"), tagFields(), t("Add the tags"));
  if (!tags) return;
  const had = valuesOf("tags");
  const back = !had ? [] : tags.map((one) => ({ ids: [...had.keys()].filter((id) => !had.get(id).includes(one)), remove_tags: [one] })).filter(({ ids }) => ids.length);
  const stay = had && (() => {
    for (const [id, before] of had) Object.assign(itemOf(figureOf(id)) ?? {}, { tags: [...new Set([...before, ...tags])] });
    recount().catch(() => {});
  }); // the wall does not show tags: whoever is deep in it keeps the place
  await change({ add_tags: tags }, back, (count) => t("{count, plural, one {# picture was tagged.} other {# pictures were tagged.}}", { count }), stay || show);
}

async function move() {
  const names = await ask("/v1/collections").then(({ items }) => items.map(({ name }) => name), () => []);
  const collection = await question(t("Put the chosen pictures into a collection"), collectionField("", names), t("Put them there"));
  if (!collection) return;
  const had = valuesOf("collection");
  const back = !had ? [] : [...Map.groupBy(had.keys(), (id) => had.get(id))].map(([was, ids]) => ({ ids, collection: was }));
  await change({ collection }, back, (count) => t("{count, plural, one {# picture was moved.} other {# pictures were moved.}}", { count }));
}

const deletedText = (count) => t("{count, plural, one {# picture was deleted.} other {# pictures were deleted.}}", { count });
const remove = () => change({ deleted: true }, [{ ids: [...chosen], deleted: false }], deletedText);

/** Make a change of the chosen pictures, `renew` the page, and offer to take it back: by the changes in `back`. */
async function change(fields, back, said, renew = show) {
  const ids = [...chosen];
  try {
    await ask("/v1/pictures/changes", { json: { ids, ...fields } });
  } catch (problem) {
    await dialog(t("Nothing was changed"), () => sorry(problem));
    return;
  }
  forget();
  renew();
  offerUndo(said(ids.length), back);
  if (document.activeElement === document.body) byId("chosen").querySelector("button")?.focus(); // unless somebody went on
}

/** Say what was changed, and offer for a while to take it back by the changes in `back`; then call `done`. */
function offerUndo(said, back, done = () => {}) {
  const undo = async () => {
    clearTimeout(timer);
    fill(byId("chosen"), make("p", { role: "status" }, t("Taking it back …")));
    try {
      for (const one of back) await ask("/v1/pictures/changes", { json: one });
    } catch (problem) {
      await dialog(t("It was not taken back"), () => sorry(problem));
    }
    forget();
    show();
    done();
  };
  clearTimeout(timer);
  fill(byId("chosen"), make("p", { role: "status" }, said), back.length ? make("button", { type: "button", onclick: undo }, t("Undo")) : null);
  timer = setTimeout(draw, UNDO);
}

/** Offer to bring back a picture that was deleted; then call `done`. */
export const offerBack = (id, done) => offerUndo(deletedText(1), [{ ids: [id], deleted: false }], done);
