// What of an answer is likely meant and what less so, words that nobody knows, and what may be meant by them.

import { write } from "/static/address.js";
import { make } from "/static/dom.js";
import { t } from "/static/text.js";

/** What stands above an item of this answer, and of the pages behind it: a line above those that are less likely. */
export function likelihood({ warnings = [] }) {
  const said = warnings.includes("nothing_likely") ? t("No picture here is likely to show this. These come nearest:") : t("These match less well");
  return ({ likely }) => (likely === false ? said : "");
}

/** A sentence for each word that no caption has and nobody taught, with a link to the search for what may be meant. */
export function unknown({ unknown_words: words = [], did_you_mean: meant = {} }, asked) {
  return words.map((word) => {
    const near = meant[word];
    const known = near && make("a", { href: write({ ...asked, q: asked.q.replace(word, near) }) }, near);
    const named = make("b", { dir: "auto" }, word);
    const said = known ? t("No caption has {word}, and nobody taught it. Did you mean {known}?", { word: named, known }) : t("No caption has {word}, and nobody taught it.", { word: named });
    return make("span", { class: "note" }, said);
  });
}
