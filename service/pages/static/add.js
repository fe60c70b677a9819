// Adding pictures: files are dropped or chosen, described, and sent one after another; each says what became of it.

import { ask, send } from "/static/api.js";
import { nothingAsked, write } from "/static/address.js";
import { byId, bytes, fill, make, withCode } from "/static/dom.js";
import { sorry } from "/static/parts.js";
import { readPhoto } from "/static/photo.js";
import { Wrong, captionFields, collectionField, metadataFields, tagFields } from "/static/record.js";
import { t } from "/static/text.js";

const MOST = 500; // pictures in one list; more are for the command line
const TRIES = 6; // of one picture, while the server is busy
const STATES = { waiting: "", sending: t("sending …"), added: t("added"), known: t("was there already; its record was left as it is"), failed: t("refused") };
let entries = []; // {file, url, fields, element, state, said, id}; `id` once it was added, whose record may still be missing
let shared = null; // fields for all of them
let sending = null; // AbortController while pictures are sent

/** Draw the part; what was chosen before stays. */
export async function drawAdd() {
  if (shared) return;
  const names = await ask("/v1/collections").then((answer) => answer.items.map((one) => one.name), () => []);
  if (shared) return;
  shared = { collection: collectionField("", names), tags: tagFields(), metadata: metadataFields() };
  const choose = make("input", { type: "file", id: "add-files", class: "unseen", multiple: true, accept: "image/png,image/jpeg,image/webp,image/avif,image/tiff,image/heic,image/heif", onchange: () => (take([...choose.files]), (choose.value = "")) });
  fill(
    byId("add-body"),
    make("label", { class: "zone", id: "add-zone" }, make("span", { class: "big" }, t("Drop pictures here")), choose, make("span", { class: "button" }, t("Choose pictures"))),
    make("div", { id: "add-trouble", role: "alert" }),
    make("form", { id: "add-form", class: "record", hidden: true, novalidate: true, onsubmit: submit },
      make("h2", { class: "small-title" }, t("For all of them")),
      make("div", { class: "shared" }, shared.tags.element, shared.collection.element, shared.metadata.element),
      make("div", { class: "actions" }, make("button", { type: "submit", class: "main", id: "add-start" }, t("Add")), make("button", { type: "button", id: "add-stop", hidden: true, onclick: () => sending?.abort() }, t("Stop")), make("button", { type: "button", id: "add-clear", class: "quiet", onclick: clear }, t("Clear the list"))),
      make("progress", { id: "add-progress", max: 1, value: 0, hidden: true, "aria-label": t("Adding pictures") }),
      make("p", { id: "add-summary", class: "told", role: "status" }),
      make("ol", { id: "add-list", class: "files" })),
  );
}

/** Put files on the list. */
export async function take(files) {
  await drawAdd();
  const room = MOST - left().length;
  fill(byId("add-trouble"), files.length > room ? make("div", { class: "sorry" }, make("p", {}, t("This list holds {MOST} pictures: add these first, or clear the list. For whole folders there is “pictoglot import FOLDER”.", { MOST }))) : null);
  for (const file of files.slice(0, Math.max(0, room))) enter(file);
  tell();
}

function enter(file) {
  const entry = { file, url: URL.createObjectURL(file), fields: captionFields(), state: "waiting", said: "", id: null };
  const without = () => {
    const next = entry.element.nextElementSibling?.querySelector("button") ?? byId("add-files");
    forget([entry]);
    next.focus();
  };
  entry.element = make(
    "li",
    {},
    make("img", { src: entry.url, alt: "", loading: "lazy", onerror: (event) => event.target.classList.add("unreadable") }),
    make("div", {}, make("p", { class: "name" }, make("bdi", {}, file.name), make("span", { class: "fine" }, ` ${bytes(file.size)}`)), make("p", { class: "became", role: "status" }), entry.fields.element),
    make("button", { type: "button", class: "quiet out", "aria-label": t("Leave out {file}", { file: file.name }), onclick: without }, t("Leave out")),
  );
  entries.push(entry);
  byId("add-list").append(entry.element);
}

function forget(gone) {
  entries = entries.filter((entry) => !gone.includes(entry));
  for (const { element, url } of gone) {
    element.remove();
    URL.revokeObjectURL(url);
  }
  tell();
}

function clear() {
  forget(entries);
  fill(byId("add-trouble"));
  byId("add-files").focus();
}

/** Pictures that are not added yet. */
const left = () => entries.filter(({ state }) => !["added", "known"].includes(state));
export const isAdding = () => left().length > 0;
const count = (...states) => entries.filter(({ state }) => states.includes(state)).length;

/** Show how far it is, and what can be done. */
function tell() {
  const done = count("added", "known");
  byId("add-form").hidden = !entries.length;
  byId("add-start").hidden = Boolean(sending) || !left().length;
  byId("add-start").textContent = count("failed") && !count("waiting") ? t("{left, plural, one {Try # refused picture again} other {Try # refused pictures again}}", { left: left().length }) : t("{left, plural, one {Add # picture} other {Add # pictures}}", { left: left().length });
  byId("add-stop").hidden = !sending;
  byId("add-clear").hidden = Boolean(sending);
  byId("add-progress").hidden = !sending;
  byId("add-progress").value = entries.length ? (done + count("failed")) / entries.length : 0;
  const words = [count("added") && t("{count, plural, one {# picture added} other {# pictures added}}", { count: count("added") }), count("known") && t("{count} there already", { count: count("known") }), count("failed") && t("{count} refused", { count: count("failed") })].filter(Boolean);
  fill(byId("add-summary"), words.length ? [words.join(", "), ". ", !sending && done ? make("a", { href: where() }, t("Show them in the gallery")) : null] : null);
  byId("add-summary").hidden = false; // a status that is announced has to be there before its text
}

/** The gallery with the collection and the tags that all of them got. */
function where() {
  try {
    return write({ ...nothingAsked(), collection: shared.collection.value(), is: shared.tags.value().map((value) => ({ key: "tags", value })) });
  } catch {
    return "#search";
  }
}

function mark(entry, state, said = "") {
  Object.assign(entry, { state, said });
  entry.element.dataset.state = state;
  fill(entry.element.querySelector(".became"), withCode([STATES[state], said].filter(Boolean).join(": ")));
  for (const control of entry.element.querySelectorAll("input, fieldset button, select")) control.disabled = ["sending", "added", "known"].includes(state);
  entry.element.querySelector(".out").disabled = state === "sending";
  tell();
}

async function submit(event) {
  event.preventDefault();
  if (sending) return; // the Enter key in a field, while pictures are sent
  fill(byId("add-trouble"));
  let common;
  try {
    common = { collection: shared.collection.value(), tags: shared.tags.value(), metadata: shared.metadata.value() };
    for (const entry of left()) {
      await entry.fields.settle();
      entry.captions = entry.fields.value();
    }
  } catch (problem) {
    return fill(byId("add-trouble"), problem instanceof Wrong ? make("div", { class: "sorry" }, make("p", {}, problem.message)) : sorry(problem));
  }
  sending = new AbortController();
  const { signal } = sending;
  byId("add-stop").hidden = false;
  for (const entry of left()) {
    if (signal.aborted) break;
    if (!entries.includes(entry)) continue; // it was left out meanwhile
    mark(entry, "sending");
    await one(entry, common, signal);
  }
  sending = null;
  tell();
  (byId("add-summary").querySelector("a") ?? byId("add-start")).focus();
}

const pathOf = (id) => `/v1/pictures/${encodeURIComponent(id)}`;
const isDescribed = ({ own, tags, metadata }) => [own, tags, metadata].some((part) => Object.keys(part).length);

/** Send one picture, and what is said of it if it is new; while the server is busy, it is sent again. */
async function one(entry, common, signal) {
  for (let tries = 1; ; tries += 1) {
    try {
      entry.photo ??= await readPhoto(entry.file);
      if (!entry.id) {
        const response = await send("/v1/pictures", { body: body(entry, common), signal });
        const item = await response.json();
        if (response.status !== 201 && isDescribed(item)) return mark(entry, "known"); // somebody may have described it better
        entry.id = item.id; // it is new, or only the answer to the last try was lost
      }
      const record = said(entry, common);
      const headers = { "Content-Type": "application/merge-patch+json" };
      if (Object.keys(record).length) await send(pathOf(entry.id), { method: "PATCH", body: JSON.stringify(record), headers, signal });
      return mark(entry, "added");
    } catch (problem) {
      if (problem.name === "AbortError") return mark(entry, "waiting");
      const busy = [429, 503].includes(problem.status) && tries < TRIES;
      if (!busy) return refused(entry, problem);
      await new Promise((resolve) => setTimeout(resolve, 1000 * (problem.problem.retry_after_seconds ?? 1)));
    }
  }
}

function refused(entry, problem) {
  mark(entry, "failed", entry.id ? t("The picture is there, but not what is said of it. {message}", { message: problem.message }) : problem.message);
  if ([0, 401, 403].includes(problem.status)) {
    sending.abort(); // the others would be refused for the same reason
    fill(byId("add-trouble"), sorry(problem));
  }
}

/** The picture alone, in its collection, where it is looked for: whether it is there is known only by the answer. */
function body(entry, { collection }) {
  const form = new FormData();
  form.set("picture", entry.file, entry.file.name);
  if (collection) form.set("collection", collection);
  return form;
}

/** What is said of a picture beyond that, by its file, too, without what is empty. The file's name is the way back to it. */
function said({ captions, file, photo }, { tags, metadata }) {
  const name = file.name.replaceAll(/[\p{C}\ufffd]/gu, "").slice(0, 255);
  const record = { captions, tags, metadata: { ...photo, ...(name ? { file_name: name } : {}), ...metadata } };
  return Object.fromEntries(Object.entries(record).filter(([, part]) => Object.keys(part).length));
}
