// Words that the gallery asks a speaker for: one at a time beside its pictures, kept at once, taught from 64 on.

import { ask, freshKey, show } from "/static/api.js";
import { byId, fill, make, percent } from "/static/dom.js";
import { named, teachAddress } from "/static/languages.js";
import { nothing, sorry, waiting } from "/static/parts.js";
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

/** Show the words that are asked for in a language. */
export async function drawWords(language) {
  if (language === tag && asked) return draw();
  [tag, asked, queue, kept] = [language, null, [], []];
  await load();
}

async function load() {
  const language = tag;
  fill(byId("words-body"), waiting(t("Looking for words that name your pictures")));
  try {
    let words = null;
    for (let left = PATIENCE; !words; left -= 1) {
      try {
        words = await ask(`/v1/languages/${encodeURIComponent(language)}/words?count=${AT_ONCE}`);
      } catch (problem) {
        if (problem.status !== 503 || !left) throw problem;
        await new Promise((resolve) => setTimeout(resolve, PAUSE));
      }
    }
    if (language !== tag) return; // another language is shown by now
    [asked, queue] = [words, [...words.items]];
    draw();
    drawGain();
  } catch (problem) {
    if (language === tag) fill(byId("words-body"), sorry(problem));
  }
}

function draw() {
  const typed = shown && shown === queue[0] ? byId("word-answer")?.value : "";
  shown = queue[0];
  fill(byId("words-body"), card(), progress(), answers());
  if (typed) byId("word-answer").value = typed;
  byId("word-answer")?.focus({ preventScroll: true });
}

function card() {
  const item = queue[0];
  if (!item) return nothing(asked.items.length ? t("Nothing more to ask for now.") : t("Your pictures ask for no words."), asked.items.length ? t("Teach what you have answered, then look again.") : t("Add pictures first."));
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
    { class: "word", onsubmit: keep, "data-word": item.english || item.word },
    make("div", { class: "shown" }, item.pictures.map((id, place) => show(make("img", { alt: t("Picture {place} of {english}", { place: place + 1, english: item.english }) }), `/v1/pictures/${encodeURIComponent(id)}/thumbnail`))),
    make("h2", { lang: item.word ? tag : "en" }, item.english || item.word),
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
    const counts = await ask(`/v1/languages/${encodeURIComponent(tag)}/words`, { json: { words: item.word ? captions.map((english) => ({ english, captions: [item.word] })) : [{ english: item.english, captions }] } });
    if (language !== tag) return;
    Object.assign(asked, counts);
    queue = queue.filter((each) => each !== item);
    kept = [[item, captions], ...kept.filter(([each]) => each !== item)].slice(0, KEPT);
    draw();
  } catch (problem) {
    fill(byId("word-trouble"), sorry(problem));
  }
}

/** It comes again another time: somebody else may know it. */
function skip() {
  queue.push(queue.shift());
  draw();
}

function progress() {
  const { answered, needed, covered } = asked;
  const enough = answered >= needed;
  return make(
    "div",
    { class: "so-far" },
    make("progress", { max: needed, value: Math.min(answered, needed), "aria-label": t("Answers until it can be taught") }),
    make("p", { id: "words-progress", role: "status" }, enough ? t("{answered, plural, one {# answer} other {# answers}} can be taught", { answered }) : t("{answered} of {needed} until it can be taught", { answered, needed })),
    typeof covered === "number" ? make("p", { class: "fine" }, t("{covered} % of the pictures had a word when this page was opened.", { covered: percent(covered) })) : null,
    make("button", { type: "button", id: "words-teach", class: enough ? "main" : "", disabled: !enough, onclick: teach }, t("Teach")),
  );
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
    kept.map(([item, captions]) => make("li", {}, make("span", { lang: item.word ? tag : "en" }, item.english || item.word), captions.length ? make("bdi", { lang: item.word ? "en" : tag, class: "native" }, captions.join(", ")) : make("span", { class: "fine" }, t("no word")), make("button", { type: "button", class: "quiet", "aria-label": t("Change: {word}", { word: item.english || item.word }), onclick: () => change(item) }, t("Change")))),
  );
}

async function teach() {
  const body = new FormData();
  body.set("language", tag);
  body.set("words", "true");
  byId("words-teach").disabled = true;
  try {
    await ask("/v1/languages", { body, headers: freshKey() });
    location.hash = teachAddress(tag);
  } catch (problem) {
    fill(byId("words-gain"), sorry(problem));
    byId("words-teach").disabled = false;
  }
}

/** What the last batch of this language gained. */
async function drawGain() {
  const { items } = await ask("/v1/expansions?limit=100");
  const last = items.find((item) => item.language === tag && item.report?.covered && item.state === "succeeded");
  const { before, after } = last?.report.covered ?? {};
  fill(byId("words-gain"), last ? make("p", { class: "told" }, typeof after === "number" ? t("What was taught last: {before} % of the pictures had a word before, {after} % have one now.", { before: percent(before ?? 0), after: percent(after) }) : null) : null);
}
