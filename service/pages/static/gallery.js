// How pictures are shown in a wall or a grid: a figure for each, with its caption and how well it fits.

import { show, thumbnail } from "/static/api.js";
import { bestCaption, nameOf } from "/static/captions.js";
import { byId, decimal, make, withModifier } from "/static/dom.js";
import { named } from "/static/languages.js";
import { may } from "/static/session.js";
import { t } from "/static/text.js";
import { shape } from "/static/wall.js";

const MOST_LINES = 3; // beside the caption itself
const WIDE = 1.7; // a shape that a thumbnail of 256 pixels is too coarse for, in a row of the wall
const SHARP = Math.max(1, Math.min(1.4, window.devicePixelRatio)); // on a fine screen, a little earlier
const items = new WeakMap(); // figure -> what it shows

/** A figure for each item (`{id, url, captions, score?, rank?}`), captions in `language` first. */
export const grid = (list, language) => list.map((item) => figure(item, language));

/** The item that a figure shows. */
export const itemOf = (element) => items.get(element);

/** The address of one large picture. */
export const pictureAddress = (id) => `#picture/${encodeURIComponent(id)}`;

/** `more(element)` draws what stands below the caption; `element()` is the figure. */
export function figure(item, language, more = null) {
  const caption = bestCaption(item.captions, language);
  const others = (typeof item.words === "number" ? Object.keys(item.captions) : ["en"]).filter((tag) => tag !== caption?.language && item.captions[tag]?.length).slice(0, MOST_LINES); // words may have matched in any language
  const name = nameOf(item, language);
  const image = make("img", { alt: name, loading: "lazy", decoding: "async" });
  const element = make(
    "figure",
    { "data-picture": item.id },
    make("a", { href: pictureAddress(item.id), onkeydown: walk, class: "frame", "aria-keyshortcuts": more || !may("write") ? null : "x" }, image),
    more ? null : make("input", { type: "checkbox", class: "pick", "data-needs": "write", tabindex: "-1", "aria-label": t("Choose {name}", { name }) }), // by keyboard: x on the picture
    make(
      "figcaption",
      {},
      caption ? make("p", { lang: caption.language, dir: named(caption.language).direction, title: caption.text }, caption.text) : make("p", { class: "fine", dir: "auto", title: name }, name),
      others.map((tag) => make("p", { class: "fine", lang: tag, dir: named(tag).direction }, item.captions[tag][0])),
      scores(item),
      more?.(() => element),
    ),
  );
  items.set(element, item);
  show(image, shape(item) * SHARP > WIDE ? item.url : thumbnail(item.url));
  return element;
}

/** How well it fits: the chance, where it is known; otherwise by meaning (a cosine) or by words (the share of them). */
function scores({ score, meaning, words, match }) {
  const cosine = typeof words === "number" ? null : meaning ?? score;
  const shown = [
    typeof match === "number" ? make("span", { title: t("chance that this is what was meant") }, t("match {percent} %", { percent: Math.round(match * 100) })) : typeof cosine === "number" ? make("span", { title: t("cosine similarity") }, decimal(cosine, 3)) : null,
    typeof words === "number" ? make("span", { title: t("share of the words, by their weight") }, t("words {percent} %", { percent: Math.round(words * 100) })) : null,
  ].filter(Boolean);
  return shown.length ? make("p", { class: "score fine" }, shown.map((part, place) => [place ? " · " : "", part])) : null;
}

/** Arrow keys move through the pictures: to the next one, or to the one above or below. */
function walk(event) {
  const links = [...event.currentTarget.closest(".grid, .wall").querySelectorAll("figure:not([hidden]) a.frame")];
  const at = links.indexOf(event.currentTarget);
  const ahead = document.documentElement.dir === "rtl" ? -1 : 1;
  const step = { ArrowRight: ahead, ArrowLeft: -ahead, ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step || withModifier(event)) return; // Alt and ← is the browser's: back
  const next = event.key === "ArrowDown" || event.key === "ArrowUp" ? across(links, at, step) : links[at + step];
  if (!next) return;
  event.preventDefault();
  next.focus();
}

/** The link nearest to one in the line above or below it. */
function across(links, at, step) {
  const place = (link) => {
    const { top, left, width } = link.getBoundingClientRect();
    return { top: Math.round(top), middle: left + width / 2 };
  };
  const own = place(links[at]);
  let best = null;
  for (let next = at + step, line = null; links[next]; next += step) {
    const { top, middle } = place(links[next]);
    if (top === own.top) continue;
    if (top !== (line ??= top)) break;
    const away = Math.abs(middle - own.middle);
    if (!best || away < best.away) best = { link: links[next], away };
  }
  return best?.link;
}

/** A picture that was deleted leaves the page; the next one gets the focus. */
export function leave(element) {
  const next = neighbour(element, 1) ?? neighbour(element, -1);
  const place = element.closest(".wall, .grid");
  place.dispatchEvent(new CustomEvent("leaving", { detail: element }));
  element.remove();
  (next?.querySelector("a.frame") ?? byId("main")).focus();
  place.dispatchEvent(new CustomEvent("left"));
}

/** The figure before or after one in its wall. */
export function neighbour(element, step) {
  const all = [...element.closest(".wall, .grid").querySelectorAll("figure")];
  return all[all.indexOf(element) + step];
}
