// Keys of programs and people, and sessions of browsers: their lists, making a key, ending one of either.

import { ask, send } from "/static/api.js";
import { byId, fill, make, time } from "/static/dom.js";
import { confirm, dialog, nothing, sorry, waiting } from "/static/parts.js";
import { t } from "/static/text.js";

const PATH = "/v1/admin/keys";
const MAY = { search: t("search"), write: t("search and add"), admin: t("do everything") };

/** The form that makes a key. */
export function prepare() {
  const form = byId("keys-form");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const { label, scope, collections, until } = form.elements;
    const bound = collections.value.split(",").map((each) => each.trim()).filter(Boolean);
    fill(byId("keys-trouble"));
    try {
      const made = await ask(PATH, { json: { label: label.value.trim(), scope: scope.value, collections: bound.length ? bound : null, expires_at: until.value ? new Date(`${until.value}T23:59:59`).toISOString() : null } });
      form.reset();
      await Promise.all([show(made), drawKeys()]);
    } catch (problem) {
      fill(byId("keys-trouble"), sorry(problem));
    }
  });
}

/** Load the keys and sessions (this needs an admin key) and draw them; keys that open nothing any more stand below. */
export async function drawKeys() {
  const body = byId("keys-body");
  if (!body.childElementCount) fill(body, waiting(t("Loading the keys")));
  try {
    const [{ items }, sessions] = await Promise.all([ask(PATH), ask("/v1/admin/sessions")]);
    const over = items.filter(isOver);
    fill(body, list(items.filter((item) => !isOver(item))) ?? nothing(t("No key was made yet.")), over.length ? make("details", { class: "formats" }, make("summary", {}, t("Revoked and expired")), list(over)) : null);
    fill(byId("sessions-body"), list(sessions.items, session) ?? nothing(t("Nobody is signed in with a browser.")));
  } catch (problem) {
    fill(body, sorry(problem));
  }
}

const isOver = (item) => item.revoked_at !== null || (item.expires_at !== null && new Date(item.expires_at) <= new Date());
const list = (items, draw = entry) => (items.length ? make("ul", { class: "keys" }, items.map(draw)) : null);

function entry(item) {
  const name = item.label || item.id;
  const until = item.revoked_at ? t("revoked {at}", { at: time(item.revoked_at) }) : item.expires_at ? t("until {at}", { at: time(item.expires_at) }) : null;
  return make(
    "li",
    { "data-key": item.id },
    make(
      "div",
      {},
      make("p", { class: "what" }, make("bdi", {}, name), make("span", { class: "tag" }, MAY[item.scope])),
      item.collections ? make("p", {}, t("Only in {collections}", { collections: item.collections.join(", ") })) : null,
      make("p", { class: "fine" }, make("a", { href: `#audit?actor=${item.id}`, title: t("What it changed") }, item.id), " · ", t("made {at}", { at: time(item.created_at) }), until ? [" · ", until] : null),
    ),
    isOver(item) ? null : make("button", { type: "button", class: "quiet", onclick: () => end(item, t("Revoke {name}?", { name }), t("Whoever uses it is refused within five seconds. It cannot be brought back."), t("Revoke")), "aria-label": t("Revoke {name}", { name }) }, t("Revoke …")),
  );
}

function session(item) {
  const name = item.label || item.subject;
  const title = t("End the session of {name}", { name });
  return make(
    "li",
    {},
    make(
      "div",
      {},
      make("p", { class: "what" }, make("bdi", {}, name)),
      make("p", { class: "fine" }, make("a", { href: `#audit?actor=${encodeURIComponent(item.subject.replace(/^key:/, ""))}`, title: t("What it changed") }, item.subject), " · ", t("since {at}", { at: time(item.created_at) }), " · ", t("until {at}", { at: time(item.expires_at) })),
    ),
    make("button", { type: "button", class: "quiet", onclick: () => end(item, title, t("This browser is refused within five seconds. Who may sign in can do so again."), t("End")), "aria-label": title }, t("End …")),
  );
}

/** The new key, which nobody can see again. */
const show = ({ key }) =>
  dialog(t("The new key"), (close) => {
    const field = make("input", { type: "text", readonly: true, value: key, id: "new-key", translate: "no" });
    const copy = async () => {
      field.select();
      await navigator.clipboard?.writeText(key).catch(() => {});
    };
    return make(
      "div",
      {},
      make("p", {}, t("Copy it now: it is shown only once, and cannot be recovered.")),
      make("label", { class: "entry" }, t("Access key"), field),
      make("div", { class: "actions" }, make("button", { type: "button", class: "main", onclick: copy }, t("Copy")), make("button", { type: "button", onclick: () => close(true) }, t("Close"))),
    );
  });

async function end(item, title, what, button) {
  if (!(await confirm(title, make("p", {}, what), button))) return;
  try {
    await send(`${PATH}/${item.id}`, { method: "DELETE" });
    await drawKeys();
  } catch (problem) {
    await dialog(t("Not revoked"), () => sorry(problem));
  }
}
