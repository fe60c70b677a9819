// Who uses this page: whose key this tab has, who signed in with this browser, or whom a proxy names. Draws nothing.

import { ask, key, send } from "/static/api.js";
import { keep, recall } from "/static/storage.js";

const BACK = "pictoglot.back"; // in sessionStorage: where a person was before signing in
const NOBODY = { by: null, id: null, label: "", scope: null, collections: null, refused: null, sign_in: null };

/** What the server knows of whoever uses this page, once `look` has asked. */
export const caller = { ...NOBODY };

/** Whether it is a person, and not a key. */
export const isPerson = () => caller.id?.includes(":") ?? false;

/** Ask the server who this is; the page then hides what needs more rights (`data-needs`, and the style sheet). */
export async function look() {
  Object.assign(caller, NOBODY, await ask("/session", { retried: true }).catch(() => null));
  const { by, scope, collections } = caller;
  const rights = { write: scope !== "search", teach: scope !== "search" && !collections, admin: scope === "admin" };
  if (scope === null || by === "open") delete document.documentElement.dataset.may; // who presses is asked for a key
  else document.documentElement.dataset.may = Object.keys(rights).filter((right) => rights[right]).join(" ");
}

/** Whether nothing is known that forbids this: to `write` records, to `teach`, or what an `admin` does. */
export const may = (right) => !right || (document.documentElement.dataset.may?.split(" ").includes(right) ?? true);

/** Have this browser remember the key of this tab, in a cookie that no script reads; where that fails the tab has it. */
export async function remember() {
  try {
    await send("/session", { method: "POST", retried: true });
    key.set("");
  } catch {
    // the next request says what is wrong with the key
  }
}

/** End the session of this browser, and with the issuer where a person signed in there. */
export async function signOut() {
  await send("/session", { method: "DELETE", retried: true });
  location.assign(isPerson() || caller.refused ? "/signout" : "/");
}

/** Note where a person was before leaving to sign in. */
export const noteWayBack = () => keep("sessionStorage", BACK, location.pathname + location.hash);

/** Go back there, once. */
export function returnFromSignIn() {
  const back = recall("sessionStorage", BACK);
  keep("sessionStorage", BACK, "");
  if (back && back !== location.pathname && !location.hash) location.replace(back);
}
