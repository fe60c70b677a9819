// The page's texts in the reader's language: ICU messages with values and plurals, found by their English text.

import { keep, recall } from "/static/storage.js";

export const OWN = { en: "English", de: "Deutsch", es: "Español", fr: "Français", pt: "Português", sw: "Kiswahili", ar: "العربية", hi: "हिन्दी" };
const CHOICE = "pictoglot.language"; // in localStorage: one choice for all tabs
const PATIENCE = 5000; // ms for each of two answers: then the page is shown in English, by base.css at the latest
const TOLD = ["aria-label", "placeholder", "title", "label"]; // attributes that are read out or shown

/** The languages that the page has, with their own names: also those that a community brought to this server. */
export const offer = async () => ({ ...OWN, ...(await load("/static/texts.json")) });

/** Texts of the server; null where none come. */
const load = (path) => fetch(path, { signal: AbortSignal.timeout(PATIENCE) }).then((answer) => (answer.ok ? answer.json() : null)).catch(() => null);

/** The language chosen by hand, or the first that the browser asks for and that the page has. */
async function choose() {
  const wanted = [recall("localStorage", CHOICE), ...navigator.languages].filter(Boolean).flatMap((tag) => [tag, tag.split("-")[0]]);
  const offered = wanted.length && !(wanted[1] in OWN) ? await offer() : OWN; // what was brought is asked for where it may matter
  return wanted.find((tag) => tag in offered) ?? "en";
}

const choice = await choose();
const brought = choice === "en" ? null : await load(`/static/texts-${choice}.json`);
export const locale = brought ? choice : "en";
const texts = brought ?? {};
const number = new Intl.NumberFormat(locale);
const plurals = new Intl.PluralRules(locale);

/** Show the page in another language from now on. */
export function speak(tag) {
  keep("localStorage", CHOICE, tag);
  location.reload();
}

/**
 * A message in the reader's language: `t("{count, plural, one {# picture} other {# pictures}}", { count })`.
 * With an element among the values it is a list of texts and elements, for `make`; otherwise a text.
 */
export function t(message, values = {}) {
  const parts = format(texts[message] || message, values);
  return parts.some((part) => part instanceof Node) ? parts : parts.join("");
}

/** Write a message out; `#` is the number that a plural is of. */
function format(message, values, count = null) {
  const parts = [];
  let at = 0;
  const plain = (end) => parts.push(count === null ? message.slice(at, end) : message.slice(at, end).replaceAll("#", number.format(count)));
  for (let open = message.indexOf("{"); open >= 0; open = message.indexOf("{", at)) {
    plain(open);
    const close = closing(message, open);
    const [name, kind, forms] = message.slice(open + 1, close).split(/\s*,\s*(.*)/s).flatMap((part, place) => (place === 1 ? part.split(/\s*,\s*(.*)/s) : [part]));
    const value = values[name.trim()];
    if (kind === "plural") parts.push(...format(form(forms, value), values, value));
    else parts.push(...[value].flat(Infinity).map((one) => (one instanceof Node ? one : typeof one === "number" ? number.format(one) : String(one ?? ""))));
    at = close + 1;
  }
  plain(message.length);
  return parts.filter((part) => part !== "");
}

function closing(message, open) {
  for (let at = open, depth = 0; at < message.length; at += 1) {
    depth += { "{": 1, "}": -1 }[message[at]] ?? 0;
    if (depth === 0) return at;
  }
  return message.length;
}

/** The form of a plural for a number: `=0`, or its category, or `other`. */
function form(forms, value) {
  const by = {};
  for (let at = 0, open = forms.indexOf("{"); open >= 0; open = forms.indexOf("{", at)) {
    const close = closing(forms, open);
    by[forms.slice(at, open).trim()] = forms.slice(open + 1, close);
    at = close + 1;
  }
  return by[`=${value}`] ?? by[plurals.select(value)] ?? by.other;
}

/** Translate what the document itself says. */
function translate(root) {
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT | NodeFilter.SHOW_ELEMENT, (node) => (node.nodeType === 1 && (node.translate === false || node.tagName === "CODE") ? NodeFilter.FILTER_REJECT : NodeFilter.FILTER_ACCEPT));
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    if (node.nodeType === Node.TEXT_NODE) {
      const words = node.data.trim().replaceAll(/\s+/g, " ");
      if (words in texts) node.data = node.data.replace(/\S.*\S|\S/s, () => texts[words]);
    } else for (const name of TOLD) if (node.getAttribute(name) in texts) node.setAttribute(name, texts[node.getAttribute(name)]);
  }
}

document.documentElement.lang = locale;
document.documentElement.dir = locale === "ar" ? "rtl" : new Intl.Locale(locale).getTextInfo?.().direction ?? "ltr";
translate(document.body);
document.documentElement.setAttribute("data-texts", ""); // from now on the page is seen
