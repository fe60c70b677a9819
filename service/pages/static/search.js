// The search: a text or a picture goes out, pictures and captions come back. The address keeps what was asked.

import { ask, show, send, thumbnail } from "/static/api.js";
import { byId, fill, make, plural } from "/static/dom.js";
import { captionsOf, grid } from "/static/gallery.js";
import { fillPicker, learned, named, native, refresh } from "/static/languages.js";
import { nothing, sorry, waiting } from "/static/parts.js";

const PAGE = 24;
const EMPTY_LOOK = 3000; // ms until an empty gallery is looked at again
let running = null; // the search under way; a newer one stops it
let again = null; // asks for the next page of what is shown

/** Take what the address says (`q`, `language`) and show it, or the gallery when it says nothing. */
export function follow(query) {
  const text = query.get("q") ?? "";
  byId("text").value = text;
  if (query.has("language")) byId("language").value = query.get("language");
  turn();
  if (query.get("picture")) byPictureId(query.get("picture"));
  else if (text.trim()) byText(text);
  else browse();
}

/** Wire the form up; called once. */
export function prepare() {
  byId("search-form").addEventListener("submit", (event) => {
    event.preventDefault();
    go();
  });
  byId("language").addEventListener("change", () => {
    turn();
    if (byId("text").value.trim()) go();
    byId("text").focus();
  });
  byId("picture").addEventListener("change", (event) => {
    const [file] = event.target.files;
    event.target.value = ""; // the same file may be chosen again
    if (file) byFile(file);
  });
  byId("min-score").addEventListener("input", tellScore);
  byId("min-score").addEventListener("change", () => byId("text").value.trim() && byText(byId("text").value));
  byId("more").addEventListener("click", () => again?.());
}

/** The languages changed: picker, title. */
export function tellLanguages() {
  fillPicker(byId("language"));
  const wanted = new URLSearchParams(location.hash.split("?")[1] ?? "").get("language");
  if (wanted) byId("language").value = wanted;
  if (!byId("language").value) byId("language").value = "auto";
  const list = learned.items.slice(0, 12).map((item, place) => [place ? ", " : "", native(item.language)]);
  fill(byId("search-title"), "Search in ", list.length ? list : "any language");
  turn();
}

function go() {
  const text = byId("text").value.trim();
  const query = new URLSearchParams(text ? { q: text, language: byId("language").value } : {});
  const address = `#search${text ? `?${query}` : ""}`;
  if (location.hash === address) follow(query);
  else location.hash = address;
}

/** The field runs in the direction of the language that is told. */
function turn() {
  const chosen = byId("language").value;
  const told = !["", "auto", "shared"].includes(chosen);
  byId("text").dir = told ? named(chosen).direction : "auto";
  byId("text").lang = told ? chosen : "";
}

const score = () => Number(byId("min-score").value);

function tellScore() {
  byId("min-score-shown").textContent = score() > 0 ? score().toFixed(2) : "any score";
}

/** Stop what runs, clear what is shown, and return the new search's signal. */
function begin(what) {
  running?.abort();
  running = new AbortController();
  again = null;
  for (const id of ["captions", "asked", "trouble", "results-title"]) fill(byId(id));
  byId("reading").replaceChildren();
  byId("more").hidden = true;
  byId("results").replaceChildren(waiting(what));
  byId("results").setAttribute("aria-busy", "true");
  return running.signal;
}

/** Run one search; a refusal is shown as a sentence, a newer search silences it. */
async function searching(what, work) {
  const signal = begin(what);
  try {
    await work(signal);
  } catch (problem) {
    if (signal.aborted) return;
    byId("results").replaceChildren();
    fill(byId("trouble"), sorry(problem));
  } finally {
    if (!signal.aborted) byId("results").removeAttribute("aria-busy");
  }
}

const byText = (text) =>
  searching("Searching", async (signal) => {
    const json = { text, language: byId("language").value || "auto", limit: PAGE, ...(score() > 0 ? { min_score: score() } : {}) };
    const answer = await ask("/v1/search/pictures", { json, signal });
    byId("reading").replaceChildren(...reading(answer));
    const first = answer.language.used;
    if (answer.release !== learned.release) refresh().catch(() => {}); // a language came or went
    hits(answer, first, score() > 0 ? "Nothing scores that high." : "The gallery is empty.", async () => {
      more(await ask("/v1/search/pictures", { json: { ...json, cursor: answer.next_cursor }, signal }), first, json);
    });
  });

/** Show the first page of an answer. */
function hits(answer, language, none, next) {
  const results = byId("results");
  if (answer.items.length) results.replaceChildren(...grid(answer.items, language));
  else results.replaceChildren(nothing(none, score() > 0 ? "Ask for something else, or lower the least score." : null));
  following(answer.next_cursor, next);
}

/** Add one more page of a text search. */
function more(answer, language, json) {
  const fresh = grid(answer.items, language);
  byId("results").append(...fresh);
  fresh[0]?.querySelector("a")?.focus();
  following(answer.next_cursor, async () => more(await ask("/v1/search/pictures", { json: { ...json, cursor: answer.next_cursor } }), language, json));
}

function following(cursor, next) {
  byId("more").hidden = !cursor;
  again = async () => {
    byId("more").disabled = true;
    try {
      await next();
    } catch (problem) {
      fill(byId("trouble"), sorry(problem));
    }
    byId("more").disabled = false;
  };
}

/** Which language and version read the text, and how sure that is. */
function reading({ language, version, release, truncated, warnings, timing_ms: took }) {
  const { used, source, confidence } = language;
  const sure = typeof confidence === "number" ? ` (${Math.round(confidence * 100)} % sure)` : "";
  const how = {
    told: ["Read as ", native(used)],
    detected: ["Detected ", native(used), sure],
    shared: [language.requested === "shared" ? "Read through the shared table" : "Unsure which language: read through the shared table"],
  }[source];
  const notes = [
    ...warnings.map((code) => ({ language_not_supported: "None of the learned languages looks like this one.", detection_tie: "Several languages write it like this; pick one to be exact." })[code] ?? code.replaceAll("_", " ")),
    ...(truncated ? ["The text was longer than the encoder reads; its end was left out."] : []),
  ];
  const line = make("span", {}, how);
  const fine = make("span", { class: "fine" }, ` · version ${version} · release ${release} · ${took.toFixed(took < 10 ? 1 : 0)} ms`);
  return [line, fine, ...notes.map((note) => make("span", { class: "note" }, note))];
}

/** A picture from outside: captions in every language, and pictures like it. */
export function byFile(file) {
  if (location.hash !== "#search") history.pushState(null, "", "#search");
  byId("text").value = "";
  return searching("Looking at the picture", async (signal) => {
    const image = make("img", { alt: "" });
    image.src = URL.createObjectURL(file);
    image.addEventListener("load", () => URL.revokeObjectURL(image.src), { once: true });
    asked(image, file.name);
    await pictureAnswers((fields) => ({ body: form(file, fields) }), file, signal);
  });
}

/** A picture of the gallery, the same way. */
const byPictureId = (id) =>
  searching("Looking at the picture", async (signal) => {
    const item = await ask(`/v1/pictures/${encodeURIComponent(id)}`, { signal });
    asked(show(make("img", { alt: "" }), thumbnail(item.url)), id);
    const file = await (await send(item.url, { signal })).blob();
    await pictureAnswers((fields) => ({ json: { picture: id, ...fields } }), file, signal, id);
  });

/** Captions for what `captions(fields)` asks with, and pictures like `file`; without the picture itself. */
async function pictureAnswers(captions, file, signal, own = null) {
  const [said, alike] = await Promise.all([
    ask("/v1/search/captions", { ...captions({ limit: 3 }), signal }),
    ask("/v1/search/pictures", { body: form(file, { limit: PAGE }), signal }),
  ]);
  fill(byId("captions"), captionsOf(said.items, async (language) => (await ask("/v1/search/captions", captions({ limit: 12, languages: [language] }))).items));
  const items = alike.items.filter((item) => item.picture !== own);
  fill(byId("results-title"), items.length ? "Pictures like it" : null);
  hits({ ...alike, items, next_cursor: null }, "en", "No picture is like it.");
}

function form(file, fields) {
  const body = new FormData();
  body.set("picture", file, file.name ?? "picture");
  for (const [name, value] of Object.entries(fields)) body.set(name, Array.isArray(value) ? JSON.stringify(value) : String(value));
  return body;
}

function asked(image, name) {
  const shut = make("button", { type: "button", class: "shut", "aria-label": "Search without this picture", onclick: () => (byId("text").focus(), (location.hash === "#search" ? browse() : (location.hash = "#search"))) }, "×");
  fill(byId("asked"), make("figure", {}, image, make("figcaption", {}, name)), shut);
}

/** The gallery as it stands, when nothing is asked. */
const browse = () =>
  searching("Opening the gallery", async (signal) => {
    const page = await ask(`/v1/pictures?limit=${PAGE}`, { signal });
    if (!page.items.length) {
      empty(signal);
      return;
    }
    fill(byId("results-title"), "From the gallery");
    shown(page);
  });

function shown(page, add = false) {
  const items = grid(page.items.map((item) => ({ ...item, picture: item.id })), "en");
  if (add) {
    byId("results").append(...items);
    items[0]?.querySelector("a")?.focus();
  } else byId("results").replaceChildren(...items);
  following(page.next_cursor, async () => shown(await ask(`/v1/pictures?${new URLSearchParams({ limit: PAGE, cursor: page.next_cursor })}`), true));
}

function empty(signal) {
  const command = make("code", {}, "pictoglot pictures add FOLDER");
  byId("results").replaceChildren(nothing("The gallery is empty.", make("span", {}, "Put pictures into it with ", command, ". They show here as they arrive.")));
  setTimeout(() => !signal.aborted && !byId("search").hidden && browse(), EMPTY_LOOK);
}

/** How many languages can be searched in: for the footer. */
export const summary = () => (learned.release === null ? "" : `release ${learned.release} · ${plural(learned.items.length, "language")} · shared version ${learned.shared}`);
