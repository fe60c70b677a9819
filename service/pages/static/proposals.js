// What a keeper decides: captions that people propose, each beside its picture, become its captions or go.

import { ask, show } from "/static/api.js";
import { byId, fill, make, time } from "/static/dom.js";
import { pictureAddress } from "/static/gallery.js";
import { named } from "/static/languages.js";
import { nothing, sorry, waiting } from "/static/parts.js";
import { t } from "/static/text.js";

let tag = "";

/** Show the captions that wait in the language that the address names. */
export async function drawProposals(query) {
  const language = query.get("language");
  if (!language) return location.replace("#languages");
  tag = language;
  byId("proposals-title").textContent = t("Proposed captions in {name}", { name: named(tag).name });
  fill(byId("proposals-said"));
  fill(byId("proposals-body"), waiting(t("Loading the captions")));
  await load();
}

const path = () => `/v1/languages/${encodeURIComponent(tag)}/captions`;

async function load() {
  const language = tag;
  try {
    const { items } = await ask(path());
    if (language !== tag) return; // another language is shown by now
    fill(byId("proposals-body"), items.length ? make("ol", { class: "proposals" }, items.map(entry)) : nothing(t("No caption waits."), t("What one person proposes waits here until another one agrees, or you decide.")));
  } catch (problem) {
    if (language === tag) fill(byId("proposals-body"), sorry(problem));
  }
}

function entry(item) {
  const { id, picture, text, name, label, proposed_at: at } = item;
  const trouble = make("div", { role: "alert", hidden: true });
  const decide = async (verdict, said) => {
    try {
      await ask(`${path()}/review`, { json: { [verdict]: [id] } });
      gone(element, said);
    } catch (problem) {
      fill(trouble, sorry(problem));
    }
  };
  const element = make(
    "li",
    { "data-proposal": id },
    make("a", { href: pictureAddress(picture), "aria-label": t("The picture of: {text}", { text }) }, show(make("img", { alt: "", loading: "lazy" }), `/v1/pictures/${encodeURIComponent(picture)}/thumbnail`)),
    make("div", {}, make("p", { class: "native" }, make("bdi", { lang: tag, dir: named(tag).direction }, text)), make("p", { class: "fine" }, make("bdi", {}, name || label), " · ", time(at))),
    make(
      "div",
      { class: "actions" },
      make("button", { type: "button", class: "main", "aria-label": t("Accept: {text}", { text }), onclick: () => decide("accept", t("Accepted: {text}", { text })) }, t("Accept")),
      make("button", { type: "button", "aria-label": t("Refuse: {text}", { text }), onclick: () => decide("reject", t("Refused: {text}", { text })) }, t("Refuse")),
    ),
    trouble,
  );
  return element;
}

/** It is decided: the next one gets the focus, and after the last of these others are looked for. */
function gone(element, said) {
  const next = element.nextElementSibling ?? element.previousElementSibling;
  element.remove();
  fill(byId("proposals-said"), said);
  if (next) next.querySelector("button").focus();
  else load();
}
