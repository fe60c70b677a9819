// What a search or the gallery brings: requests page after page, the grid, and sentences about how it was found.

import { filterOf } from "/static/address.js";
import { ask } from "/static/api.js";
import { byId, fill, make } from "/static/dom.js";
import * as filters from "/static/filters.js";
import { grid } from "/static/gallery.js";
import { learned, native, refresh } from "/static/languages.js";
import { nothing, sorry, waiting } from "/static/parts.js";

const PAGE = 24;
const EMPTY_LOOK = 3000; // ms until an empty gallery is loaded again
const NOTES = {
  language_not_supported: "This does not look like any of the learned languages.",
  detection_tie: "Several languages are possible; choose one in the list.",
  language_not_taught: "This language was not taught: the base reads it, as well as it can.",
  records_unavailable: "Tags and metadata cannot be read now.",
};
const WELL = 0.5; // the chance (`match`) from which a picture is rather what was meant than not
let running = null; // the current search; a newer one aborts it
let again = null; // loads the next page
let all = false; // whether what matches less well is shown

byId("more").addEventListener("click", () => again?.());

/** The fields of a search request, without the empty ones. */
export function own(asked) {
  const filter = filterOf(asked);
  return {
    ...(asked.q.trim() ? { text: asked.q.trim() } : {}),
    ...(asked.picture ? { picture: asked.picture } : {}),
    ...(asked.minus.trim() ? { minus: { text: asked.minus.trim() } } : {}),
    ...(asked.q.trim() && asked.mode !== "meaning" ? { mode: asked.picture || asked.file ? "both" : asked.mode } : {}), // a picture has no words
    ...(asked.min ? { min_score: Number(asked.min) } : {}),
    ...(filter ? { filter } : {}),
    language: asked.language,
    limit: PAGE,
  };
}

/** Run one search; an error is shown as a sentence, unless a newer search has started. */
export async function searching(what, work) {
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

/** Abort the current search, clear the results, and return the signal of the new one. */
function begin(what) {
  running?.abort();
  running = new AbortController();
  again = null;
  all = false;
  for (const id of ["captions", "query", "trouble", "results-title"]) fill(byId(id));
  byId("reading").replaceChildren();
  byId("more").hidden = true;
  byId("results").replaceChildren(waiting(what));
  byId("results").setAttribute("aria-busy", "true");
  return running.signal;
}

/** Search, and show the first page; `request(fields)` is the request with these fields besides. */
export async function found(asked, request, signal) {
  const next = (cursor) => ask("/v1/search/pictures", { ...request(cursor ? { cursor } : {}), signal });
  const answer = await next(null);
  const language = answer.language?.used ?? (["auto", "shared"].includes(asked.language) ? "en" : asked.language);
  byId("reading").replaceChildren(...reading(answer));
  if (answer.release !== learned.release) refresh().catch(() => {}); // a language was added or removed
  if (asked.file || asked.picture) fill(byId("results-title"), answer.items.length ? "Similar pictures" : null);
  if (answer.items.length) pages(answer, next, language);
  else byId("results").replaceChildren(none(asked));
}

function none(asked) {
  const lower = asked.min ? "Search for something else, or lower the minimum score." : null;
  const filtered = filters.filtered(asked);
  if (asked.min) return nothing("No picture has such a high score.", lower, filtered ? filters.none() : null);
  if (filtered) return emptied(asked);
  if (asked.mode === "words") return nothing(asked.minus ? "No picture has these words and not the others." : "No picture has these words.", "Words are looked for in captions, tags and metadata. Search by meaning finds what looks like it.");
  return nothing(asked.picture || asked.file ? "There is no similar picture." : "The gallery is empty.");
}

/** That the filters leave nothing; a key or collection that no picture has is named, once that is known. */
function emptied(asked) {
  const why = make("span", {});
  filters.unknown(asked).then((sentences) => why.append(sentences.join(" ")), () => {});
  return nothing("No picture is left by these filters.", why, filters.none());
}

/** Show a page of items, and let the button load the next one and give it the focus. */
function pages(page, next, language, add = false) {
  const fresh = grid(page.items, language);
  filters.notice(page.items);
  if (add) byId("results").append(...fresh);
  else byId("results").replaceChildren(...fresh);
  byId("more").hidden = !page.next_cursor;
  again = async () => {
    byId("more").disabled = true;
    try {
      pages(await next(page.next_cursor), next, language, true);
    } catch (problem) {
      if (problem.name !== "AbortError") fill(byId("trouble"), sorry(problem));
    }
    byId("more").disabled = false;
  };
  const poor = page.items.findIndex(({ match }) => typeof match === "number" && match < WELL);
  if (poor >= 0 && !all) hold(fresh.slice(poor), poor === 0 && !add, Boolean(page.next_cursor));
  if (add) (fresh[0]?.hidden ? byId("held").querySelector("button") : fresh[0]?.querySelector("a"))?.focus();
}

/** Hold back what matches less well (chances fall from hit to hit) behind a line that says so. */
function hold(figures, nothing, follows) {
  const focused = figures[0].contains(document.activeElement); // a next page of which all is held back
  for (const one of figures) one.hidden = true;
  byId("more").hidden = true;
  const line = make("div", { class: "line", id: "held" });
  const reveal = () => {
    all = true;
    for (const one of figures) one.hidden = false;
    byId("more").hidden = !follows;
    line.replaceChildren(make("p", {}, nothing ? "Nothing matches well. These are the nearest:" : "From here on, pictures match less well."));
    figures[0].querySelector("a.frame").focus();
  };
  line.append(make("p", {}, nothing ? "Nothing matches well." : "What follows matches less well."), make("button", { type: "button", onclick: reveal }, nothing ? "Show the nearest" : "Show it"));
  figures[0].before(line);
  if (focused) line.querySelector("button").focus();
}

/** The gallery, when there is no query: all of it, or what the filters leave; with a note why, if there is one. */
export const browse = (asked, note = "") =>
  searching("Loading the gallery", async (signal) => {
    const filter = filterOf(asked);
    const next = (cursor) => ask(`/v1/pictures?${new URLSearchParams({ limit: PAGE, ...(filter ? { filter: JSON.stringify(filter) } : {}), ...(cursor ? { cursor } : {}) })}`, { signal });
    const page = await next(null);
    if (note) fill(byId("trouble"), make("p", { class: "note" }, note));
    if (!page.items.length) {
      if (filter) byId("results").replaceChildren(emptied(asked));
      else empty(asked, signal);
      return;
    }
    fill(byId("results-title"), filter ? "From the gallery, filtered" : "From the gallery");
    pages(page, next, "en");
  });

function empty(asked, signal) {
  const command = make("code", {}, "pictoglot import FOLDER");
  const here = make("a", { href: "#add" }, "Add pictures");
  byId("results").replaceChildren(nothing("The gallery is empty.", make("span", {}, here, " on this page, or a folder with ", command, ". They appear here one by one.")));
  setTimeout(() => !signal.aborted && !byId("search").hidden && browse(asked), EMPTY_LOOK);
}

/** Which language and version read the text, and how certain that is. */
function reading({ language, version, release, truncated, warnings, unknown_words: unknown, timing_ms: took }) {
  const { used, source, confidence, requested } = language ?? {};
  const choice = learned.items.filter((item) => item.version !== null).length > 1; // of one language nothing is detected
  const sure = typeof confidence === "number" ? ` (${Math.round(confidence * 100)} % sure)` : "";
  const how = {
    requested: ["Read as ", native(used)],
    detected: choice ? ["Detected ", native(used), sure] : ["Read as ", native(used)],
    shared: [requested === "shared" ? "Read with the shared table" : "Language not certain: read with the shared table"],
  }[source];
  const notes = [...warnings.map((code) => code === "unknown_words" ? `Nobody taught these words yet: ${unknown.join(", ")}.` : NOTES[code] ?? code.replaceAll("_", " ")), ...(truncated ? ["The text is longer than the model can read; its end was ignored."] : [])];
  const facts = [version === null ? null : `version ${version}`, `release ${release}`, `${took.toFixed(took < 10 ? 1 : 0)} ms`].filter(Boolean);
  const fine = make("span", { class: "fine" }, `${how ? " · " : ""}${facts.join(" · ")}`);
  return [...(how ? [make("span", {}, how)] : []), fine, ...notes.map((note) => make("span", { class: "note" }, note))];
}
