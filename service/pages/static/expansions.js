// Expansions: their progress, followed by events while they run, and cancelling them.

import { ask, events } from "/static/api.js";
import { byId, duration, fill, make, percent, plural, sentence, time } from "/static/dom.js";
import { learned, named, native, refresh } from "/static/languages.js";
import { dialog, nothing, sorry, waiting } from "/static/parts.js";

const PHASES = ["prepare", "train", "evaluate", "package", "encode", "promote"];
const SHORT = {
  assess: ["prepare", "evaluate"],
  base: ["pictures", "prepare", "train", "evaluate", "package", "encode", "compare", "promote"], // some once a language
};
const KINDS = { rebuild: "shared table", base: "base or encoding" }; // what is not one language
const ENDED = ["succeeded", "failed", "cancelled"];
const PAUSE = 1500; // ms until a broken stream is opened again
const PATIENCE = 40; // requests for a new release before giving up
const followed = new Map(); // id -> AbortController

/** Draw the newest expansions and follow those that run; `focus` is the id of the one to scroll to. */
export async function drawExpansions(focus = null) {
  const body = byId("expansions-body");
  if (!body.childElementCount) fill(body, waiting("Loading the expansions"));
  try {
    const { items } = await ask("/v1/expansions?limit=20");
    fill(body, items.length ? make("ol", { class: "expansions" }, items.map(entry)) : nothing("No language has been taught yet.", "Choose a file above. Each language that is taught or assessed appears here as an expansion."));
    for (const item of items) if (!ENDED.includes(item.state)) follow(item.id);
    if (focus) body.querySelector(`[data-expansion="${focus}"]`)?.scrollIntoView({ block: "nearest" });
  } catch (problem) {
    fill(body, sorry(problem));
  }
}

/** Follow one expansion until it ends; a broken stream is opened again. */
async function follow(id) {
  if (followed.has(id)) return;
  const controller = new AbortController();
  followed.set(id, controller);
  let ended = false;
  while (!ended && !controller.signal.aborted) {
    try {
      await events(`/v1/expansions/${id}/events`, (item) => {
        ended = ENDED.includes(item.state);
        redraw(item);
        if (item.state === "succeeded") catchUp(item);
      }, controller.signal);
    } catch (problem) {
      if (problem.status === 404 || problem.status === 401) break;
    }
    if (!ended) await new Promise((resolve) => setTimeout(resolve, PAUSE));
  }
  followed.delete(id);
}

/** The server opens a new release a moment after it was published: ask until it has. An assessment publishes none. */
async function catchUp({ kind, release }) {
  if (kind === "assess") await refresh().catch(() => {});
  for (let times = 0; times < PATIENCE && (learned.release ?? 0) < release; times += 1) {
    await refresh().catch(() => {});
    if (learned.release < release) await new Promise((resolve) => setTimeout(resolve, PAUSE));
  }
}

function redraw(item) {
  const old = byId("expansions-body").querySelector(`[data-expansion="${item.id}"]`);
  if (!old) return;
  const focused = old.contains(document.activeElement);
  const fresh = entry(item);
  old.replaceWith(fresh);
  if (focused) fresh.querySelector("button")?.focus();
}

function entry(item) {
  const running = !ENDED.includes(item.state);
  return make(
    "li",
    { "data-expansion": item.id, "data-state": item.state },
    make(
      "div",
      { class: "heading" },
      make("p", { class: "what" }, native(item.language, { class: "native" }), make("span", { class: "tag" }, KINDS[item.kind] ?? item.language), item.kind === "assess" ? make("span", { class: "tag" }, "assessment") : null),
      make("p", { class: "state" }, state(item)),
      running ? make("button", { type: "button", class: "quiet", onclick: () => cancel(item), "aria-label": `Cancel: ${KINDS[item.kind] ?? item.language}` }, "Cancel") : null,
    ),
    running ? progress(item) : null,
    outcome(item),
  );
}

function state(item) {
  if (item.state === "queued") return "waiting for a worker";
  if (item.state === "running") return item.attempt > 1 ? `running, attempt ${item.attempt}` : "running";
  return [`${item.state} `, time(item.finished_at)];
}

function progress(item) {
  const share = Math.max(0, Math.min(1, item.progress ?? 0));
  const phases = SHORT[item.kind] ?? PHASES;
  const at = phases.indexOf(item.phase);
  const steps = item.phase === "train" && item.steps ? `step ${item.step} of ${item.steps}` : "";
  const left = item.eta_seconds ? `about ${duration(item.eta_seconds)} left` : "";
  return [
    make("progress", { max: 1, value: share, "aria-label": KINDS[item.kind] ?? `${item.kind === "assess" ? "Assessing" : "Teaching"} ${item.language}` }, `${percent(share)} %`),
    make("ol", { class: "phases", "aria-label": "Phases" }, phases.map((phase, place) => make("li", { class: place < at ? "done" : place === at ? "now" : null, "aria-current": place === at ? "step" : null }, phase))),
    make("p", { class: "fine" }, [`${Math.round(share * 100)} %`, item.state === "running" ? steps : "", left].filter(Boolean).join(" · ")),
  ];
}

function outcome(item) {
  if (item.state === "failed") return [refusal(item), make("p", { class: "failed" }, sentence(item.error?.detail || item.error?.code || "The expansion failed.")), comparison(item)];
  if (item.state === "cancelled") return make("p", { class: "fine" }, "Nothing was changed.");
  if (item.state !== "succeeded") return null;
  if (item.kind === "base") return [make("p", { class: "fine" }, `from ${item.report?.from} to ${item.report?.to}, ${item.report?.encoding} · release ${item.release}`), comparison(item)];
  if (item.kind === "assess") return make("p", { class: "told" }, item.report?.sentence ?? "");
  const recall = item.report?.t2i?.["R@1"];
  const { gain, joined, replaced, test: asked } = item.report ?? {};
  const rebuilt = item.kind === "rebuild";
  const moved = rebuilt ? item.report?.moved : item.report?.shared?.moved;
  const share = typeof recall === "number" ? `text to ${{ english: "English", pivots: "paired text", words: "gloss" }[item.report.against] ?? "picture"} R@1 ${percent(recall)} %` : null;
  const told = gain ? `${gain.sentence}.${gain.forced ? " It serves because that was forced." : ""}` : "";
  const words = [
    make("a", { href: `/versions/${item.version}/report` }, `version ${item.version}`),
    `release ${item.release}`,
    joined?.rows ? `with ${plural(joined.rows, "caption")} of ${plural(joined.datasets, "earlier dataset")}` : null,
    replaced ? `replaces ${plural(replaced.datasets, "earlier dataset")}` : null,
    rebuilt && moved ? "now the shared table" : null,
    rebuilt && moved === false ? "the shared table was not changed" : null,
  ];
  return [
    showTest(asked),
    told || share ? make("details", {}, make("summary", {}, "Details"), make("p", { class: "fine" }, told, " ", share)) : null,
    make("p", { class: "fine" }, words.filter(Boolean).map((word, place) => [place ? " · " : "", word])),
    !rebuilt && moved === false ? make("p", { class: "fine" }, "Every other language still answers as before.") : null,
  ];
}

/** How many test words were found, and which were not. */
function showTest(asked) {
  if (!asked) return null;
  const more = asked.asked - asked.found - asked.missed.length;
  return [
    make("p", { class: "told" }, `${asked.sentence}${asked.missed.length ? "; these are not:" : "."}`),
    asked.missed.length ? make("p", { class: "fine" }, asked.missed.map((text, place) => [place ? ", " : "", make("bdi", {}, text)]), more > 0 ? ` and ${more} more` : "") : null,
  ];
}

/** What a teacher can do where too little was learned. */
function refusal({ report }) {
  if (report?.refused_by !== "floor") return null;
  return [showTest(report.test), make("p", { class: "told" }, "Too little is understood to be of use, so nothing was changed. Add more words, and look whether both sides of each row belong together.")];
}

/** What a move does to each language: text to picture, before and after. */
function comparison(item) {
  if (item.kind !== "base" || !item.report?.languages) return null;
  const cell = (figures, side, at) => (figures.before ? `${percent(figures[side].t2i[`R@${at}`])} %` : side === "before" ? "–" : figures.left_out ? "not taught" : "not measured");
  const row = ([tag, figures]) => make("tr", {}, make("th", { scope: "row" }, native(tag)), [1, 10].flatMap((at) => ["before", "after"].map((side) => make("td", {}, cell(figures, side, at)))));
  const head = ["Language", "R@1 before", "R@1 after", "R@10 before", "R@10 after"].map((name) => make("th", { scope: "col" }, name));
  return make("div", { class: "scroll" }, make("table", {}, make("thead", {}, make("tr", {}, head)), make("tbody", {}, Object.entries(item.report.languages).map(row))));
}

async function cancel(item) {
  const sure = await dialog("Cancel this expansion?", (close) =>
    make(
      "div",
      {},
      make("p", {}, item.kind === "assess" ? "Nothing was measured yet. Languages in use do not change." : "What it has learned so far is lost. Languages in use do not change."),
      make(
        "div",
        { class: "actions" },
        make("button", { type: "button", class: "main danger", onclick: () => close(true) }, "Cancel it"),
        make("button", { type: "button", autofocus: true, onclick: () => close(false) }, "Continue"),
      ),
    ),
  );
  if (!sure) return;
  try {
    redraw(await ask(`/v1/expansions/${item.id}/cancel`, { method: "POST" }));
  } catch (problem) {
    await dialog("Not cancelled", () => sorry(problem));
  }
}
