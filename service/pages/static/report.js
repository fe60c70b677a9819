// The report of one version: asks for it, and lays out what the plots draw. Computes no score.

import { ask } from "/static/api.js";
import { bar, byId, fill, make, percent, plural, time, whole } from "/static/dom.js";
import { learned, named, native, refresh } from "/static/languages.js";
import { askKey, sorry, waiting } from "/static/parts.js";
import { chainPlot, confusionTable, movesTable } from "/static/plots.js";

const number = Number(location.pathname.split("/")[2]);
const source = `/v1/versions/${number}/report`;

async function draw() {
  const body = byId("report");
  fill(body, waiting("Asking for the report"));
  try {
    const [found] = await Promise.all([ask(source), refresh()]);
    document.title = `${found.name}, version ${number} – pictoglot`;
    fill(body, heading(found), number === 0 ? base() : parts(found));
  } catch (problem) {
    fill(body, sorry(problem));
  }
}

const parts = (found) => [verdict(found), figures(found), recall(found.report), moves(found), chain(found), detected(found), dataset(found.report)];

const base = () => make("p", { class: "lead" }, "The base itself: it was not taught here, and every version stands on it.");

function heading({ version, parent, language, name, created_at: at }) {
  const link = (other) => make("a", { href: `/versions/${other}/report` }, `version ${other}`);
  const taught = version === 0 ? null : [`version ${version}, taught on top of `, parent === 0 ? "the base" : link(parent), " · ", time(at)];
  return make(
    "header",
    {},
    make("h1", { class: "title" }, native(language)),
    make("p", { class: "lead" }, `${name} · ${language}`, taught ? [" · ", taught] : null),
  );
}

/** What became of the version, in sentences. */
function verdict({ version, language, name, state, error, moved }) {
  const now = learned.items.find((item) => item.language === language)?.version;
  const words = [];
  if (state === "failed" || state === "cancelled") words.push(`It was not served: ${error?.detail ?? state}.`);
  else if (now === version) words.push(`It reads ${name} now.`);
  else words.push(now === undefined ? `${name} is not served now.` : `${name} is read by version ${now} now.`);
  if (moved === true) words.push("The shared table moved on to it.");
  if (moved === false) words.push("The shared table stayed where it was.");
  return make("p", { class: "verdict", "data-state": state }, words.join(" "));
}

function figures({ report }) {
  const { fertility = {}, english, shared = {} } = report;
  const { AA, F, languages = [] } = shared.so_far ?? {};
  const unit = typeof fertility.per_word === "number" ? "word" : "character";
  const tokens = fertility[`per_${unit}`];
  const theirs = english?.fertility?.[`per_${unit}`];
  return make(
    "dl",
    { class: "figures" },
    figure("Text → picture R@1", share(report.t2i["R@1"]), asked(report)),
    figure("Picture → text R@1", share(report.i2t["R@1"]), ""),
    figure(`Tokens a ${unit}`, decimal(tokens), typeof theirs === "number" ? `English ${decimal(theirs)}` : ""),
    figure("Captions cut", share(report.truncated), "too long for the model"),
    figure("Average accuracy", share(AA), `shared table, ${plural(languages.length, "language")}`),
    figure("Forgetting", typeof F === "number" ? decimal(F * 100, 1) : "–", "points since each one's best"),
  );
}

const figure = (name, value, hint) => make("div", {}, make("dt", {}, name), make("dd", {}, make("span", { class: "big" }, value), make("span", { class: "hint" }, hint)));
const share = (value) => (typeof value === "number" ? `${percent(value)} %` : "–");
const decimal = (value, digits = 2) => (typeof value === "number" ? value.toFixed(digits).replace("-", "−") : "–");

function asked({ pairs, candidates, against }) {
  if (!pairs) return "nothing could be asked";
  return `${plural(pairs, "caption")}, ${whole(candidates ?? 0)} ${against === "english" ? "English texts" : "pictures"}`;
}

function recall(report) {
  const row = (k) => make("tr", {}, make("th", { scope: "row" }, k), make("td", {}, bar(report.t2i[k], k)), make("td", {}, bar(report.i2t[k], k)));
  const target = report.against === "english" ? "English text" : "picture";
  return section(
    "How well it is found",
    `Held-out captions through the version's own rows: the share whose ${target} was among the first 1, 5 and 10, and of ${target}s whose caption was.`,
    make(
      "table",
      { class: "recall" },
      make("thead", {}, make("tr", {}, make("td", {}), make("th", { scope: "col" }, `Text → ${target}`), make("th", { scope: "col" }, `${target[0].toUpperCase()}${target.slice(1)} → text`))),
      make("tbody", {}, ["R@1", "R@5", "R@10"].map(row)),
    ),
  );
}

function moves({ name, report }) {
  const languages = report.shared?.languages ?? {};
  if (!Object.keys(languages).length) return null;
  return section(
    "What became of the others",
    `Text to picture R@1 of each earlier language through the shared table, before and after ${name}. The mark is its own version, which goes on reading told searches and is not touched by any of this.`,
    movesTable(languages, named, native),
  );
}

function chain({ chain: steps }) {
  const measured = steps.filter((step) => typeof step.AA === "number");
  if (measured.length < 2) return null;
  return section(
    "The shared table so far",
    "Average accuracy over all its languages, and forgetting since each one's best figure, after each version it stands on. R@1 in per cent.",
    chainPlot(measured, named, native),
  );
}

function detected({ language, name, report }) {
  const rows = report.detected ?? {};
  if (!Object.keys(rows).length) return null;
  const total = (row) => Object.values(row ?? {}).reduce((sum, count) => sum + count, 0);
  const others = Object.entries(rows).filter(([tag]) => tag !== language);
  const taken = others.reduce((sum, [, row]) => sum + (row[language] ?? 0), 0);
  const asked = others.reduce((sum, [, row]) => sum + total(row), 0);
  const own = rows[language]?.[language] ?? 0;
  return section(
    "Which language is taken for which",
    `When nobody tells the language: of ${plural(total(rows[language]), "caption")} in ${name}, ${whole(own)} would be read as ${name}; of ${whole(asked)} in the other languages, ${whole(taken)} would be taken for it. What cannot be told is read by the shared table. In per cent of each row.`,
    confusionTable(rows, language, named, native),
  );
}

function dataset({ dataset: data }) {
  if (!data) return null;
  const faults = Object.entries(data.faults ?? {}).map(([kind, { count }]) => `${whole(count)} × ${kind.replaceAll("_", " ")}`);
  const words = [
    typeof data.usable === "number" ? `${whole(data.usable)} of ${whole(data.rows)} rows usable` : null,
    typeof data.val === "number" ? `${whole(data.train)} to learn from, ${whole(data.val)} held out` : null,
    data.duplicates ? plural(data.duplicates, "duplicate") : null,
    ...faults,
  ].filter(Boolean);
  return words.length ? section("The dataset", `${words.join("; ")}.`) : null;
}

const section = (title, lead, ...content) => make("section", {}, make("h2", { class: "title second" }, title), make("p", { class: "lead" }, lead), content);

byId("as-json").href = source;
byId("key-button").addEventListener("click", async () => (await askKey()) && draw());
draw();
