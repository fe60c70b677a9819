// Whose a language is: its terms where it acts, the fields for them, and its withdrawal with a certificate.

import { ask, askOnce, bytesOf } from "/static/api.js";
import { bytes, fill, make } from "/static/dom.js";
import { dialog, sorry } from "/static/parts.js";
import { t } from "/static/text.js";

const REMAINS = { // by what it is; `number` is in its name
  version: (number) => t("Version {number}: another language was taught upon its rows of the table. While any version needs them its files stay, with words and held-out captions.", { number }),
  captions: (number) => t("{number, plural, one {# caption} other {# captions}} that came with pictures: they belong to the pictures.", { number }),
  dataset: (number, name) => t("Dataset {name} of another language, which is paired with texts in this one.", { name }),
  terms: () => t("What was said of the language: owner, contact, licence and statement, and who set them."),
  backups: () => t("Backups that were made before: they keep all of it until they are deleted."),
  exports: () => t("Files that were exported: whoever downloaded them has them."),
  history: () => t("Numbers, dates and measurements in the lists, without texts."),
};
const TEXTS = { owner: t("Whose language is it?"), contact: t("Whom to ask"), licence: t("Licence"), statement: t("What your community says") };

/** Owner, licence and labels in one line; their texts open below. Null where nothing was said. */
export function termsLine(terms) {
  if (!terms) return null;
  const labels = terms.labels.map((label) => label.name);
  const texts = terms.labels.filter((label) => label.text);
  const line = [terms.owner, terms.licence, ...labels].filter(Boolean).join(" · ") || t("Terms");
  if (!terms.statement && !terms.contact && !texts.length) return make("p", { class: "terms fine" }, line);
  return make(
    "details",
    { class: "terms fine" },
    make("summary", {}, line),
    terms.statement ? make("p", {}, terms.statement) : null,
    terms.contact ? make("p", {}, t("Ask: {contact}", { contact: terms.contact })) : null,
    texts.map((label) => make("p", { lang: label.language || null }, make("strong", {}, label.name), ` ${label.text}`, label.url ? [" ", make("a", { href: label.url, rel: "noreferrer" }, label.community || t("More"))] : null)),
  );
}

/** The fields for terms, closed at first; open where `terms` are to be changed. */
export function termsFields(terms = null) {
  const entry = ([name, label]) => make("label", { class: "entry" }, label, make("input", { type: "text", name, dir: "auto", maxlength: name === "statement" ? 5000 : 300, value: terms?.[name] }));
  return make(
    "details",
    { class: "whose", open: terms !== null },
    make("summary", {}, t("Terms of the language")),
    Object.entries(TEXTS).map(entry),
    make("label", { class: "entry" }, t("Labels: a project of Local Contexts, downloaded as JSON"), make("input", { type: "file", name: "labels", accept: ".json,application/json" })),
  );
}

/** What the fields say, as JSON for the form; an empty text when they say nothing. The `labels` stay unless a file has others. */
export async function readTerms(fields, labels = []) {
  const terms = Object.fromEntries(Object.keys(TEXTS).map((name) => [name, fields.querySelector(`[name=${name}]`).value.trim()]).filter(([, text]) => text));
  const [file] = fields.querySelector("[name=labels]").files;
  if (file) {
    const text = new TextDecoder().decode(await bytesOf(file));
    try {
      const project = JSON.parse(text);
      for (const name of ["tk_labels", "bc_labels"]) terms[name] = project[name] ?? [];
    } catch {
      return text.slice(0, 100); // the server says what is wrong with it
    }
  } else if (labels.length) terms.labels = labels;
  return Object.keys(terms).length ? JSON.stringify(terms) : "";
}

/** Let a person change the terms of a language; then call `done`. */
export async function changeTerms(item, done) {
  const labels = item.terms?.labels ?? [];
  const changed = await dialog(t("Terms of the language"), (close) => {
    const fields = termsFields(item.terms ?? {});
    const kept = make("input", { type: "checkbox", checked: true });
    const trouble = make("div", { role: "alert" });
    const save = async (event) => {
      event.preventDefault();
      try {
        const body = (await readTerms(fields, kept.checked ? labels : [])) || "{}";
        await ask(`/v1/languages/${encodeURIComponent(item.language)}/terms`, { method: "PUT", headers: { "Content-Type": "application/json" }, body });
        close(true);
      } catch (problem) {
        fill(trouble, sorry(problem));
      }
    };
    const keeping = labels.length ? make("label", { class: "check" }, kept, t("Keep its labels: {labels}", { labels: labels.map(({ name }) => name).join(", ") })) : null;
    return make("form", { class: "record", onsubmit: save }, fields, keeping, trouble, make("div", { class: "actions" }, make("button", { type: "submit", class: "main" }, t("Save")), make("button", { type: "button", onclick: () => close(false) }, t("Cancel"))));
  });
  if (changed) await done();
}

/** Show what a withdrawal removes and what remains; when the person agrees, do it, and offer the certificate. */
export async function withdraw(item, done) {
  const path = `/v1/admin/languages/${encodeURIComponent(item.language)}/withdraw`;
  try {
    const plan = await ask(path, { json: { dry_run: true } });
    const agreed = await dialog(t("Withdraw {language}?", { language: item.name }), (close) => question(plan, item, close), "withdraw");
    if (!agreed) return;
    const { certificate } = await askOnce(path, { ...agreed, expected: plan.release });
    await done();
    await dialog(t("{language} is withdrawn", { language: item.name }), (close) => result(certificate, item, close));
  } catch (problem) {
    await dialog(problem.code === "outcome_unknown" ? t("It is not known whether {language} was withdrawn.", { language: item.name }) : t("Not withdrawn"), () => sorry(problem));
    await done();
  }
}

function question(plan, item, close) {
  const size = [...plan.versions, ...plan.datasets].reduce((sum, each) => sum + (each.bytes ?? 0), 0);
  const reason = make("input", { type: "text", maxlength: "1000" });
  const agree = (event) => {
    event.preventDefault();
    close({ reason: reason.value.trim() });
  };
  return make(
    "form",
    { onsubmit: agree },
    make("h3", {}, t("What goes for good")),
    make("p", {}, t("{versions, plural, one {# version} other {# versions}}, {datasets, plural, one {# dataset} other {# datasets}}, {captions, plural, one {# taught caption} other {# taught captions}}, {answers, plural, one {# answer} other {# answers}}: {size}. This cannot be undone.", { versions: plan.versions.length, datasets: plan.datasets.length, captions: plan.captions, answers: plan.answers, size: bytes(size) })),
    make("h3", {}, t("What remains")),
    make("ul", {}, plan.remains.map(({ what, name }) => make("li", {}, REMAINS[what](Number(/\d+/.exec(name)), name)))),
    make("label", { class: "entry" }, t("Reason, kept in the certificate"), reason),
    make("div", { class: "actions" }, make("button", { type: "submit", class: "main danger" }, t("Withdraw {language}", { language: item.name })), make("button", { type: "button", onclick: () => close(false) }, t("Cancel"))),
  );
}

function result(certificate, item, close) {
  const url = URL.createObjectURL(new Blob([`${JSON.stringify(certificate, null, 2)}\n`], { type: "application/json" }));
  return make(
    "div",
    {},
    make("p", {}, t("The certificate says what was removed and what remains, and is signed.")),
    make("div", { class: "actions" }, make("a", { class: "button", href: url, download: `${item.language}-withdrawal.json` }, t("Save the certificate")), make("button", { type: "button", onclick: () => close(true) }, t("Close"))),
  );
}
