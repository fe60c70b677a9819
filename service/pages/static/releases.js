// The history of releases: what changed, when, by whom and why; restoring one.

import { all } from "/static/api.js";
import { byId, decimal, fill, make, time } from "/static/dom.js";
import { native, refresh } from "/static/languages.js";
import { nothing, sorry, waiting } from "/static/parts.js";
import { drawBase } from "/static/moving.js";
import { restore } from "/static/rollback.js";
import { t } from "/static/text.js";

/** Load the releases (this needs an admin key) and draw them, newest first. */
export async function drawReleases() {
  const body = byId("releases-body");
  if (!body.childElementCount) fill(body, waiting(t("Loading the releases")));
  try {
    const releases = await all("/v1/admin/releases", 200);
    const again = async () => {
      await refresh();
      await drawReleases();
    };
    drawBase(again);
    fill(body, releases.length ? make("ol", { class: "releases" }, releases.map((one) => entry(one, releases[0], again))) : nothing(t("No release yet.")));
  } catch (problem) {
    const retry = make("p", {}, make("button", { type: "button", onclick: drawReleases }, t("Enter a key")));
    fill(body, sorry(problem), [401, 403].includes(problem.status) ? retry : null);
  }
}

function entry(release, current, again) {
  const serving = release.number === current.number;
  return make(
    "li",
    { "data-release": release.number, class: serving ? "serving" : null },
    make("span", { class: "number" }, String(release.number)),
    make(
      "div",
      {},
      make("p", { class: "what" }, what(release), serving ? make("span", { class: "tag" }, t("serving")) : null),
      make("p", { class: "routes" }, routes(release)),
      make("p", { class: "fine" }, time(release.created_at), " · ", make("bdi", {}, release.actor), release.reason ? [" · ", release.change?.kind === "promote" ? gained(release.reason) : `“${release.reason}”`] : null, release.pruned.length ? [" · ", t("files pruned: cannot be restored")] : null),
    ),
    serving || release.pruned.length ? null : make("button", { type: "button", class: "quiet", onclick: () => restore(release, current, again), "aria-label": t("Restore release {number}", { number: release.number }) }, t("Restore …")),
  );
}

/** What a language gained, as the server writes it: “+1.5 ± 0.4 points over version 3”. */
function gained(reason) {
  const [, sign, change, error, version] = /^([+−])([\d.]+) ± ([\d.]+) points over version (\d+)$/.exec(reason) ?? [];
  if (!sign) return make("bdi", {}, reason);
  return t("{change} ± {error} points over version {version}", { change: `${sign}${decimal(change)}`, error: decimal(error), version });
}

function what({ change = {}, number }) {
  const language = change.language ? native(change.language) : t("a language");
  const to = change.to_version ?? null;
  const forced = change.forced ? make("span", { class: "tag", title: t("It serves because that was forced.") }, t("forced")) : null;
  if (change.kind === "promote") return [t("{language} learned as version {to}", { language, to }), forced];
  if (change.kind === "rebuild") return [t("Shared table taught again")];
  if (change.kind === "rollback") return [to === null ? t("{language} removed", { language }) : t("{language} rolled back to version {to}", { language, to })];
  if (change.kind === "withdraw") return [t("{language} is withdrawn", { language })];
  const target = change.from === change.to ? t("vectors made by {encoding}", { encoding: change.encoding }) : t("base {to}", { to: change.to });
  if (change.kind === "base") return [t("Moved from base {from} to {target}", { from: change.from, target })];
  if (change.kind === "restore" && change.to) return [t("Back to {target}: release {restored} restored", { target, restored: change.restored })];
  if (change.kind === "restore") return [t("Release {restored} restored", { restored: change.restored })];
  return [number <= 1 ? t("English, built in") : t("Published")];
}

function routes(release) {
  const list = Object.entries(release.languages).sort((a, b) => a[1] - b[1]);
  const names = list.map(([tag, version]) => make("span", { class: "route" }, native(tag), make("span", { class: "number" }, String(version))));
  return [names, make("span", { class: "route" }, t("shared"), make("span", { class: "number" }, String(release.shared)))];
}
