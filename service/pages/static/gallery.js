// How pictures are shown: the grid, and one large picture with its record.

import { nothingAsked, write } from "/static/address.js";
import { ask, show, thumbnail } from "/static/api.js";
import { bestCaption, captionList, nameOf } from "/static/captions.js";
import { byId, fill, make, time } from "/static/dom.js";
import { edit, remove } from "/static/edit.js";
import { named } from "/static/languages.js";
import { dialog } from "/static/parts.js";

/** A figure for each item (`{id, url, captions, score?, rank?}`), captions in `language` first. */
export const grid = (items, language) => items.map((item) => figure(item, language));

const MOST_LINES = 3; // beside the caption itself

/** `more(element)` draws what stands below the caption; `element()` is the figure. */
export function figure(item, language, more = null) {
  const caption = bestCaption(item.captions, language);
  const others = (typeof item.words === "number" ? Object.keys(item.captions) : ["en"]).filter((tag) => tag !== caption?.language && item.captions[tag]?.length).slice(0, MOST_LINES); // words may have matched in any language
  const name = nameOf(item.captions, item.id, language);
  const image = make("img", { alt: name, loading: "lazy", decoding: "async" });
  const open = (event) => {
    event.preventDefault();
    large(item, language, element, more);
  };
  const element = make(
    "figure",
    { "data-picture": item.id },
    make("a", { href: alike(item), onclick: open, onkeydown: walk, class: "frame" }, image),
    make("a", { href: alike(item), class: "similar", "aria-label": `More like this: ${name}`, title: "More like this" }, "≈"),
    make(
      "figcaption",
      {},
      caption ? make("p", { lang: caption.language, dir: named(caption.language).direction }, caption.text) : make("p", { class: "fine id", title: item.id }, name),
      others.map((tag) => make("p", { class: "fine", lang: tag, dir: named(tag).direction }, item.captions[tag][0])),
      scores(item),
      more?.(() => element),
    ),
  );
  show(image, thumbnail(item.url));
  return element;
}

/** How well it fits: by meaning (a cosine), by words (the share of them that it has), or both. */
function scores({ score, meaning, words, match }) {
  const cosine = typeof meaning === "number" ? meaning : typeof words === "number" ? null : score;
  const shown = [
    typeof cosine === "number" ? make("span", { title: "cosine similarity" }, cosine.toFixed(3)) : null,
    typeof match === "number" ? make("span", { title: "chance that this is what was meant" }, ` · match ${Math.round(match * 100)} %`) : null,
    typeof words === "number" ? make("span", { title: "share of the words, by their weight" }, `${cosine === null ? "" : " · "}words ${Math.round(words * 100)} %`) : null,
  ];
  return shown.some(Boolean) ? make("p", { class: "score fine" }, shown) : null;
}

const alike = (item) => `#search?${new URLSearchParams({ picture: item.id })}`;

/** Arrow keys move through the grid. */
function walk(event) {
  const links = [...event.currentTarget.closest(".grid").querySelectorAll("figure:not([hidden]) a.frame")];
  const at = links.indexOf(event.currentTarget);
  const top = (link) => link.getBoundingClientRect().top;
  const columns = links.filter((link) => Math.abs(top(link) - top(links[0])) < 2).length || 1;
  const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[event.key];
  if (!step || !links[at + step]) return;
  event.preventDefault();
  links[at + step].focus();
}

/** One picture with its whole record: an answer brings only what the grid shows. It can be changed and deleted there. */
async function large(item, language, element, more) {
  const record = make("div", {}, captionList(item.captions));
  const address = `/v1/pictures/${encodeURIComponent(item.id)}`;
  const came = ask(address).then((full) => (fill(record, facts(full)), full), () => null);
  const title = nameOf(item.captions, item.id, language);
  const image = make("img", { alt: title });
  show(image, item.url);
  const wish = await dialog(title, (close) => make("div", { class: "large" }, make("figure", {}, image), make("div", {}, record, choices(item, close))), "wide");
  if (!["edit", "delete"].includes(wish)) return;
  const full = (await came) ?? (await ask(address).catch(() => null));
  if (!full) return;
  if (wish === "delete") {
    if (await remove(full)) leave(element);
    return;
  }
  const changed = await edit(full);
  if (!changed) return;
  if (changed.deleted) return leave(element);
  const fresh = figure({ ...item, ...changed, url: item.url }, language, more);
  element.replaceWith(fresh);
  fresh.querySelector("a.frame").focus();
}

function choices(item, close) {
  const button = (words, wish, kind = "") => make("button", { type: "button", class: kind, onclick: () => close(wish) }, words);
  return make("div", { class: "actions" }, make("a", { class: "button main", href: alike(item), onclick: () => close(true) }, "More like this"), button("Edit …", "edit"), button("Delete …", "delete"));
}

/** A picture that was deleted leaves the grid; the next one gets the focus. */
export function leave(element) {
  const next = element.nextElementSibling ?? element.previousElementSibling;
  const place = element.parentElement;
  element.remove();
  (next?.querySelector("a.frame") ?? byId("main")).focus();
  place.dispatchEvent(new CustomEvent("left"));
}

/** Captions, tags, metadata and the rest of a record. */
function facts(item) {
  const words = (value) => (Array.isArray(value) ? value.join(", ") : typeof value === "boolean" ? (value ? "yes" : "no") : String(value));
  const only = (tag) => write({ ...nothingAsked(), is: [{ key: "tags", value: tag }] });
  const rest = [
    ...Object.entries(item.metadata).map(([key, value]) => [key, make("bdi", {}, words(value))]),
    item.collection === "default" ? null : ["collection", item.collection],
    ["size", `${item.width} × ${item.height}`],
    ["added", time(item.created_at)],
    ["id", make("span", { class: "id" }, item.id)],
  ].filter(Boolean);
  return [
    captionList(item.captions, item.waiting),
    item.tags.length ? make("ul", { class: "chips", "aria-label": "Tags" }, item.tags.map((tag) => make("li", {}, make("a", { class: "facet", href: only(tag), onclick: (event) => event.target.closest("dialog").close() }, make("bdi", {}, tag))))) : null,
    make("dl", { class: "facts" }, rest.map(([key, value]) => [make("dt", {}, key), make("dd", {}, value)])),
  ];
}
