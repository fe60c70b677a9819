// Captions as they are shown: those of one picture, and those that fit a picture that is searched with.

import { decimal, make } from "/static/dom.js";
import { learned, named, native, nativeName, served } from "/static/languages.js";
import { sorry, waiting } from "/static/parts.js";
import { t } from "/static/text.js";

/** The captions of one picture by language; `waiting` are those in languages that are not served. */
export function captionList(captions, unserved = {}) {
  const all = [...Object.entries(captions), ...Object.entries(unserved)].filter(([, texts]) => texts.length);
  if (!all.length) return make("p", { class: "fine" }, t("No captions."));
  const heading = (tag) => make("dt", { dir: named(tag).direction }, native(tag), tag in unserved ? make("span", { class: "tag", title: t("This language is not taught: its captions are found when it is") }, t("waiting")) : null);
  return make("dl", { class: "said" }, all.map(([tag, texts]) => [heading(tag), texts.map((text) => make("dd", { lang: tag, dir: named(tag).direction }, text))]));
}

/** The first caption in `language`, otherwise in English, otherwise in any language. */
export function bestCaption(captions, language) {
  for (const tag of [language, "en", ...Object.keys(captions)]) {
    if (captions[tag]?.length) return { language: tag, text: captions[tag][0] };
  }
  return null;
}

/** What a picture is called: a caption, in `language` if there is one; otherwise the name of its file, or its id. */
export function nameOf({ captions, metadata, name, id }, language = "en") {
  const called = name ?? metadata?.title ?? metadata?.file_name;
  return bestCaption(captions, language)?.text ?? (typeof called === "string" && called ? called : id.slice(id.lastIndexOf("/") + 1) || id);
}

/** Captions for a picture, by language; `askMore(tag)` returns more of one language. */
export function captionsOf(items, askMore) {
  const by = new Map();
  for (const item of items) by.set(item.language, [...(by.get(item.language) ?? []), item]);
  const order = [...new Set([...learned.items.map((item) => item.language), ...by.keys()])].filter((tag) => by.has(tag));
  const lists = make("div", { class: "by-language" }, order.map((tag) => block(tag, by.get(tag))));
  const pick = make(
    "select",
    {
      "aria-label": t("Language of the captions"),
      onchange: async () => {
        const tag = pick.value;
        if (!tag) return lists.replaceChildren(...order.map((one) => block(one, by.get(one))));
        lists.replaceChildren(waiting(t("Loading more")));
        const shown = await askMore(tag).then((more) => block(tag, more), sorry);
        if (pick.value === tag) lists.replaceChildren(shown); // unless another language was chosen meanwhile
      },
    },
    make("option", { value: "" }, t("all languages")),
    order.map((tag) => make("option", { value: tag, lang: tag }, nativeName(tag))),
  );
  return [make("div", { class: "heading" }, make("h2", { class: "small-title" }, t("Matching captions")), pick), order.length ? lists : make("p", { class: "fine" }, noCaptions())];
}

const taught = (tag) => learned.items.some((item) => item.language === tag && served(item));

function block(tag, items) {
  const { direction } = named(tag);
  return make(
    "section",
    { "data-language": tag },
    make("h3", { dir: direction }, native(tag), taught(tag) ? null : make("span", { class: "tag", title: t("The base reads this language untaught, as well as it can") }, t("not taught"))),
    make("ol", { dir: direction, lang: tag }, items.map((item) => make("li", {}, make("span", {}, item.caption), make("span", { class: "score fine", dir: "ltr" }, decimal(item.score, 3))))),
  );
}

/** Why there is none. */
function noCaptions() {
  const taught = learned.items.filter((item) => item.taught);
  const without = t("Captions are compared that belong to pictures: they come with a picture, or with rows of a taught file that name one.");
  if (!taught.length || learned.items.some((item) => item.captions)) return t("No caption belongs to a picture here yet. {without}", { without });
  return t("{count, plural, one {The language that was taught has no captions here: it was} other {The languages that were taught have no captions here: they were}} taught from pairs of texts without pictures. {without}", { count: taught.length, without });
}
