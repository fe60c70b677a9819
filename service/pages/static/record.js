// Form fields of a picture's record: captions by language, tags, metadata, collection. Saves nothing.

import { fill, make } from "/static/dom.js";
import { learned, named, nativeName } from "/static/languages.js";
import { DETAILS, called, keyOf } from "/static/library.js";
import { findTag, prepare } from "/static/naming.js";
import { caller } from "/static/session.js";
import { t } from "/static/text.js";

const KINDS = { text: t("text"), number: t("number"), date: t("date"), truth: t("yes or no"), list: t("list") };
const KEY = /^[a-z0-9_]{1,64}$/;
const COMMA = /[,،、，]/; // of Latin, Arabic and Chinese scripts
let ids = 0;

/** A fault in a field, as a sentence; the field has the focus. */
export class Wrong extends Error {
  constructor(sentence, field) {
    super(sentence);
    field.setAttribute("aria-invalid", "true");
    field.addEventListener("input", () => field.removeAttribute("aria-invalid"), { once: true });
    field.focus();
  }
}

const field = (title, ...content) => make("fieldset", { class: "part" }, make("legend", {}, title), content);
const drop = (what, row) => make("button", { type: "button", class: "quiet", "aria-label": t("Remove {what}", { what }), onclick: () => left(row()) }, "×");

/** A removed row gives the focus to what is next to it. */
function left(row) {
  const next = row.nextElementSibling ?? row.previousElementSibling ?? row.parentElement.nextElementSibling;
  row.remove();
  (next?.matches("button") ? next : next?.querySelector("input, button"))?.focus();
}

/** Captions, one a row, each with its language by name; `value()` is `{TAG: [text, …]}`, after `settle()` found the tags. */
export function captionFields(captions = {}, start = "en") {
  const rows = make("div", { class: "rows" });
  const add = (tag, text = "") => {
    const language = make("input", { type: "text", class: "language", id: `language-${(ids += 1)}`, value: nativeName(tag), maxlength: "100", spellcheck: "false", autocapitalize: "none", "aria-label": t("Language of the caption") });
    const words = make("input", { type: "text", class: "words", value: text, dir: "auto", maxlength: "1000", "aria-label": t("Caption"), placeholder: t("What the picture shows") });
    const row = make("div", { class: "row" }, language, words, drop(t("this caption"), () => row));
    prepare(language);
    fill(language.nextElementSibling, learned.items.map((item) => make("option", { value: item.language }, `${item.native_name} · ${item.name}`)));
    row.read = () => ({ tag, text: words.value.trim() });
    const adopt = (found) => {
      tag = found;
      language.value = nativeName(tag);
      tell(tag, language, words);
    };
    const isOpen = () => language.value.trim() !== nativeName(tag);
    row.settle = async () => isOpen() && adopt(await findNamed(language));
    language.addEventListener("change", () => {
      const entered = language.value; // what is wrong is told to whoever saves: here it would take the focus from what is written next
      if (entered.trim() && isOpen()) findTag(entered).then((found) => language.value === entered && adopt(found), () => {});
    });
    tell(tag, language, words);
    rows.append(row);
    return row;
  };
  for (const [tag, texts] of Object.entries(captions)) for (const text of texts) add(tag, text);
  if (!rows.childElementCount) add(start);
  const written = () => [...rows.children].filter((row) => row.read().text);
  const value = () => {
    const said = {};
    for (const { tag, text } of written().map((row) => row.read())) (said[tag] ??= []).push(text);
    return said;
  };
  const settle = () => Promise.all(written().map((row) => row.settle()));
  const more = make("button", { type: "button", class: "quiet", onclick: () => add(rows.lastElementChild?.read().tag ?? start).querySelector(".words").focus() }, t("Add a caption"));
  return { element: field(t("Captions"), rows, more), value, settle };
}

/** The tag of the language whose name was entered; throws `Wrong` where none is known by it. */
async function findNamed(language) {
  if (!language.value.trim()) throw new Wrong(t("Enter the language of this caption."), language);
  try {
    return await findTag(language.value);
  } catch (problem) {
    throw problem.code === "language_tag_invalid" ? new Wrong(problem.message, language) : problem;
  }
}

function tell(tag, language, words) {
  const { name, direction } = named(tag);
  language.title = name;
  words.dir = direction === "rtl" ? "rtl" : "auto";
  words.lang = tag;
}

/** Tags as chips, added with Enter or a comma; `value()` is the list. */
export function tagFields(tags = []) {
  const { element, value } = chipInput(t("Tags"), tags, t("Enter or a comma adds one."), COMMA);
  return { element: field(t("Tags"), element), value };
}

/** Texts as chips; what is typed is one of them, or several with `between` in between. */
function chipInput(title, texts, hint, between = null) {
  const kept = [...texts];
  const list = make("ul", { class: "chips", "aria-label": title });
  const entry = make("input", { type: "text", dir: "auto", maxlength: "200", "aria-label": t("Add to: {title}", { title }), placeholder: hint });
  const draw = () => {
    list.replaceChildren(...kept.map((text) => make("li", { class: "chip" }, make("bdi", {}, text), make("button", { type: "button", "aria-label": t("Remove {text}", { text }), onclick: () => without(text) }, "×"))));
    list.hidden = !kept.length;
  };
  const without = (text) => {
    kept.splice(kept.indexOf(text), 1);
    draw();
    entry.focus();
  };
  const take = (typing = false) => {
    const parts = between ? entry.value.split(between) : [entry.value];
    entry.value = typing ? parts.pop().trimStart() : ""; // the last one is not finished
    for (const text of parts.map((part) => part.trim())) if (text && !kept.includes(text)) kept.push(text);
    draw();
  };
  entry.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !entry.value.trim()) return;
    event.preventDefault();
    take();
  });
  entry.addEventListener("input", ({ isComposing }) => between?.test(entry.value) && !isComposing && take(true));
  draw();
  return { element: [list, entry], value: () => (take(), [...kept]) };
}

/** Keys, by their names, and values of metadata; `value()` is the object. */
export function metadataFields(metadata = {}) {
  const rows = make("div", { class: "rows" });
  const offered = make("datalist", { id: `details-${(ids += 1)}` }, DETAILS.map((key) => make("option", { value: called(key) })));
  const add = (key, value) => {
    const row = metadataRow(key, value, offered.id);
    rows.append(row.element);
    row.element.read = row.read;
    return row.element;
  };
  for (const [key, value] of Object.entries(metadata)) add(key, value);
  const more = make("button", { type: "button", class: "quiet", onclick: () => add("", "").querySelector("input").focus() }, t("Add a value"));
  const value = () => Object.fromEntries([...rows.children].map((row) => row.read()).filter(Boolean));
  return { element: field(t("Details"), rows, offered, more), value };
}

function metadataRow(key, value, list) {
  const name = make("input", { type: "text", class: "key", list, value: called(key), maxlength: "64", spellcheck: "false", autocapitalize: "none", "aria-label": t("Detail"), placeholder: t("Camera, place …") });
  const kind = make("select", { "aria-label": t("Kind of value") }, Object.entries(KINDS).map(([id, words]) => make("option", { value: id }, words)));
  kind.value = kindOf(value);
  const place = make("div", { class: "value" });
  let control;
  const change = (now) => {
    control = controlOf(kind.value, now);
    place.replaceChildren(...[control.element].flat());
  };
  change(value);
  kind.addEventListener("change", () => change(String(control.loose())));
  const element = make("div", { class: "row metadata" }, name, kind, place, drop(t("this value"), () => element));
  const read = () => {
    if (!name.value.trim() && !control.loose().trim()) return null;
    const now = control.value();
    const entered = name.value.trim() === called(key) ? key : keyOf(name.value.trim(), DETAILS);
    if (!KEY.test(entered)) throw new Wrong(t("Choose a detail that is offered, or make up a name of a–z, 0–9 and _."), name);
    return [entered, now];
  };
  return { element, read };
}

function kindOf(value) {
  if (Array.isArray(value)) return "list";
  if (typeof value !== "string") return typeof value === "boolean" ? "truth" : "number";
  return /^\d{4}-\d{2}-\d{2}$/.test(value) && !Number.isNaN(Date.parse(value)) ? "date" : "text";
}

/** The control for a kind of value: `value()` is strict, `loose()` a text for another kind. */
function controlOf(kind, value) {
  if (kind === "list") {
    const chips = chipInput(t("Values"), Array.isArray(value) ? value : value ? [value] : [], t("Enter adds one."));
    return { ...chips, loose: () => chips.value().join(", ") };
  }
  if (kind === "truth") {
    const select = make("select", { "aria-label": t("Value") }, make("option", { value: "true" }, t("yes")), make("option", { value: "false" }, t("no")));
    select.value = String(value !== false && value !== "false");
    return { element: select, value: () => select.value === "true", loose: () => select.value };
  }
  const lines = kind === "text" && String(value).includes("\n"); // which an input would take out
  const input = lines ? make("textarea", { dir: "auto", rows: "3", "aria-label": t("Value") }, String(value)) : make("input", { type: kind === "date" ? "date" : "text", inputmode: kind === "number" ? "decimal" : null, dir: "auto", "aria-label": t("Value"), value: String(value) });
  const strict = () => {
    if (kind !== "text" && !input.value.trim()) throw new Wrong(t("Enter a value, or remove this line."), input);
    if (kind !== "number") return input.value;
    if (!Number.isFinite(Number(input.value))) throw new Wrong(t("This is no number. Numbers look like 1950 or 3.5."), input);
    return Number(input.value);
  };
  return { element: input, value: strict, loose: () => input.value };
}

/** Where a picture of whoever uses this page goes if no collection is named; "" where the server chooses among several. */
function chooseUsual() {
  const bound = caller.collections;
  return !bound || bound.includes("default") ? "default" : bound.length === 1 ? bound[0] : "";
}

/** The name of a collection, with those that exist to choose from; `value()` is "" when none is given. */
export function collectionField(name = "", names = []) {
  const list = `collections-${(ids += 1)}`;
  const input = make("input", { type: "text", value: name, list, maxlength: "128", spellcheck: "false", autocapitalize: "none", placeholder: chooseUsual(), "aria-label": t("Collection") });
  return { element: field(t("Collection"), input, make("datalist", { id: list }, names.map((one) => make("option", { value: one })))), value: () => input.value.trim() };
}
