// What all parts of the page share: waiting, errors, empty states, dialogs. Sends no request.

import { make, withCode } from "/static/dom.js";
import { key, onKeyNeeded } from "/static/api.js";
import { caller, noteWayBack, remember } from "/static/session.js";
import { locale, t } from "/static/text.js";

export const waiting = (what) => make("p", { class: "waiting", role: "status" }, `${what} …`);

export const nothing = (title, ...hints) =>
  make("div", { class: "nothing" }, make("p", { class: "big" }, title), hints.filter(Boolean).map((hint) => make("p", {}, hint)));

/** The two ways to measure a language by what stands beside its captions: from the text to it, and back. */
export function waysOf(against) {
  const what = { english: t("English text"), pivots: t("paired text"), words: t("gloss") }[against] ?? t("picture");
  return { to: t("Text → {what}", { what }), back: t("{what} → text", { what: what[0].toUpperCase() + what.slice(1) }) };
}

/** An error as a sentence, with its places and the request id that is in the server's log. */
export function sorry(problem) {
  const places = problem.places ?? [];
  const advice = problem.advice && make("p", { class: "fine", lang: "en" }, withCode(problem.advice[0].toUpperCase() + problem.advice.slice(1)));
  return make(
    "div",
    { class: "sorry" },
    make("p", {}, withCode(problem.message)),
    advice && locale !== "en" ? make("details", { class: "fine" }, make("summary", {}, t("Details")), advice) : advice,
    places.length ? make("ul", {}, places.map((place) => make("li", {}, withCode(place)))) : null,
    problem.request ? make("p", { class: "fine" }, `${problem.code} · ${problem.request}`) : null,
  );
}

let titles = 0; // of dialogs: one may open over another

/** Show `content(close)` as a modal dialog; resolves to the argument of `close`, or false when dismissed. */
export function dialog(title, content, kind = "") {
  return new Promise((resolve) => {
    let result = false;
    const close = (value) => {
      result = value;
      element.close();
    };
    const shut = make("button", { type: "button", class: "shut", "aria-label": t("Close"), onclick: () => close(false) }, "×");
    const id = `dialog-title-${(titles += 1)}`;
    const element = make("dialog", { class: kind, "aria-labelledby": id });
    element.append(make("h2", { id }, title), content(close), shut); // `shut` last: the first field gets the focus
    element.addEventListener("click", (event) => event.target === element && !element.querySelector("form.record") && close(false)); // what was typed is not lost
    element.addEventListener("close", () => {
      element.remove();
      if (document.activeElement === document.body) document.getElementById("main")?.focus(); // what opened it is gone
      resolve(result);
    });
    document.body.append(element);
    element.showModal();
  });
}

/** Ask before something is done that is not taken back lightly; whether the person agrees. */
export const confirm = (title, content, yes, no = t("Cancel")) =>
  dialog(title, (close) => {
    const agree = make("button", { type: "button", class: "main danger", onclick: () => close(true) }, yes);
    return make("div", {}, content, make("div", { class: "actions" }, agree, make("button", { type: "button", autofocus: true, onclick: () => close(false) }, no)));
  });

/** Ask for a key, or to sign in; true when a key was given. It is kept for this tab, or by the browser if it is to be. */
export function askKey(problem) {
  const signIn = caller.sign_in && caller.by !== "session" ? make("div", { class: "actions" }, make("a", { class: "button main", href: caller.sign_in, onclick: noteWayBack }, t("Sign in"))) : null;
  const why = problem
    ? signIn && problem.code === "missing_api_key" ? t("Sign in, or enter an access key.") : problem.message
    : key.get() ? t("This tab has a key. Enter another one, or leave the field empty to remove it.") : t("This tab has no key.");
  return dialog(signIn ? t("Sign in") : t("Access key"), (close) => {
    const field = make("input", { type: "password", id: "key", autocomplete: "off", spellcheck: "false", "aria-describedby": "key-why" });
    const remembered = make("input", { type: "checkbox", id: "key-remembered" });
    const keep = async (event) => {
      event.preventDefault();
      const given = field.value.trim();
      key.set(given);
      if (given && remembered.checked) await remember();
      document.dispatchEvent(new Event("key"));
      close(given !== "");
    };
    return make(
      "form",
      { class: "key", onsubmit: keep },
      make("p", { id: "key-why" }, why),
      signIn,
      make("label", { class: "entry" }, t("Access key"), field),
      window.isSecureContext ? make("label", { class: "check" }, remembered, make("span", {}, t("Remember it in this browser for 30 days"))) : null, // elsewhere the browser keeps no such cookie
      make("p", { class: "hint" }, t("Ask whoever keeps this service for a key. Unless it is remembered, a key is kept until this tab is closed.")),
      make("div", { class: "actions" }, make("button", { type: "submit", class: signIn ? null : "main" }, t("Use this key"))),
    );
  });
}

onKeyNeeded(askKey);
