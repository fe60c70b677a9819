// Says it while the gallery grows, whoever adds to it: what is not there yet is not found.

import { ask } from "/static/api.js";
import { byId, fill, whole } from "/static/dom.js";
import { t } from "/static/text.js";

const LOOK = 4000; // ms between two looks
let timer = null;
let round = 0; // a newer one ends the older

/** Look twice whether there are more pictures, and on while there are, as long as the search is shown. */
export function watchGrowth() {
  clearTimeout(timer);
  round += 1;
  look(round, null);
}

async function look(own, before) {
  const total = await count().catch(() => null);
  if (own !== round) return;
  const grows = before !== null && total > before;
  fill(byId("growing"), grows ? t("Pictures are being added now: {total} so far. A search finds only those.", { total }) : null);
  const on = total !== null && (before === null || grows) && !byId("search").hidden;
  if (on) timer = setTimeout(() => look(own, total), LOOK);
}

async function count() {
  const { items } = await ask("/v1/collections", { retried: true }); // without asking for a key
  return items.reduce((sum, one) => sum + one.count, 0);
}
