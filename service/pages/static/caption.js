// "Caption this": pictures without a caption in a language, one at a time, large, for a telephone.

import { ask, freshKey, show } from "/static/api.js";
import { byId, fill, make } from "/static/dom.js";
import { named, nativeName, teachAddress } from "/static/languages.js";
import { findTag } from "/static/naming.js";
import { nothing, sorry, waiting } from "/static/parts.js";
import { keep, recall } from "/static/storage.js";
import { t } from "/static/text.js";

const AT_ONCE = 20; // pictures of one request
const NAME = "pictoglot.name"; // in localStorage: who captions on this telephone

let tag = "";
let counts = null;
let queue = [];
let shown = null; // the picture on the card
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
  tag = query.get("language") ?? tag;
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
    const answer = await ask(`${path()}/wanted?${new URLSearchParams({ name: name(), count: AT_ONCE })}`);
    if (mine !== loads) return;
    [counts, queue] = [answer, answer.items];
    draw();
  } catch (problem) {
    if (mine === loads) fill(byId("caption-body"), sorry(problem));
  }
}

function draw() {
  const typed = shown && shown === queue[0] ? byId("caption-text")?.value : "";
  shown = queue[0];
  fill(byId("caption-body"), queue.length ? card(queue[0]) : nothing(t("Every picture has a caption, or yours already.")), progress());
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
    make("div", { class: "actions" }, make("button", { type: "submit", class: "main" }, t("Keep")), make("button", { type: "button", onclick: () => next() }, t("Skip"))),
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

function next(picture = shown.picture) {
  queue = queue.filter((one) => one.picture !== picture);
  if (queue.length) draw();
  else load();
}

function progress() {
  const { captions, needed } = counts;
  const enough = captions >= needed;
  return make(
    "div",
    { class: "so-far" },
    make("progress", { max: needed, value: Math.min(captions, needed), "aria-label": t("Captions until it can be taught") }),
    make("p", { id: "caption-progress", role: "status" }, enough ? t("Enough captions: it can be taught") : t("{captions} of {needed} until it can be taught", { captions, needed })),
    make("button", { type: "button", id: "caption-teach", class: enough ? "main" : "", disabled: !enough, onclick: teach }, t("Teach")),
  );
}

async function teach() {
  const body = new FormData();
  for (const [field, value] of Object.entries({ language: tag, captions: "true" })) body.set(field, value);
  byId("caption-teach").disabled = true;
  try {
    await ask("/v1/languages", { body, headers: freshKey() });
    location.hash = teachAddress(tag);
  } catch (problem) {
    fill(byId("caption-trouble"), sorry(problem));
    byId("caption-teach").disabled = false;
  }
}
