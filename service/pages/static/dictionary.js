// Dictionaries and word lists: a table becomes the entries that the service reads, and what it took is shown.

import { Problem, bytesOf } from "/static/api.js";
import { make } from "/static/dom.js";
import { t } from "/static/text.js";

const MARKS = ["\t", ";", ","];
const HEADER = /^(word|headword|caption|english)$/i;
const KEPT = ["1f8b", "504b", "d0cf"]; // gzip and spreadsheets, which the service reads itself

const entry = ([word, ...glosses]) => ({ word, glosses: glosses.filter(Boolean) });
const pair = ([caption, english = ""]) => ({ caption, english });

/** Whether this is a table as text, whose rows `entries` and `pairs` read. */
export const isText = (file) => !/\.(xlsx|xls|ods|gz|parquet|json|jsonl)$/i.test(file.name);

/** Whether the service reads this table itself. */
export const isSpreadsheet = (file) => /\.(xlsx|xls|ods)$/i.test(file.name);

/** A table without names above its columns, as JSON lines: a caption, and what it means. */
export const pairs = (file) => entries(file, pair);

/** The file as entries, one JSON object in each line: a word, and in the other cells of its line what it means. */
export async function entries(file, make = entry) {
  const content = new Uint8Array(await bytesOf(file));
  const start = [...content.subarray(0, 2)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  if (KEPT.includes(start)) return file;
  const text = decode(content);
  if (text.trimStart().startsWith("{")) return file;
  const lines = text.split(/\r?\n/).filter((line) => line.trim());
  const mark = MARKS.find((each) => lines[0]?.includes(each)) ?? ",";
  const rows = lines.map((line) => split(line, mark));
  const english = rows[0]?.findIndex((name) => /^english$/i.test(name));
  if (rows[0]?.some((name) => HEADER.test(name))) rows.shift();
  if (english === 0) for (const row of rows) row.unshift(...row.splice(1, 1)); // the word goes first
  const list = rows.map((row) => JSON.stringify(make(row)));
  return new Blob([list.map((line) => `${line}\n`).join("")]);
}

/** The text of a file; letters that cannot be read are refused, as the service does: they would be taught. */
function decode(content) {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(content);
  } catch {
    throw new Problem({ code: "dataset_invalid", kind: "not_utf8", status: 422 });
  }
}

/** The cells of a line; in quotes, a cell may have the mark that stands between them. */
function split(line, mark) {
  const cells = line.matchAll(new RegExp(`(?:^|${mark})(?:"((?:[^"]|"")*)"|([^${mark}]*))`, "g"));
  return [...cells].map(([, quoted, plain]) => (quoted ?? plain).replaceAll('""', '"').trim());
}

const LEFT_OUT = {
  no_gloss: t("without an equivalent"),
  definition: t("explained by a sentence, without an equivalent"),
  grammar: t("of grammar: function words, affixes, forms of another word"),
  too_long: t("with too long a headword"),
  script: t("in another script than the language's"),
  common_gloss: t("whose equivalents very many headwords have"),
  repeated: t("that repeat others"),
  beyond_limit: t("behind as many as can be taught"),
};

/** What was taken of a dictionary, why the rest was not, and some pairs. */
export function choice({ entries: count, taken, left_out: left, reasons, examples }) {
  return [
    make("p", {}, t("{taken} of {count, plural, one {# entry} other {# entries}} are taken.", { taken, count })),
    Object.keys(left).length
      ? [make("h3", {}, t("Entries that are left out")), make("ul", {}, Object.entries(left).map(([name, number]) => make("li", {}, `${number} ${LEFT_OUT[name] ?? reasons[name] ?? name}`)))]
      : null,
    examples.length
      ? [make("h3", {}, t("Some of those that are taken")), make("ul", {}, examples.map(({ word, gloss }) => make("li", {}, make("bdi", {}, word), ` – ${gloss}`)))]
      : null,
  ];
}
