// A language that travels: saved as a file by an administrator, and brought in from one that another archive saved.

import { ask, freshKey, send } from "/static/api.js";
import { byId, bytes, fill, make, percent, time } from "/static/dom.js";
import { named } from "/static/languages.js";
import { dialog, sorry, waiting } from "/static/parts.js";
import { termsLine } from "/static/terms.js";
import { t } from "/static/text.js";

const FEW = 20; // test captions, of which a single one is 5 points

let imported = () => {};

/** Connect the form that brings a language in; `done` is called when an import was sent. Called once. */
export function prepare(done) {
  imported = done;
  byId("import-form").addEventListener("submit", (event) => {
    event.preventDefault();
    look();
  });
  byId("import-file").addEventListener("change", clear);
}

/** Save a language as a signed file. */
export async function saveFile({ language, name }) {
  try {
    const file = await (await send(`/v1/languages/${encodeURIComponent(language)}/file?sign=true`)).blob();
    const link = make("a", { href: URL.createObjectURL(file), download: `${language}.pictoglot` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  } catch (problem) {
    await dialog(t("{name} was not saved", { name }), () => sorry(problem));
  }
}

function clear() {
  byId("import-file").removeAttribute("aria-invalid");
  fill(byId("import-trouble"));
  fill(byId("import-report"));
}

function sendFile(fields, headers = {}) {
  const body = new FormData();
  for (const [name, value] of Object.entries(fields)) body.set(name, value);
  body.set("file", byId("import-file").files[0]);
  return ask("/v1/languages/import", { body, headers });
}

/** Show what is in the file before anything is done with it. */
async function look() {
  clear();
  const [file] = byId("import-file").files;
  const stays = () => byId("import-file").files[0] === file; // no other one was chosen meanwhile
  if (!file) return refuse(make("div", { class: "sorry" }, make("p", {}, t("Choose a file."))));
  fill(byId("import-report"), waiting(t("Looking into the file")));
  try {
    const answer = await sendFile({ dry_run: "true" });
    if (!stays()) return;
    fill(byId("import-report"), found(answer));
    byId("import-start").focus();
  } catch (problem) {
    if (stays()) refuse(sorry(problem));
  }
}

function refuse(trouble) {
  clear();
  fill(byId("import-trouble"), trouble);
  byId("import-file").setAttribute("aria-invalid", "true");
  byId("import-file").focus();
}

function found({ language, base, learned_at: at, bytes: size, terms, signer, pairs, recall }) {
  const { name } = named(language);
  const measured = recall === null || pairs < FEW ? null : t("There {share} % of {pairs, plural, one {# test caption} other {# test captions}} were found among the first ten.", { share: percent(recall), pairs });
  const signed = signer ? [t("It is signed with this key. Ask who sent it whether it is theirs:"), " ", make("code", { class: "signer" }, signer)] : t("Nobody signed it: it may come from anybody.");
  return make(
    "div",
    { class: "report" },
    make("h3", { class: "small-title" }, t("{name}, taught for the base {base}", { name, base })),
    make("p", {}, t("Last changed {at}.", { at: time(at) }), ` ${bytes(size)}. `, measured),
    termsLine(terms),
    make("p", {}, signed),
    make("p", { class: "hint" }, t("It is measured here before it serves, and can be rolled back like any language.")),
    make("div", { class: "actions" }, make("button", { type: "button", class: "main", id: "import-start", onclick: bring }, t("Bring in {name}", { name }))),
  );
}

async function bring() {
  byId("import-start").disabled = true;
  try {
    await sendFile({}, freshKey());
    byId("import-form").reset();
    clear();
    byId("import").open = false;
    await imported();
  } catch (problem) {
    refuse(sorry(problem));
  }
}
