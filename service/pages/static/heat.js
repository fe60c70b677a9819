// The heat map: a row for each version, a column for each language. Shows figures of the reports, computes none.

import { all } from "/static/api.js";
import { fill, legend, make, percent, points, scrolled } from "/static/dom.js";
import { apart, learned, named, native, refresh } from "/static/languages.js";
import { nothing, sorry } from "/static/parts.js";
import { t } from "/static/text.js";

const FULL = 0.1; // a change of ten percentage points has the full colour

/** Draw what each version did to each language. */
export async function drawEffects(body) {
  try {
    const [versions, expansions] = await Promise.all([all("/v1/versions"), all("/v1/expansions"), refresh()]);
    fill(body, heatMap(versions, expansions, learned.shared));
  } catch (problem) {
    fill(body, sorry(problem));
  }
}

/** The map of all versions, oldest first; `expansions` made them, `shared` is that of the shared table. */
function heatMap(versions, expansions, shared) {
  const taught = versions.filter((version) => version.parent !== null).sort((a, b) => a.number - b.number);
  if (!taught.length) return nothing(t("No language has been taught yet."), t("The effect of each new language on the others will appear here."));
  const columns = languages(taught);
  const chain = lineage(versions, shared);
  const made = new Map(expansions.map((expansion) => [expansion.id, expansion]));
  const fates = taught.map((version) => fate(version, made.get(version.expansion), chain));
  return scrolled(
    t("Effect of each version on each language"),
    make(
      "table",
      { class: "heat" },
      make("thead", {}, make("tr", {}, make("th", { scope: "col" }, t("Version")), columns.map((tag) => make("th", { scope: "col", title: named(tag).name }, native(tag))))),
      make("tbody", {}, taught.map((version, place) => row(version, columns, fates[place]))),
    ),
    legend(
      [swatch("own"), t("the language that this version learned")],
      [swatch("loss", 1), t("{count, plural, one {# point lost} other {# points lost}}", { count: 10 })],
      [swatch("gain", 1), t("{count, plural, one {# point gained} other {# points gained}}", { count: 10 })],
      ...(fates.every(({ happened }) => happened) ? [] : [[swatch("apart"), t("what would have been: the version is not in the shared table")]]),
    ),
  );
}

/** English first, then the others in the order in which they were taught. */
function languages(taught) {
  const tags = new Set(["en"]);
  for (const version of taught) {
    Object.keys(measured(version)).forEach((tag) => tags.add(tag));
    tags.add(version.language);
  }
  return [...tags];
}

/** The number of a version and of those it builds on. */
function lineage(versions, number) {
  const parents = new Map(versions.map((version) => [version.number, version.parent]));
  const numbers = new Set();
  for (let next = number; next != null && !numbers.has(next); next = parents.get(next)) numbers.add(next);
  return numbers;
}

/** What became of a version, as a tag and a sentence; `happened` unless its figures are only what would have been. */
function fate(version, expansion, chain) {
  if (chain.has(version.number)) return { served: true, happened: true };
  const { state, error, report } = expansion ?? {};
  if (state === "failed" && error?.code === "gate_failed") return { tag: t("refused"), why: t("It was not good enough, or worse than what serves, so it never served") };
  if (["failed", "cancelled"].includes(state)) return { tag: state, why: t("It never served") };
  if (["queued", "running"].includes(state)) return { tag: t("not yet"), why: t("It is not known yet whether it will serve") };
  const own = report?.languages?.[version.language] ?? report; // a rebuild reports of each language
  if (own?.shared?.moved === false) return { served: true, tag: t("not shared"), why: apart(named(version.language).name, own.shared) };
  return { served: true, happened: true, tag: t("not shared"), why: t("It is no longer in the shared table: a language was rolled back, or the base is another one") };
}

const measured = (version) => version.report?.shared?.languages ?? {};

function row(version, columns, became) {
  return make(
    "tr",
    {},
    make(
      "th",
      { scope: "row" },
      make("a", { class: "number", href: version.report_page, title: t("Report of version {number}", { number: version.number }) }, String(version.number)),
      native(version.language),
      became.tag ? make("span", { class: "tag", title: became.why }, became.tag) : null,
    ),
    columns.map((tag) => cell(version, tag, became)),
  );
}

function cell(version, tag, { happened, served }) {
  if (tag === version.language) return own(version, named(tag).name, served);
  const recall = measured(version)[tag];
  if (!recall) return make("td", { class: "unmeasured" }, make("span", { "aria-label": t("not measured") }, "·"));
  const before = recall.before["R@1"];
  const after = recall.after["R@1"];
  const change = after - before;
  return make(
    "td",
    {
      class: !happened ? "apart" : points(change).startsWith("±") ? "same" : change < 0 ? "loss" : "gain",
      "--heat": Math.min(1, Math.abs(change) / FULL).toFixed(3),
      title: (happened ? (values) => t("{tag} with the shared table: {before} before, {after} with version {number}", values) : (values) => t("{tag} with the shared table: {before} before, would have been {after} with version {number}", values))({ tag: named(tag).name, before: percent(before), after: percent(after), number: version.number }),
    },
    make("span", { class: "value" }, percent(after)),
    make("span", { class: "change" }, points(change)),
  );
}

function own(version, name, served) {
  const recall = version.report?.t2i?.["R@1"];
  return make(
    "td",
    { class: "own", title: served ? t("{name} was learned by version {number}", { name, number: version.number }) : t("{name} was learned by version {number}, which does not serve", { name, number: version.number }) },
    make("span", { class: "value" }, typeof recall === "number" ? percent(recall) : "–"),
    make("span", { class: "change" }, served ? t("learned") : t("not served")),
  );
}

const swatch = (kind, heat = null) => make("span", { class: `swatch ${kind}`, "--heat": heat });
