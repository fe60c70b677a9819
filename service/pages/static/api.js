// Talks to this server: requests, the key, errors as sentences. Draws nothing.

import { keep, recall } from "/static/storage.js";
import { t } from "/static/text.js";

const KEY = "pictoglot.key"; // in sessionStorage: gone with the tab
const MOST_PLACES = 3; // shown per kind of fault
const NEAR = "1000px"; // below or above what is in view: pictures are fetched before they are scrolled to

export const key = {
  get: () => recall("sessionStorage", KEY) ?? "",
  set: (value) => keep("sessionStorage", KEY, value),
};

// What a person can do about an error. For other codes, the server's own sentence is shown.
const SENTENCES = {
  empty_text: t("Type what to search for first."),
  text_too_long: t("This text is too long: at most 1,000 characters are read."),
  text_invalid_unicode: t("This text contains invalid characters."),
  unsupported_picture_format: t("This file is not a picture in a format that is read here: JPEG, PNG, WebP, AVIF, TIFF or HEIC."),
  picture_corrupt: t("This picture is damaged and cannot be read."),
  picture_bad_dimensions: t("This picture is too small, or far too long and narrow."),
  picture_not_found: t("There is no such picture here, or it was deleted."),
  picture_damaged: t("The server's copy of this picture is damaged. Add the picture again."),
  picture_animated: t("Animated pictures are not supported."),
  picture_too_many_pixels: t("This picture has more pixels than this service takes."),
  body_too_large: t("This file is too large."),
  metadata_invalid: t("These metadata cannot be kept. Keys have a–z, 0–9 and _; values are texts, numbers, yes or no, and lists of texts; all together at most 16 KiB."),
  invalid_request: t("Something that was entered cannot be taken."),
  body_timeout: t("Sending took too long. Try again."),
  page_too_deep: t("Nothing further down is shown. Say more of what you look for."),
  not_found: t("This does not exist."),
  conflict: t("Something changed in the meantime, so nothing was done. Try again."),
  invalid_filter: t("This filter cannot be read."),
  record_changed: t("This record was changed in the meantime, so nothing was saved."),
  language_tag_invalid: t("No language of this name or tag is known. A tag looks like “cy” or “pt-BR”, one of your own like “x-kichwa-lamas”."),
  language_not_found: t("Nobody has taught this language here, or it was withdrawn."),
  language_of_other_base: t("This language was taught for another base than the one here, and cannot be brought in."),
  language_file_changed: t("This file was changed after it was saved, so nothing of it was read. Ask for it again."),
  language_file_invalid: t("This is no file of a language, or it cannot be read."),
  base_language: t("English is built in: it need not be taught."),
  dataset_invalid: t("This cannot teach: it is no table of words and what they mean, or too many of its rows are wrong."),
  unsupported_media_type: t("This kind of file is not read here. A table from Excel or LibreOffice is, or CSV."),
  dataset_too_small: t("These are too few rows to teach a language, or all of one text."),
  dataset_language_mismatch: t("Most of this is in another script than the language. Look whether the columns are swapped."),
  pivot_not_served: t("What stands beside your language is in one that nobody has taught here. Teach that one first."),
  pivot_text_empty: t("A row says in which language its other text is, and has no such text."),
  too_many_answers: t("No more is kept of one language. Teach it from what is there, or accept what is proposed, first."),
  captions_unreadable: t("The base has no signs for this script. Another base can learn the language."),
  base_moved: t("The base was exchanged in the meantime, so nothing was changed. Teach the language again."),
  training_diverged: t("Nothing could be learned from this, so nothing was changed. Look whether both sides of each row belong together."),
  too_many_attempts: t("It was broken off too often, so nothing was changed. Whoever keeps this service finds the reason in its log."),
  expansion_not_found: t("This has ended already."),
  expansion_finished: t("This has ended already."),
  nothing_held_out: t("Nothing is left to try the language with. Add more rows."),
  missing_api_key: t("This page asks for an access key."),
  invalid_api_key: t("This key is not valid."),
  insufficient_scope: t("This needs more rights than you have here."),
  session_ended: t("You are no longer signed in."),
  sign_in_failed: t("Signing in did not work. Try again; if it fails again, whoever keeps this service finds the reason in its log."),
  no_group: t("You are signed in, but nobody has given you access yet. Ask whoever keeps this service."),
  foreign_origin: t("Nothing can be changed under this address. Open the page where its keeper says."),
  untrusted_proxy: t("The server does not trust the proxy that sent this."),
  rate_limited: t("Too many requests with this key. Wait a moment, then try again."),
  overloaded: t("The server is busy. Try again in a moment."),
  index_unavailable: t("The server is still loading its index. Try again in a moment."),
  registry_unavailable: t("The server's database does not answer. Searches still work; nothing can be changed now."),
  storage_unavailable: t("The server cannot use its files now. Try again later."),
  store_unavailable: t("The server cannot use its files now. Try again later."),
  internal_error: t("Something went wrong on the server. Whoever keeps it finds the reason in its log."),
  storage_full: t("The server's disk is full. Searches still work; nothing can be added now."),
  cursor_expired: t("A new release was published. Search again."),
  alias_moved: t("A new release was published in the meantime, so nothing was changed. Look again before you decide."),
  expansion_in_progress: t("This language is being taught now. Wait until it ends, or cancel it first."),
  rollback_not_possible: t("English is built in and cannot be rolled back."),
  file_changed: t("This file was changed or moved since it was chosen. Choose it again."),
  unreachable: t("The server cannot be reached."),
  outcome_unknown: t("The connection was lost, and no answer came."),
};

// Of a whole file; its code is as above.
const BROKEN = t("This file is damaged, or not whole. Save it once more.");
const LARGE = t("This is too large to be read at once. Teach it in parts.");
const KINDS = {
  wrong_columns: t("The table has two columns, and its first row names them: write English above the meanings, and the name of your language above the words. Take out other columns, and rows above that one."),
  no_rows: t("There is no row in the file: write one pair in each line."),
  not_utf8: t("The letters of this file cannot be read. Save it as “CSV UTF-8”, or as Excel's or LibreOffice's own file."),
  spreadsheet_corrupt: t("This table is damaged, or locked by a password. Save it once more, without one."),
  gzip_corrupt: BROKEN,
  parquet_corrupt: BROKEN,
  too_many_rows: LARGE,
  line_too_long: LARGE,
  decompressed_too_large: LARGE,
};

// What is wrong with a row of a dataset: it follows "3 rows".
const FAULTS = {
  missing_caption: t("without a caption"),
  missing_english_and_picture: t("without its meaning beside it"),
  english_and_pivot: t("with two texts beside the caption, of which a row may have one"),
  malformed_json: t("not one JSON object in a line"),
  wrong_field_count: t("with too few or too many cells"),
  quote_not_closed: t("behind a quote that is not closed, or is followed by text"),
  pivot_invalid: t("whose other text lacks its language, or is none"),
  picture_id_invalid: t("with a picture whose id is not valid"),
  picture_not_found: t("with a picture that is not in the gallery"),
  split_invalid: t("with a split that is neither train nor val"),
  not_text: t("with something else than a text"),
  empty_text: t("with a text of no letter, number or symbol"),
  text_too_long: t("with a text that is too long"),
  text_invalid_unicode: t("with control characters or broken ones"),
  split_conflict: t("of a picture or text that is in the other split already"),
  missing_word: t("without a headword"),
};

/** What rows with a fault of this kind are; that of the text beside a caption has its name in front. */
export const faultWords = (code) => FAULTS[code] ?? FAULTS[code.slice(code.indexOf("_") + 1)] ?? code.replaceAll("_", " ");

/** An error response; `message` is a sentence for a person. */
export class Problem extends Error {
  constructor(problem) {
    super(SENTENCES[problem.code] ? [KINDS[problem.kind] ?? SENTENCES[problem.code], limit(problem), suggested(problem)].filter(Boolean).join(" ") : sentenceOf(problem));
    Object.assign(this, { code: problem.code, status: problem.status, request: problem.request_id, problem });
    this.advice = problem.code?.startsWith("dataset_") ? problem.detail : null; // the server's own words, in English
  }

  /** Where in a form or a file the faults are: one line for each kind, with the first places and how many more. */
  get places() {
    if (KINDS[this.problem.kind]) return []; // the sentence says it
    const byCode = new Map();
    for (const { location, code } of this.problem.errors ?? []) byCode.set(code, [...(byCode.get(code) ?? []), location]);
    return [...byCode].map(([code, locations]) => `${faultWords(code)}: ${listed(locations, this.count(code))}`);
  }

  /** How many faults of one kind there are in all, where the server says so: it lists only the first ones. */
  count(code) {
    const { report } = this.problem;
    return report?.faults?.[code]?.count ?? (code === "duplicate" ? (report?.duplicates ?? 0) : 0);
  }
}

/** `line 7`, `lines 2, 3, 4 and 1,306 more`, `body.limit`. */
export function listed(locations, count = 0) {
  const shown = locations.slice(0, MOST_PLACES);
  const lines = shown.every((location) => location.startsWith("line "));
  const text = shown.map((location) => (lines ? location.slice(5) : location)).join(", ");
  const more = Math.max(count, locations.length) - shown.length;
  const list = more ? t("{list} and {more} more", { list: text, more }) : text;
  return lines ? t("{count, plural, one {line {list}} other {lines {list}}}", { count: shown.length, list }) : list;
}

/** How much the server takes at most, and the setting that says so, where the refusal is for that. */
function limit({ detail }) {
  const [, size, unit, setting] = /at most ([\d.]+) (MB|megapixels)(?: \((PICTOGLOT_\w+)\))?/.exec(detail ?? "") ?? [];
  const most = { size: Number(size), setting: setting ? ` (\`${setting}\`)` : "" };
  if (unit === "MB") return t("At most {size} MB are taken{setting}.", most);
  return unit ? t("At most {size} megapixels are taken{setting}.", most) : "";
}

/** What the server takes for meant, of what it does not know. */
const suggested = ({ detail }) => /did you mean [^?]*\?/i.exec(detail ?? "")?.[0].replace(/^d/, "D") ?? "";

function sentenceOf({ title, detail }) {
  const message = detail && detail !== title ? `${title}: ${detail}` : title || t("Something went wrong");
  return /[.!?…]$/.test(message) ? message : `${message}.`;
}

/** The header that makes one request safe to repeat: the same key gives the first answer again. */
export const freshKey = () => ({ "Idempotency-Key": crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}` });

let askForKey = null; // the page's dialog
let asking = null; // that dialog while it is open: several requests may be refused at once
let declined = 0; // when it was closed without a key: what was refused in the same moment does not open it again
export const onKeyNeeded = (ask) => {
  askForKey = async (problem) => {
    if (!asking && Date.now() - declined < 2000) return false;
    asking ??= ask(problem).finally(() => (asking = null));
    const given = await asking;
    if (!given) declined = Date.now();
    return given;
  };
};

/** The response, or a `Problem`; when a key is missing or invalid, the person is asked for one, once. */
export async function send(path, { method, body, json, headers = {}, signal, retried = false } = {}) {
  const sent = { ...headers };
  if (key.get()) sent.Authorization = `Bearer ${key.get()}`;
  if (json !== undefined) sent["Content-Type"] = "application/json";
  const content = json === undefined ? body : JSON.stringify(json);
  let response;
  try {
    response = await fetch(path, { method: method ?? (content ? "POST" : "GET"), body: content, headers: sent, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    for (const part of body instanceof FormData ? body.values() : []) if (part instanceof File) await bytesOf(part); // the browser does not say which of both it is
    throw new Problem({ code: "unreachable", status: 0 });
  }
  if (response.ok) return response;
  const problem = new Problem(await read(response));
  if ([401, 403].includes(problem.status) && askForKey && !retried && (await askForKey(problem))) {
    return send(path, { method, body, json, headers, signal, retried: true });
  }
  throw problem;
}

/** The bytes of a file that was chosen, or a `Problem` where it is no longer what it was. */
export const bytesOf = (file) => file.arrayBuffer().catch(() => { throw new Problem({ code: "file_changed", status: 422 }); });

async function read(response) {
  try {
    return await response.json();
  } catch {
    return { code: "unreadable", status: response.status, title: t("The server answered with status {status}", { status: response.status }) };
  }
}

export async function ask(path, options) {
  const response = await send(path, options);
  try {
    return await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({ code: "unreachable", status: 0 }); // the connection was lost within the answer
  }
}

/** The answer to a change that is made once: when no answer comes, it is sent once more with the same key. */
export async function askOnce(path, json) {
  const headers = freshKey();
  try {
    return await ask(path, { json, headers });
  } catch (problem) {
    if (problem.code !== "unreachable") throw problem;
  }
  try {
    return await ask(path, { json, headers });
  } catch (problem) {
    const failed = problem.code === "unreachable" || problem.status >= 500 || [408, 429].includes(problem.status);
    throw failed ? new Problem({ code: "outcome_unknown", status: 0 }) : problem;
  }
}

/** The items of a listing, page after page, up to `most`; `chosen` are other parameters. */
export async function all(path, most = 500, chosen = {}) {
  const items = [];
  let cursor = null;
  do {
    const query = new URLSearchParams({ ...chosen, limit: "100", ...(cursor ? { cursor } : {}) });
    const page = await ask(`${path}?${query}`);
    items.push(...page.items);
    cursor = page.next_cursor;
  } while (cursor && items.length < most);
  return items;
}

/** Show a picture of the gallery. With a key it is fetched with the key, which an element cannot send by itself. */
export function show(image, url) {
  if (key.get()) {
    whenNear(image, () => fetched(image, url));
  } else {
    image.addEventListener("error", () => fetched(image, url), { once: true }); // a key may have been given meanwhile
    image.src = url;
  }
  return image;
}

const waiting = new WeakMap();
const nearing = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    nearing.unobserve(target);
    waiting.get(target)();
  }
}, { rootMargin: NEAR });

/** What a browser does for an image with `loading="lazy"`: `then` waits until it is nearly in view. */
function whenNear(image, then) {
  if (image.loading !== "lazy") return then();
  waiting.set(image, then);
  nearing.observe(image);
}

async function fetched(image, url) {
  if (!key.get()) return image.closest("figure")?.classList.add("lost");
  try {
    const blob = await (await send(url)).blob();
    image.addEventListener("load", () => URL.revokeObjectURL(image.src), { once: true });
    image.src = URL.createObjectURL(blob);
  } catch {
    image.closest("figure")?.classList.add("lost");
  }
}

export const thumbnail = (url) => url.replace(/\/content(?=\?|$)/, "/thumbnail");
