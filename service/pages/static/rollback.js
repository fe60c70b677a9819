// Rolling a language back and restoring a release, each behind a dialog that says what changes and what stays.

import { ask } from "/static/api.js";
import { fill, make } from "/static/dom.js";
import { named, native } from "/static/languages.js";
import { dialog, sorry } from "/static/parts.js";

const path = (tag) => `/v1/admin/languages/${encodeURIComponent(tag)}/rollback`;

/** Ask the server what would change, show it, and do it when the person agrees; then call `done`. */
export async function rollBack(item, done) {
  let plan;
  try {
    plan = await ask(path(item.language), { json: { dry_run: true } });
  } catch (problem) {
    await refused("Roll back", problem);
    return;
  }
  const answer = await dialog(`Roll back ${item.name}?`, (close) => question(plan, item, close), "rollback");
  if (!answer) return;
  try {
    const result = await ask(path(item.language), { json: { reason: answer.reason, rebuild: answer.rebuild } });
    await done();
    await dialog("Rolled back", (close) => told(result, item, close));
  } catch (problem) {
    await refused("Roll back", problem);
  }
}

function question(plan, item, close) {
  const reason = make("input", { type: "text", maxlength: "1000", id: "reason" });
  const rebuild = make("input", { type: "checkbox", id: "rebuild" });
  const agree = (event) => {
    event.preventDefault();
    close({ reason: reason.value.trim(), rebuild: rebuild.checked });
  };
  const lost = plan.replay ?? [];
  return make(
    "form",
    { onsubmit: agree },
    make("h3", {}, "What changes"),
    make("ul", {}, make("li", { class: "changes" }, changes(plan, item)), make("li", {}, shared(plan, lost))),
    make("h3", {}, "What stays"),
    make("p", { class: "stays" }, stays(plan)),
    make("p", { class: "fine" }, "Nothing is deleted. Every earlier release can be restored."),
    make("label", { class: "entry" }, "Reason, for the record", reason),
    lost.length ? make("label", { class: "check" }, rebuild, `Teach the shared table ${names(lost)} again afterwards`) : null,
    make(
      "div",
      { class: "actions" },
      make("button", { type: "submit", class: "main danger" }, `Roll back ${item.name}`),
      make("button", { type: "button", onclick: () => close(false) }, "Keep it"),
    ),
  );
}

function changes(plan, item) {
  const own = native(item.language);
  if (plan.to_version === null) return [own, ` is no longer served: version ${plan.from_version} is taken back, and there was none before it.`];
  return [own, ` goes from version ${plan.from_version} back to version ${plan.to_version}.`];
}

function shared(plan, lost) {
  const without = lost.length ? ` It knows ${names(lost)} no more until it is taught again; told searches in them stay as they are.` : "";
  return `Text of unknown language is read by version ${plan.shared_version}.${without}`;
}

function stays(plan) {
  if (!plan.unchanged.length) return "No other language is served.";
  const list = plan.unchanged.map((tag, place) => [place ? ", " : "", native(tag)]);
  return [list, ": their versions, and so every answer in them, stay bit for bit the same. No picture is touched."];
}

const names = (tags) => new Intl.ListFormat("en").format(tags.map((tag) => named(tag).name));

function told(result, item, close) {
  const now = result.to_version === null ? `${item.name} is no longer served.` : `${item.name} is read by version ${result.to_version} again.`;
  return make(
    "div",
    {},
    make("p", {}, `${now} Release ${result.release} serves.`),
    result.rebuild_expansion ? make("p", {}, "The shared table is being taught again: see ", make("a", { href: "#teach", onclick: () => close(true) }, "its progress"), ".") : null,
    make("div", { class: "actions" }, make("button", { type: "button", class: "main", onclick: () => close(true) }, "Close")),
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
      make("p", { class: "fine" }, "This takes back all that happened since. For one language, roll it back instead."),
      make(
        "div",
        { class: "actions" },
        make("button", { type: "button", class: "main danger", onclick: () => close(true) }, "Restore"),
        make("button", { type: "button", autofocus: true, onclick: () => close(false) }, "Leave it"),
      ),
    ),
  );
  if (!agreed) return;
  try {
    await ask(`/v1/admin/releases/${release.number}/restore`, { json: { expected: current.number } });
    await done();
  } catch (problem) {
    await refused("Restore", problem);
  }
}

function differences(release, current) {
  const tags = [...new Set([...Object.keys(current.languages), ...Object.keys(release.languages)])];
  const changed = tags.filter((tag) => current.languages[tag] !== release.languages[tag]);
  const words = (number) => (number === undefined ? "not served" : `version ${number}`);
  const lines = changed.map((tag) => make("li", {}, native(tag), `: ${words(current.languages[tag])} → ${words(release.languages[tag])}`));
  if (current.shared !== release.shared) lines.push(make("li", {}, `Shared table: version ${current.shared} → version ${release.shared}`));
  return lines.length ? lines : [make("li", {}, "Nothing: the two are alike.")];
}

async function refused(title, problem) {
  if (problem.code === "missing_api_key") return;
  await dialog(title, () => {
    const body = make("div", {});
    fill(body, sorry(problem));
    return body;
  });
}
