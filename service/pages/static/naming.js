// Tags of languages by their names: whoever types "Breton" or "brezhoneg" where a language is asked for means "br".

import { Problem, ask } from "/static/api.js";
import { fill, make } from "/static/dom.js";

const PAUSE = 200; // ms without a key until names are looked up
const WHOLE = /^([a-z]{2,3}|x)(-[a-z0-9]{1,8})+$/i; // a tag of several parts, which is no name

/** Offer tags for what is typed into these fields; called once. */
export function prepare(...fields) {
  for (const field of fields) {
    const offered = make("datalist", { id: `${field.id}-names` });
    field.after(offered);
    field.setAttribute("list", offered.id);
    let waiting = 0;
    field.addEventListener("input", () => {
      clearTimeout(waiting);
      waiting = setTimeout(() => offer(offered, field), PAUSE);
    });
  }
}

/** The tag of a language: what was entered, or the likeliest of what has that name in any language; throws a `Problem`. */
export async function findTag(entered) {
  const query = entered.trim();
  if (WHOLE.test(query)) return query;
  const [first] = await suggest(query, 1);
  if (!first) throw new Problem({ code: "language_tag_invalid" });
  return first.language;
}

const suggest = async (query, limit, options) => (await ask(`/v1/languages/names?${new URLSearchParams({ query, limit })}`, options)).items;

async function offer(offered, field) {
  const query = field.value.trim();
  const items = query ? await suggest(query, 8, { retried: true }).catch(() => []) : [];
  if (query === field.value.trim()) fill(offered, items.map(({ language, name, native_name: native, matched }) => make("option", { value: language }, [...new Set([native, name, matched])].join(" · "))));
}
