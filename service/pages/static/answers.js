// What a search or the gallery brings: requests page after page, the grid, and sentences about how it was found.

import { filterOf } from "/static/address.js";
import { ask } from "/static/api.js";
import { byId, fill, make, monthName } from "/static/dom.js";
import * as filters from "/static/filters.js";
import { grid } from "/static/gallery.js";
import { known, learned, native, refresh } from "/static/languages.js";
import { likelihood, unknown } from "/static/likely.js";
import { nothing, sorry, waiting } from "/static/parts.js";
import { termsLine } from "/static/terms.js";
import { locale, t } from "/static/text.js";
import { Wall, shape } from "/static/wall.js";

const PAGE = 24; // of a search, whose ranks are few
const SHELF = 60; // of the gallery
const AHEAD = "1500px"; // below what is in view: more is loaded before it is scrolled to
const EMPTY_LOOK = 3000; // ms until an empty gallery is loaded again
const ELSEWHERE = ["nothing_likely", "unknown_words", "not_known_to_base"]; // warnings that likely.js tells
const NOTES = {
  language_not_supported: t("This does not look like any of the learned languages."),
  detection_tie: t("Several languages are possible; choose one in the list."),
  language_not_taught: t("This language was not taught: the base reads it, as well as it can."),
  records_unavailable: t("Tags and metadata cannot be read now."),
  words_unavailable: t("Looking up the words takes too long now; these were found by meaning alone."),
};
let running = null; // the current search; a newer one aborts it
let again = null; // loads the next page
let reader = "en"; // the language of the captions that are shown first
const wall = new Wall(byId("results"));

byId("more").addEventListener("click", () => again?.());
const nearing = new IntersectionObserver((seen) => seen.at(-1).isIntersecting && again?.(), { rootMargin: AHEAD });
byId("results").addEventListener("leaving", ({ detail }) => wall.change(detail));

/** The language that the answer on the page is in. */
export const spoken = () => reader;

/** Show a picture anew after its record was changed. */
export function redraw(figure, item) {
  const [fresh] = grid([item], reader);
  fresh.querySelector(".pick").checked = figure.querySelector(".pick").checked;
  wall.change(figure, fresh);
  return fresh;
}

/** The fields of a search request, without the empty ones. */
export function own(asked) {
  const filter = filterOf(asked);
  return {
    ...(asked.q.trim() ? { text: asked.q.trim() } : {}),
    ...(asked.picture ? { picture: asked.picture } : {}),
    ...(asked.minus.trim() ? { minus: { text: asked.minus.trim() } } : {}),
    ...(asked.q.trim() && asked.mode !== "both" ? { mode: asked.mode === "words" && (asked.picture || asked.file) ? "both" : asked.mode } : {}), // a picture has no words
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
    wall.clear();
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
  for (const id of ["captions", "query", "trouble", "results-title"]) fill(byId(id));
  byId("reading").replaceChildren();
  byId("more").hidden = true;
  wall.clear(waiting(what));
  byId("results").setAttribute("aria-busy", "true");
  return running.signal;
}

/** Search, and show the first page; `request(fields)` is the request with these fields besides. */
export async function found(asked, request, signal) {
  const next = (cursor) => ask("/v1/search/pictures", { ...request(cursor ? { cursor } : {}), signal });
  const answer = await next(null);
  const language = answer.language?.used ?? (["auto", "shared"].includes(asked.language) ? "en" : asked.language);
  byId("reading").replaceChildren(...reading(answer), ...unsure(answer, asked), ...unknown(answer, asked));
  if (answer.release !== learned.release) refresh().catch(() => {}); // a language was added or removed
  if (asked.file || asked.picture) fill(byId("results-title"), answer.items.length ? t("Similar pictures") : null);
  if (answer.items.length) pages(answer, next, language, likelihood(answer));
  else wall.clear(none(asked));
}

/** A sentence where nothing has a chance, no words were found, and it is not said otherwise: nonsense looks like anything else. */
function unsure({ items, guessed_words: guessed = [] }, { picture, file }) {
  const isClear = !items.length || guessed.length || items.some(({ match, words }) => typeof match === "number" || words > 0);
  return isClear || picture || file ? [] : [make("span", { class: "doubt" }, t("Whether these show it cannot be told here: they are what comes nearest."))];
}

function none(asked) {
  const filtered = filters.filtered(asked);
  if (asked.min) return nothing(t("No picture has such a high score."), t("Search for something else, or lower the minimum score."), filtered ? filters.none() : null);
  if (filtered) return emptied(asked);
  if (asked.mode === "words") return nothing(asked.minus ? t("No picture has these words and not the others.") : t("No picture has these words."), t("Words are looked for in captions, tags and metadata. Search by meaning finds what looks like it."));
  return nothing(asked.picture || asked.file ? t("There is no similar picture.") : t("The gallery is empty."));
}

/** That the filters leave nothing; a key or collection that no picture has is named, once that is known. */
function emptied(asked) {
  const why = make("span", {});
  filters.unknown(asked).then((sentences) => why.append(sentences.join(" ")), () => {});
  return nothing(t("No picture is left by these filters."), why, filters.none());
}

/** Hang up a page of items under the titles that `title(item)` gives, and let the next one follow. */
function pages(page, next, language, title) {
  reader = language;
  const figures = grid(page.items, language);
  filters.notice(page.items);
  wall.add(page.items.map((item, place) => ({ figure: figures[place], ratio: shape(item), title: title(item) })));
  byId("more").hidden = !page.next_cursor;
  nearing.unobserve(byId("more")); // it tells again where the button stands, also where that is as near as before
  nearing.observe(byId("more"));
  again = !page.next_cursor ? null : async () => {
    const load = again;
    again = null; // once at a time
    try {
      pages(await next(page.next_cursor), next, language, title);
    } catch (problem) {
      if (problem.name === "AbortError") return;
      fill(byId("trouble"), sorry(problem));
      again = load;
    }
  };
}

/** What stands above pictures of one month. */
const month = ({ shown_at: at }) => monthName(at);

/** The gallery, when there is no query: all of it, or what the filters leave; with a note why, if there is one. */
export const browse = (asked, note = "") =>
  searching(t("Loading the gallery"), async (signal) => {
    const filter = filterOf(asked);
    const next = (cursor) => ask(`/v1/pictures?${new URLSearchParams({ sort: "-shown_at", limit: SHELF, ...(filter ? { filter: JSON.stringify(filter) } : {}), ...(cursor ? { cursor } : {}) })}`, { signal });
    const page = await next(null);
    if (note) fill(byId("trouble"), make("p", { class: "note" }, note));
    if (!page.items.length) {
      if (filter) wall.clear(emptied(asked));
      else empty(asked, signal);
      return;
    }
    pages(page, next, asked.language === "auto" ? locale : asked.language, month);
  });

function empty(asked, signal) {
  const command = make("code", {}, "pictoglot import FOLDER");
  const here = make("a", { href: "#add" }, t("Add pictures"));
  wall.clear(nothing(t("The gallery is empty."), make("span", { "data-needs": "write" }, t("{add} on this page, or a folder with {command}. They appear here one by one.", { add: here, command }))));
  setTimeout(() => !signal.aborted && !byId("search").hidden && browse(asked), EMPTY_LOOK);
}

/** In which language the text was read, and how certain that is. */
function reading({ language, truncated, warnings }) {
  const { used, source, confidence, requested } = language ?? {};
  const choice = learned.items.filter((item) => item.version !== null).length > 1; // of one language nothing is detected
  const read = () => t("Read as {language}", { language: native(used) });
  const how = {
    requested: read,
    detected: () => (!choice ? read() : typeof confidence === "number" ? t("Detected {language} ({percent} % sure)", { language: native(used), percent: Math.round(confidence * 100) }) : t("Detected {language}", { language: native(used) })),
    shared: () => (requested === "shared" ? t("No particular language") : t("It is not certain which language this is")),
  }[source];
  const notes = [...warnings.filter((code) => !ELSEWHERE.includes(code)).map((code) => NOTES[code] ?? code.replaceAll("_", " ")), ...(truncated ? [t("The text is longer than the model can read; its end was ignored.")] : [])];
  return [how ? make("span", {}, how()) : null, termsLine(language?.terms && (known(language.used)?.terms ?? language.terms)), ...notes.map((note) => make("span", { class: "note" }, note))].filter(Boolean);
}
