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
  for (const id of ["teach-tag", "teach-file", "teach-dictionary"]) byId(id).addEventListener("input", forget);
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
  for (const id of ["teach-tag", "teach-file"]) {
    const input = byId(id);
    if (!input.value.trim()) {
      input.setAttribute("aria-invalid", "true");
      const what = id === "teach-tag" ? "Enter the tag of the language." : "Choose the file with its captions.";
      fill(byId("teach-trouble"), make("div", { class: "sorry" }, make("p", {}, what)));
      input.focus();
      return false;
    }
  }
  return true;
}

/** Send the form with these fields besides; a dry run answers with a report, anything else with an expansion. */
async function submit(fields, what) {
  forget();
  if (!complete()) return;
  const body = new FormData();
  body.set("language", byId("teach-tag").value.trim());
  for (const [name, value] of Object.entries(fields)) body.set(name, value);
  const terms = fields.assess ? "" : await readTerms(byId("teach-terms"));
  if (terms) body.set("terms", terms);
  fill(byId("teach-report"), waiting(what));
  busy(true);
  try {
    const [file] = byId("teach-file").files;
    const words = byId("teach-dictionary").checked;
    if (words) body.set("kind", "dictionary");
    body.set("dataset", words ? await entries(file) : file, file.name);
    const answer = await ask("/v1/languages", { body, headers: fields.dry_run ? {} : freshKey() });
    if (fields.dry_run) fill(byId("teach-report"), report(answer));
    else {
      fill(byId("teach-report"));
      if (!fields.assess) {
        byId("teach-form").reset(); // what was assessed may be taught next
        tellName();
      }
      await drawExpansions(answer.expansion.id);
    }
  } catch (problem) {
    fill(byId("teach-report"), problem.problem?.report ? report({ report: problem.problem.report }) : null);
    fill(byId("teach-trouble"), sorry(problem));
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

function busy(is) {
  for (const button of byId("teach-form").querySelectorAll("button")) button.disabled = is;
}

/** The report of a check: how many rows are usable, and which are not. */
function report({ language, report: counts, joined, replaced }) {
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
    make("dl", {}, facts.map(([term, value]) => [make("dt", {}, term), make("dd", {}, value)])),
    counts.dictionary ? choice(counts.dictionary) : null,
    faults.length
      ? [make("h3", {}, "Rows that are left out"), make("ul", {}, faults.map((fault) => make("li", {}, `${plural(fault.count, "row")} ${faultWords(fault)} (${listed(fault.first_lines.map((line) => `line ${line}`), fault.count)})`)))]
      : null,
  );
}
