// The heat map: a row for each version, a column for each language. Shows what the reports hold, computes no score.

import { make, percent, points } from "/static/dom.js";
import { nothing } from "/static/parts.js";

const FULL = 0.1; // a change of ten points has the full colour

/** The map of all versions (GET /v1/versions), oldest first; `shared` is the serving one, `native` draws a language's name. */
export function heatMap(versions, shared, named, native) {
  const taught = versions.filter((version) => version.number > 0).sort((a, b) => a.number - b.number);
  if (!taught.length) return nothing("No language has been taught yet.", "Once one is, its effect on the others stands here.");
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
  const found = new Set(["en"]);
  for (const version of taught) {
    Object.keys(measured(version)).forEach((tag) => found.add(tag));
    found.add(version.language);
  }
  return [...found];
}

/** The numbers of the versions that a version stands on, with its own. */
function lineage(versions, number) {
  const parents = new Map(versions.map((version) => [version.number, version.parent]));
  const found = new Set();
  for (let next = number; next != null && !found.has(next); next = parents.get(next)) found.add(next);
  return found;
}

const measured = (version) => version.report?.shared?.languages ?? {};

function row(version, columns, chain, named, native) {
  return make(
    "tr",
    {},
    make(
      "th",
      { scope: "row" },
      make("a", { class: "number", href: version.report_page, title: `The report of version ${version.number}` }, String(version.number)),
      native(version.language),
      chain.has(version.number) ? null : make("span", { class: "tag", title: "Not in the shared table: taken back, or it would have cost the others too much" }, "not shared"),
    ),
    columns.map((tag) => cell(version, tag, named)),
  );
}

function cell(version, tag, named) {
  if (tag === version.language) return own(version, named(tag).name);
  const found = measured(version)[tag];
  if (!found) return make("td", { class: "unmeasured" }, make("span", { "aria-label": "not measured" }, "·"));
  const before = found.before["R@1"];
  const after = found.after["R@1"];
  const change = after - before;
  return make(
    "td",
    {
      class: points(change).startsWith("±") ? "same" : change < 0 ? "loss" : "gain",
      "--heat": Math.min(1, Math.abs(change) / FULL).toFixed(3),
      title: `${named(tag).name} through the shared table: ${percent(before)} before, ${percent(after)} with version ${version.number}`,
    },
    make("span", { class: "value" }, percent(after)),
    make("span", { class: "change" }, points(change)),
  );
}

function own(version, name) {
  const reached = version.report?.t2i?.["R@1"];
  return make(
    "td",
    { class: "own", title: `${name} was learned by version ${version.number}` },
    make("span", { class: "value" }, typeof reached === "number" ? percent(reached) : "–"),
    make("span", { class: "change" }, "learned"),
  );
}

function legend() {
  return make(
    "p",
    { class: "legend" },
    make("span", { class: "swatch own" }),
    "learned by this version",
    make("span", { class: "swatch loss", "--heat": 1 }),
    "ten points lost",
    make("span", { class: "swatch gain", "--heat": 1 }),
    "ten points gained",
  );
}
