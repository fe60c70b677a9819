// Talks to this server: requests, the key, problems as sentences, events. Draws nothing.

const KEY = "pictoglot.key"; // in sessionStorage: gone with the tab

export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY)),
};

// What a person can do about it. Other codes say the server's own sentence.
const SENTENCES = {
  empty_text: "Write something to look for first.",
  text_too_long: "This text is too long: at most 1,000 characters are read.",
  text_invalid_unicode: "This text holds characters that are no text.",
  unsupported_picture_format: "This file is no picture that can be read here: JPEG, PNG or WebP.",
  picture_corrupt: "This picture is damaged and cannot be read.",
  picture_animated: "Animated pictures cannot be searched with.",
  picture_too_many_pixels: "This picture has too many pixels: at most 20 million.",
  body_too_large: "This file is too large.",
  language_tag_invalid: "This is not the tag of a language. Tags look like “cy”, “pt-BR” or “zh-Hant”.",
  missing_api_key: "This needs a key.",
  invalid_api_key: "This key is not valid.",
  insufficient_scope: "This key may not do this.",
  rate_limited: "Too many requests with this key; wait a moment.",
  overloaded: "The server is busy; try again in a moment.",
  index_unavailable: "The server is still opening its index; try again in a moment.",
  registry_unavailable: "The server's database does not answer. Searches go on; nothing can be changed for now.",
  storage_full: "The server's disk is full.",
  cursor_expired: "Another release serves now: search again.",
  alias_moved: "Another release was published meanwhile. Look again before you decide.",
  expansion_in_progress: "This language is being taught right now. Wait for it, or cancel it first.",
  rollback_not_possible: "English is the base: it cannot be rolled back.",
  unreachable: "The server cannot be reached.",
};

/** What a request was refused with; `message` is a sentence for a person. */
export class Problem extends Error {
  constructor(problem) {
    super(SENTENCES[problem.code] ?? sentence(problem));
    Object.assign(this, { code: problem.code, status: problem.status, request: problem.request_id, problem });
  }

  /** Where in a form or a file, as the server told. */
  get places() {
    return (this.problem.errors ?? []).map((place) => `${place.location}: ${place.code.replaceAll("_", " ")}`);
  }
}

function sentence({ title, detail }) {
  const said = detail && detail !== title ? `${title}: ${detail}` : title || "Something went wrong";
  return /[.!?…]$/.test(said) ? said : `${said}.`;
}

let askForKey = null; // the page's dialog, set by `main`
export const onKeyNeeded = (ask) => (askForKey = ask);

/** The answer, or a `Problem`; a missing or invalid key is asked for once. */
export async function send(path, { method, body, json, headers = {}, signal, asked = false } = {}) {
  const sent = { ...headers };
  if (key.get()) sent.Authorization = `Bearer ${key.get()}`;
  if (json !== undefined) sent["Content-Type"] = "application/json";
  const content = json === undefined ? body : JSON.stringify(json);
  let response;
  try {
    response = await fetch(path, { method: method ?? (content ? "POST" : "GET"), body: content, headers: sent, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({ code: "unreachable", status: 0 });
  }
  if (response.ok) return response;
  const problem = new Problem(await read(response));
  if ([401, 403].includes(problem.status) && askForKey && !asked && (await askForKey(problem))) {
    return send(path, { method, body, json, headers, signal, asked: true });
  }
  throw problem;
}

async function read(response) {
  try {
    return await response.json();
  } catch {
    return { code: "unreadable", status: response.status, title: `The server answered with status ${response.status}` };
  }
}

export const ask = async (path, options) => (await send(path, options)).json();

/** Every item of a listing, page after page, up to `most`. */
export async function all(path, most = 500) {
  const items = [];
  let cursor = null;
  do {
    const query = new URLSearchParams({ limit: "100", ...(cursor ? { cursor } : {}) });
    const page = await ask(`${path}?${query}`);
    items.push(...page.items);
    cursor = page.next_cursor;
  } while (cursor && items.length < most);
  return items;
}

/** Call `tell` with the data of each server-sent event until the stream ends. EventSource could send no key. */
export async function events(path, tell, signal) {
  const response = await send(path, { headers: { Accept: "text/event-stream" }, signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value.replaceAll("\r", "")).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const lines = block.split("\n").filter((line) => line.startsWith("data:"));
      if (lines.length) tell(JSON.parse(lines.map((line) => line.slice(5)).join("\n")));
    }
  }
}

/** Show a picture of the gallery; where a key is needed, it is fetched with it. */
export function show(image, url) {
  image.addEventListener("error", () => fetched(image, url), { once: true });
  image.src = url;
  return image;
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

export const thumbnail = (url) => url.replace("/content", "/thumbnail");
