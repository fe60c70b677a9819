// Rolling a language back and restoring a release, each behind a dialog that says what changes and what stays.

import { ask, askOnce } from "/static/api.js";
import { fill, make } from "/static/dom.js";
import { names, native } from "/static/languages.js";
import { confirm, dialog, sorry } from "/static/parts.js";
import { locale, t } from "/static/text.js";

const path = (tag) => `/v1/admin/languages/${encodeURIComponent(tag)}/rollback`;

/** Show what a rollback would change, and do exactly that when the person agrees; then call `done`. */
export async function rollBack(item, done) {
  let answer = { reason: "", rebuild: false };
  let moved = false; // another release was published while the dialog was open
  for (;;) {
    try {
      const plan = await ask(path(item.language), { json: { dry_run: true } });
      answer = await dialog(t("Roll back {item}?", { item: item.name }), (close) => question(plan, item, answer, moved, close), "rollback");
      if (!answer) return;
      const json = { ...answer, expected: plan.release };
      const result = await askOnce(path(item.language), json);
      await done();
      await dialog(t("Rolled back"), (close) => resultDialog(result, item, close));
      return;
    } catch (problem) {
      moved = problem.code === "alias_moved";
      if (moved) continue;
      if (problem.code === "outcome_unknown") {
        if (await dialog(t("It is not known whether {item} was rolled back.", { item: item.name }), (close) => unknown(problem, close))) await done();
        return;
      }
      await refused(t("Not rolled back"), problem);
      await done();
      return;
    }
  }
}

function question(plan, item, given, moved, close) {
  const reason = make("input", { type: "text", maxlength: "1000", id: "reason", value: given.reason });
  const rebuild = make("input", { type: "checkbox", id: "rebuild", checked: given.rebuild });
  const agree = (event) => {
    event.preventDefault();
    close({ reason: reason.value.trim(), rebuild: rebuild.checked });
  };
  const lost = plan.replay ?? [];
  return make(
    "form",
    { onsubmit: agree },
    moved ? make("p", { class: "sorry moved", role: "alert" }, t("Something changed in the meantime, so nothing was rolled back. This is the new plan.")) : null,
    make("h3", {}, t("What changes")),
    make("ul", {}, make("li", { class: "changes" }, changes(plan, item)), make("li", {}, shared(plan, lost))),
    make("h3", {}, t("What stays")),
    make("p", { class: "stays" }, stays(plan)),
    make("p", { class: "fine" }, t("Based on release {release}, which serves now. Nothing is deleted by this, and it can be undone.", { release: plan.release })),
    make("label", { class: "entry" }, t("Reason, shown in the list of releases"), reason),
    lost.length ? make("label", { class: "check" }, rebuild, t("Afterwards, train the shared table again on {lost}", { lost: names(lost) })) : null,
    make(
      "div",
      { class: "actions" },
      make("button", { type: "submit", class: "main danger" }, t("Roll back {item}", { item: item.name })),
      make("button", { type: "button", onclick: () => close(false) }, t("Keep it")),
    ),
  );
}

function changes(plan, item) {
  if (plan.to_version === null) return t("{item} is no longer available: it has no version before version {from_version}.", { item: item.name, from_version: plan.from_version });
  return t("{item} goes from version {from_version} back to version {to_version}.", { item: item.name, from_version: plan.from_version, to_version: plan.to_version });
}

function shared(plan, lost) {
  const without = lost.length ? t("It no longer knows {lost} until it is taught again; searches that name their language do not change.", { lost: names(lost) }) : "";
  return t("Text in an unknown language is read by version {shared_version}. {without}", { shared_version: plan.shared_version, without });
}

function stays(plan) {
  if (!plan.unchanged.length) return t("There is no other language.");
  return t("{count, plural, one {{names} keeps its version, and so all its results, bit for bit the same.} other {{names} keep their versions, and so all their results, bit for bit the same.}} No picture changes.", { count: plan.unchanged.length, names: names(plan.unchanged) });
}

function resultDialog(result, item, close) {
  const now = result.to_version === null ? t("{item} is no longer available.", { item: item.name }) : t("{item} uses version {to_version} again.", { item: item.name, to_version: result.to_version });
  return make(
    "div",
    {},
    make("p", {}, t("{now} Release {release} serves.", { now, release: result.release })),
    result.rebuild_expansion ? make("p", {}, t("The shared table is being taught again: see {progress}.", { progress: make("a", { href: "#administration", onclick: () => close(true) }, t("its progress")) })) : null,
    make("div", { class: "actions" }, make("button", { type: "button", class: "main", onclick: () => close(true) }, t("Close"))),
  );
}

function unknown(problem, close) {
  return make(
    "div",
    {},
    make("p", {}, t("{message} The table of languages shows which version is used now.", { message: problem.message })),
    make(
      "div",
      { class: "actions" },
      make("button", { type: "button", class: "main", onclick: () => close(true) }, t("Look again")),
      make("button", { type: "button", onclick: () => close(false) }, t("Close")),
    ),
  );
}

/** Serve an earlier release again, if `current` still serves when the person agrees; then call `done`. */
export async function restore(release, current, done) {
  const what = [
    make("p", {}, t("Every language goes back to the version it had then:")),
    make("ul", {}, differences(release, current)),
    make("p", { class: "fine" }, t("This undoes everything that happened since. To change only one language, roll it back instead.")),
  ];
  if (!(await confirm(t("Restore release {number}?", { number: release.number }), what, t("Restore"), t("Keep the current one")))) return;
  try {
    await ask(`/v1/admin/releases/${release.number}/restore`, { json: { expected: current.number } });
  } catch (problem) {
    await refused(t("Not restored"), problem);
  }
  await done();
}

function differences(release, current) {
  const tags = [...new Set([...Object.keys(current.languages), ...Object.keys(release.languages)])];
  const changed = tags.filter((tag) => current.languages[tag] !== release.languages[tag]);
  const words = (number) => (number === undefined ? t("not available") : t("version {number}", { number }));
  const lines = changed.map((tag) => make("li", {}, native(tag), `: ${words(current.languages[tag])} → ${words(release.languages[tag])}`));
  if (current.shared !== release.shared) lines.push(make("li", {}, t("Shared table: version {before} → version {after}", { before: current.shared, after: release.shared })));
  return lines.length ? lines : [make("li", {}, t("Nothing changes: both releases are the same."))];
}

async function refused(title, problem) {
  if (problem.code === "missing_api_key") return;
  await dialog(title, () => {
    const body = make("div", {});
    fill(body, sorry(problem));
    return body;
  });
}
