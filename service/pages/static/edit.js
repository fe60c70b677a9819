// Changing and deleting one picture's record, based on what was seen: what others changed meanwhile is shown first.

import { ask, send } from "/static/api.js";
import { captionList, nameOf } from "/static/captions.js";
import { fill, make } from "/static/dom.js";
import { called } from "/static/library.js";
import { dialog, sorry } from "/static/parts.js";
import { Wrong, captionFields, collectionField, metadataFields, tagFields } from "/static/record.js";
import { t } from "/static/text.js";

const PARTS = { captions: t("Captions"), tags: t("Tags"), metadata: t("Details"), collection: t("Collection") };
const pathOf = (item) => `/v1/pictures/${encodeURIComponent(item.id)}`;

/** Let a person change a picture's record; the new item, `{deleted: true}` when it is gone, or null. */
export async function edit(item) {
  const names = await ask("/v1/collections").then((answer) => answer.items.map((one) => one.name), () => []);
  const changed = await dialog(t("Edit: {called}", { called: nameOf(item) }), (close) => form(item, names, close), "wide");
  return changed || null;
}

function form(item, names, close) {
  const state = { base: item, seen: item, fields: null, before: null }; // what the form was filled with, what is known to be there, and what the form says untouched
  const body = make("div", {});
  const trouble = make("div", { role: "alert" });
  const set = (base) => {
    Object.assign(state, { base, seen: base });
    state.fields = fieldsOf(base, names);
    state.before = valuesOf(state.fields, base); // a field may show a text otherwise than it is kept: nobody changed that
    const [captions, ...others] = Object.values(state.fields).map((field) => field.element);
    fill(body, captions, brought(base), others);
  };
  const save = async (event) => {
    event.preventDefault();
    try {
      await state.fields.captions.settle();
      const patch = unite(difference(state.before, valuesOf(state.fields, state.base)), state.base, state.seen);
      if (!Object.keys(patch).length) return close(null);
      button.disabled = true;
      const headers = { "Content-Type": "application/merge-patch+json", "If-Match": `"${state.seen.etag}"` };
      const fresh = await ask(pathOf(item), { method: "PATCH", body: JSON.stringify(patch), headers });
      const kept = stayed(patch, fresh);
      if (!kept.length) return close(fresh);
      fill(trouble, make("div", { class: "sorry" }, make("p", {}, t("Saved. These captions came with the file that taught their language, and stay: {kept}.", { kept: kept.join(", ") }))));
      button.replaceWith(make("button", { type: "button", class: "main", onclick: () => close(fresh) }, t("Close")));
    } catch (problem) {
      button.disabled = false;
      if (problem instanceof Wrong) fill(trouble, make("p", { class: "wrong" }, problem.message));
      else if (["record_changed", "picture_not_found"].includes(problem.code)) await meanwhile(state, trouble, set, close);
      else fill(trouble, sorry(problem));
    }
  };
  const button = make("button", { type: "submit", class: "main" }, t("Save"));
  set(item);
  return make("form", { class: "record", onsubmit: save, novalidate: true }, body, trouble, make("div", { class: "actions" }, button, make("button", { type: "button", onclick: () => close(null) }, t("Cancel"))));
}

const fieldsOf = (item, names) => ({
  captions: captionFields(item.own),
  tags: tagFields(item.tags),
  collection: collectionField(item.collection, names),
  metadata: metadataFields(item.metadata),
});

const valuesOf = (fields, base) => ({
  captions: fields.captions.value(),
  tags: fields.tags.value(),
  metadata: fields.metadata.value(),
  collection: fields.collection.value() || base.collection,
});

const recordOf = ({ own, tags, metadata, collection }) => ({ captions: own, tags, metadata, collection });

/** The captions that are not the record's own: they are shown, and cannot be changed here. */
function brought({ captions, own }) {
  const others = Object.entries(captions).map(([tag, texts]) => [tag, texts.filter((text) => !own[tag]?.includes(text))]);
  if (!others.some(([, texts]) => texts.length)) return null;
  return make("div", { class: "brought" }, make("p", { class: "fine" }, t("These came with the file that taught their language, and stay:")), captionList(Object.fromEntries(others)));
}

/** The merge patch (RFC 7396) from one record to another: only what a person changed. */
function difference(before, after) {
  const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);
  const patch = {};
  for (const part of ["captions", "metadata"]) {
    const changed = {};
    for (const key of Object.keys(after[part])) if (!same(before[part][key], after[part][key])) changed[key] = after[part][key];
    for (const key of Object.keys(before[part])) if (!(key in after[part])) changed[key] = null;
    if (Object.keys(changed).length) patch[part] = changed;
  }
  for (const part of ["tags", "collection"]) if (!same(before[part], after[part])) patch[part] = after[part];
  return patch;
}

/** The patch with what others did since to the same lists: what they added stays, and what they removed is gone. */
function unite(patch, was, now) {
  const both = (mine, before = [], after = []) => [...new Set([...mine.filter((one) => !before.includes(one) || after.includes(one)), ...after.filter((one) => !before.includes(one))])];
  if (patch.tags) patch.tags = both(patch.tags, was.tags, now.tags);
  for (const [tag, texts] of Object.entries(patch.captions ?? {})) {
    const all = both(texts ?? [], was.own[tag], now.own[tag]);
    patch.captions[tag] = all.length ? all : null;
  }
  return patch;
}

/** Captions that the patch should have removed, and that are still there. */
function stayed(patch, fresh) {
  return Object.entries(patch.captions ?? {}).flatMap(([tag, texts]) => (fresh.captions[tag] ?? []).filter((text) => !(texts ?? []).includes(text)));
}

/** Nothing was saved, because the record is another one by now: show it, and ask what to do. */
async function meanwhile(state, trouble, set, close) {
  let now;
  try {
    now = await ask(pathOf(state.base));
  } catch (problem) {
    if (problem.code !== "picture_not_found") return fill(trouble, sorry(problem));
    return fill(trouble, make("div", { class: "sorry" }, make("p", {}, t("Nothing was saved: this picture was deleted in the meantime.")), choice(t("Close"), () => close({ deleted: true }))));
  }
  const changes = difference(recordOf(state.seen), recordOf(now));
  const lines = Object.entries(changes).map(([part, value]) => make("li", {}, `${PARTS[part]}: `, make("bdi", {}, describeChange(value, now[part]))));
  const take = () => {
    set(now);
    fill(trouble);
  };
  const keep = () => {
    state.seen = now; // the patch stays: only what this person changed
    fill(trouble);
    trouble.closest("form").requestSubmit();
  };
  fill(
    trouble,
    make(
      "div",
      { class: "sorry changed" },
      make("p", {}, t("Nothing was saved: this record was changed in the meantime. What is new there:")),
      make("ul", {}, lines.length ? lines : make("li", {}, t("only the picture itself"))),
      make("div", { class: "actions" }, choice(t("Drop my changes and show the new record"), take), choice(t("Save my changes on top of it"), keep)),
    ),
  );
  trouble.querySelector("button").focus();
}

const choice = (words, act) => make("button", { type: "button", onclick: act }, words);

/** What a part of a record became: for captions and metadata only the changed keys. */
function describeChange(changed, now) {
  if (Array.isArray(now)) return now.join(", ") || t("none");
  if (typeof now === "string") return now;
  return Object.entries(changed).map(([key, value]) => `${called(key)}: ${value === null ? t("removed") : Array.isArray(value) ? value.join(", ") : value}`).join("; ");
}

/** Delete a picture as it was seen; true when it is gone. For a day it can be brought back. */
export async function remove(item) {
  try {
    await send(pathOf(item), { method: "DELETE", headers: { "If-Match": `"${item.etag}"` } });
    return true;
  } catch (problem) {
    if (problem.code === "picture_not_found") return true;
    const changed = problem.code === "record_changed";
    await dialog(t("Not deleted"), () => (changed ? make("p", {}, t("This record was changed in the meantime. Open the picture again, and look at it before you delete it.")) : sorry(problem)));
    return false;
  }
}
