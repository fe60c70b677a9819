// A row of the letters of a language that a plain keyboard lacks, under the text box that is used; one press inserts.

import { ask } from "/static/api.js";
import { make } from "/static/dom.js";
import { t } from "/static/text.js";

const found = new Map(); // letters by language, asked for once
let row = null;
let owner = null; // the text box that the row belongs to
let shown = ""; // its language
let pressed = false; // a mouse or finger is down: what moved under it would not be clicked

/** Show the row under every text box whose language is known, as long as it has the focus; called once. */
export function prepare() {
  document.addEventListener("focusin", () => setTimeout(look)); // a tap moves the focus before its click, and both belong together
  document.addEventListener("pointerdown", () => (pressed = true), true);
  for (const end of ["pointerup", "pointercancel"]) {
    document.addEventListener(end, () => { pressed = false; setTimeout(look); }, true);
  }
  document.addEventListener("change", () => setTimeout(look)); // of another field: the language of the box, perhaps
}

function look() {
  if (pressed) return;
  const field = document.activeElement;
  const lang = field?.matches("input[lang], textarea[lang]") ? field.lang : "";
  if (row?.contains(field) || (field === owner && lang === shown)) return;
  row?.remove();
  [row, owner, shown] = [null, field, lang];
  if (lang && lang !== "en") showRow(field, lang);
}

async function showRow(field, lang) {
  const letters = await lettersOf(lang);
  if (owner !== field || shown !== lang || row || !letters.length) return;
  const key = (letter) => make("button", { type: "button", lang, onmousedown: (event) => event.preventDefault(), onclick: () => insert(field, letter) }, /^\p{M}/u.test(letter) ? `◌${letter}` : letter);
  row = make("div", { class: "letters", role: "group", "aria-label": t("Special letters") }, letters.map(key));
  (field.closest("form.field, label.entry") ?? field).after(row);
}

function lettersOf(tag) {
  if (!found.has(tag)) found.set(tag, ask(`/v1/languages/${encodeURIComponent(tag)}`, { retried: true }).then(({ letters }) => letters, () => []));
  return found.get(tag);
}

function insert(field, letter) {
  field.focus();
  field.setRangeText(letter, field.selectionStart, field.selectionEnd, "end");
  field.dispatchEvent(new Event("input", { bubbles: true }));
}
