// The languages: their list, the picker, and the table with R@1 and roll back.

import { all, ask } from "/static/api.js";
import { bar, byId, fill, make, percent, scrolled, time, whole } from "/static/dom.js";
import { heatMap } from "/static/heat.js";
import { rollBack } from "/static/rollback.js";
import { sorry, waiting } from "/static/parts.js";
import { termsLine, withdraw } from "/static/terms.js";
import { t } from "/static/text.js";

const FEW = 20; // held-out captions, of which a single one is 5 points

export const learned = { items: [], shared: null, release: null };
const watchers = [];
export const onLanguages = (watcher) => watchers.push(watcher);

/** Load the languages, and notify all parts that show them: the served ones by version, then those that are read untaught, then others. */
export async function refresh(quiet = false) {
  const answer = await ask("/v1/languages", { retried: quiet }); // without asking for a key
  const place = (item) => (served(item) ? item.version : item.version === null ? Infinity : Number.MAX_SAFE_INTEGER);
  const items = [...answer.items].sort((a, b) => (place(a) === place(b) ? a.language.localeCompare(b.language) : place(a) - place(b)));
  Object.assign(learned, { items, shared: answer.shared_version, release: answer.release });
  for (const watcher of watchers) watcher();
}

/** Whether a release names the language: English, and what was taught. */
export const served = (item) => item.taught || item.language === "en";

const known = (tag) => learned.items.find((item) => item.language === tag);

/** Name and direction of any tag: from the server for languages of its list, from the browser for others. */
export function named(tag) {
  const item = known(tag);
  if (item) return { name: item.name, native: item.native_name, direction: item.direction };
  return { name: browserName("en", tag), native: browserName(tag, tag), direction: browserDirection(tag) };
}

function browserDirection(tag) {
  try {
    return new Intl.Locale(tag).getTextInfo?.().direction ?? "auto";
  } catch {
    return "auto"; // no tag, or one that is still typed
  }
}

function browserName(inLanguage, tag) {
  try {
    return new Intl.DisplayNames([inLanguage], { type: "language", fallback: "none" }).of(tag) ?? tag;
  } catch {
    return tag;
  }
}

/** The native name as a text; of languages that call themselves the same (qu and quz), with the tag. */
export function nativeName(tag) {
  const own = named(tag).native;
  const namesakes = learned.items.some((item) => item.language !== tag && item.native_name === own);
  return namesakes ? `${own} (${tag})` : own;
}

/** The native name, marked up for its own language and direction. */
export const native = (tag, more = {}) => make("bdi", { lang: tag, dir: named(tag).direction, ...more }, nativeName(tag));

/** Fill the picker beside the search field; the choice stays. */
export function fillPicker(select) {
  const chosen = select.value || "auto";
  const untaught = learned.items.filter((item) => !served(item) && item.version !== null && (item.built_in || item.assessed?.reads));
  const option = ({ language, name, native_name: own, direction }) =>
    make("option", { value: language, lang: language, dir: direction }, own === name ? own : `${own} · ${name}`);
  fill(
    select,
    make("option", { value: "auto" }, t("Detect the language")),
    make("optgroup", { label: t("Learned") }, learned.items.filter(served).map(option)),
    untaught.length ? make("optgroup", { label: t("Not taught; the base reads it") }, untaught.map(option)) : null,
    make("option", { value: "shared" }, t("Any language")),
  );
  select.value = chosen;
  if (!select.value) select.value = "auto";
}

/** Draw the table. */
export async function drawLanguages() {
  const body = byId("languages-body");
  if (!learned.items.length) fill(body, waiting(t("Loading the languages")));
  try {
    await refresh();
    fill(body, table());
  } catch (problem) {
    fill(body, sorry(problem));
  }
}

/** Draw what each version did to each language. */
export async function drawEffects() {
  const body = byId("heat-body");
  try {
    const [versions, expansions] = await Promise.all([all("/v1/versions"), all("/v1/expansions"), refresh()]);
    fill(body, heatMap(versions, expansions, learned.shared, named, native));
  } catch (problem) {
    fill(body, sorry(problem));
  }
}

function table() {
  const columns = [t("Language"), t("Version"), t("Captions of pictures"), t("Text → picture R@1"), t("Picture → text R@1"), t("Learned"), ""];
  const head = columns.map((name) =>
    name ? make("th", { scope: "col" }, name) : make("td", {}, make("span", { class: "unseen" }, t("Actions"))),
  );
  return scrolled(
    t("Languages"),
    make(
      "table",
      { class: "languages" },
      make("thead", {}, make("tr", {}, head)),
      make("tbody", {}, learned.items.map(row)),
    ),
  );
}

function row(item) {
  const { language, name, version, captions, report, taught } = item;
  const cell = (label, ...content) => make("td", { "data-label": label }, ...content);
  const shared = learned.shared === version ? make("span", { class: "tag", title: t("Text in an unknown language is read by this version") }, t("shared")) : null;
  return make(
    "tr",
    { "data-language": language },
    make("th", { scope: "row" }, native(language, { class: "native" }), make("span", { class: "gloss" }, `${name} · ${language}`), make("span", { class: "ways" }, ways(item)), untaught(item), termsLine(item.terms)),
    cell(t("Version"), taught ? make("a", { href: `/versions/${version}/report`, "aria-label": t("Report of {name}, version {version}", { name, version }) }, whole(version)) : version === null ? make("span", { class: "none" }, "–") : whole(version), shared),
    cell(t("Captions of pictures"), whole(captions), rows(item)),
    cell(t("Text → picture R@1"), measured(report, "t2i", "R@1", recallLabel(report, "t2i")), instead(report)),
    cell(t("Picture → text R@1"), measured(report, "i2t", "R@1", recallLabel(report, "i2t")), instead(report)),
    cell(t("Learned"), taught ? time(item.learned_at) : make("span", { class: "none" }, "–")),
    make(
      "td",
      { class: "act" },
      !taught ? null : make("button", { type: "button", class: "quiet", onclick: () => rollBack(item, drawLanguages), "aria-label": t("Roll back {name}", { name }) }, t("Roll back …")),
      !taught ? null : make("button", { type: "button", class: "quiet", onclick: () => withdraw(item, drawLanguages), "aria-label": t("Withdraw {name}", { name }) }, t("Withdraw …")),
      language === "en" ? null : make("a", { href: `#caption?language=${language}`, "aria-label": t("Caption pictures in {name}", { name }) }, t("Caption pictures")),
    ),
  );
}

/** How a language is known, as tags; what was measured is told by the tag's title. */
function ways({ taught, built_in: builtIn, assessed }) {
  return [
    taught ? make("span", { class: "tag" }, t("taught")) : null,
    builtIn ? make("span", { class: "tag" }, t("built in")) : null,
    assessed ? make("span", { class: "tag", title: assessed.sentence }, t("assessed")) : null,
  ];
}

/** How the base reads it untaught, in the words of the assessment; no share of a few captions. */
function untaught({ assessed }) {
  if (!assessed) return null;
  const at = assessed.pairs < FEW ? t("too few held out: {pairs}", { pairs: assessed.pairs }) : `R@10 ${percent(assessed.t2i["R@10"])} %`;
  return make("span", { class: "hint", title: assessed.sentence }, t("untaught, {at}", { at }));
}

/** How many rows taught the language, where captions of pictures do not tell. */
const rows = ({ taught, captions, report }) => (taught && report.dataset?.usable > captions ? make("span", { class: "hint" }, t("{usable, plural, one {taught with # row} other {taught with # rows}}", { usable: report.dataset.usable })) : null);

/** What stood in the place of pictures when a language was measured that was taught without. */
function instead({ pairs, against }) {
  const what = { english: t("English texts"), pivots: t("paired texts"), words: t("glosses") }[against];
  return what && pairs >= FEW ? make("span", { class: "hint" }, t("{what}, not pictures", { what })) : null;
}

/** A share of held-out captions; of a few it would say nothing. */
function measured(report, direction, at, label) {
  const pairs = report?.pairs ?? 0;
  if (pairs === 0 || pairs >= FEW) return bar(report?.[direction]?.[at], label);
  return make("span", { class: "none", title: t("{pairs, plural, one {# held-out caption} other {# held-out captions}}: too few to tell a share", { pairs }) }, t("too few held out: {pairs}", { pairs }));
}

function recallLabel(report, direction) {
  const recall = report?.[direction];
  if (!recall || typeof recall["R@1"] !== "number") return t("not measured");
  const parts = Object.entries(recall).filter(([, value]) => typeof value === "number");
  return t("{value} of {pairs, plural, one {# pair} other {# pairs}}", { value: parts.map(([name, value]) => `${name} ${(value * 100).toFixed(1)}`).join(", "), pairs: report.pairs ?? 0 });
}
