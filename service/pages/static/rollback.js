// Rolling a language back and restoring a release, each behind a dialog that says what changes and what stays.

import { ask, askOnce } from "/static/api.js";
import { fill, make } from "/static/dom.js";
import { named, native } from "/static/languages.js";
import { dialog, sorry } from "/static/parts.js";

const path = (tag) => `/v1/admin/languages/${encodeURIComponent(tag)}/rollback`;

/** Show what a rollback would change, and do exactly that when the person agrees; then call `done`. */
export async function rollBack(item, done) {
  let answer = { reason: "", rebuild: false };
  let moved = false; // another release was published while the dialog was open
  for (;;) {
    try {
      const plan = await ask(path(item.language), { json: { dry_run: true } });
      answer = await dialog(`Roll back ${item.name}?`, (close) => question(plan, item, answer, moved, close), "rollback");
      if (!answer) return;
      const json = { ...answer, expected: plan.release };
      const result = await askOnce(path(item.language), json);
      await done();
      await dialog("Rolled back", (close) => resultDialog(result, item, close));
      return;
    } catch (problem) {
      moved = problem.code === "alias_moved";
      if (moved) continue;
      if (problem.code === "outcome_unknown") {
        if (await dialog(`It is not known whether ${item.name} was rolled back.`, (close) => unknown(problem, close))) await done();
        return;
      }
      await refused("Not rolled back", problem);
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
    moved ? make("p", { class: "sorry moved", role: "alert" }, "Something changed in the meantime, so nothing was rolled back. This is the new plan.") : null,
    make("h3", {}, "What changes"),
    make("ul", {}, make("li", { class: "changes" }, changes(plan, item)), make("li", {}, shared(plan, lost))),
    make("h3", {}, "What stays"),
    make("p", { class: "stays" }, stays(plan)),
    make("p", { class: "fine" }, `Based on release ${plan.release}, which serves now. Nothing is deleted by this, and it can be undone.`),
    make("label", { class: "entry" }, "Reason, shown in the list of releases", reason),
    lost.length ? make("label", { class: "check" }, rebuild, `Afterwards, train the shared table again on ${names(lost)}`) : null,
    make(
      "div",
      { class: "actions" },
      make("button", { type: "submit", class: "main danger" }, `Roll back ${item.name}`),
      make("button", { type: "button", onclick: () => close(false) }, "Keep it"),
    ),
  );
}

function changes(plan, item) {
  if (plan.to_version === null) return `${item.name} is no longer available: it has no version before version ${plan.from_version}.`;
  return `${item.name} goes from version ${plan.from_version} back to version ${plan.to_version}.`;
}

function shared(plan, lost) {
  const without = lost.length ? ` It no longer knows ${names(lost)} until it is taught again; searches that name their language do not change.` : "";
  return `Text in an unknown language is read by version ${plan.shared_version}.${without}`;
}

function stays(plan) {
  if (!plan.unchanged.length) return "There is no other language.";
  const keep = plan.unchanged.length === 1 ? "keeps its version, and so all its results," : "keep their versions, and so all their results,";
  return `${names(plan.unchanged)} ${keep} bit for bit the same. No picture changes.`;
}

const names = (tags) => new Intl.ListFormat("en").format(tags.map((tag) => named(tag).name));

function resultDialog(result, item, close) {
  const now = result.to_version === null ? `${item.name} is no longer available.` : `${item.name} uses version ${result.to_version} again.`;
  return make(
    "div",
    {},
    make("p", {}, `${now} Release ${result.release} serves.`),
    result.rebuild_expansion ? make("p", {}, "The shared table is being taught again: see ", make("a", { href: "#teach", onclick: () => close(true) }, "its progress"), ".") : null,
    make("div", { class: "actions" }, make("button", { type: "button", class: "main", onclick: () => close(true) }, "Close")),
  );
}

function unknown(problem, close) {
  return make(
    "div",
    {},
    make("p", {}, `${problem.message} The table of languages shows which version is used now.`),
    make(
      "div",
      { class: "actions" },
      make("button", { type: "button", class: "main", onclick: () => close(true) }, "Look again"),
      make("button", { type: "button", onclick: () => close(false) }, "Close"),
    ),
  );
}

/** Serve an earlier release again, if `current` still serves when the person agrees; then call `done`. */
export async function restore(release, current, done) {
  const agreed = await dialog(`Restore release ${release.number}?`, (close) =>
    make(
      "div",
      {},
      make("p", {}, "Every language goes back to the version it had then:"),
      make("ul", {}, differences(release, current)),
      make("p", { class: "fine" }, "This undoes everything that happened since. To change only one language, roll it back instead."),
      make(
        "div",
        { class: "actions" },
        make("button", { type: "button", class: "main danger", onclick: () => close(true) }, "Restore"),
        make("button", { type: "button", autofocus: true, onclick: () => close(false) }, "Keep the current one"),
      ),
    ),
  );
  if (!agreed) return;
  try {
    await ask(`/v1/admin/releases/${release.number}/restore`, { json: { expected: current.number } });
  } catch (problem) {
    await refused("Not restored", problem);
  }
  await done();
}

function differences(release, current) {
  const tags = [...new Set([...Object.keys(current.languages), ...Object.keys(release.languages)])];
  const changed = tags.filter((tag) => current.languages[tag] !== release.languages[tag]);
  const words = (number) => (number === undefined ? "not available" : `version ${number}`);
  const lines = changed.map((tag) => make("li", {}, native(tag), `: ${words(current.languages[tag])} → ${words(release.languages[tag])}`));
  if (current.shared !== release.shared) lines.push(make("li", {}, `Shared table: version ${current.shared} → version ${release.shared}`));
  return lines.length ? lines : [make("li", {}, "Nothing changes: both releases are the same.")];
}

async function refused(title, problem) {
  if (problem.code === "missing_api_key") return;
  await dialog(title, () => {
    const body = make("div", {});
    fill(body, sorry(problem));
    return body;
  });
}
