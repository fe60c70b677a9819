// Moving to another base and back, each behind a dialog that says what it takes and what changes.

import { ask, askOnce } from "/static/api.js";
import { byId, bytes, fill, make, percent } from "/static/dom.js";
import { named } from "/static/languages.js";
import { confirm, dialog, sorry } from "/static/parts.js";
import { t } from "/static/text.js";

const PATH = "/v1/admin/base";
const PAUSE = 2000; // ms between two looks while a move runs, or the server opens another base
let timer = null;

/** Draw which base serves and how far a move is; `done` draws the releases again after a change. */
export async function drawBase(done) {
  clearTimeout(timer);
  const body = byId("base-body");
  try {
    const status = await ask(PATH);
    const running = status.move && ["queued", "running"].includes(status.move.state);
    const opening = status.open.version !== status.version || status.open.encoding !== status.encoding;
    const held = body.contains(document.activeElement) && document.activeElement.tagName === "INPUT";
    if (!held) fill(body, serving(status, opening), running ? progress(status.move) : moving(done), status.undo ? back(status.undo, done) : null);
    if ((running || opening) && !byId("releases").hidden) timer = setTimeout(() => drawBase(done), PAUSE);
  } catch (problem) {
    fill(body, sorry(problem));
  }
}

function serving(status, opening) {
  const words = t("Everything is read by the base “{base}” now: version {version}, in release {release}.", { base: status.base, version: status.version, release: status.release });
  return make("p", { class: "what" }, words, " ", opening ? t("The server still has {base} with {encoding} open, and opens the other beside it.", { base: status.open.base, encoding: status.open.encoding }) : null);
}

function progress(move) {
  const share = move.progress ?? 0;
  return [
    make("progress", { max: 1, value: share, "aria-label": t("Moving to another base") }, `${percent(share)} %`),
    make("p", { class: "fine" }, move.state === "queued" ? t("Waiting for its turn") : `${Math.round(share * 100)} %`, " · ", make("a", { href: "#administration" }, t("Details"))),
  ];
}

function moving(done) {
  const name = make("input", { type: "text", name: "base", required: true, maxlength: "1000", spellcheck: "false", autocapitalize: "none", placeholder: "ViT-B-16-SigLIP2/webli" });
  const start = (event) => {
    event.preventDefault();
    move(name.value.trim(), done);
  };
  return make("form", { class: "teach", onsubmit: start }, make("label", { class: "entry" }, t("Another base"), name), make("div", { class: "actions" }, make("button", { type: "submit" }, t("Move …"))));
}

async function move(base, done) {
  try {
    const plan = await ask(PATH, { json: { base, dry_run: true } });
    const force = make("input", { type: "checkbox", id: "force" });
    if (!(await confirm(t("Move to {base}?", { base: plan.base }), takes(plan, force), t("Move")))) return;
    await askOnce(PATH, { base, force: force.checked });
    await done();
  } catch (problem) {
    await dialog(t("Not moved"), () => sorry(problem));
  }
}

function takes(plan, force) {
  const again = plan.languages.length ? t("All pictures and captions are encoded anew, and taught again: {languages}.", { languages: plan.languages.map(nameOf).join(", ") }) : t("All pictures and captions are encoded anew.");
  return [
    make("p", {}, again),
    make("p", { class: "fine" }, t("It takes about {needed} of disk; {free} are free.", { needed: bytes(plan.needed), free: bytes(plan.free) })),
    make("label", { class: "check" }, force, t("Move even if a language loses more than it may")),
  ];
}

function back(plan, done) {
  return make("p", {}, make("button", { type: "button", class: "quiet", onclick: () => undo(plan, done) }, t("Back to {target} …", { target: target(plan) })));
}

const isEncoding = (plan) => plan.from_base === plan.to_base;
const target = (plan) => (isEncoding(plan) ? plan.encoding : plan.to_base);

async function undo(plan, done) {
  const lines = [
    [plan.lost, t("No longer served")],
    [plan.returned, t("Served again")],
    [plan.changed, t("Served by their versions of before")],
  ];
  const what = [
    make("p", {}, isEncoding(plan) ? t("All languages stay as they are.") : t("Release {restored} is served again, exactly as it was.", { restored: plan.restored })),
    make("ul", {}, lines.filter(([tags]) => tags.length).map(([tags, becomes]) => make("li", {}, `${becomes}: ${tags.map(nameOf).join(", ")}`))),
  ];
  if (!(await confirm(t("Back to {target}?", { target: target(plan) }), what, t("Go back")))) return;
  try {
    await ask(`${PATH}/undo`, { json: { expected: plan.release } });
  } catch (problem) {
    await dialog(t("Not undone"), () => sorry(problem));
  }
  await done();
}

const nameOf = (tag) => named(tag).name;
