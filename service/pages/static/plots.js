// The plots of a report, as tables and one drawing: each has its numbers as text. Sends no request.

import { legend, make, percent, points, scrolled } from "/static/dom.js";
import { t } from "/static/text.js";

const FULL = 0.1; // a change of ten percentage points has the full colour
const UNSURE = "shared"; // the row of the shared table among languages

/** A row for each earlier language: a scale with R@1 before, after and when it was learned, and the change; grey where it did not come to that. */
export function movesTable(languages, named, native, happened) {
  const row = ([tag, { before, after, learned }]) => {
    const figures = { before: before["R@1"], after: after["R@1"], learned: learned?.["R@1"] };
    const change = figures.after - figures.before;
    return make(
      "tr",
      { "data-language": tag },
      make("th", { scope: "row" }, native(tag)),
      make("td", { class: "scale-cell" }, scale(figures, named(tag).name, null, happened)),
      make("td", {}, make("span", { class: `change ${happened ? kind(change) : "same"}`, "--heat": heat(change) }, points(change))),
      make("td", { class: "number" }, percent(figures.before), " → ", percent(figures.after)),
    );
  };
  const ends = make("span", { class: "ends", "aria-hidden": "true" }, ["0", "25", "50", "75", "100"].map((at) => make("span", {}, at)));
  return scrolled(
    t("Effect on the other languages"),
    make(
      "table",
      { class: "moves" },
      make("thead", {}, make("tr", {}, heads(t("Language")), make("th", { scope: "col" }, make("span", { class: "unseen" }, t("On a scale from 0 to 100 percent")), ends), heads(t("Points"), "R@1"))),
      make("tbody", {}, Object.entries(languages).map(row)),
    ),
    legend([key("dot before"), t("before")], [key("dot after"), happened ? t("after") : t("what would have been")], [key("tick"), t("by its own version")]),
  );
}

/** A row for first hits of about the same chance: a scale with the chance that was named and the share that was right. */
export function matchTable(bins, name) {
  const row = ({ chance, right, count }, at) =>
    make(
      "tr",
      {},
      make("th", { scope: "row" }, `${at + 1}`),
      make("td", { class: "scale-cell" }, scale({ before: chance, after: right }, "", t("{chance} named, {right} right", { chance: percent(chance), right: percent(right) }))),
      make("td", { class: "number" }, percent(chance), " → ", percent(right)),
      make("td", { class: "number" }, count),
    );
  const ends = make("span", { class: "ends", "aria-hidden": "true" }, ["0", "25", "50", "75", "100"].map((at) => make("span", {}, at)));
  return scrolled(
    t("Chance of a match in {name}", { name }),
    make(
      "table",
      { class: "moves match" },
      make("thead", {}, make("tr", {}, heads(t("Tenth")), make("th", { scope: "col" }, make("span", { class: "unseen" }, t("On a scale from 0 to 100 percent")), ends), heads(t("Percent"), t("Hits")))),
      make("tbody", {}, bins.map(row)),
    ),
    legend([key("dot before"), t("chance that was named")], [key("dot after"), t("share that was right")]),
  );
}

function scale({ before, after, learned }, name, said = null, happened = true) {
  const has = typeof learned === "number";
  const label = said ?? (has ? t("{name}: {before} before, {after} after, {learned} by its own version", { name, before: percent(before), after: percent(after), learned: percent(learned) }) : t("{name}: {before} before, {after} after", { name, before: percent(before), after: percent(after) }));
  const [low, high] = [Math.min(before, after), Math.max(before, after)];
  return make(
    "span",
    { class: "scale", role: "img", "aria-label": label, title: label },
    make("span", { class: `path ${happened ? kind(after - before) : "apart"}`, "--at": low, "--long": high - low }),
    has ? make("span", { class: "tick", "--at": learned }) : null,
    make("span", { class: "dot before", "--at": before }),
    make("span", { class: "dot after", "--at": after }),
  );
}

/** Confusion matrix: a row for each language, a column for each detected one; the language of the version first. */
export function confusionTable(rows, language, named, native) {
  const tags = [language, ...Object.keys(rows).filter((tag) => tag !== language)];
  const read = new Set(Object.values(rows).flatMap((row) => Object.keys(row)));
  const others = [...read].filter((tag) => tag !== UNSURE && !tags.includes(tag)); // learned, but without held-out captions
  const columns = [...tags, ...others, ...(read.has(UNSURE) ? [UNSURE] : [])];
  const head = (tag) => make("th", { scope: "col", title: tag === UNSURE ? t("Not certain: read with the shared table") : named(tag).name }, tag === UNSURE ? t("not certain") : tag);
  const row = (tag) => {
    const total = Object.values(rows[tag]).reduce((sum, count) => sum + count, 0);
    const name = make("th", { scope: "row" }, native(tag), make("span", { class: "hint" }, tag));
    return make("tr", {}, name, columns.map((as) => cell(tag, as, rows[tag][as] ?? 0, total, named)));
  };
  return scrolled(
    t("Language detection"),
    make(
      "table",
      { class: "heat confusion" },
      make("thead", {}, make("tr", {}, make("th", { scope: "col" }, t("Actual language ↓ / detected language →")), columns.map(head))),
      make("tbody", {}, tags.map(row)),
    ),
  );
}

function cell(tag, as, count, total, named) {
  const right = tag === as;
  const part = total ? count / total : 0;
  const reader = as === UNSURE ? t("the shared table") : named(as).name;
  const title = t("{count} of {total} captions in {tag} read by {reader}", { count, total, tag: named(tag).name, reader });
  const tone = right ? "gain" : count ? (as === UNSURE ? "unsure" : "loss") : "same";
  return make("td", { class: `${tone}${right ? " own" : ""}`, "--heat": right ? part : Math.min(1, 0.15 + 2 * part), title }, count || right ? rounded(part) : make("span", { "aria-label": t("none") }, "·"));
}

const rounded = (part) => (part > 0 && part < 0.01 ? "<1" : part > 0.99 && part < 1 ? ">99" : String(Math.round(part * 100)));

const VIEW = { width: 640, height: 210, left: 34, right: 14, top: 12, bottom: 24 }; // units of the drawing

/** AA and F after each version, as two lines over the versions; `steps` have at least two. */
export function chainPlot(steps, named, native) {
  const { width, height, left, right, top, bottom } = VIEW;
  const x = (place) => left + (place / (steps.length - 1)) * (width - left - right);
  const y = (share) => top + (1 - Math.max(0, Math.min(1, share))) * (height - top - bottom);
  const grid = [0, 0.25, 0.5, 0.75, 1].map((share) => [
    make("line", { class: "grid", x1: left, x2: width - right, y1: y(share), y2: y(share) }),
    make("text", { class: "mark-text", x: left - 8, y: y(share) + 4, "text-anchor": "end" }, String(share * 100)),
  ]);
  const every = Math.ceil(steps.length / 16); // so that the numbers do not touch
  const marks = steps.map((step, place) => (place % every ? null : make("text", { class: "mark-text", x: x(place), y: height - 6, "text-anchor": "middle" }, `v${step.version}`)));
  const line = (figure) => [
    make("polyline", { class: `line ${figure}`, points: steps.map((step, place) => `${x(place)},${y(step[figure])}`).join(" ") }),
    steps.map((step, place) => make("circle", { class: `point ${figure}`, cx: x(place), cy: y(step[figure]), r: 4 })),
  ];
  return make(
    "figure",
    { class: "chain" },
    make("figcaption", {}, legend([key("dot AA"), t("Average accuracy")], [key("dot F"), t("Forgetting")])),
    scrolled(
      t("The shared table over time"),
      make("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" }, grid, marks, line("F"), line("AA")),
      chainTable(steps, named, native),
    ),
  );
}

function chainTable(steps, named, native) {
  const row = (name, content) => make("tr", {}, make("th", { scope: "row" }, name), steps.map((step) => make("td", { class: "number" }, content(step))));
  const version = ({ version: number, language }) => make("th", { scope: "col", title: named(language).name }, make("a", { href: `/versions/${number}/report` }, native(language)), make("span", { class: "fine" }, ` v${number}`));
  return make(
    "table",
    { class: "steps" },
    make("thead", {}, make("tr", {}, make("td", {}), steps.map(version))),
    make("tbody", {}, row("AA", (step) => percent(step.AA)), row("F", (step) => percent(step.F).replace("-", "−"))),
  );
}

const heads = (...names) => names.map((name) => make("th", { scope: "col" }, name));
const key = (kinds) => make("span", { class: `key ${kinds}`, "aria-hidden": "true" });
const kind = (change) => (points(change).startsWith("±") ? "same" : change < 0 ? "loss" : "gain");
const heat = (change) => Math.min(1, Math.abs(change) / FULL).toFixed(3);
