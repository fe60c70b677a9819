// What of an answer is likely meant and what less so, words that nobody knows, and what may be meant by them.

import { write } from "/static/address.js";
import { make } from "/static/dom.js";
import { t } from "/static/text.js";

const NOISE = 0.2; // the chance that meaningless texts have, 95 of 100, too
const WORD = /[\p{L}\p{M}\u200c\u200d]+(?:['\u2019-][\p{L}\p{M}\u200c\u200d]+)*/gu; // as the server divides a text

/** What stands above an item of this answer, and of the pages behind it: a line above those that are less likely. */
export function likelihood({ warnings = [], items }) {
  const none = warnings.includes("nothing_likely");
  const said = !none ? t("These match less well") : items[0]?.match < NOISE ? t("Nothing here seems to show this. These come nearest:") : t("Whether these show it is not certain:");
  return ({ likely }) => (likely === false ? said : "");
}

/** A sentence for words that the base does not know the look of, and one for each word that no caption has and nobody taught, with a link to the search for what may be meant. */
export function unknown({ guessed_words: guessed = [], unknown_words: words = [], did_you_mean: meant = {} }, asked) {
  const guess = guessed.length ? [make("span", { class: "note" }, t("People, places and events are not known here: what is found for {words} is a guess.", { words: guessed.join(", ") }))] : [];
  return [...guess, ...words.map((word) => {
    const near = meant[word];
    const known = near && make("a", { href: write({ ...asked, q: instead(asked.q, word, near) }) }, near);
    const named = make("b", { dir: "auto" }, word);
    const said = known ? t("No caption has {word}, and nobody taught it. Did you mean {known}?", { word: named, known }) : t("No caption has {word}, and nobody taught it.", { word: named });
    return make("span", { class: "note" }, said);
  })];
}

/** A text with another word in the place of one; longer words that have it within stay. */
function instead(text, word, other) {
  const same = word.normalize("NFC");
  return text.normalize("NFC").replace(WORD, (one) => (one === same ? other : one));
}
