// One picture, as large as the window: with what is said of it, the way to its neighbours, and an address of its own.

import { redraw } from "/static/answers.js";
import { nothingAsked, write } from "/static/address.js";
import { ask, send, show, thumbnail } from "/static/api.js";
import { captionList, nameOf } from "/static/captions.js";
import { offerBack } from "/static/choosing.js";
import { byId, fill, make, time, withModifier } from "/static/dom.js";
import { edit, remove } from "/static/edit.js";
import { itemOf, leave, neighbour, pictureAddress } from "/static/gallery.js";
import { learned, named, nativeName, served } from "/static/languages.js";
import { called } from "/static/library.js";
import { sorry, waiting } from "/static/parts.js";
import { t } from "/static/text.js";

const SWIPE = 50; // px
const DATES = ["taken_at"]; // metadata shown as a person writes it
let box = null; // the dialog, while it is open
let now = null; // {id, item, language, within}: what it shows; `within` when the page stands behind it in the history

/** Show a picture; `within` when it was opened from the page, to which Back returns. */
export function open(id, language, within) {
  now = { id, language, within: within && (now?.within ?? true), item: null };
  if (!box) build();
  draw();
}

/** Close it, if it is open; returns whether it was. */
export function shut() {
  if (!box) return false;
  const figure = behind();
  document.body.append(byId("chosen")); // what can be undone outlives the dialog
  box.remove();
  box = null;
  now = null;
  figure?.querySelector("a.frame").focus({ preventScroll: true });
  figure?.scrollIntoView({ block: "nearest" });
  return true;
}

/** Leave for the page behind it: by Back where that leads there, so that the history has it once. */
function away() {
  if (now.within) history.back();
  else location.hash = "#search";
}

/** The figure on the page that this picture was opened from, and that stands for it. */
const behind = (id = now?.id ?? "") => document.querySelector(`main > section:not([hidden]) figure[data-picture="${CSS.escape(id)}"]`);

function build() {
  box = make("dialog", { class: "lightbox", "aria-labelledby": "picture-title" });
  box.addEventListener("cancel", (event) => {
    event.preventDefault();
    away();
  });
  box.addEventListener("close", () => box && away()); // where the browser closes it all the same
  box.addEventListener("keydown", (event) => {
    const ahead = document.documentElement.dir === "rtl" ? -1 : 1;
    const by = { ArrowRight: ahead, ArrowLeft: -ahead }[event.key];
    if (by && !event.target.matches("input, select, textarea") && !withModifier(event)) step(by);
  });
  document.body.append(box);
  box.showModal();
}

/** Go on to the next picture or back: the address changes, and the history does not grow. */
function step(by) {
  const figure = behind();
  const next = figure && neighbour(figure, by);
  if (!next) return;
  if (!neighbour(next, 4)) byId("more").click();
  history.replaceState(null, "", pictureAddress(next.dataset.picture));
  open(next.dataset.picture, now.language, true);
}

function draw() {
  const { id, language } = now;
  const figure = behind();
  const known = figure && itemOf(figure);
  const panel = make("div", { class: "told" }, known ? captionList(known.captions) : waiting(t("Loading the picture")));
  const title = known ? nameOf(known, language) : "";
  const image = make("img", { alt: title });
  const way = (by, words, sign) => make("button", { type: "button", class: by < 0 ? "before" : "after", "aria-label": words, disabled: !(figure && neighbour(figure, by)), onclick: () => step(by) }, sign);
  const stage = make("div", { class: "stage" }, image, way(-1, t("The picture before"), "‹"), way(1, t("The next picture"), "›"));
  swiped(stage);
  const held = ["before", "after"].find((kind) => document.activeElement?.matches(`.stage .${kind}`));
  const close = make("button", { type: "button", class: "shut", "aria-label": t("Close"), onclick: away }, "×");
  box.replaceChildren(stage, make("div", { class: "side" }, make("h2", { id: "picture-title" }, make("bdi", {}, title)), panel), close, ...box.querySelectorAll("#chosen"));
  ((held && box.querySelector(`.stage .${held}:enabled`)) ?? close).focus();
  if (known) enlarge(image, known);
  load(id, image, panel);
}

/** The small picture is there already; the large one takes its place when it has come. */
function enlarge(image, item) {
  if (item.width && item.height) [image.width, image.height] = [item.width, item.height];
  show(image, thumbnail(item.url));
  const large = make("img", { alt: "" });
  large.addEventListener("load", () => (image.src = large.src), { once: true });
  large.decoding = "async";
  show(large, item.url);
}

/** Ask for the whole record: an answer brings only what the wall shows. */
async function load(id, image, panel) {
  try {
    const item = await ask(pathOf(id));
    if (now?.id !== id) return;
    now.item = item;
    fill(byId("picture-title"), make("bdi", {}, nameOf(item, now.language)));
    image.alt = nameOf(item, now.language);
    if (!image.src) enlarge(image, item);
    fill(panel, facts(item));
  } catch (problem) {
    if (now?.id === id) fill(panel, sorry(problem));
  }
}

const pathOf = (id) => `/v1/pictures/${encodeURIComponent(id)}`;

/** A finger that moves to the side goes on; up and down it scrolls. */
function swiped(stage) {
  let from = null;
  stage.addEventListener("pointerdown", ({ pointerType, clientX, clientY }) => (from = pointerType === "mouse" ? null : [clientX, clientY]));
  stage.addEventListener("pointerup", ({ clientX, clientY }) => {
    const [across, down] = from ? [clientX - from[0], clientY - from[1]] : [0, 0];
    from = null;
    if (Math.abs(across) < SWIPE || Math.abs(across) < 2 * Math.abs(down)) return;
    step((across < 0 ? 1 : -1) * (document.documentElement.dir === "rtl" ? -1 : 1));
  });
}

/** Captions, tags, metadata and the rest of a record, and what can be done. */
function facts(item) {
  const words = (value) => (Array.isArray(value) ? value.join(", ") : typeof value === "boolean" ? (value ? t("yes") : t("no")) : String(value));
  const only = (tag) => write({ ...nothingAsked(), is: [{ key: "tags", value: tag }] });
  const rest = [
    ...Object.entries(item.metadata).map(([key, value]) => [called(key), DATES.includes(key) ? time(value) : make("bdi", {}, words(value))]),
    item.collection === "default" ? null : [t("Collection"), make("bdi", {}, item.collection)],
    [t("Size"), `${item.width} × ${item.height}`],
    [t("Added"), time(item.created_at)],
    [t("Id"), make("span", { class: "id" }, item.id)],
  ].filter(Boolean);
  return [
    captionList(item.captions, item.waiting),
    caption(item),
    item.tags.length ? make("ul", { class: "chips", "aria-label": t("Tags") }, item.tags.map((tag) => make("li", {}, make("a", { class: "facet", href: only(tag) }, make("bdi", {}, tag))))) : null,
    make("div", { class: "actions" },
      make("a", { class: "button main", href: `#search?${new URLSearchParams({ picture: item.id })}` }, t("More like this")),
      make("button", { type: "button", "data-needs": "write", onclick: change }, t("Edit …")),
      make("button", { type: "button", "data-needs": "write", onclick: take }, t("Delete")),
      item.original ? make("button", { type: "button", class: "quiet", onclick: (event) => original(item, event.target) }, t("Original")) : null),
    make("dl", { class: "facts" }, rest.map(([key, value]) => [make("dt", {}, key), make("dd", {}, value)])),
  ];
}

/** A field for one more caption, in the language that one searches in. */
function caption(item) {
  const tags = [...new Set([now.language, ...learned.items.filter(served).map(({ language }) => language)])];
  const pick = make("select", { "aria-label": t("Language of the caption") }, tags.map((tag) => make("option", { value: tag, lang: tag }, nativeName(tag))));
  const field = make("input", { type: "text", maxlength: "1000", "aria-label": t("Add a caption"), placeholder: t("Add a caption") });
  const trouble = make("div", { role: "alert" });
  const turn = () => Object.assign(field, { lang: pick.value, dir: named(pick.value).direction === "rtl" ? "rtl" : "auto" });
  pick.addEventListener("change", turn);
  turn();
  const keep = async (event) => {
    event.preventDefault();
    const text = field.value.trim();
    if (!text || field.readOnly) return field.focus();
    field.readOnly = true; // what is typed now would go with the answer
    try {
      await describe(item.id, pick.value, text);
      renew(await ask(pathOf(item.id)));
    } catch (problem) {
      field.readOnly = false;
      fill(trouble, sorry(problem));
    }
  };
  return make("form", { class: "caption", "data-needs": "write", onsubmit: keep }, field, pick, make("button", { type: "submit" }, t("Add")), trouble);
}

/** Add a caption to the record as it is now; what others change in the same moment stays. */
async function describe(id, tag, text, tries = 3) {
  const { own, etag } = await ask(pathOf(id));
  const headers = { "Content-Type": "application/merge-patch+json", "If-Match": `"${etag}"` };
  try {
    await ask(pathOf(id), { method: "PATCH", headers, body: JSON.stringify({ captions: { [tag]: [...(own[tag] ?? []), text] } }) });
  } catch (problem) {
    if (problem.code !== "record_changed" || tries === 1) throw problem;
    await describe(id, tag, text, tries - 1);
  }
}

/** Show the record as it is by now, on the page behind, and here if it is still shown. */
function renew(item) {
  const figure = behind(item.id);
  if (figure?.closest("#results")) redraw(figure, { ...itemOf(figure), ...item });
  if (now?.id === item.id) draw();
}

async function change() {
  const { id, item } = now;
  const changed = await edit(item);
  if (changed?.deleted) gone(id);
  else if (changed) renew(changed);
}

/** Delete the picture, and offer to bring it back: it is shown again then. */
async function take() {
  const { item, language } = now;
  if (!(await remove(item))) return;
  const within = Boolean(behind(item.id));
  gone(item.id);
  box?.append(byId("chosen"));
  offerBack(item.id, () => {
    if (!box) return;
    history.replaceState(null, "", pictureAddress(item.id));
    open(item.id, language, within);
  });
}

/** The picture is no more: if it is still shown, the next one is, or the page. */
function gone(id) {
  const figure = behind(id);
  const next = figure && (neighbour(figure, 1) ?? neighbour(figure, -1))?.dataset.picture;
  if (figure) leave(figure);
  if (now?.id !== id) return;
  if (!next) return away();
  history.replaceState(null, "", pictureAddress(next));
  open(next, now.language, true);
}

/** Save the bytes as they were sent. */
async function original(item, button) {
  try {
    const blob = await (await send(`${pathOf(item.id)}/original`)).blob();
    const link = make("a", { href: URL.createObjectURL(blob), download: nameOf({ ...item, captions: {} }) });
    link.click();
    URL.revokeObjectURL(link.href);
  } catch (problem) {
    button.replaceWith(make("p", { class: "fine", role: "status" }, problem.message));
  }
}
