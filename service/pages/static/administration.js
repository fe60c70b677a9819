// How the service is, for administrators: what is wrong, space, queues, the newest backup.

import { ask } from "/static/api.js";
import { bytes, fill, make, time, whole, withCode } from "/static/dom.js";
import { sorry, waiting } from "/static/parts.js";
import { t } from "/static/text.js";

// What is wrong, by its code: what everybody notices, and what only an administrator looks after.
const NOTICED = {
  draining: t("The server is being stopped."),
  encoder_stopped: t("A part of the server has stopped. Whoever keeps it has to start it again."),
  registry_unavailable: t("The server's database does not answer. Searches still work; nothing can be changed now."),
  writes_refused: t("The server's database takes no changes now. Searches still work."),
  storage_full: t("The server's disk is full. Searches still work; nothing can be added now."),
};
const OTHERS = {
  index_unavailable: t("The server is still loading its index. Try again in a moment."),
  broker_unavailable: t("The broker does not answer, so languages are taught a little later."),
  encoding: t("Vectors are computed in another way than was asked for."),
  unsealed: t("Changes of the gallery wait for a worker. Is one running?"),
  snapshot: t("The newest release, or a part of it, cannot be served."),
  damaged: t("Stored files are damaged. `pictoglot verify` names them."),
};

/** What everybody notices of what is wrong, in sentences. */
export const noticed = (codes) => codes.map((code) => NOTICED[code]).filter(Boolean).join(" ");

const OLD = 2 * 86_400_000; // ms after which a backup is no longer of yesterday

/** Draw the state into `body`. */
export async function drawState(body) {
  if (!body.childElementCount) fill(body, waiting(t("Looking at the service")));
  try {
    const status = await ask("/v1/admin/status");
    fill(body, make("dl", { class: "state" }, health(status), space(status.space), queues(status.queues), backup(status.backup)));
  } catch (problem) {
    fill(body, sorry(problem));
  }
}

const tile = (name, ...content) => make("div", {}, make("dt", {}, name), make("dd", {}, content));

/** What is wrong, and the server's own sentences, in English, that say more of it. */
function health({ faults, degraded }) {
  const wrong = [
    ...faults.map((code) => make("li", {}, { ...NOTICED, ...OTHERS }[code] ?? code)),
    ...degraded.filter((each) => !faults.includes(each)).map((each) => make("li", { class: "fine", lang: "en" }, withCode(each))),
  ];
  return tile(t("State"), wrong.length ? make("ul", { class: "wrong-list" }, wrong) : t("Nothing is wrong."));
}

function space({ free, total, reserve }) {
  const used = 1 - free / total;
  return tile(
    t("Space"),
    make("p", {}, t("{free} of {total} are free", { free: bytes(free), total: bytes(total) })),
    make("span", { class: "track", "aria-hidden": "true" }, make("span", { class: "filled", "--share": used })),
    free < reserve ? make("p", { class: "failed" }, t("Nothing more can be added: {reserve} must stay free.", { reserve: bytes(reserve) })) : null,
  );
}

function queues({ texts, pictures, unsealed, queued, running }) {
  const lines = [
    [t("Languages being taught"), running],
    [t("Languages that wait"), queued],
    [t("Texts to be read"), texts],
    [t("Pictures to be read"), pictures],
    [t("Changes that wait for the worker"), unsealed],
  ];
  return tile(t("Queues"), make("ul", { class: "counts" }, lines.map(([name, count]) => make("li", {}, make("span", {}, name), make("span", { class: "number" }, whole(count))))));
}

function backup(newest) {
  if (!newest) return tile(t("Backup"), make("p", { class: "failed" }, t("No backup is known here.")), make("p", { class: "fine" }, make("code", {}, "pictoglot backup")));
  const old = Date.now() - new Date(newest.time).getTime() > OLD;
  return tile(
    t("Backup"),
    make("p", { class: old ? "failed" : null }, time(newest.time), ` · ${bytes(newest.bytes)}`),
    newest.missing ? make("p", { class: "failed" }, t("{missing, plural, one {# file was missing.} other {# files were missing.}}", { missing: newest.missing })) : null,
    make("p", { class: "fine path" }, newest.folder),
  );
}
