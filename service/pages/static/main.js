// Starts the page and shows the part that the address names. Draws no part itself.

import * as add from "/static/add.js";
import { drawState, noticed } from "/static/administration.js";
import { Problem } from "/static/api.js";
import { spoken } from "/static/answers.js";
import * as audit from "/static/audit.js";
import * as caption from "/static/caption.js";
import * as choosing from "/static/choosing.js";
import { byId, make, withModifier } from "/static/dom.js";
import { drawDuplicates } from "/static/duplicates.js";
import { drawExpansions } from "/static/expansions.js";
import { watchGrowth } from "/static/growing.js";
import { drawEffects } from "/static/heat.js";
import * as keys from "/static/keys.js";
import { learned, onLanguages, refresh } from "/static/languages.js";
import * as letters from "/static/letters.js";
import * as lightbox from "/static/lightbox.js";
import * as naming from "/static/naming.js";
import * as overview from "/static/overview.js";
import { askKey, dialog, sorry } from "/static/parts.js";
import { drawProposals } from "/static/proposals.js";
import { drawReleases } from "/static/releases.js";
import * as search from "/static/search.js";
import { caller, isPerson, look, may, noteWayBack, returnFromSignIn, signOut } from "/static/session.js";
import * as teach from "/static/teach.js";
import { OWN, locale, offer, speak, t } from "/static/text.js";

const PARTS = { search: search.follow, add: add.drawAdd, duplicates: drawDuplicates, languages: overview.drawLanguages, caption: caption.drawCaption, proposals: drawProposals, teach: teach.drawTeach, releases: drawReleases, keys: keys.drawKeys, audit: audit.drawAudit, administration: drawAdministration };
const NEEDS = { add: "write", caption: "teach", teach: "teach" }; // of parts that are of no use without this right
const TABS = { caption: "languages", proposals: "languages", teach: "languages" }; // under which tab a part stands
const RETRY = 2000; // ms until a server that is not ready is checked again
const LATER = 30_000; // ms until one with a fault is
const PICTURE = "#picture/"; // how the address of one large picture begins
const FAILED = "#sign-in-failed"; // where the server leads who could not sign in
let shown = null; // the part on the page
let drawn = null; // its address

/** Show what the address names: a part of the page, or one picture large in front of it. */
function route() {
  const picture = pictureOf(location.hash);
  if (picture) {
    const within = drawn !== null;
    if (!within) draw("#search");
    lightbox.open(picture, spoken(), within);
  } else if (!lightbox.shut() || location.hash !== drawn) draw(location.hash);
}

/** The id of the picture that an address names; empty where it names none, or cannot be read. */
function pictureOf(address) {
  if (!address.startsWith(PICTURE)) return "";
  try {
    return decodeURIComponent(address.slice(PICTURE.length));
  } catch {
    return "";
  }
}

/** Show a part, and move the focus when it is another one. */
function draw(address) {
  drawn = address;
  choosing.forget();
  const [name, query = ""] = address.slice(1).split("?");
  const part = !Object.hasOwn(PARTS, name) ? "search" : may(NEEDS[name]) ? name : (TABS[name] ?? "search");
  for (const one of Object.keys(PARTS)) byId(one).hidden = one !== part;
  for (const link of document.querySelectorAll(".top nav a")) {
    if (link.hash === `#${TABS[part] ?? part}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  byId("menu").hidePopover();
  if (shown !== null && shown !== part) {
    for (const open of document.querySelectorAll("dialog")) if (!open.querySelector("form.record")) open.close(); // it was about the other part; what was typed is not lost
    window.scrollTo(0, 0);
    if (part === "search") byId("text").focus();
    else byId("main").focus();
  }
  if (shown !== part && part === "search") {
    search.loadCollections();
    watchGrowth();
  }
  if (shown !== null && !["languages", "administration"].includes(part)) refresh().catch(() => {}); // that part refreshes by itself
  shown = part;
  PARTS[part](new URLSearchParams(query));
  document.title = part === "search" ? "pictoglot" : `${byId(`${part}-title`).textContent} – pictoglot`;
}

/** How the service is, what became of each version, and what was taught. */
function drawAdministration() {
  drawState(byId("state-body"));
  drawEffects(byId("heat-body"));
  drawExpansions(byId("expansions-body"));
}

/** Wait until the server is ready, and show its state, a fault as long as it lasts. */
async function ready() {
  const banner = byId("banner");
  for (;;) {
    const state = await readiness();
    banner.hidden = !state.sentence;
    banner.textContent = state.sentence;
    if (state.ok && state.sentence) setTimeout(ready, LATER);
    if (state.ok) return;
    await new Promise((resolve) => setTimeout(resolve, RETRY));
  }
}

async function readiness() {
  try {
    const response = await fetch("/readyz", { credentials: "omit" }); // with codes alone, whoever asks
    const { degraded = [] } = await response.json().catch(() => ({}));
    return { ok: response.ok, sentence: noticed(degraded) || (response.ok ? "" : t("The server is starting: it loads its model and its index …")) };
  } catch {
    return { ok: false, sentence: t("The server cannot be reached. Trying again …") };
  }
}

/** One picture that is dropped or pasted is searched with; several, or any on the part for it, are added. */
function takePictures() {
  const over = byId("drop");
  const count = (event) => [...(event.dataTransfer?.items ?? [])].filter((item) => item.kind === "file").length;
  const busy = () => !byId("teach").hidden || document.querySelector("dialog") !== null;
  const onField = (event) => event.target.closest?.('#teach input[type="file"]'); // which takes it by itself
  document.addEventListener("dragover", (event) => {
    const files = count(event);
    if (!files || onField(event)) return;
    event.preventDefault(); // the browser would leave the page and open the file
    if (busy()) {
      event.dataTransfer.dropEffect = "none";
      return;
    }
    byId("drop-says").textContent = adding(files) ? t("{files, plural, one {Drop the picture here to add it} other {Drop # pictures here to add them}}", { files }) : t("Drop the picture here to search with it");
    over.hidden = false;
  });
  document.addEventListener("dragleave", (event) => event.relatedTarget === null && (over.hidden = true));
  document.addEventListener("drop", (event) => {
    over.hidden = true;
    const files = [...(event.dataTransfer?.files ?? [])];
    if (!files.length || onField(event)) return;
    event.preventDefault();
    if (!busy()) take(files);
  });
  document.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length && !busy()) take(files);
  });
}

const adding = (files) => may("write") && (files > 1 || !byId("add").hidden);

function take(files) {
  if (!adding(files.length)) {
    search.withFile(files[0]);
    return;
  }
  if (byId("add").hidden) location.hash = "#add";
  add.take(files);
}

function shortcuts() {
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest?.("input, select, textarea, dialog");
    if (event.key !== "/" || typing || withModifier(event)) return;
    event.preventDefault();
    if (byId("search").hidden) location.hash = "#search";
    byId("text").focus();
    byId("text").select();
  });
}

/** The menu: the page's language, the key, and what only an administrator needs. */
function prepareMenu() {
  const picker = byId("page-language");
  byId("menu").addEventListener("beforetoggle", async () => {
    if (picker.length) return;
    picker.append(...Object.entries(await offer()).map(([tag, name]) => make("option", { value: tag, lang: tag }, name)));
    picker.value = locale;
    byId("unchecked").hidden = locale === "en" || !(locale in OWN);
  });
  picker.addEventListener("change", () => speak(picker.value));
  byId("key-button").addEventListener("click", async () => {
    byId("menu").hidePopover();
    if (await askKey()) draw(drawn);
  });
  onLanguages(() => (byId("serving").textContent = learned.release === null ? "" : t("Release {release} serves. Text in an unknown language is read by version {shared}.", { release: String(learned.release), shared: String(learned.shared) })));
  byId("sign-in").addEventListener("click", noteWayBack);
  byId("sign-out").addEventListener("click", () => signOut().catch((problem) => dialog(t("Not signed out"), () => sorry(problem))));
  document.addEventListener("key", tellCaller);
}

/** Show who uses the page, and what only an administrator needs. */
async function tellCaller() {
  await look();
  const signedIn = caller.by === "session" || caller.refused === "no_group";
  byId("administration-link").hidden = caller.scope !== "admin"; // also from whoever is not known
  byId("sign-in").hidden = !caller.sign_in || signedIn;
  byId("sign-in").href = caller.sign_in ?? "";
  byId("sign-out").hidden = !signedIn;
  byId("caller").hidden = !isPerson();
  byId("caller").textContent = t("You are {name}", { name: caller.label });
}

/** Whether something is lost when the page is left: a list of pictures, typed lines, a form in a dialog. */
const isUnsaved = () => add.isAdding() || teach.isTyping() || document.querySelector("dialog form.record") !== null;

async function start() {
  search.prepare();
  choosing.prepare(byId("results"), search.again);
  teach.prepare();
  overview.prepare();
  caption.prepare();
  letters.prepare();
  naming.prepare(byId("languages-name"), byId("caption-tag"));
  takePictures();
  shortcuts();
  prepareMenu();
  onLanguages(search.tellLanguages);
  keys.prepare();
  audit.prepare();
  window.addEventListener("beforeunload", (event) => isUnsaved() && event.preventDefault());
  await ready();
  await tellCaller();
  if (location.hash === FAILED) {
    await dialog(t("Sign in"), () => sorry(new Problem({ code: "sign_in_failed", status: 401 })));
    location.hash = "";
  }
  returnFromSignIn();
  await refresh().catch(() => {});
  route();
  window.addEventListener("hashchange", route);
  document.addEventListener("key", () => refresh(true).catch(() => {}));
  if (byId("search").hidden === false && document.activeElement === document.body && window.matchMedia("(hover: hover)").matches) byId("text").focus();
}

start();
