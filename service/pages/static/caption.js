// "Caption this": pictures without a caption in a language, one at a time, large, for a telephone.

import { ask, show } from "/static/api.js";
import { byId, fill, make } from "/static/dom.js";
import { named, nativeName } from "/static/languages.js";
import { findTag } from "/static/naming.js";
import { nothing, sorry, waiting } from "/static/parts.js";
import { progress, reach, unskipped } from "/static/speakers.js";
import { keep, recall } from "/static/storage.js";
import { t } from "/static/text.js";

const AT_ONCE = 20; // pictures of one request
const NAME = "pictoglot.name"; // in localStorage: who captions on this telephone

let tag = "";
let counts = null;
let queue = [];
let shown = null; // the picture on the card
const skipped = new Set(); // ids of pictures
let loads = 0; // only what was asked for last is shown

/** Connect the form; called once. */
export function prepare() {
  byId("caption-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    keep("localStorage", NAME, byId("caption-name").value.trim());
    wait(); // at once: what is typed now would be lost with the card of before
    try {
      const entered = byId("caption-tag").value.trim();
      const next = `#caption?${new URLSearchParams({ language: tag && entered === nativeName(tag) ? tag : await findTag(entered) })}`;
      if (location.hash === next) load();
      else location.hash = next;
    } catch (problem) {
      fill(byId("caption-body"), sorry(problem));
    }
  });
}

/** Show the pictures that want a caption in the language that the address names. */
export async function drawCaption(query) {
  const language = query.get("language") ?? tag;
  if (language !== tag) skipped.clear();
  tag = language;
  byId("caption-tag").value = tag && nativeName(tag);
  byId("caption-name").value = recall("localStorage", NAME) ?? "";
  if (tag) await load();
  else fill(byId("caption-body"));
}

const path = () => `/v1/languages/${encodeURIComponent(tag)}/captions`;
const name = () => recall("localStorage", NAME) ?? "";

function wait() {
  loads += 1;
  fill(byId("caption-body"), waiting(t("Looking for pictures without a caption")));
}

async function load() {
  wait();
  const mine = loads;
  try {
    const answer = await ask(`${path()}/wanted?${new URLSearchParams({ name: name(), count: reach(AT_ONCE, skipped) })}`);
    if (mine !== loads) return;
    [counts, queue] = [answer, unskipped(answer.items, skipped, ({ picture }) => picture)];
    draw();
  } catch (problem) {
    if (mine === loads) fill(byId("caption-body"), sorry(problem));
  }
}

function draw() {
  const typed = shown && shown === queue[0] ? byId("caption-text")?.value : "";
  shown = queue[0];
  fill(byId("caption-body"), queue.length ? card(queue[0]) : nothing(t("Every picture has a caption, or yours already.")), soFar());
  if (typed) byId("caption-text").value = typed;
  byId("caption-text")?.focus({ preventScroll: true });
}

function card({ picture, proposals }) {
  const { name: language, direction } = named(tag);
  const field = make("input", { id: "caption-text", type: "text", lang: tag, dir: direction === "rtl" ? "rtl" : "auto", maxlength: 1000, autocomplete: "off" });
  const keep = (event) => {
    event.preventDefault();
    if (field.value.trim()) send(picture, field.value.trim());
    else field.focus();
  };
  return make(
    "form",
    { class: "caption-this", onsubmit: keep, "data-picture": picture },
    show(make("img", { alt: t("The picture to caption") }), `/v1/pictures/${encodeURIComponent(picture)}/content`),
    proposals.map(({ text, name: who }) => make("p", { class: "proposed" }, make("bdi", { lang: tag, dir: direction }, text), who ? make("span", { class: "fine" }, ` – ${who}`) : null, make("button", { type: "button", "aria-label": t("I agree: {text}", { text }), onclick: () => send(picture, text) }, t("I agree")))),
    make("label", { class: "entry" }, t("In {language}", { language: language || tag }), field),
    make("div", { class: "actions" }, make("button", { type: "submit", class: "main" }, t("Keep")), make("button", { type: "button", onclick: skip }, t("Skip"))),
    make("div", { id: "caption-trouble", role: "alert", hidden: true }),
  );
}

/** Send a caption, then show the next picture; what is refused stays in its field. */
async function send(picture, text) {
  const mine = loads;
  try {
    const answer = await ask(path(), { json: { picture, text, name: name() } });
    if (mine !== loads) return; // other pictures are shown by now
    Object.assign(counts, answer);
    next(picture);
  } catch (problem) {
    fill(byId("caption-trouble"), sorry(problem));
  }
}

/** It comes again when nothing else is left. */
function skip() {
  skipped.add(shown.picture);
  next(shown.picture);
}

function next(picture) {
  queue = queue.filter((one) => one.picture !== picture);
  if (queue.length) draw();
  else load();
}

const soFar = () => progress({ of: "captions", tag, have: counts.captions, needed: counts.needed, label: t("Captions until it can be taught"), enough: t("Enough captions: it can be taught") });
