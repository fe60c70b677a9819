// Tags of languages by their names: whoever types "Breton" or "brezhoneg" where a tag is asked for is offered "br".

import { ask } from "/static/api.js";
import { fill, make } from "/static/dom.js";

const PAUSE = 200; // ms without a key until names are looked up

/** Offer tags for what is typed into these fields; called once. */
export function prepare(...fields) {
  for (const field of fields) {
    const offered = make("datalist", { id: `${field.id}-names` });
    field.after(offered);
    field.setAttribute("list", offered.id);
    let waiting = 0;
    field.addEventListener("input", () => {
      clearTimeout(waiting);
      waiting = setTimeout(() => offer(offered, field.value.trim()), PAUSE);
    });
  }
}

async function offer(offered, query) {
  const { items } = query ? await ask(`/v1/languages/names?${new URLSearchParams({ query, limit: 8 })}`, { retried: true }).catch(() => ({ items: [] })) : { items: [] };
  fill(offered, items.map(({ language, name, native_name: native, matched }) => make("option", { value: language }, [...new Set([native, name, matched])].join(" · "))));
}
