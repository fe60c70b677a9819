// The report of one version: loads it and lays out figures and plots. Computes no score.

import { ask } from "/static/api.js";
import { bar, byId, fill, make, percent, plural, sentence, time, whole } from "/static/dom.js";
import { learned, named, native, refresh } from "/static/languages.js";
import { apart, askKey, faultWords, sorry, waiting } from "/static/parts.js";
import { chainPlot, confusionTable, matchTable, movesTable } from "/static/plots.js";
import { termsLine } from "/static/terms.js";

const number = Number(location.pathname.split("/")[2]);
const source = `/v1/versions/${number}/report`;

async function draw() {
  const body = byId("report");
  fill(body, waiting("Loading the report"));
  try {
    const [answer] = await Promise.all([ask(source), refresh()]);
    document.title = `${answer.name}, version ${number} – pictoglot`;
    fill(body, heading(answer), answer.parent === null ? [base(), match(answer)] : parts(answer));
  } catch (problem) {
    fill(body, sorry(problem));
  }
}

const parts = (answer) => [verdict(answer), figures(answer), recall(answer.report), moves(answer), chain(answer), detected(answer), match(answer), index(answer), dataset(answer.report)];

/** Whether the shared table came to this version; if not, its figures are what would have been. While it is undecided, they are what will be. */
const happened = ({ state, moved }) => moved !== false && !["failed", "cancelled"].includes(state);

const base = () => make("p", { class: "lead" }, "This is the base model. It was not trained here; every version builds on it.");

function heading({ version, parent, language, name, terms, created_at: at }) {
  const link = (other) => make("a", { href: `/versions/${other}/report` }, `version ${other}`);
  const taught = parent === null ? null : [`version ${version}, built on `, link(parent), " · ", time(at)];
  return make(
    "header",
    {},
    make("h1", { class: "title" }, native(language)),
    make("p", { class: "lead" }, `${name} · ${language}`, taught ? [" · ", taught] : null),
    termsLine(terms),
  );
}

/** Whether the version serves, in sentences. */
function verdict({ version, language, name, state, error, moved, report }) {
  const gain = state === "failed" ? null : report.gain; // a refusal has the same sentence
  const now = learned.items.find((item) => item.language === language)?.version;
  const words = [];
  if (state === "failed" || state === "cancelled") words.push(`This version never served: ${error?.detail ?? state}`.replace(/[.?]?$/, (end) => end || "."));
  else if (now === version) words.push(`This version is used for ${name} now.`);
  else words.push(now === undefined || now === null ? `${name} is not available now.` : `${name} is read by version ${now} now.`);
  if (gain) words.push(`${gain.sentence}.${gain.forced ? " It serves because that was forced." : ""}`);
  for (const each of [report, ...(report.others ?? [])]) if (each.in_sample) words.push(`${each.in_sample.sentence}.`);
  if (report.joined?.rows) words.push(`It was taught from ${plural(report.joined.rows, "caption")} of ${plural(report.joined.datasets, "earlier dataset")} as well.`);
  if (report.replaced) words.push(`It replaced ${plural(report.replaced.datasets, "earlier dataset")}.`);
  for (const each of report.replaced?.sentences ?? []) words.push(`${each}.`);
  if (moved === true) words.push("It became the shared table, which reads text in an unknown language.");
  if (moved === false) words.push(apart(name));
  return make("p", { class: "verdict", "data-state": state }, sentence(words.join(" ")));
}

function figures(answer) {
  const { report } = answer;
  const { fertility = {}, english, shared = {} } = report;
  const { AA, F, languages = [] } = shared.so_far ?? {};
  const unit = typeof fertility.per_word === "number" ? "word" : "character";
  const tokens = fertility[`per_${unit}`];
  const theirs = english?.fertility?.[`per_${unit}`];
  const other = { english: "English", pivots: "paired text", words: "gloss" }[report.against] ?? "picture";
  return make(
    "dl",
    { class: "figures" },
    figure(`Text → ${other} R@1`, share(report.t2i["R@1"]), candidates(report)),
    figure(`${other[0].toUpperCase()}${other.slice(1)} → text R@1`, share(report.i2t["R@1"]), ""),
    figure(`Tokens per ${unit}`, decimal(tokens), typeof theirs === "number" ? `English ${decimal(theirs)}` : ""),
    figure("Truncated captions", share(report.truncated), "too long for the model"),
    figure("Average accuracy", share(AA), `shared table, ${plural(languages.length, "language")}${happened(answer) ? "" : "; would have been"}`),
    figure("Forgetting", typeof F === "number" ? decimal(F * 100, 1) : "–", `points below the best of each${happened(answer) ? "" : "; would have been"}`),
  );
}

const figure = (name, value, hint) => make("div", {}, make("dt", {}, name), make("dd", {}, make("span", { class: "big" }, value), make("span", { class: "hint" }, hint)));
const share = (value) => (typeof value === "number" ? `${percent(value)} %` : "–");
const decimal = (value, digits = 2) => (typeof value === "number" ? value.toFixed(digits).replace("-", "−") : "–");

function candidates({ pairs, candidates: count, against }) {
  if (!pairs) return "not measured";
  return `${plural(pairs, "caption")}, ${plural(count ?? 0, { english: "English text", pivots: "paired text", words: "gloss" }[against] ?? "picture")}`;
}

function recall(report) {
  const row = (k) => make("tr", {}, make("th", { scope: "row" }, k), make("td", {}, bar(report.t2i[k], k)), make("td", {}, bar(report.i2t[k], k)));
  const target = { english: "English text", pivots: "paired text", words: "gloss" }[report.against] ?? "picture";
  return section(
    "Retrieval quality",
    `Held-out captions, read by this version: the share whose ${target} was among the first 1, 5 and 10 results, and the share of ${target}s whose caption was.`,
    make(
      "table",
      { class: "recall" },
      make("thead", {}, make("tr", {}, make("td", {}), make("th", { scope: "col" }, `Text → ${target}`), make("th", { scope: "col" }, `${target[0].toUpperCase()}${target.slice(1)} → text`))),
      make("tbody", {}, ["R@1", "R@5", "R@10"].map(row)),
    ),
  );
}

function moves(answer) {
  const { name, report } = answer;
  const languages = report.shared?.languages ?? {};
  if (!Object.keys(languages).length) return null;
  const really = happened(answer);
  const when = really ? `before and after ${name}` : `before ${name}, and what it would have been with ${name}. It did not come to that: the shared table was not changed`;
  return section(
    really ? "Effect on the other languages" : "What the effect on the other languages would have been",
    `Text to picture R@1 of each earlier language with the shared table, ${when}. The blue mark is the own version of the language: searches that name the language use it, and it never changes.`,
    movesTable(languages, named, native, really),
  );
}

function chain(answer) {
  const measured = answer.chain.filter((step) => typeof step.AA === "number");
  if (measured.length < 2) return null;
  return section(
    "The shared table over time",
    "Average accuracy over all its languages, and forgetting (how far they are below their best), after each version. Text to picture R@1 in percent."
      + (happened(answer) ? "" : " The last step is what would have been."),
    chainPlot(measured, named, native),
  );
}

function detected({ language, name, report }) {
  const rows = report.detected ?? {};
  if (!Object.keys(rows).length) return null;
  const total = (row) => Object.values(row ?? {}).reduce((sum, count) => sum + count, 0);
  const others = Object.entries(rows).filter(([tag]) => tag !== language);
  const taken = others.reduce((sum, [, row]) => sum + (row[language] ?? 0), 0);
  const foreign = others.reduce((sum, [, row]) => sum + total(row), 0);
  const own = rows[language]?.[language] ?? 0;
  return section(
    "Language detection",
    `Searches that do not name their language: of ${plural(total(rows[language]), "caption")} in ${name}, ${whole(own)} ${own === 1 ? "is" : "are"} detected as ${name}; of ${whole(foreign)} in other languages, ${whole(taken)} ${taken === 1 ? "is" : "are"} mistaken for it. What is not certain is read with the shared table. In percent of each row.`,
    confusionTable(rows, language, named, native),
  );
}

function match({ match: told, name }) {
  if (!told) return null;
  const among = `${plural(told.captions, "caption")}, ${plural(told.pictures, "picture")}`;
  const why = { few_captions: "There are too few captions to measure it with", few_pictures: "There are too few pictures" }[told.reason];
  if (why) return section("Chance of a match", `${why} (${among}), so hits in ${name} are shown without it.`);
  return section(
    "Chance of a match",
    `Each hit has the chance that it is what the text means. ${told.texts ? `No held-out caption has a picture here, so it is told from English ones, and from how far ${plural(told.texts, "held-out text")} in ${name} are from what they mean. ` : ""}On ${among}, first hits are off by ${decimal(told.error * 100, 1)} points on average, of which ${decimal(told.by_chance * 100, 1)} would be by chance alone. With a least chance of 50 % a search keeps ${share(told.kept)} of the right first hits; when what is meant is not in the gallery, ${share(told.absent)} of searches find nothing.`,
    matchTable(told.bins, name),
  );
}

function index({ index: told }) {
  if (!told) return null;
  const asked = told.of === "captions" ? plural(told.queries, "caption") : plural(told.queries, "made-up text");
  return section("The index", `Searches find ${share(told.share)} of the ten nearest pictures (${asked} against an exact scan).`);
}

function dataset({ dataset: data }) {
  if (!data) return null;
  const faults = Object.values(data.faults ?? {}).map((fault) => `${plural(fault.count, "row")} left out: ${faultWords(fault)}`);
  const words = [
    typeof data.usable === "number" ? `${whole(data.usable)} of ${whole(data.rows)} rows usable` : null,
    typeof data.val === "number" ? `${whole(data.train)} to learn from, ${whole(data.val)} held out${data.taught > data.train ? `; then ${whole(data.taught)} were taught` : ""}` : null,
    data.duplicates ? plural(data.duplicates, "duplicate") : null,
    ...faults,
  ].filter(Boolean);
  return words.length ? section("The dataset", `${words.join("; ")}.`) : null;
}

const section = (title, lead, ...content) => make("section", {}, make("h2", { class: "title second" }, title), make("p", { class: "lead" }, lead), content);

byId("as-json").href = source;
byId("key-button").addEventListener("click", async () => (await askKey()) && draw());
draw();
