// Teaching a language: the file is checked first, then taught; how its expansion goes stands below.

import { ask } from "/static/api.js";
import { byId, fill, make, percent, plural, whole } from "/static/dom.js";
import { drawExpansions } from "/static/expansions.js";
import { named } from "/static/languages.js";
import { sorry, waiting } from "/static/parts.js";

const FAULTS = { empty_caption: "no caption", no_source: "neither English nor a picture" };

/** Wire the form up; called once. */
export function prepare() {
  byId("teach-form").addEventListener("submit", (event) => {
    event.preventDefault();
    submit(true);
  });
  byId("teach-start").addEventListener("click", () => submit(false));
  byId("teach-tag").addEventListener("input", tellName);
  for (const id of ["teach-tag", "teach-file"]) byId(id).addEventListener("input", forget);
}

/** A tag says which language it means while it is typed. */
function tellName() {
  const tag = byId("teach-tag").value.trim();
  const { name, native } = tag ? named(tag) : { name: "", native: "" };
  byId("teach-name").textContent = !tag || name === tag ? "" : native === name ? name : `${native} · ${name}`;
}

function forget() {
  fill(byId("teach-trouble"));
  fill(byId("teach-report"));
}

function complete() {
  for (const id of ["teach-tag", "teach-file"]) {
    const input = byId(id);
    const missing = !input.value.trim();
    input.toggleAttribute("aria-invalid", missing);
    if (missing) {
      const what = id === "teach-tag" ? "Say which language it is." : "Choose the file with its captions.";
      fill(byId("teach-trouble"), make("div", { class: "sorry" }, make("p", {}, what)));
      input.focus();
      return false;
    }
  }
  return true;
}

async function submit(dry) {
  forget();
  if (!complete()) return;
  const body = new FormData();
  body.set("language", byId("teach-tag").value.trim());
  body.set("dry_run", String(dry));
  body.set("dataset", byId("teach-file").files[0]);
  fill(byId("teach-report"), waiting(dry ? "Checking the file" : "Sending the file"));
  busy(true);
  try {
    const headers = dry ? {} : { "Idempotency-Key": crypto.randomUUID?.() ?? String(Date.now() + Math.random()) };
    const answer = await ask("/v1/languages", { body, headers });
    if (dry) fill(byId("teach-report"), report(answer));
    else {
      fill(byId("teach-report"));
      byId("teach-form").reset();
      tellName();
      await drawExpansions(answer.expansion.id);
    }
  } catch (problem) {
    fill(byId("teach-report"), problem.problem?.report ? report({ report: problem.problem.report }) : null);
    fill(byId("teach-trouble"), sorry(problem));
  }
  busy(false);
}

function busy(is) {
  for (const button of byId("teach-form").querySelectorAll("button")) button.disabled = is;
}

/** The report of a dry run: how much is usable, what is not and where. */
function report({ language, report: found }) {
  const faults = Object.entries(found.faults ?? {});
  const facts = [
    ["Rows", `${whole(found.usable)} of ${whole(found.rows)} usable`],
    ["Split", `${whole(found.train)} to learn from, ${whole(found.val)} held out`],
    ["With English", whole(found.with_english)],
    ["With a picture", `${whole(found.with_picture)}${found.pictures ? `, of ${plural(found.pictures, "picture")}` : ""}`],
    ["Duplicates", whole(found.duplicates)],
    typeof found.in_script === "number" ? ["In the language's script", `${percent(found.in_script)} %`] : null,
    found.losses?.length ? ["Learns by", found.losses.map((loss) => loss.replaceAll("_", "-")).join(" and ")] : null,
  ].filter(Boolean);
  return make(
    "div",
    { class: "report" },
    make("h2", { class: "small-title" }, language ? `This file can teach ${named(language).name}` : "What the file holds"),
    make("dl", {}, facts.map(([term, value]) => [make("dt", {}, term), make("dd", {}, value)])),
    faults.length
      ? [make("h3", {}, "Rows that are left out"), make("ul", {}, faults.map(([kind, fault]) => make("li", {}, `${plural(fault.count, "row")}: ${FAULTS[kind] ?? kind.replaceAll("_", " ")} (line ${fault.first_lines.join(", ")}${fault.count > fault.first_lines.length ? ", …" : ""})`)))]
      : null,
  );
}
