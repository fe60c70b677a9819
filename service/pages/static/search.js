// The search: a text or a picture is sent, pictures and captions come back. The address keeps the query.

import { ask, show, send, thumbnail } from "/static/api.js";
import { byId, fill, make, plural } from "/static/dom.js";
import { captionsOf, grid } from "/static/gallery.js";
import { fillPicker, learned, named, native, refresh, served } from "/static/languages.js";
import { nothing, sorry, waiting } from "/static/parts.js";

const PAGE = 24;
const EMPTY_LOOK = 3000; // ms until an empty gallery is loaded again
let running = null; // the current search; a newer one aborts it
let again = null; // loads the next page

/** Search for what the address says (`q`, `language`, `picture`); without any, show the gallery. */
export function follow(query) {
  const text = query.get("q") ?? "";
  byId("text").value = text;
  choose(query.get("language"));
  turn();
  if (query.get("picture")) byPictureId(query.get("picture"));
  else if (text.trim()) byText(text);
  else browse();
}

/** Connect the form; called once. */
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

/** Let the picker show the language that an address names; one that is not there, or came before the list, is detected. */
function choose(language) {
  if (language) byId("language").value = language;
  if (!byId("language").value) byId("language").value = "auto";
}

/** Update picker and title when the languages change. */
export function tellLanguages() {
  fillPicker(byId("language"));
  choose(new URLSearchParams(location.hash.split("?")[1] ?? "").get("language"));
  const list = learned.items.filter(served).slice(0, 12).map((item, place) => [place ? ", " : "", native(item.language)]);
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

/** The text field follows the direction of the chosen language. */
function turn() {
  const tag = chosenTag();
  byId("text").dir = tag ? named(tag).direction : "auto";
  byId("text").lang = tag ?? "";
}

/** The tag in the picker; null when the language is detected or the shared table reads. */
function chosenTag() {
  const value = byId("language").value;
  return ["", "auto", "shared"].includes(value) ? null : value;
}

const score = () => Number(byId("min-score").value);

function tellScore() {
  byId("min-score-shown").textContent = score() > 0 ? score().toFixed(2) : "none";
}

/** Abort the current search, clear the results, and return the signal of the new one. */
function begin(what) {
  running?.abort();
  running = new AbortController();
  again = null;
  for (const id of ["captions", "query", "trouble", "results-title"]) fill(byId(id));
  byId("reading").replaceChildren();
  byId("more").hidden = true;
  byId("results").replaceChildren(waiting(what));
  byId("results").setAttribute("aria-busy", "true");
  return running.signal;
}

/** Run one search; an error is shown as a sentence, unless a newer search has started. */
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
    const { used } = answer.language; // the answer brings captions in this language and in English, which are those shown
    if (answer.release !== learned.release) refresh().catch(() => {}); // a language was added or removed
    hits(answer, used, score() > 0 ? "No picture has such a high score." : "The gallery is empty.", async () => {
      more(await ask("/v1/search/pictures", { json: { ...json, cursor: answer.next_cursor }, signal }), used, json);
    });
  });

/** Show the first page of an answer. */
function hits(answer, language, none, next) {
  const results = byId("results");
  if (answer.items.length) results.replaceChildren(...grid(answer.items, language));
  else results.replaceChildren(nothing(none, score() > 0 ? "Search for something else, or lower the minimum score." : null));
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

/** Which language and version read the text, and how certain that is. */
function reading({ language, version, release, truncated, warnings, timing_ms: took }) {
  const { used, source, confidence } = language;
  const sure = typeof confidence === "number" ? ` (${Math.round(confidence * 100)} % sure)` : "";
  const how = {
    told: ["Read as ", native(used)],
    detected: ["Detected ", native(used), sure],
    shared: [language.requested === "shared" ? "Read with the shared table" : "Language not certain: read with the shared table"],
  }[source];
  const notes = [
    ...warnings.map((code) => ({ language_not_supported: "This does not look like any of the learned languages.", detection_tie: "Several languages are possible; choose one in the list.", language_not_taught: "This language was not taught: the base reads it, as well as it can." })[code] ?? code.replaceAll("_", " ")),
    ...(truncated ? ["The text is longer than the model can read; its end was ignored."] : []),
  ];
  const line = make("span", {}, how);
  const fine = make("span", { class: "fine" }, ` · version ${version} · release ${release} · ${took.toFixed(took < 10 ? 1 : 0)} ms`);
  return [line, fine, ...notes.map((note) => make("span", { class: "note" }, note))];
}

/** An uploaded picture: captions in every language, and similar pictures. */
export function byFile(file) {
  if (location.hash !== "#search") history.pushState(null, "", "#search");
  byId("text").value = "";
  return searching("Searching with the picture", async (signal) => {
    const image = make("img", { alt: "" });
    image.src = URL.createObjectURL(file);
    image.addEventListener("load", () => URL.revokeObjectURL(image.src), { once: true });
    showQuery(image, file.name);
    await pictureAnswers((fields) => ({ body: form(file, fields) }), file, signal);
  });
}

/** The same with a picture of the gallery. */
const byPictureId = (id) =>
  searching("Searching with the picture", async (signal) => {
    const item = await ask(`/v1/pictures/${encodeURIComponent(id)}`, { signal });
    showQuery(show(make("img", { alt: "" }), thumbnail(item.url)), id);
    const file = await (await send(item.url, { signal })).blob();
    await pictureAnswers((fields) => ({ json: { picture: id, ...fields } }), file, signal, id);
  });

/** Captions (`request(fields)` makes that request), and pictures similar to `file` without the picture `own` itself. */
async function pictureAnswers(request, file, signal, own = null) {
  const language = chosenTag(); // similar pictures come with captions in it and in English
  const [captions, similar] = await Promise.all([
    ask("/v1/search/captions", { ...request({ limit: 3 }), signal }),
    ask("/v1/search/pictures", { body: form(file, { limit: PAGE, ...(language ? { language } : {}) }), signal }),
  ]);
  fill(byId("captions"), captionsOf(captions.items, async (tag) => (await ask("/v1/search/captions", request({ limit: 12, languages: [tag] }))).items));
  const items = similar.items.filter((item) => item.picture !== own);
  fill(byId("results-title"), items.length ? "Similar pictures" : null);
  hits({ ...similar, items, next_cursor: null }, language ?? "en", "There is no similar picture.");
}

function form(file, fields) {
  const body = new FormData();
  body.set("picture", file, file.name ?? "picture");
  for (const [name, value] of Object.entries(fields)) body.set(name, Array.isArray(value) ? JSON.stringify(value) : String(value));
  return body;
}

/** Show the picture that is searched with. */
function showQuery(image, name) {
  const shut = make("button", { type: "button", class: "shut", "aria-label": "Search without this picture", onclick: () => (byId("text").focus(), (location.hash === "#search" ? browse() : (location.hash = "#search"))) }, "×");
  fill(byId("query"), make("figure", {}, image, make("figcaption", {}, name)), shut);
}

/** The gallery, when there is no query. */
const browse = () =>
  searching("Loading the gallery", async (signal) => {
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
  byId("results").replaceChildren(nothing("The gallery is empty.", make("span", {}, "Add pictures with ", command, ". They appear here one by one.")));
  setTimeout(() => !signal.aborted && !byId("search").hidden && browse(), EMPTY_LOOK);
}

/** What serves now: for the footer. */
export const summary = () => (learned.release === null ? "" : `release ${learned.release} · ${plural(learned.items.filter(served).length, "language")} · shared version ${learned.shared}`);
