// What both lists for speakers share, pictures to caption and words to name: what was skipped, how far it is, teaching.

import { ask, freshKey } from "/static/api.js";
import { fill, make } from "/static/dom.js";
import { teachAddress } from "/static/languages.js";
import { sorry } from "/static/parts.js";
import { t } from "/static/text.js";

const MOST = 1000; // items of one request

/** How many to ask for: the server knows of nothing that was skipped here. */
export const reach = (wanted, skipped) => Math.min(MOST, wanted + skipped.size);

/** What was not skipped; when only that is left, all of it once more. */
export function unskipped(items, skipped, idOf) {
  const others = items.filter((item) => !skipped.has(idOf(item)));
  if (!others.length) skipped.clear();
  return others.length ? others : items;
}

/** How many there are of those that are needed, and the button that teaches `tag` from them: what they are is a field of the form. Then `taught` is called. */
export function progress({ of, tag, have, needed, label, enough, more = null, taught = () => {} }) {
  const is = have >= needed;
  const trouble = make("div", { role: "alert", hidden: true });
  const teach = async () => {
    const body = new FormData();
    for (const [field, value] of Object.entries({ language: tag, [of]: "true" })) body.set(field, value);
    button.disabled = true;
    try {
      await ask("/v1/languages", { body, headers: freshKey() });
      taught();
      location.hash = teachAddress(tag);
    } catch (problem) {
      fill(trouble, sorry(problem));
      button.disabled = false;
    }
  };
  const button = make("button", { type: "button", id: `${of}-teach`, class: is ? "main" : "", disabled: !is, onclick: teach }, t("Teach"));
  return make(
    "div",
    { class: "so-far" },
    make("progress", { max: needed, value: Math.min(have, needed), "aria-label": label }),
    make("p", { id: `${of}-progress`, role: "status" }, is ? enough : t("{have} of {needed} until it can be taught", { have, needed })),
    more,
    button,
    trouble,
  );
}
