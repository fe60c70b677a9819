// The report of one version: loads it and lays out figures and plots. Computes no score.

import { ask, faultWords } from "/static/api.js";
import { bar, byId, decimal, fill, make, percent, points, time, whole, withCode } from "/static/dom.js";
import { apart, learned, named, native, refresh } from "/static/languages.js";
import { askKey, sorry, waiting, waysOf } from "/static/parts.js";
import { chainPlot, confusionTable, matchTable, movesTable } from "/static/plots.js";
import { look } from "/static/session.js";
import { termsLine } from "/static/terms.js";
import { locale, t } from "/static/text.js";

const number = Number(location.pathname.split("/")[2]);
const source = `/v1/versions/${number}/report`;

async function draw() {
  const body = byId("report");
  fill(body, waiting(t("Loading the report")));
  try {
    await look(); // who is refused is asked to sign in, where people do
    const [answer] = await Promise.all([ask(source), refresh()]);
    answer.name = named(answer.language).name;
    document.title = `${t("{name}, version {number}", { name: answer.name, number })} – pictoglot`;
    fill(body, heading(answer), answer.parent === null ? [base(), match(answer)] : parts(answer));
  } catch (problem) {
    fill(body, sorry(problem));
  }
}

const parts = (answer) => [verdict(answer), figures(answer), recall(answer.report), moves(answer), chain(answer), detected(answer), match(answer), index(answer), dataset(answer.report)];

/** Whether the shared table came to this version; if not, its figures are what would have been. While it is undecided, they are what will be. */
const happened = ({ state, moved }) => moved !== false && !["failed", "cancelled"].includes(state);

const base = () => make("p", { class: "lead" }, t("This is the base model. It was not trained here; every version builds on it."));

function heading({ version, parent, language, name, terms, created_at: at }) {
  const link = () => make("a", { href: `/versions/${parent}/report` }, t("version {number}", { number: parent }));
  const taught = parent === null ? null : [" · ", t("version {number}, built on {parent}", { number: version, parent: link() }), " · ", time(at)];
  return make("header", {}, make("h1", { class: "title" }, native(language)), make("p", { class: "lead" }, `${name} · ${language}`, taught), termsLine(terms));
}

/** Whether the version serves, in sentences. */
function verdict({ version, language, name, state, error, moved, report }) {
  const failed = ["failed", "cancelled"].includes(state);
  const gain = failed ? null : report.gain; // a refusal has the same sentence
  const now = learned.items.find((item) => item.language === language)?.version;
  const quoted = []; // the server's words, where they are not the reader's
  const quote = (text) => {
    const words = make("span", { lang: "en" }, withCode(`${text}.`.replace(/[.?]\.$/, (end) => end[0])));
    if (locale === "en") return words;
    quoted.push(words, " ");
    return null;
  };
  const words = [
    failed ? t("This version never served.") : now === version ? t("This version is used for {name} now.", { name }) : now == null ? t("{name} is not available now.", { name }) : t("{name} is read by version {now} now.", { name, now }),
    failed && error?.detail ? quote(error.detail) : null,
    report.imported ? quote(report.imported.sentence) : null,
    gain ? quote(gain.sentence) : null,
    gain && locale !== "en" ? t("On the same held-out captions as version {version}, recall changed by {change} ± {error} points.", { version: gain.version, change: points(gain.mean), error: decimal(100 * gain.error) }) : null,
    gain?.forced ? t("It serves because that was forced.") : null,
    ...[report, ...(report.others ?? [])].map((each) => (each.in_sample ? quote(each.in_sample.sentence) : null)),
    report.joined?.rows ? t("It was taught from {rows, plural, one {# caption} other {# captions}} of {datasets, plural, one {# earlier dataset} other {# earlier datasets}} as well.", report.joined) : null,
    report.replaced ? t("It replaced {datasets, plural, one {# earlier dataset} other {# earlier datasets}}.", report.replaced) : null,
    ...(report.replaced?.sentences ?? []).map(quote),
    moved === true ? t("It became the shared table, which reads text in an unknown language.") : null,
    moved === false ? apart(name, report.shared) : null,
  ];
  const said = make("p", { class: "verdict", "data-state": state }, words.filter(Boolean).map((each) => [each, " "]));
  return [said, quoted.length ? make("details", { class: "fine" }, make("summary", {}, t("Details")), make("p", {}, quoted)) : null];
}

function figures(answer) {
  const { report } = answer;
  const { fertility = {}, english, shared = {} } = report;
  const { AA, F, languages = [] } = shared.so_far ?? {};
  const unit = typeof fertility.per_word === "number" ? "per_word" : "per_character";
  const theirs = english?.fertility?.[unit];
  const ways = waysOf(report.against);
  const apart = (words) => (happened(answer) ? words : `${words}; ${t("would have been")}`);
  return make(
    "dl",
    { class: "figures" },
    figure(`${ways.to} R@1`, share(report.t2i["R@1"]), candidates(report)),
    figure(`${ways.back} R@1`, share(report.i2t["R@1"]), ""),
    figure(unit === "per_word" ? t("Tokens per word") : t("Tokens per character"), exact(fertility[unit]), typeof theirs === "number" ? t("English {value}", { value: exact(theirs) }) : ""),
    figure(t("Truncated captions"), share(report.truncated), t("too long for the model")),
    figure(t("Average accuracy"), share(AA), apart(t("shared table, {count, plural, one {# language} other {# languages}}", { count: languages.length }))),
    figure(t("Forgetting"), typeof F === "number" ? exact(F * 100, 1) : "–", apart(t("points below the best of each"))),
  );
}

const figure = (name, value, hint) => make("div", {}, make("dt", {}, name), make("dd", {}, make("span", { class: "big" }, value), make("span", { class: "hint" }, hint)));
const share = (value) => (typeof value === "number" ? `${percent(value)} %` : "–");
const exact = (value, digits = 2) => (typeof value === "number" ? decimal(value, digits).replace("-", "−") : "–");

function candidates({ pairs, candidates: count = 0 }) {
  return pairs ? t("{pairs, plural, one {# caption} other {# captions}} among {count, plural, one {# candidate} other {# candidates}}", { pairs, count }) : t("not measured");
}

function recall(report) {
  const row = (k) => make("tr", {}, make("th", { scope: "row" }, k), make("td", {}, bar(report.t2i[k], k)), make("td", {}, bar(report.i2t[k], k)));
  const head = Object.values(waysOf(report.against)).map((way) => make("th", { scope: "col" }, way));
  return section(
    t("Retrieval quality"),
    t("Held-out captions, read by this version: the share whose counterpart was among the first 1, 5 and 10 results, and the share of counterparts whose caption was."),
    make("table", { class: "recall" }, make("thead", {}, make("tr", {}, make("td", {}), head)), make("tbody", {}, ["R@1", "R@5", "R@10"].map(row))),
  );
}

function moves(answer) {
  const { name, report } = answer;
  const languages = report.shared?.languages ?? {};
  if (!Object.keys(languages).length) return null;
  const really = happened(answer);
  return section(
    really ? t("Effect on the other languages") : t("What the effect on the other languages would have been"),
    [
      really ? t("Text to picture R@1 of each earlier language with the shared table, before and after {name}.", { name }) : t("Text to picture R@1 of each earlier language with the shared table, before {name}, and what it would have been with it. The shared table was not changed.", { name }),
      " ",
      t("The blue mark is the own version of the language: searches that name the language use it, and it never changes."),
    ],
    movesTable(languages, named, native, really),
  );
}

function chain(answer) {
  const measured = answer.chain.filter((step) => typeof step.AA === "number");
  if (measured.length < 2) return null;
  return section(
    t("The shared table over time"),
    [
      t("Average accuracy over all its languages, and forgetting (how far they are below their best), after each version. Text to picture R@1 in percent."),
      happened(answer) ? "" : ` ${t("The last step is what would have been.")}`,
    ],
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
    t("Language detection"),
    t("Searches that do not name their language: of {count, plural, one {# caption} other {# captions}} in {name}, {own, plural, one {# is} other {# are}} detected as {name}; of {foreign} in other languages, {taken, plural, one {# is} other {# are}} mistaken for it. What is not certain is read with the shared table. In percent of each row.", { count: total(rows[language]), name, own, foreign, taken }),
    confusionTable(rows, language, named, native),
  );
}

function match({ match: figures, name }) {
  if (!figures) return null;
  const among = t("{captions, plural, one {# caption} other {# captions}}, {pictures, plural, one {# picture} other {# pictures}}", figures);
  const why = { few_captions: t("There are too few captions to measure it with"), few_pictures: t("There are too few pictures") }[figures.reason];
  if (why) return section(t("Chance of a match"), t("{why} ({among}), so hits in {name} are shown without it.", { why, among, name }));
  return section(
    t("Chance of a match"),
    [
      t("Each hit has the chance that it is what the text means."),
      " ",
      figures.texts ? [t("No held-out caption has a picture here, so it is estimated from English ones, and from how far {texts, plural, one {# held-out text} other {# held-out texts}} in {name} are from what they mean.", { texts: figures.texts, name }), " "] : "",
      t("On {among}, first hits are off by {error} points on average, of which {chance} would be by chance alone.", { among, error: exact(figures.error * 100, 1), chance: exact(figures.by_chance * 100, 1) }),
      " ",
      t("With a least chance of 50 % a search keeps {kept} of the right first hits; when what is meant is not in the gallery, {absent} of searches find nothing.", { kept: share(figures.kept), absent: share(figures.absent) }),
    ],
    matchTable(figures.bins, name),
  );
}

function index({ index: figures }) {
  if (!figures) return null;
  const values = { share: share(figures.share), queries: figures.queries };
  return section(
    t("The index"),
    figures.of === "captions"
      ? t("Searches find {share} of the ten nearest pictures ({queries, plural, one {# caption} other {# captions}} against an exact scan).", values)
      : t("Searches find {share} of the ten nearest pictures ({queries, plural, one {# made-up text} other {# made-up texts}} against an exact scan).", values),
  );
}

function dataset({ dataset: data }) {
  if (!data) return null;
  const faults = Object.entries(data.faults ?? {}).map(([code, { count }]) => t("left out: {count, plural, one {# row} other {# rows}} {fault}", { count, fault: faultWords(code) }));
  const words = [
    typeof data.usable === "number" ? t("{usable} of {rows, plural, one {# row} other {# rows}} can be used", data) : null,
    typeof data.val === "number" ? t("{train} to learn from, {val} held out", data) : null,
    data.taught > data.train ? t("then {taught} were taught", data) : null,
    data.duplicates ? t("{duplicates, plural, one {# duplicate} other {# duplicates}}", data) : null,
    ...faults,
  ].filter(Boolean);
  return words.length ? section(t("The dataset"), `${words.join("; ")}.`) : null;
}

const section = (title, lead, ...content) => make("section", {}, make("h2", { class: "title second" }, title), make("p", { class: "lead" }, lead), content);

byId("as-json").href = source;
byId("key-button").addEventListener("click", async () => (await askKey()) && draw());
draw();
