// The languages: their list, their names, and the picker beside the search field.

import { ask } from "/static/api.js";
import { fill, make } from "/static/dom.js";
import { locale, t } from "/static/text.js";

export const learned = { items: [], shared: null, release: null };
const watchers = [];
export const onLanguages = (watcher) => watchers.push(watcher);

/** Load the languages, and notify all parts that show them: the served ones by version, then those that are read untaught, then others. */
export async function refresh(quiet = false) {
  const answer = await ask("/v1/languages", { retried: quiet }); // without asking for a key
  const place = (item) => (served(item) ? item.version : item.version === null ? Infinity : Number.MAX_SAFE_INTEGER);
  const items = [...answer.items].sort((a, b) => (place(a) === place(b) ? a.language.localeCompare(b.language) : place(a) - place(b)));
  Object.assign(learned, { items, shared: answer.shared_version, release: answer.release });
  for (const watcher of watchers) watcher();
}

/** The address where a language is taught. */
export const teachAddress = (language, more = {}) => `#teach?${new URLSearchParams({ language, ...more })}`;

/** Whether a release names the language: English, and what was taught. */
export const served = (item) => item.taught || item.language === "en";

export const known = (tag) => learned.items.find((item) => item.language === tag);

/** Name and direction of any tag: the own name and direction from the server for languages of its list, the rest from the browser. */
export function named(tag) {
  const item = known(tag);
  const name = browserName(locale, tag);
  if (item) return { name: name === tag ? item.name : name, native: item.native_name, direction: item.direction };
  return { name, native: browserName(tag, tag), direction: browserDirection(tag) };
}

/** The names of some languages, as a list in a sentence. */
export const names = (tags) => new Intl.ListFormat(locale).format(tags.map((tag) => named(tag).name));

/** Why the shared table was not changed for a language, and what that means; `unmeasured` are languages of which nobody knows what they would lose. */
export function apart(name, { unmeasured = [] } = {}) {
  const languages = names(unmeasured.filter((tag) => tag !== "en"));
  if (languages) return t("No language got worse: what {languages} would lose with {name} in the shared table cannot be measured, so that table is the one of before. Searches that name {name} use this version all the same.", { name, languages });
  return t("No language got worse: with {name} in the shared table another one would have lost too much, so that table is the one of before. Searches that name {name} use this version all the same.", { name });
}

function browserDirection(tag) {
  try {
    return new Intl.Locale(tag).getTextInfo?.().direction ?? "auto";
  } catch {
    return "auto"; // no tag, or one that is still typed
  }
}

function browserName(inLanguage, tag) {
  try {
    return new Intl.DisplayNames([inLanguage], { type: "language", fallback: "none" }).of(tag) ?? tag;
  } catch {
    return tag;
  }
}

/** The native name as a text; of languages that call themselves the same (qu and quz), with the tag. */
export function nativeName(tag) {
  const own = named(tag).native;
  const namesakes = learned.items.some((item) => item.language !== tag && item.native_name === own);
  return namesakes ? `${own} (${tag})` : own;
}

/** The native name, marked up for its own language and direction. */
export const native = (tag, more = {}) => make("bdi", { lang: tag, dir: named(tag).direction, ...more }, nativeName(tag));

/** Fill the picker beside the search field; the choice stays. */
export function fillPicker(select) {
  const chosen = select.value || "auto";
  const untaught = learned.items.filter((item) => !served(item) && item.version !== null && (item.built_in || item.assessed?.reads));
  const option = ({ language, native_name: own, direction }) =>
    make("option", { value: language, lang: language, dir: direction }, own === named(language).name ? own : `${own} · ${named(language).name}`);
  fill(
    select,
    make("option", { value: "auto" }, t("Detect the language")),
    make("optgroup", { label: t("Learned") }, learned.items.filter(served).map(option)),
    untaught.length ? make("optgroup", { label: t("Not taught; the base reads it") }, untaught.map(option)) : null,
    make("option", { value: "shared" }, t("No particular language")),
  );
  select.value = chosen;
  if (!select.value) select.value = "auto";
}

/** How many texts a language was tested with, as words or captions. */
export const testsOf = ({ asked }, against) =>
  against === "words" ? t("{asked, plural, one {# test word} other {# test words}}", { asked }) : t("{asked, plural, one {# test caption} other {# test captions}}", { asked });
