// The search: what the address asks for is sent, and what comes back is shown. The address keeps all but a picture's bytes.

import { nothingAsked, read, write } from "/static/address.js";
import { browse, found, own, searching } from "/static/answers.js";
import { ask, show, thumbnail } from "/static/api.js";
import { byId, decimal, fill, make } from "/static/dom.js";
import * as filters from "/static/filters.js";
import { captionsOf } from "/static/captions.js";
import { fillPicker, learned, named, served } from "/static/languages.js";
import { t } from "/static/text.js";

let asked = nothingAsked(); // the search that is shown
let choice = ""; // the language that was chosen, in the picker or by an address
let kept = null; // the file that was searched with last: an address has only its name

/** Search for what the address says; when that is nothing, show the gallery. */
export function follow(query) {
  const before = asked;
  asked = read(query);
  if (asked.q !== before.q) byId("text").value = asked.q; // what is typed, and was not asked for yet, stays otherwise
  if (asked.minus !== before.minus) byId("minus").value = asked.minus;
  byId("mode").value = asked.mode;
  byId("min-score").value = asked.min || "0";
  tellScore();
  if (asked.language !== before.language) choose(asked.language);
  turn();
  filters.show(asked);
  if (asked.file && kept?.name === asked.file) byFile();
  else if (asked.picture) byPicture();
  else if (asked.q.trim()) byText();
  else browse(asked, unasked());
}

/** Search once more for what is shown, after pictures were changed. */
export function again() {
  filters.recount().catch(() => {});
  follow(new URLSearchParams(write(asked).split("?")[1] ?? ""));
}

/** Why the gallery is shown and no search, if something was asked for. */
function unasked() {
  if (asked.file) return t("An address does not hold the picture {file}. Choose it again to search with it.", { file: asked.file });
  return asked.minus.trim() ? t("Say what the pictures should show, too: what they should not show is left out of that.") : "";
}

/** Connect the form; called once. */
export function prepare() {
  byId("search-form").addEventListener("submit", (event) => {
    event.preventDefault();
    go({ ...asked, ...shown() });
  });
  byId("language").addEventListener("change", () => {
    choice = byId("language").value;
    turn();
    if (asked.file || asked.picture || byId("text").value.trim()) go({ ...asked, ...shown() });
    byId("text").focus();
  });
  byId("mode").addEventListener("change", () => go({ ...asked, ...shown() }));
  byId("picture").addEventListener("change", (event) => {
    const [file] = event.target.files;
    event.target.value = ""; // the same file may be chosen again
    if (file) withFile(file);
  });
  byId("min-score").addEventListener("input", tellScore);
  byId("min-score").addEventListener("change", () => go({ ...asked, ...shown() }));
  filters.prepare((changed) => go({ ...changed, ...shown() }));
}

/** Search with a file: captions in every language, and similar pictures. */
export function withFile(file) {
  kept = file;
  go({ ...asked, file: file.name, picture: "", q: "", language: byId("language").value });
}

/** Load what the filter bar lists, again after pictures were added or changed. */
export const loadCollections = () => filters.loadCollections().catch(() => []);

/** Update the picker when the languages change. */
export function tellLanguages() {
  fillPicker(byId("language"));
  choose(choice);
  turn();
}

/** Let the address name this search, which shows it. */
function go(changed) {
  const address = write(changed);
  if (location.hash === address || (address === "#search" && ["", "#"].includes(location.hash))) follow(new URLSearchParams(address.split("?")[1] ?? ""));
  else location.hash = address;
}

/** What the controls of the form say. */
function shown() {
  const least = Number(byId("min-score").value);
  return { q: byId("text").value.trim(), minus: byId("minus").value.trim(), language: byId("language").value || "auto", mode: byId("mode").value, min: least > 0 ? String(least) : "" };
}

/** Let the picker show the language that an address names; one that is not there, or came before the list, is detected. */
function choose(language) {
  choice = language;
  byId("language").value = language || "auto";
  if (!byId("language").value) byId("language").value = "auto";
}

/** The text fields follow the direction of the chosen language. */
function turn() {
  const tag = chosenTag();
  for (const field of [byId("text"), byId("minus")]) {
    field.dir = tag ? named(tag).direction : "auto";
    field.lang = tag ?? "";
  }
}

/** The tag in the picker; null when the language is detected or the shared table reads. */
function chosenTag() {
  const value = byId("language").value;
  return ["", "auto", "shared"].includes(value) ? null : value;
}

function tellScore() {
  const least = Number(byId("min-score").value);
  byId("min-score-shown").textContent = least > 0 ? decimal(least, 2) : t("none");
}

const byText = () => searching(t("Searching"), (signal) => found(asked, (fields) => ({ json: { ...own(asked), ...fields } }), signal));

/** A picture of the gallery, perhaps with a text: more like this. */
const byPicture = () =>
  searching(t("Searching with the picture"), async (signal) => {
    const item = await ask(`/v1/pictures/${encodeURIComponent(asked.picture)}`, { signal });
    query(show(make("img", { alt: "" }), thumbnail(item.url)), asked.picture);
    const request = (fields) => ({ json: { ...own(asked), ...fields } });
    const captions = (fields) => ({ json: { picture: asked.picture, ...fields } });
    await Promise.all([asked.q.trim() ? null : said(captions, signal), found(asked, request, signal)]);
  });

/** A file: what is asked for besides goes as fields of the form. */
const byFile = () =>
  searching(t("Searching with the picture"), async (signal) => {
    const image = make("img", { alt: "", onerror: () => image.remove() }); // of a file that is no picture
    image.src = URL.createObjectURL(kept);
    image.addEventListener("load", () => URL.revokeObjectURL(image.src), { once: true });
    query(image, kept.name);
    const request = (fields) => ({ body: form({ ...own(asked), ...fields }) });
    const captions = (fields) => ({ body: form(fields) });
    await Promise.all([asked.q.trim() ? null : said(captions, signal), found(asked, request, signal)]);
  });

/** The captions that fit the picture best, in each language. */
async function said(request, signal) {
  const answer = await ask("/v1/search/captions", { ...request({ limit: 3 }), signal });
  fill(byId("captions"), captionsOf(answer.items, async (tag) => (await ask("/v1/search/captions", request({ limit: 12, languages: [tag] }))).items));
}

function form(fields) {
  const body = new FormData();
  body.set("picture", kept, kept.name);
  for (const [name, value] of Object.entries(fields)) if (value !== undefined) body.set(name, typeof value === "object" ? JSON.stringify(value) : String(value));
  return body;
}

/** Show the picture that is searched with. */
function query(image, name) {
  const without = () => {
    byId("text").focus();
    go({ ...asked, ...shown(), picture: "", file: "" });
  };
  const shut = make("button", { type: "button", class: "shut", "aria-label": t("Search without this picture"), onclick: without }, "×");
  const also = make("p", { class: "fine" }, asked.q.trim() ? t("together with the text") : t("A text in the field above is searched together with it."));
  fill(byId("query"), make("figure", {}, image, make("figcaption", {}, make("p", { class: "id" }, name), also)), shut);
}
