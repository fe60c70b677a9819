// Teaching one language in three ways: lines that are typed, words that the pictures need, a file. Rows are shown and asked about before they teach.

import { ask, faultWords, freshKey, listed } from "/static/api.js";
import { choice, entries, isSpreadsheet, isText, pairs as pairsOf } from "/static/dictionary.js";
import { byId, fill, make, percent, whole } from "/static/dom.js";
import { follow, shown } from "/static/expansions.js";
import { known, named, onLanguages, teachAddress } from "/static/languages.js";
import { reading } from "/static/overview.js";
import { sorry, waiting } from "/static/parts.js";
import { readTerms, termsFields } from "/static/terms.js";
import { t } from "/static/text.js";
import { drawWords } from "/static/words.js";

const WAYS = ["type", "words", "file"];
const LOSSES = { cross_lingual: t("paired texts"), cross_modal: t("pictures") }; // what drives each
const LAST = 100; // expansions among which the last one of the language is looked for
let tag = "";
let way = WAYS[0];
let bare = null; // the file whose table has no names above its columns: it holds sentences
const drafts = new Map(); // lines that were typed for other languages
let left = []; // lines {number, text} that were typed without a meaning: they stay in the box

/** Connect the form; called once. */
export function prepare() {
  byId("teach-form").addEventListener("submit", (event) => {
    event.preventDefault();
    submit({ dry_run: "true", replace: chosen("replace") }, t("Looking at the rows"));
  });
  byId("teach-assess").addEventListener("click", () => submit({ assess: "true" }, t("Sending the rows")));
  fill(byId("teach-terms"), termsFields());
  byId("teach-form").addEventListener("input", forget);
  onLanguages(drawState);
}

/** Show the way to teach a language that the address names; a word that it brings is put into the box. */
export function drawTeach(query) {
  const language = query.get("language");
  if (!language) return location.replace("#languages");
  if (language !== tag) {
    drafts.set(tag, byId("teach-lines").value);
    byId("teach-form").reset();
    byId("teach-lines").value = drafts.get(language) ?? "";
    drafts.delete(language);
    fill(byId("teach-last"));
  }
  const next = WAYS.find((each) => each === query.get("way")) ?? WAYS[0];
  if (language !== tag || next !== way) forget();
  [tag, way] = [language, next];
  const { name, direction } = named(tag);
  byId("teach-title").textContent = t("Teach {name}", { name });
  Object.assign(byId("teach-lines"), { lang: tag, dir: direction === "rtl" ? "rtl" : "auto" });
  for (const link of byId("teach-ways").children) {
    const own = link.dataset.way;
    link.href = teachAddress(tag, { way: own });
    if (own === way) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  for (const each of WAYS) byId(`way-${each}`).hidden = each !== way;
  byId("teach-form").hidden = way === "words";
  drawState();
  drawLast();
  if (way === "words") drawWords(tag);
  if (query.has("add")) add(query.get("add"));
}

/** Whether lines were typed that nobody sent. */
export const isTyping = () => [byId("teach-lines").value, ...drafts.values()].some((lines) => lines.trim());

const drawState = () => fill(byId("teach-state"), known(tag) ? reading(known(tag)) : t("Not taught yet."));

/** Put a word into the box, and the caret where its meaning goes. */
function add(word) {
  const field = byId("teach-lines");
  field.value = [field.value.trimEnd(), `${word} = `].filter(Boolean).join("\n");
  field.focus();
  field.setSelectionRange(field.value.length, field.value.length);
  history.replaceState(null, "", teachAddress(tag)); // to load the page anew adds it no second time
}

/** Show what was taught last, or is taught now. */
async function drawLast() {
  const language = tag;
  const { items } = await ask(`/v1/expansions?limit=${LAST}`).catch(() => ({ items: [] }));
  const last = items.find((item) => item.language === language && ["learn", "assess"].includes(item.kind));
  if (language !== tag) return;
  fill(byId("teach-last"), last ? make("ol", { class: "expansions" }, shown(last)) : null);
  follow();
}

const chosen = (name) => String(byId(`teach-${name}`).checked);
const field = () => byId(way === "file" ? "teach-file" : "teach-lines");

function forget() {
  for (const each of byId("teach-form").querySelectorAll("[aria-invalid]")) each.removeAttribute("aria-invalid");
  fill(byId("teach-trouble"));
  fill(byId("teach-report"));
}

/** Mark the field that is wrong, and say why. */
function wrong(trouble) {
  field().setAttribute("aria-invalid", "true");
  fill(byId("teach-trouble"), trouble);
  field().focus();
}

/** What was typed, as a file: `kazh = cat` in a line, or two cells of a table. A line without a meaning does not hold up the others. */
function typed() {
  const rows = byId("teach-lines").value.split("\n").map((text, at) => {
    const [caption, ...english] = text.split(/\s*[=|;\t]\s*|\s+[-–—]\s+/);
    return { number: at + 1, text, row: { caption: caption.trim(), english: english.join(" ").trim() } };
  }).filter(({ text }) => text.trim());
  const whole = rows.filter(({ row }) => row.caption && row.english);
  left = whole.length ? rows.filter((each) => !whole.includes(each)) : [];
  const taken = whole.length ? whole : rows; // of none that is whole, the server says what is wrong
  return rows.length ? new File([taken.map(({ row }) => `${JSON.stringify(row)}\n`).join("")], "typed.jsonl") : null;
}

/** Empty the form, but for what was left out. */
function clear() {
  byId("teach-form").reset();
  byId("teach-lines").value = left.map(({ text }) => text).join("\n");
}

/** Send the form with these fields besides; a dry run answers with a report, anything else with an expansion. */
async function submit(fields, what) {
  forget();
  left = [];
  const file = way === "file" ? field().files[0] : typed();
  if (!file) return wrong(make("div", { class: "sorry" }, make("p", {}, way === "file" ? t("Choose a file.") : t("Type some words."))));
  const [language, here] = [tag, way];
  const gone = () => language !== tag || (fields.dry_run && here !== way); // other rows are shown by now
  const body = new FormData();
  for (const [name, value] of Object.entries({ language, ...fields })) body.set(name, value);
  fill(byId("teach-report"), waiting(what));
  busy(true);
  try {
    const terms = fields.assess ? "" : await readTerms(byId("teach-terms"));
    if (terms) body.set("terms", terms);
    const words = way === "file" && byId("teach-dictionary").checked;
    if (words) body.set("kind", "dictionary");
    body.set("dataset", words ? await entries(file) : file === bare ? await pairsOf(file) : file, file.name);
    const answer = await ask("/v1/languages", { body, headers: fields.dry_run ? {} : freshKey() });
    if (gone()) return;
    if (fields.dry_run) fill(byId("teach-report"), report(answer));
    else if (answer.waiting) fill(byId("teach-report"), kept(answer));
    else await begun(fields);
  } catch (problem) {
    if (!gone()) refused(problem, fields);
  } finally {
    busy(false);
  }
  byId("teach-report").querySelector("button.main")?.focus();
}

/** Show the expansion that was begun in place of the form's content. */
async function begun(fields) {
  fill(byId("teach-report"));
  if (!fields.assess) clear(); // what was assessed may be taught next
  await drawLast();
  byId("teach-last").scrollIntoView({ block: "nearest" });
}

function refused(problem, fields) {
  const { report: counts, doubts } = problem.problem ?? {};
  fill(byId("teach-report"), counts ? report({ report: counts }) : doubts ? [doubted(doubts), decide(doubts, fields)] : null);
  busy(false); // before the focus: a field that is wrong gets it
  if (!doubts && [400, 413, 415, 422].includes(problem.status)) wrong(sorry(problem));
  else fill(byId("teach-trouble"), doubts ? null : sorry(problem));
  if (problem.code === "dataset_language_mismatch" && !fields.swap) byId("teach-trouble").append(make("div", { class: "actions" }, turn(fields)));
  if (problem.problem?.kind === "wrong_columns" && way === "file") byId("teach-trouble").append(...whatItHolds(fields));
}

/** The one question about a table whose first row names no columns: what its rows are. */
function whatItHolds(fields) {
  const [file] = field().files;
  const answer = (words, dictionary) => make("button", { type: "button", onclick: () => {
    byId("teach-dictionary").checked = dictionary;
    bare = dictionary ? null : file;
    submit(fields, t("Looking at the rows"));
  } }, words);
  const [words, sentences] = [answer(t("Words: it is a dictionary"), true), isText(file) ? answer(t("Sentences, such as captions"), false) : null]; // of a spreadsheet the service reads words without such a row
  return isText(file) || isSpreadsheet(file) ? [make("p", {}, t("Or has it no such row? Then say what the rows are:")), make("div", { class: "actions" }, words, sentences)] : [];
}

function busy(is) {
  for (const control of byId("teach-form").querySelectorAll("button, input, textarea")) control.disabled = is; // what is typed now would go with what was sent
}

/** The rows that wait until there are enough. */
function kept({ waiting: { rows, needed } }) {
  clear();
  return make("p", { class: "told" }, t("{rows, plural, one {# row is kept} other {# rows are kept}} of the {needed} that teaching {name} needs. The next rows join them, and teaching starts by itself.", { rows, needed, name: named(tag).name }));
}

const own = (caption) => make("bdi", { lang: tag }, caption);

/** The first rows, as “kazh | cat”. */
const pairs = (sample) => make("ul", { class: "pairs" }, sample.map(({ caption, text }) => make("li", {}, own(caption), " | ", make("bdi", {}, text ?? t("a picture")))));

/** What may be wrong with the rows, each with those for which it is so. */
function doubted(doubts) {
  const says = {
    columns_swapped: (names) => t("The columns seem to be swapped: what should be {expected} is {found}.", names),
    other_language: (names) => (names.found ? t("What should be {expected} looks like {found}.", names) : t("What should be {expected} looks little like what was taught of it before.", names)),
    pairs_unrelated: (_, [first]) => t("The pairs do not seem to belong together: row {line} says {caption} = {text}.", { line: first.line, caption: own(first.caption), text: make("bdi", {}, first.text) }),
  };
  const names = ({ expected, found }) => ({ expected: expected && named(expected).name, found: found && named(found).name });
  return make("div", { class: "sorry" }, doubts.map((doubt) => [make("p", {}, says[doubt.code](names(doubt), doubt.rows)), pairs(doubt.rows)]));
}

/** What sends the rows to be taught; `more` is what a person decided about them. */
function begin({ dry_run: checked, ...fields }, more) {
  return () => submit({ force: chosen("force"), ...fields, ...more }, t("Sending the rows"));
}

const turn = (fields) => make("button", { type: "button", class: "main", id: "teach-swap", onclick: begin(fields, { swap: "true" }) }, t("Swap the columns and teach"));

/** What a person decides about the rows: that they are right, or that their columns are swapped. */
function decide(doubts, fields, words = t("Yes, teach it")) {
  const swapped = doubts.some(({ code }) => code === "columns_swapped");
  return make(
    "div",
    { class: "actions" },
    swapped ? turn(fields) : null,
    doubts.length ? make("button", { type: "button", id: "teach-confirm", onclick: begin(fields, { confirmed: "true" }) }, t("It is right: teach it")) : make("button", { type: "button", class: "main", id: "teach-start", onclick: begin(fields) }, words),
  );
}

/** What a check found: the first rows and whether they are right, how many are usable, and which are not. */
function report({ language, report: counts, joined, replaced, sample = [], doubts = [], waiting: short }) {
  const faults = Object.entries(counts.faults ?? {});
  const names = { own: named(tag).name, other: named(sample[0]?.language ?? "en").name };
  const fault = ([code, { count, first_lines: lines }]) => make("li", {}, t("{count, plural, one {# row} other {# rows}} {fault} ({lines})", { count, fault: faultWords(code), lines: listed(lines.map((line) => `line ${line}`), count) }));
  return make(
    "div",
    { class: "report" },
    sample.length && !doubts.length ? [make("h2", { class: "small-title" }, t("The first rows: {own} | {other}. Is that right?", names)), pairs(sample)] : null,
    short ? make("p", { class: "told" }, t("{rows, plural, one {# row} other {# rows}} of the {needed} that teaching needs: until then they are kept.", short)) : null,
    doubts.length ? doubted(doubts) : null,
    make("p", {}, t("{usable} of {rows, plural, one {# row} other {# rows}} can be used", counts), "."),
    faults.length ? make("ul", {}, faults.map(fault)) : null,
    left.length ? [make("p", {}, t("No meaning stands in these lines. They are left out, and stay in the box:")), make("ul", { class: "left" }, left.map(({ number, text }) => make("li", {}, t("line {number}: {text}", { number, text: own(text) }))))] : null,
    counts.dictionary ? choice(counts.dictionary) : null,
    language ? decide(doubts, { replace: chosen("replace") }, short ? t("Yes, keep them") : undefined) : null,
    make("details", { class: "fine" }, make("summary", {}, t("Details")), make("dl", { class: "facts" }, facts(counts, joined, replaced).map(([term, value]) => [make("dt", {}, term), make("dd", {}, value)]))),
  );
}

function facts(counts, joined, replaced) {
  const earlier = (each) => t("{rows, plural, one {# caption} other {# captions}} of {datasets, plural, one {# earlier dataset} other {# earlier datasets}}", each);
  return [
    [t("To learn from"), whole(counts.train)],
    [t("Held out"), counts.taught > counts.train ? t("{val}, taught in the end", { val: counts.val }) : whole(counts.val)],
    ...Object.entries(counts.pivots ?? { en: counts.with_english }).map(([other, count]) => [t("With {name}", { name: named(other).name }), whole(count)]),
    [t("With a picture"), whole(counts.with_picture)],
    [t("Duplicates"), whole(counts.duplicates)],
    typeof counts.in_script === "number" ? [t("In the language's script"), `${percent(counts.in_script)} %`] : null,
    replaced ? [t("Replaces"), earlier(replaced)] : null,
    joined ? [t("Taught again beside it"), earlier(joined)] : null,
    counts.losses?.length ? [t("Learns from"), counts.losses.map((loss) => LOSSES[loss] ?? loss.replaceAll("_", "-")).join(", ")] : null,
  ].filter(Boolean);
}
