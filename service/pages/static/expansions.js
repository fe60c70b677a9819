// Expansions: what is done now, in words, as long as it runs and is shown; what came of them; cancelling.

import { nothingAsked, write } from "/static/address.js";
import { Problem, ask, show, thumbnail } from "/static/api.js";
import { duration, fill, make, percent, time } from "/static/dom.js";
import { learned, named, native, refresh, teachAddress, testsOf } from "/static/languages.js";
import { confirm, dialog, nothing, sorry, waiting, waysOf } from "/static/parts.js";
import { t } from "/static/text.js";

const DOES = {
  pictures: t("Reading the pictures"),
  prepare: t("Reading the rows"),
  train: t("Learning"),
  evaluate: t("Trying what was learned"),
  package: t("Keeping what was learned"),
  encode: t("Reading the captions"),
  compare: t("Comparing"),
  promote: t("Putting it to use"),
};
const ENDED = ["succeeded", "failed", "cancelled"];
const PAUSE = 1500; // ms between two looks at what runs
const PATIENCE = 40; // requests for a new release before giving up
const TRIED = 12; // new captions that are searched with
const TRIES = 6; // of them, how many are shown
let timer = null;

export const isRunning = ({ state }) => !ENDED.includes(state);

/** Draw the newest expansions, with an administrator's details, and follow those that run. */
export async function drawExpansions(body) {
  if (!body.childElementCount) fill(body, waiting(t("Loading what was taught")));
  try {
    const { items } = await ask("/v1/expansions?limit=20");
    fill(body, items.length ? make("ol", { class: "expansions" }, items.map((item) => shown(item, true))) : nothing(t("No language has been taught yet.")));
    follow();
  } catch (problem) {
    fill(body, sorry(problem));
  }
}

/** Look at what runs again and again, as long as it is shown. A stream for each would hold the six connections that a browser has for all its tabs. */
export function follow() {
  clearTimeout(timer);
  timer = setTimeout(look, PAUSE);
}

async function look() {
  const list = () => new Set([...document.querySelectorAll("[data-expansion]")].filter((one) => isRunning(one.dataset) && one.checkVisibility()).map((one) => one.dataset.expansion));
  for (const id of list()) {
    try {
      const item = await ask(`/v1/expansions/${id}`, { retried: true });
      redraw(item);
      if (item.state === "succeeded") catchUp(item);
    } catch (problem) {
      if ([401, 403, 404].includes(problem.status)) return;
    }
  }
  if (list().size) follow();
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
  for (const old of document.querySelectorAll(`[data-expansion="${item.id}"]`)) {
    const focused = old.contains(document.activeElement);
    const fresh = shown(item, old.hasAttribute("data-technical"));
    if (old.isEqualNode(fresh)) continue;
    old.replaceWith(fresh);
    if (focused) fresh.querySelector("button")?.focus();
  }
}

/** One expansion; `technical` with what only an administrator asks for. */
export function shown(item, technical = false) {
  const running = isRunning(item);
  return make(
    "li",
    { "data-expansion": item.id, "data-state": item.state, "data-technical": technical },
    make(
      "div",
      { class: "heading" },
      make("p", { class: "what" }, about(item), item.kind === "assess" ? make("span", { class: "tag" }, t("assessment")) : null),
      make("p", { class: "state" }, state(item)),
      running ? make("button", { type: "button", class: "quiet", "data-needs": "teach", onclick: () => cancel(item), "aria-label": t("Cancel: {what}", { what: about(item).textContent }) }, t("Cancel")) : null,
    ),
    running ? progress(item) : outcome(item, technical),
  );
}

/** What an expansion is of: a language, or what is not one. */
const about = ({ kind, language }) => ({ rebuild: make("span", {}, t("Shared table")), base: make("span", {}, t("Base or encoding")) })[kind] ?? native(language, { class: "native" });

function state(item) {
  if (isRunning(item)) return item.attempt > 1 ? t("attempt {attempt}", { attempt: item.attempt }) : "";
  const at = { at: time(item.finished_at) };
  return { succeeded: t("Done {at}", at), failed: t("Refused {at}", at), cancelled: t("Cancelled {at}", at) }[item.state];
}

function progress(item) {
  const share = Math.max(0, Math.min(1, item.progress ?? 0));
  const does = item.state === "queued" ? t("Waiting for its turn") : item.phase?.startsWith("paused") ? t("Waiting for the server") : (DOES[item.phase] ?? t("Beginning"));
  const left = item.eta_seconds ? t("about {time} left", { time: duration(item.eta_seconds) }) : "";
  return [
    make("progress", { max: 1, value: share || null, "aria-label": t("Teaching {what}", { what: about(item).textContent }) }, `${percent(share)} %`),
    make("p", { class: "fine" }, [`${does} …`, share ? `${Math.round(share * 100)} %` : "", left].filter(Boolean).join(" · ")),
  ];
}

function outcome(item, technical) {
  if (item.state === "cancelled") return make("p", { class: "fine" }, t("Nothing was changed."));
  if (item.state === "failed") return refusal(item);
  if (item.kind === "assess") return make("p", { class: "told" }, assessed(item));
  if (item.kind === "base") return [make("p", { class: "fine" }, t("From {from} to {to}, {encoding}: release {release}", { ...item.report, release: item.release })), comparison(item)];
  return [
    listMissed(item),
    technical || item.kind === "rebuild" ? null : [tries(item), make("p", { class: "fine" }, t("Every other language still answers as before."))],
    details(item, technical),
  ];
}

function assessed({ language, report }) {
  const found = { name: named(language).name, share: percent(report.t2i["R@10"]), pairs: report.pairs };
  const said = report.reads ? t("The base reads {name} without having been taught.", found) : t("The base does not read {name} well enough to be of use.", found);
  return [said, " ", t("Of {pairs, plural, one {# held-out row} other {# held-out rows}}, {share} % find what they mean among the first ten.", found)];
}

/** How many test words were found; which were not, each with the way to add it. */
function listMissed({ language, report, state }) {
  const { test, against, dataset } = report ?? {};
  if (!test) return null;
  const { asked, found, missed = [] } = test; // of one that was withdrawn, no texts are left
  const what = testsOf(test, against);
  if (!missed.length) return make("p", { class: "told" }, t("Of {what}, {found, plural, one {# is found} other {# are found}}.", { what, found }));
  const more = asked - found - missed.length;
  const add = (text) => make("a", { "data-needs": "teach", href: teachAddress(language, { add: text }), "aria-label": t("Add: {text}", { text }) }, t("add"));
  return [
    make("p", { class: "told" }, t("Of {what}, {found, plural, one {# is found} other {# are found}}; {missed, plural, one {this one is not:} other {these # are not:}}", { what, found, missed: asked - found })),
    make("ul", { class: "missed" }, missed.map((text) => make("li", {}, make("bdi", { lang: language }, text), " ", add(text))), more > 0 ? make("li", { class: "fine" }, t("and {more} more", { more })) : null),
    state === "succeeded" && dataset?.taught > dataset?.train ? make("p", { class: "fine" }, t("These were held back at first, to test what is understood without having been taught. They are taught now: try them before you add more.")) : null,
  ];
}

/** New captions that find a picture now, the nearest first, each with a picture of its own, to try by a click. */
function tries({ language, report }) {
  const place = make("div", { hidden: true });
  const search = async (text) => {
    const { items } = await ask("/v1/search/pictures", { json: { text, language, limit: 1 }, retried: true });
    return items.length && items[0].likely !== false ? { text, hit: items[0] } : null;
  };
  const draw = ({ text, hit }) => make("li", {}, make("a", { href: write({ ...nothingAsked(), q: text, language }) }, show(make("img", { alt: "" }), thumbnail(hit.url)), make("bdi", { lang: language }, text)));
  Promise.all((report.new ?? []).slice(0, TRIED).map((text) => search(text).catch(() => null))).then((all) => {
    const seen = new Set();
    const works = all.filter((one) => one && !seen.has(one.hit.id) && seen.add(one.hit.id)).sort((one, other) => other.hit.meaning - one.hit.meaning).slice(0, TRIES);
    const says = works.every(({ hit }) => hit.likely) ? t("These work now. Try one:") : t("Try one of these:");
    fill(place, works.length ? [make("h3", {}, says), make("ul", { class: "tries" }, works.map(draw))] : null);
  });
  return place;
}

/** Figures, and what they were measured with. */
function details(item, technical) {
  const { gain, joined, replaced, against, t2i, shared, moved = shared?.moved } = item.report ?? {};
  const recall = t2i?.["R@1"];
  const words = [
    item.version === null ? null : make("a", { href: `/versions/${item.version}/report` }, t("version {number}", { number: item.version })),
    t("release {release}", { release: item.release }),
    typeof recall === "number" ? `${waysOf(against).to} R@1 ${percent(recall)} %` : null,
    joined?.rows ? t("with {rows, plural, one {# caption} other {# captions}} of {datasets, plural, one {# earlier dataset} other {# earlier datasets}}", joined) : null,
    replaced ? t("replaces {datasets, plural, one {# earlier dataset} other {# earlier datasets}}", replaced) : null,
    !technical ? null : moved ? t("now the shared table") : moved === false ? t("the shared table was not changed") : null,
    gain?.forced ? t("It serves because that was forced.") : null,
  ];
  return make(
    "details",
    { class: "fine" },
    make("summary", {}, t("Details")),
    make("p", {}, words.filter(Boolean).map((word, place) => [place ? " · " : "", word])),
    gain ? make("p", { lang: "en" }, `${gain.sentence}.`) : null,
  );
}

/** Why nothing came of it, and what a teacher can do. */
function refusal(item) {
  const { error, report, kind } = item;
  const why = {
    floor: t("Too little is understood to be of use, so nothing was changed. Add more words, and look whether both sides of each row belong together."),
    gain: t("The language would be read worse than now, so nothing was changed. Add more words, and look whether both sides of each row belong together."),
  }[report?.refused_by];
  const said = why ?? new Problem(error ?? { title: t("Something went wrong") }).message;
  return [
    why ? listMissed(item) : null,
    make("p", { class: why ? "told" : "failed" }, said),
    why ? make("details", { class: "fine" }, make("summary", {}, t("Details")), make("p", { lang: "en" }, error.detail)) : null,
    kind === "base" ? comparison(item) : null,
  ];
}

/** What a move does to each language: text to picture, before and after. */
function comparison({ report }) {
  if (!report?.languages) return null;
  const cell = (figures, side, at) => (figures.before ? `${percent(figures[side].t2i[`R@${at}`])} %` : side === "before" ? "–" : figures.left_out ? t("not taught") : t("not measured"));
  const row = ([tag, figures]) => make("tr", {}, make("th", { scope: "row" }, native(tag)), [1, 10].flatMap((at) => ["before", "after"].map((side) => make("td", {}, cell(figures, side, at)))));
  const head = [t("Language"), ...[1, 10].flatMap((at) => [t("R@{at} before", { at }), t("R@{at} after", { at })])].map((name) => make("th", { scope: "col" }, name));
  return make("div", { class: "scroll" }, make("table", {}, make("thead", {}, make("tr", {}, head)), make("tbody", {}, Object.entries(report.languages).map(row))));
}

async function cancel(item) {
  const lost = make("p", {}, t("What it has learned so far is lost. Languages in use do not change."));
  if (!(await confirm(t("Stop teaching {what}?", { what: about(item).textContent }), lost, t("Cancel it"), t("Continue")))) return;
  try {
    redraw(await ask(`/v1/expansions/${item.id}/cancel`, { method: "POST" }));
  } catch (problem) {
    await dialog(t("Not cancelled"), () => sorry(problem));
  }
}
