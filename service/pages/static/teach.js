// Teaching a language: the file is checked or assessed first, then taught; its progress is shown below the form.

import { ask, freshKey, listed } from "/static/api.js";
import { choice, entries } from "/static/dictionary.js";
import { byId, fill, make, percent, plural, whole } from "/static/dom.js";
import { drawExpansions } from "/static/expansions.js";
import { named } from "/static/languages.js";
import { faultWords, sorry, waiting } from "/static/parts.js";
import { readTerms, termsFields } from "/static/terms.js";

const LOSSES = { cross_lingual: "paired texts", cross_modal: "pictures" }; // what drives each

/** Connect the form; called once. */
export function prepare() {
  byId("teach-form").addEventListener("submit", (event) => {
    event.preventDefault();
    submit({ dry_run: "true", replace: chosen("replace") }, "Checking the file");
  });
  byId("teach-assess").addEventListener("click", () => submit({ assess: "true" }, "Sending the file"));
  byId("teach-start").addEventListener("click", () => submit({ force: chosen("force"), replace: chosen("replace") }, "Sending the file"));
  byId("teach-tag").addEventListener("input", tellName);
  fill(byId("teach-terms"), termsFields());
  for (const id of ["teach-tag", "teach-file", "teach-lines", "teach-dictionary"]) byId(id).addEventListener("input", forget);
}

const chosen = (name) => String(byId(`teach-${name}`).checked);

/** Show the name of the language while its tag is typed. */
function tellName() {
  const tag = byId("teach-tag").value.trim();
  const { name, native } = tag ? named(tag) : { name: "", native: "" };
  byId("teach-name").textContent = !tag || name === tag ? "" : native === name ? name : `${native} · ${name}`;
}

function forget() {
  for (const id of ["teach-tag", "teach-file"]) byId(id).removeAttribute("aria-invalid");
  fill(byId("teach-trouble"));
  fill(byId("teach-report"));
}

function complete() {
  const filled = { "teach-tag": byId("teach-tag").value.trim(), "teach-file": byId("teach-file").files.length || byId("teach-lines").value.trim() };
  for (const [id, value] of Object.entries(filled)) {
    if (value) continue;
    const input = byId(id);
    input.setAttribute("aria-invalid", "true");
    fill(byId("teach-trouble"), make("div", { class: "sorry" }, make("p", {}, id === "teach-tag" ? "Enter the tag of the language." : "Type some words, or choose a file.")));
    input.focus();
    return false;
  }
  return true;
}

/** What was typed, as a file: `kazh = cat` in a line. */
function typed() {
  const lines = byId("teach-lines").value.split("\n").filter((line) => line.trim());
  const row = (line) => {
    const [caption, ...english] = line.split(/\s*[=|\t]\s*/);
    return JSON.stringify({ caption: caption.trim(), english: english.join(" ").trim() });
  };
  return new File([lines.map((line) => `${row(line)}\n`).join("")], "typed.jsonl");
}

/** The tag of the language: what was entered, or the likeliest of what has that name in any language. */
async function findTag() {
  const entered = byId("teach-tag").value.trim();
  if (/^[A-Za-z]{2,3}(-[A-Za-z0-9]+)*$/.test(entered)) return entered;
  const { items } = await ask(`/v1/languages/names?query=${encodeURIComponent(entered)}&limit=1`);
  if (!items.length) return entered; // the server says what a tag is
  byId("teach-tag").value = items[0].language;
  tellName();
  return items[0].language;
}

/** Send the form with these fields besides; a dry run answers with a report, anything else with an expansion. */
async function submit(fields, what) {
  forget();
  if (!complete()) return;
  const body = new FormData();
  for (const [name, value] of Object.entries(fields)) body.set(name, value);
  const terms = fields.assess ? "" : await readTerms(byId("teach-terms"));
  if (terms) body.set("terms", terms);
  fill(byId("teach-report"), waiting(what));
  busy(true);
  try {
    body.set("language", await findTag());
    const file = byId("teach-file").files[0] ?? typed();
    const words = byId("teach-dictionary").checked;
    if (words) body.set("kind", "dictionary");
    body.set("dataset", words ? await entries(file) : file, file.name);
    const answer = await ask("/v1/languages", { body, headers: fields.dry_run ? {} : freshKey() });
    if (fields.dry_run) fill(byId("teach-report"), report(answer));
    else if (answer.waiting) fill(byId("teach-report"), kept(answer));
    else {
      fill(byId("teach-report"));
      if (!fields.assess) {
        byId("teach-form").reset(); // what was assessed may be taught next
        tellName();
      }
      await drawExpansions(answer.expansion.id);
    }
  } catch (problem) {
    const { report: counts, doubts } = problem.problem ?? {};
    fill(byId("teach-report"), counts ? report({ report: counts }) : doubts ? [doubted(doubts), decide(doubts, fields)] : null);
    fill(byId("teach-trouble"), doubts ? null : sorry(problem));
    busy(false); // before the focus: a field that is wrong gets it
    wrong(problem);
  }
  busy(false);
}

/** Mark the field that the server refused, if it was one of them. */
function wrong({ code, problem, status }) {
  if (![400, 413, 415, 422].includes(status)) return;
  const tag = code === "language_tag_invalid" || problem.errors?.some(({ location }) => location === "body.language");
  const field = byId(tag ? "teach-tag" : "teach-file");
  field.setAttribute("aria-invalid", "true");
  field.focus();
}

/** The rows that wait until there are enough. */
function kept({ language, waiting: { rows, needed } }) {
  byId("teach-form").reset();
  return make("p", { class: "told" }, `${plural(rows, "row")} of the ${needed} that teaching ${named(language).name} needs ${rows === 1 ? "is" : "are"} kept. The next file joins them, and teaching starts by itself.`);
}

/** The first rows, as “kazh | cat”. */
const rows = (sample) => make("ul", { class: "pairs" }, sample.map(({ caption, text }) => make("li", {}, make("bdi", {}, caption), " | ", make("bdi", {}, text ?? "a picture"))));

/** What may be wrong with the file, each with rows for which it is so. */
const doubted = (doubts) => make("div", { class: "sorry" }, doubts.map(({ detail, rows: shown }) => [make("p", {}, `${detail[0].toUpperCase()}${detail.slice(1)}.`), rows(shown)]));

/** What a person can do about doubts: swap the columns, or say that all is right. */
function decide(doubts, fields) {
  const again = (more) => () => submit({ ...fields, ...more }, "Sending the file");
  const swapped = doubts.some(({ code }) => code === "columns_swapped");
  return make(
    "div",
    { class: "actions" },
    swapped ? make("button", { type: "button", class: "main", id: "teach-swap", onclick: again({ swap: "true" }) }, "Swap the columns and teach") : null,
    make("button", { type: "button", id: "teach-confirm", onclick: again({ confirmed: "true" }) }, "It is right: teach it"),
  );
}

function busy(is) {
  for (const button of byId("teach-form").querySelectorAll("button")) button.disabled = is;
}

/** The report of a check: how many rows are usable, and which are not. */
function report({ language, report: counts, joined, replaced, sample, doubts, waiting: short }) {
  const faults = Object.values(counts.faults ?? {});
  const facts = [
    counts.dictionary ? ["Pairs", whole(counts.usable)] : ["Rows", `${whole(counts.usable)} of ${whole(counts.rows)} usable`],
    ["Split", `${whole(counts.train)} to learn from, ${whole(counts.val)} held out${counts.taught > counts.train ? ", taught in the end" : ""}`],
    ...Object.entries(counts.pivots ?? { en: counts.with_english }).map(([tag, count]) => [`With ${named(tag).name}`, whole(count)]),
    ["With a picture", `${whole(counts.with_picture)}${counts.pictures ? `, of ${plural(counts.pictures, "picture")}` : ""}`],
    counts.dictionary ? null : ["Duplicates", whole(counts.duplicates)],
    typeof counts.in_script === "number" ? ["In the language's script", `${percent(counts.in_script)} %`] : null,
    replaced ? ["Replaces", `${plural(replaced.rows, "caption")} of ${plural(replaced.datasets, "earlier dataset")}`] : null,
    joined ? ["Taught again beside it", `${plural(joined.rows, "caption")} of ${plural(joined.datasets, "earlier dataset")}`] : null,
    counts.losses?.length ? ["Learns from", counts.losses.map((loss) => LOSSES[loss] ?? loss.replaceAll("_", "-")).join(" and ")] : null,
  ].filter(Boolean);
  return make(
    "div",
    { class: "report" },
    make("h2", { class: "small-title" }, language ? `This file can teach ${named(language).name}` : "Contents of the file"),
    short ? make("p", { class: "told" }, `${plural(short.rows, "row")} of the ${short.needed} that teaching needs: it would be kept until then.`) : null,
    sample?.length ? [make("h3", {}, `The first rows: ${named(language).name} | ${named(sample[0].language ?? "en").name}. Is that right?`), rows(sample)] : null,
    doubts?.length ? doubted(doubts) : null,
    make("dl", {}, facts.map(([term, value]) => [make("dt", {}, term), make("dd", {}, value)])),
    counts.dictionary ? choice(counts.dictionary) : null,
    faults.length
      ? [make("h3", {}, "Rows that are left out"), make("ul", {}, faults.map((fault) => make("li", {}, `${plural(fault.count, "row")} ${faultWords(fault)} (${listed(fault.first_lines.map((line) => `line ${line}`), fault.count)})`)))]
      : null,
  );
}
