// The part *Languages*: each language with what it reads, in words, and one button to teach it; figures behind "Details".

import { Problem, ask } from "/static/api.js";
import { bar, byId, fill, make, percent, time, whole } from "/static/dom.js";
import { follow, isRunning, shown } from "/static/expansions.js";
import { learned, named, native, onLanguages, refresh, teachAddress, testsOf } from "/static/languages.js";
import { prepare as prepareImport, saveFile } from "/static/languagefile.js";
import { findTag } from "/static/naming.js";
import { sorry, waiting, waysOf } from "/static/parts.js";
import { rollBack } from "/static/rollback.js";
import { changeTerms, termsLine, withdraw } from "/static/terms.js";
import { t } from "/static/text.js";

const FEW = 20; // held-out captions, of which a single one is 5 points
const LAST = 20; // expansions among which those that run are looked for

/** Connect the form that finds a language by its name; called once. */
export function prepare() {
  byId("languages-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const field = byId("languages-name");
    if (!field.value.trim()) return field.focus();
    try {
      const language = await findTag(field.value);
      if (language === "en") throw new Problem({ code: "base_language" });
      fill(byId("languages-trouble"));
      field.value = "";
      location.hash = teachAddress(language);
    } catch (problem) {
      fill(byId("languages-trouble"), sorry(problem));
      field.focus();
    }
  });
  prepareImport(drawLanguages);
  onLanguages(() => !byId("languages").hidden && draw());
}

/** Draw what is taught now, and the languages. */
export async function drawLanguages() {
  const body = byId("languages-body");
  if (!learned.items.length) fill(body, waiting(t("Loading the languages")));
  try {
    const [{ items }] = await Promise.all([ask(`/v1/expansions?limit=${LAST}`), refresh()]);
    const running = items.filter((item) => isRunning(item) && ["learn", "assess", "import"].includes(item.kind));
    fill(byId("languages-running"), running.length ? make("ol", { class: "expansions" }, running.map((item) => shown(item))) : null);
    follow();
  } catch (problem) {
    fill(body, sorry(problem));
  }
}

/** Draw the list anew; what is open stays open, and the focus where it is. */
function draw() {
  const body = byId("languages-body");
  const open = [...body.querySelectorAll("li:has(> details:last-child[open])")].map((item) => item.dataset.language);
  const held = document.activeElement?.closest("#languages-body li")?.dataset.language;
  fill(body, make("ul", { class: "languages" }, learned.items.map((item) => entry(item, open.includes(item.language)))));
  if (held) body.querySelector(`[data-language="${held}"] button`)?.focus({ preventScroll: true });
}

function entry(item, open) {
  const { language } = item;
  const { name } = named(language);
  const teach = make("button", { type: "button", "data-needs": "teach", "aria-label": t("Teach {name}", { name }), onclick: () => (location.hash = teachAddress(language)) }, t("Teach"));
  const caption = make("a", { class: "button quiet", "data-needs": "teach", href: `#caption?${new URLSearchParams({ language })}`, "aria-label": t("Caption pictures in {name}", { name }) }, t("Caption pictures"));
  return make(
    "li",
    { "data-language": language },
    make("div", { class: "heading" }, make("h2", {}, native(language, { class: "native" }), name === item.native_name ? null : [" ", make("span", { class: "gloss" }, name)]), language === "en" ? null : [caption, teach]),
    make("p", { class: "reads" }, reading(item)),
    termsLine(item.terms),
    make("details", { class: "fine", open }, make("summary", {}, t("Details"), make("span", { class: "unseen" }, ` ${name}`)), facts(item), acts(item)),
  );
}

/** What a language reads, in sentences. */
export function reading(item) {
  const { taught, built_in: builtIn, assessed, waiting: kept, report, learned_at: at } = item;
  if (item.language === "en") return t("Built in.");
  if (taught) return [found(report), by(report.rows), t("Last changed {at}.", { at: time(at?.slice(0, 10)) })].filter(Boolean).map((words, place) => [place ? " " : "", words]);
  const sentences = [
    builtIn || assessed?.reads ? t("Read without having been taught.") : t("Not taught yet."),
    kept ? t("{kept, plural, one {# row waits} other {# rows wait}} until there are 64.", { kept }) : "",
  ];
  return sentences.filter(Boolean).join(" ");
}

function found({ test, against }) {
  return test ? t("Finds {found} of {what}.", { found: test.found, what: testsOf(test, against) }) : "";
}

/** What taught the language: sentences, and single words. */
function by(rows) {
  if (!rows) return "";
  const captions = t("{captions, plural, one {# caption} other {# captions}}", rows);
  const words = t("{words, plural, one {# word} other {# words}}", rows);
  if (!rows.captions || !rows.words) return t("Taught by {what}.", { what: rows.words ? words : captions });
  return t("Taught by {captions} and {words}.", { captions, words });
}

/** What an administrator asks for: the version, its figures, how many captions pictures have. */
function facts({ language, version, captions, report, taught, assessed }) {
  const { name } = named(language);
  const number = version === null ? "–" : whole(version);
  const shared = learned.shared === version ? make("span", { class: "tag", title: t("Text in an unknown language is read by this version") }, t("shared")) : null;
  const usable = report.dataset?.usable;
  const ways = waysOf(report.against);
  const rows = [
    [t("Tag"), language],
    [t("Version"), taught ? make("a", { href: `/versions/${version}/report`, "aria-label": t("Report of {name}, version {version}", { name, version }) }, number) : number, shared],
    [t("Captions of pictures"), whole(captions), taught && usable > captions ? make("span", { class: "hint" }, t("{usable, plural, one {taught with # row} other {taught with # rows}}", { usable })) : null],
    [`${ways.to} R@1`, measured(report, "t2i")],
    [`${ways.back} R@1`, measured(report, "i2t")],
    assessed ? [t("untaught, {at}", { at: assessed.pairs < FEW ? t("too few held out: {pairs}", { pairs: assessed.pairs }) : `R@10 ${percent(assessed.t2i["R@10"])} %` }), make("span", { lang: "en" }, assessed.sentence)] : null,
  ];
  return make("dl", { class: "facts" }, rows.filter(Boolean).map(([term, ...value]) => [make("dt", {}, term), make("dd", {}, value)]));
}

function acts(item) {
  const { language, taught } = item;
  const { name } = named(language);
  const button = (words, label, act, needs = "admin") => make("button", { type: "button", class: "quiet", "data-needs": needs, onclick: () => act({ ...item, name }, drawLanguages), "aria-label": label }, words);
  return make(
    "div",
    { class: "actions" },
    language === "en" || !(taught || item.terms) ? null : button(t("Terms …"), t("Terms of {name}", { name }), changeTerms, item.terms ? "admin" : "teach"), // those that stand are changed by an administrator alone
    taught ? button(t("Save as a file"), t("Save {name} as a file", { name }), saveFile) : null,
    taught ? button(t("Roll back …"), t("Roll back {name}", { name }), rollBack) : null,
    taught ? button(t("Withdraw …"), t("Withdraw {name}", { name }), withdraw) : null,
    language === "en" ? null : make("a", { class: "button quiet", "data-needs": "admin", href: `#proposals?${new URLSearchParams({ language })}`, "aria-label": t("Proposed captions in {name}", { name }) }, t("Proposed captions")),
  );
}

/** A share of held-out captions; of a few it would say nothing. */
function measured(report, direction) {
  const pairs = report?.pairs ?? 0;
  if (pairs === 0 || pairs >= FEW) return bar(report?.[direction]?.["R@1"], recallLabel(report, direction));
  return make("span", { class: "none", title: t("{pairs, plural, one {# held-out caption} other {# held-out captions}}: too few to tell a share", { pairs }) }, t("too few held out: {pairs}", { pairs }));
}

function recallLabel(report, direction) {
  const recall = report?.[direction];
  if (!recall || typeof recall["R@1"] !== "number") return t("not measured");
  const parts = Object.entries(recall).filter(([, value]) => typeof value === "number");
  return t("{value} of {pairs, plural, one {# pair} other {# pairs}}", { value: parts.map(([name, value]) => `${name} ${percent(value)}`).join(", "), pairs: report.pairs ?? 0 });
}

