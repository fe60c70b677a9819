// The audit log, for administrators: who changed what; chosen by the address, page after page, and as a table to keep.

import { all, ask } from "/static/api.js";
import { byId, fill, make, time } from "/static/dom.js";
import { dialog, nothing, sorry, waiting } from "/static/parts.js";
import { t } from "/static/text.js";

const PATH = "/v1/admin/audit";
const CHOICES = ["actor", "act", "target", "since", "until"];
const SHOWN = 4; // targets of one act, until more are asked for
const EXPORTED = 10_000; // acts in one file
const COLUMNS = ["number", "at", "actor", "label", "act", "targets", "request_id"];
const BECAME = { // of what was changed, as the server writes it
  created: t("created"), replaced: t("replaced"), changed: t("changed"), deleted: t("deleted"),
  restored: t("restored"), queued: t("queued"), cancelled: t("cancelled"), revoked: t("revoked"),
  "signed in": t("signed in"), "signed out": t("signed out"), pruned: t("pruned"), removed: t("removed"),
  set: t("set"), rejected: t("rejected"), "caption proposed": t("caption proposed"),
  "caption accepted": t("caption accepted"), learn: t("learn"), assess: t("assess"), import: t("import"),
  rebuild: t("rebuild"), base: t("base"), promote: t("promote"), rollback: t("rollback"), restore: t("restore"),
  withdraw: t("withdraw"),
};
const NAMES = { // of what has no name of its own
  release: (release) => t("release {release}", { release }),
  version: (number) => t("version {number}", { number }),
  "terms of": (tag) => t("terms of {tag}", { tag }),
  proposal: (id) => t("proposal {id}", { id }),
  dataset: (id) => t("dataset {id}", { id }),
};
let chosen = {}; // what the address asks for, as the API calls it
let next = null; // the cursor of what follows
let loads = 0; // only what was asked for last is shown

export function prepare() {
  const form = byId("audit-form");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    location.hash = address(Object.fromEntries(CHOICES.map((name) => [name, form.elements[name].value.trim()])));
  });
  byId("audit-more").addEventListener("click", () => more().catch((problem) => dialog(t("Who changed what"), () => sorry(problem))));
  byId("audit-export").addEventListener("click", () => save().catch((problem) => dialog(t("Not exported"), () => sorry(problem))));
}

/** Draw what the address asks for. */
export async function drawAudit(query) {
  const body = byId("audit-body");
  const asked = Object.fromEntries(CHOICES.map((name) => [name, query.get(name) ?? ""]));
  for (const name of CHOICES) byId("audit-form").elements[name].value = asked[name];
  chosen = Object.fromEntries(Object.entries(asked).filter(([, value]) => value).map(([name, value]) => [name, instant(name, value)]));
  byId("audit-more").hidden = true;
  fill(body, waiting(t("Loading the changes")));
  const mine = (loads += 1);
  try {
    const page = await ask(`${PATH}?${new URLSearchParams({ ...chosen, limit: "50" })}`);
    if (mine !== loads) return;
    fill(body, page.items.length ? make("ol", { class: "acts" }, page.items.map(entry)) : nothing(t("Nobody has changed anything like that.")));
    follow(page);
  } catch (problem) {
    if (mine === loads) fill(body, sorry(problem));
  }
}

const address = (asked) => `#audit?${new URLSearchParams(Object.entries(asked).filter(([, value]) => value))}`;

/** The moment at which a day begins here, or the next one: the last day is included. */
function instant(name, value) {
  if (!["since", "until"].includes(name)) return value;
  const at = new Date(`${value}T00:00:00`);
  if (name === "until") at.setDate(at.getDate() + 1);
  return Number.isNaN(at.getTime()) ? value : at.toISOString();
}

async function more() {
  const mine = (loads += 1);
  const page = await ask(`${PATH}?${new URLSearchParams({ ...chosen, limit: "50", cursor: next })}`);
  if (mine !== loads) return;
  byId("audit-body").querySelector("ol").append(...page.items.map(entry));
  follow(page);
}

function follow(page) {
  next = page.next_cursor;
  byId("audit-more").hidden = next === null;
}

function entry(item) {
  const targets = Object.entries(item.targets);
  const rest = targets.slice(SHOWN).map(target);
  return make(
    "li",
    { "data-act": item.number },
    make("p", { class: "when fine" }, time(item.at)),
    make("p", { class: "whom" }, make("a", { href: address({ actor: item.actor }), title: item.actor }, make("bdi", {}, item.label || item.actor))),
    make("p", {}, make("a", { href: address({ act: item.act }) }, make("code", {}, item.act))),
    make("div", { class: "targets" }, targets.slice(0, SHOWN).map(target), rest.length ? make("details", {}, make("summary", { class: "fine" }, t("and {more} more", { more: rest.length })), rest) : null),
  );
}

const target = ([name, became]) => make("p", {}, make("a", { href: address({ target: name }) }, make("bdi", {}, called(name))), became ? make("span", { class: "fine" }, " ", outcome(became)) : null);

function called(name) {
  const [, kind, own] = /^(release|version|terms of|proposal|dataset) (.+)$/.exec(name) ?? [];
  return kind ? NAMES[kind](own) : name;
}

function outcome(became) {
  const [, rows] = /^(\d+) rows kept$/.exec(became) ?? [];
  if (rows) return t("{rows, plural, one {# row is kept} other {# rows are kept}}", { rows: Number(rows) });
  return BECAME[became] ?? make("span", { lang: "en" }, became);
}

/** Save what is chosen as a table; a cell may not begin as a formula does. */
async function save() {
  const items = await all(PATH, EXPORTED, chosen);
  const cell = (value) => `"${String(value).replace(/^[=+\-@\t\r]/, "'$&").replaceAll('"', '""')}"`;
  const row = (item) => COLUMNS.map((name) => cell(name === "targets" ? Object.entries(item.targets).map((pair) => pair.join(": ")).join("; ") : item[name])).join(",");
  const url = URL.createObjectURL(new Blob(["\ufeff", [COLUMNS.join(","), ...items.map(row)].join("\r\n"), "\r\n"], { type: "text/csv" }));
  make("a", { href: url, download: `audit-${new Date().toISOString().slice(0, 10)}.csv` }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}
