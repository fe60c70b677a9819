// Words that the gallery asks a speaker for: one at a time beside its pictures, kept at once, taught from 64 on.

import { ask, show } from "/static/api.js";
import { byId, fill, make, percent } from "/static/dom.js";
import { named } from "/static/languages.js";
import { nothing, sorry, waiting } from "/static/parts.js";
import { progress, reach, unskipped } from "/static/speakers.js";
import { t } from "/static/text.js";

const AT_ONCE = 100; // words of one request
const KEPT = 10; // answers that can still be changed here
const BETWEEN = /[,;،؛、，；]/; // answers to one word
const PATIENCE = 30; // requests while the base reads its words for the first time
const PAUSE = 1500; // ms

let tag = "";
let asked = null; // the last answer of the server
let queue = []; // words that are still to be answered
let kept = []; // [word, captions], the newest first
let shown = null; // the word on the card
const skipped = new Set();

/** Show the words that are asked for in a language. */
export async function drawWords(language) {
  if (language !== tag) skipped.clear();
  if (language !== tag || !asked) [tag, asked, queue, kept] = [language, null, [], []];
  drawGain().catch(() => {});
  if (asked) draw();
  else await load();
}

async function load() {
  const language = tag;
  fill(byId("words-body"), waiting(t("Looking for words that name your pictures")));
  try {
    let words = null;
    for (let left = PATIENCE; !words; left -= 1) {
      try {
        words = await ask(`/v1/languages/${encodeURIComponent(language)}/words?count=${reach(AT_ONCE, skipped)}`);
      } catch (problem) {
        if (problem.status !== 503 || !left) throw problem;
        await new Promise((resolve) => setTimeout(resolve, PAUSE));
      }
    }
    if (language !== tag) return; // another language is shown by now
    [asked, queue] = [words, unskipped(words.items, skipped, wordOf)];
    draw();
  } catch (problem) {
    if (language === tag) fill(byId("words-body"), sorry(problem));
  }
}

const wordOf = ({ english, word }) => english || word;

function draw() {
  const typed = shown && shown === queue[0] ? byId("word-answer")?.value : "";
  shown = queue[0];
  fill(byId("words-body"), card(), soFar(), answers());
  if (typed) byId("word-answer").value = typed;
  byId("word-answer")?.focus({ preventScroll: true });
}

function card() {
  const item = queue[0];
  if (!item) return asked.answered || asked.covered ? nothing(t("Nothing more to ask for now."), asked.answered && t("Teach what you have answered, then look again.")) : nothing(t("Your pictures ask for no words."), t("Add pictures first."));
  const { name, direction } = named(tag);
  const field = make("input", { id: "word-answer", type: "text", lang: item.word ? "en" : tag, dir: direction === "rtl" && !item.word ? "rtl" : "auto", maxlength: item.word ? 200 : 1000, autocomplete: "off", autocapitalize: "none", spellcheck: "false", "aria-describedby": "word-hint" });
  const keep = (event) => {
    event.preventDefault();
    const captions = field.value.split(BETWEEN).map((text) => text.trim()).filter(Boolean);
    if (captions.length) answer(item, captions);
    else field.focus();
  };
  return make(
    "form",
    { class: "word", onsubmit: keep, "data-word": wordOf(item) },
    make("div", { class: "shown" }, item.pictures.map((id, place) => show(make("img", { alt: t("Picture {place} of {english}", { place: place + 1, english: item.english }) }), `/v1/pictures/${encodeURIComponent(id)}/thumbnail`))),
    make("h2", { lang: item.word ? tag : "en" }, wordOf(item)),
    item.word ? make("p", { class: "fine" }, t("{count, plural, one {In # search, and nobody taught it yet.} other {In # searches, and nobody taught it yet.}}", { count: item.asked_for })) : null,
    make("label", { class: "entry" }, item.word ? t("In English") : t("In {language}", { language: name || tag }), field, make("span", { id: "word-hint", class: "hint" }, item.word ? t("What it means. Skip what is no word.") : t("What you would call this. Commas between several words."))),
    make(
      "div",
      { class: "actions" },
      make("button", { type: "submit", class: "main" }, t("Keep")),
      make("button", { type: "button", onclick: skip }, t("Skip")),
      item.word ? null : make("button", { type: "button", class: "quiet", onclick: () => answer(item, []) }, t("Not a word of ours")),
    ),
    make("div", { id: "word-trouble", role: "alert", hidden: true }),
  );
}

/** Keep an answer on the server, then show the next word; what cannot be kept stays in its field. */
async function answer(item, captions) {
  const language = tag;
  try {
    const counts = await ask(`/v1/languages/${encodeURIComponent(tag)}/words`, { json: { words: item.word ? captions.map((english) => ({ english, captions: [item.word], more: true })) : [{ english: item.english, captions }] } });
    if (language !== tag) return;
    Object.assign(asked, counts);
    kept = [[item, captions], ...kept.filter(([each]) => each !== item)].slice(0, KEPT);
    next(item);
  } catch (problem) {
    fill(byId("word-trouble"), sorry(problem));
  }
}

/** It comes again when nothing else is left: somebody else may know it. */
function skip() {
  skipped.add(wordOf(queue[0]));
  next(queue[0]);
}

function next(item) {
  const before = queue.length;
  queue = queue.filter((each) => each !== item);
  if (queue.length) draw();
  else if (before) load(); // or that goes on already
}

function soFar() {
  const { answered, needed, covered } = asked;
  const more = typeof covered === "number" ? make("p", { class: "fine" }, t("{covered} % of the pictures had a word when this page was opened.", { covered: percent(covered) })) : null;
  const taught = () => (asked = null); // the next hundred are asked for
  return progress({ of: "words", tag, have: answered, needed, label: t("Answers until it can be taught"), enough: t("{answered, plural, one {# answer} other {# answers}} can be taught", { answered }), more, taught });
}

function answers() {
  if (!kept.length) return null;
  const change = (item) => {
    queue = [item, ...queue.filter((each) => each !== item)];
    draw();
    byId("word-answer").value = kept.find(([each]) => each === item)[1].join(", ");
  };
  return make(
    "ul",
    { class: "kept", "aria-label": t("Kept") },
    kept.map(([item, captions]) => make("li", {}, make("span", { lang: item.word ? tag : "en" }, wordOf(item)), captions.length ? make("bdi", { lang: item.word ? "en" : tag, class: "native" }, captions.join(", ")) : make("span", { class: "fine" }, t("no word")), make("button", { type: "button", class: "quiet", "aria-label": t("Change: {word}", { word: wordOf(item) }), onclick: () => change(item) }, t("Change")))),
  );
}

/** What the last batch of this language gained. */
async function drawGain() {
  const language = tag;
  const { items } = await ask("/v1/expansions?limit=100");
  if (language !== tag) return; // another language is shown by now
  const last = items.find((item) => item.language === tag && item.report?.covered && item.state === "succeeded");
  const { before, after } = last?.report.covered ?? {};
  fill(byId("words-gain"), last ? make("p", { class: "told" }, typeof after === "number" ? t("What was taught last: {before} % of the pictures had a word before, {after} % have one now.", { before: percent(before ?? 0), after: percent(after) }) : null) : null);
}
