// How pictures and captions are shown: the grid, one large picture, captions by language.

import { ask, show, thumbnail } from "/static/api.js";
import { byId, make } from "/static/dom.js";
import { learned, named, native } from "/static/languages.js";
import { dialog, sorry, waiting } from "/static/parts.js";

/** A figure for each item (`{picture, url, captions, score?, rank?}`), captions in `language` first. */
export const grid = (items, language) => items.map((item) => figure(item, language));

function figure(item, language) {
  const caption = bestCaption(item.captions, language);
  const image = make("img", { alt: caption ? caption.text : item.picture, loading: "lazy", decoding: "async" });
  const open = (event) => {
    event.preventDefault();
    large(item);
  };
  const link = make("a", { href: `#search?${new URLSearchParams({ picture: item.picture })}`, onclick: open, onkeydown: walk, class: "frame" }, image);
  const element = make(
    "figure",
    { "data-picture": item.picture },
    link,
    make(
      "figcaption",
      {},
      caption ? make("p", { lang: caption.language, dir: named(caption.language).direction }, caption.text) : make("p", { class: "fine" }, item.picture),
      caption && caption.language !== "en" && item.captions.en?.length ? make("p", { class: "fine", lang: "en" }, item.captions.en[0]) : null,
      typeof item.score === "number" ? make("p", { class: "score fine", title: "cosine similarity" }, item.score.toFixed(3)) : null,
    ),
  );
  show(image, thumbnail(item.url));
  return element;
}

/** The first caption in `language`, otherwise in English, otherwise in any language. */
function bestCaption(captions, language) {
  for (const tag of [language, "en", ...Object.keys(captions)]) {
    if (captions[tag]?.length) return { language: tag, text: captions[tag][0] };
  }
  return null;
}

/** Arrow keys move through the grid. */
function walk(event) {
  const links = [...byId("results").querySelectorAll("a.frame")];
  const at = links.indexOf(event.currentTarget);
  const top = (link) => link.getBoundingClientRect().top;
  const columns = links.filter((link) => Math.abs(top(link) - top(links[0])) < 2).length || 1;
  const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[event.key];
  if (!step || !links[at + step]) return;
  event.preventDefault();
  links[at + step].focus();
}

/** One picture with its captions in all languages: an answer brings only those that the grid shows. */
async function large(item) {
  const captions = make("div", {}, captionList(item.captions));
  ask(`/v1/pictures/${encodeURIComponent(item.picture)}`).then((picture) => captions.replaceChildren(captionList(picture.captions)), () => {});
  const image = make("img", { alt: bestCaption(item.captions, "en")?.text ?? item.picture });
  show(image, item.url);
  await dialog(
    item.picture,
    (close) =>
      make(
        "div",
        { class: "large" },
        make("figure", {}, image),
        make(
          "div",
          {},
          captions,
          make("div", { class: "actions" }, make("a", { class: "button main", href: `#search?${new URLSearchParams({ picture: item.picture })}`, onclick: () => close(true) }, "Find similar pictures")),
        ),
      ),
    "wide",
  );
}

function captionList(captions) {
  const tags = Object.keys(captions).filter((tag) => captions[tag].length);
  if (!tags.length) return make("p", { class: "fine" }, "No captions.");
  return make("dl", { class: "said" }, tags.map((tag) => [make("dt", { dir: named(tag).direction }, native(tag)), captions[tag].map((text) => make("dd", { lang: tag, dir: named(tag).direction }, text))]));
}

/** Captions for a picture, by language; `askMore(tag)` returns more of one language. */
export function captionsOf(items, askMore) {
  const by = new Map();
  for (const item of items) by.set(item.language, [...(by.get(item.language) ?? []), item]);
  const order = learned.items.map((item) => item.language).filter((tag) => by.has(tag));
  const lists = make("div", { class: "by-language" }, order.map((tag) => block(tag, by.get(tag))));
  const pick = make(
    "select",
    {
      "aria-label": "Language of the captions",
      onchange: async () => {
        const tag = pick.value;
        if (!tag) return lists.replaceChildren(...order.map((one) => block(one, by.get(one))));
        lists.replaceChildren(waiting("Loading more"));
        try {
          lists.replaceChildren(block(tag, await askMore(tag)));
        } catch (problem) {
          lists.replaceChildren(sorry(problem));
        }
      },
    },
    make("option", { value: "" }, "all languages"),
    order.map((tag) => make("option", { value: tag, lang: tag }, named(tag).native)),
  );
  return [make("div", { class: "heading" }, make("h2", { class: "small-title" }, "Matching captions"), pick), order.length ? lists : make("p", { class: "fine" }, "No language has captions yet.")];
}

function block(tag, items) {
  const { direction } = named(tag);
  return make(
    "section",
    { "data-language": tag },
    make("h3", { dir: direction }, native(tag)),
    make("ol", { dir: direction, lang: tag }, items.map((item) => make("li", {}, make("span", {}, item.caption), make("span", { class: "score fine", dir: "ltr" }, item.score.toFixed(3))))),
  );
}

