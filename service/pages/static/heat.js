// The heat map: a row for each version, a column for each language. Shows figures of the reports, computes none.

import { make, percent, points } from "/static/dom.js";
import { nothing } from "/static/parts.js";

const FULL = 0.1; // a change of ten percentage points has the full colour

/** The map of all versions, oldest first; `shared` is the version of the shared table, `native` draws a language name. */
export function heatMap(versions, shared, named, native) {
  const taught = versions.filter((version) => version.parent !== null).sort((a, b) => a.number - b.number);
  if (!taught.length) return nothing("No language has been taught yet.", "The effect of each new language on the others will appear here.");
  const columns = languages(taught);
  const chain = lineage(versions, shared);
  return make(
    "div",
    { class: "scroll" },
    make(
      "table",
      { class: "heat" },
      make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "Version"), columns.map((tag) => make("th", { scope: "col", title: named(tag).name }, native(tag))))),
      make("tbody", {}, taught.map((version) => row(version, columns, chain, named, native))),
    ),
    legend(),
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

const measured = (version) => version.report?.shared?.languages ?? {};

function row(version, columns, chain, named, native) {
  return make(
    "tr",
    {},
    make(
      "th",
      { scope: "row" },
      make("a", { class: "number", href: version.report_page, title: `Report of version ${version.number}` }, String(version.number)),
      native(version.language),
      chain.has(version.number) ? null : make("span", { class: "tag", title: "Not in the shared table: rolled back, or the other languages would have lost too much" }, "not shared"),
    ),
    columns.map((tag) => cell(version, tag, named)),
  );
}

function cell(version, tag, named) {
  if (tag === version.language) return own(version, named(tag).name);
  const recall = measured(version)[tag];
  if (!recall) return make("td", { class: "unmeasured" }, make("span", { "aria-label": "not measured" }, "·"));
  const before = recall.before["R@1"];
  const after = recall.after["R@1"];
  const change = after - before;
  return make(
    "td",
    {
      class: points(change).startsWith("±") ? "same" : change < 0 ? "loss" : "gain",
      "--heat": Math.min(1, Math.abs(change) / FULL).toFixed(3),
      title: `${named(tag).name} with the shared table: ${percent(before)} before, ${percent(after)} with version ${version.number}`,
    },
    make("span", { class: "value" }, percent(after)),
    make("span", { class: "change" }, points(change)),
  );
}

function own(version, name) {
  const recall = version.report?.t2i?.["R@1"];
  return make(
    "td",
    { class: "own", title: `${name} was learned by version ${version.number}` },
    make("span", { class: "value" }, typeof recall === "number" ? percent(recall) : "–"),
    make("span", { class: "change" }, "learned"),
  );
}

function legend() {
  return make(
    "p",
    { class: "legend" },
    make("span", { class: "swatch own" }),
    "the language that this version learned",
    make("span", { class: "swatch loss", "--heat": 1 }),
    "10 points lost",
    make("span", { class: "swatch gain", "--heat": 1 }),
    "10 points gained",
  );
}
