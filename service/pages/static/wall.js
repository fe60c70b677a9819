// Pictures in rows of one height, whole and as wide as they are, with headings between them; headings with few pictures share a row. Asks for nothing.

const GAP = 8; // px, as in the style sheet, like the two below
const BESIDE = 24; // between headings that share a row
const LEAST = 152; // of a heading in such a row
const HEIGHTS = [[600, 132], [1000, 170], [Infinity, 196]]; // of a row, in px, up to a width of the wall
const WIDEST = 4; // of a picture's shape: a panorama is shown as a strip of it
const NARROWEST = 0.45;

/** The shape of a picture: its width for a height of 1; a square where it is not known. */
export const shape = ({ width, height }) => (width && height ? Math.min(WIDEST, Math.max(NARROWEST, width / height)) : 1);

/** A wall of figures in an element. Rows out of view cost the browser nothing: their height is known. */
export class Wall {
  #place;
  #entries = []; // {figure, ratio, title}, in order
  #width = 0;

  constructor(place) {
    this.#place = place;
    new ResizeObserver(() => Math.abs(place.clientWidth - this.#width) >= 1 && this.#entries.length && this.#lay(0)).observe(place);
  }

  /** Take everything off; `content` is shown in its place. */
  clear(...content) {
    this.#entries = [];
    this.#place.replaceChildren(...content);
  }

  /** Hang up more entries `{figure, ratio, title}`; where the title is another one, a heading begins. */
  add(entries) {
    if (!this.#entries.length) this.#place.replaceChildren();
    const from = this.#entries.length - (this.#place.lastElementChild?.querySelectorAll(":scope.open figure").length ?? 0);
    this.#entries.push(...entries);
    this.#lay(from);
  }

  /** Take one figure off, or put another one in its place. */
  change(figure, other = null) {
    const at = this.#entries.findIndex((entry) => entry.figure === figure);
    if (at < 0) return;
    if (other) {
      this.#entries[at].figure = other;
      figure.replaceWith(other);
    } else {
      this.#entries.splice(at, 1);
      this.#lay(0);
    }
  }

  /** Put entries from one on into rows; those before it stay where they are. */
  #lay(from) {
    const place = this.#place;
    const held = place.contains(document.activeElement) ? document.activeElement : null; // it loses the focus when it is moved
    this.#width = place.clientWidth;
    const [, target] = HEIGHTS.find(([width]) => this.#width < width);
    if (from === 0) place.replaceChildren();
    else if (place.lastElementChild?.matches(".open")) {
      place.lastElementChild.remove();
      if (place.lastElementChild?.matches("h2")) place.lastElementChild.remove(); // it comes again with its first row
    }
    const made = document.createDocumentFragment();
    let title = from ? this.#entries[from - 1].title : null;
    let row = null; // one that several headings share, as far as it goes
    for (const group of grouped(this.#entries.slice(from))) {
      const begins = group[0].title && group[0].title !== title;
      title = group[0].title;
      const width = Math.max(LEAST, widthOf(group, target));
      if (begins && heightOf(group, this.#width) > target) {
        if (!row || row.left < width) made.append((row = { element: box("together", target), left: this.#width }).element);
        row.left -= width + BESIDE;
        const part = row.element.appendChild(document.createElement("div"));
        part.append(heading(title), shelf(group, target));
      } else {
        row = null;
        if (begins) made.append(heading(title));
        made.append(...rows(group, this.#width, target));
      }
    }
    made.lastElementChild?.classList.add("open"); // for more
    place.append(made);
    held?.focus({ preventScroll: true });
  }
}

/** Entries that follow each other under one title. */
function grouped(entries) {
  const groups = [];
  for (const entry of entries) {
    if (entry.title !== groups.at(-1)?.[0].title) groups.push([]);
    groups.at(-1).push(entry);
  }
  return groups;
}

const sum = (row) => row.reduce((total, { ratio }) => total + ratio, 0);
const gaps = (row) => GAP * (row.length - 1);

/** The height at which pictures side by side fill a width, and the width at which they have a height. */
const heightOf = (row, width) => (width - gaps(row)) / sum(row);
const widthOf = (row, height) => sum(row) * height + gaps(row);

/** Rows that fill the width; the last one of a heading is no taller than the others. */
function rows(entries, width, target) {
  const made = [];
  let row = [];
  for (const entry of entries) {
    row.push(entry);
    const height = heightOf(row, width);
    if (height > target) continue;
    const before = heightOf(row.slice(0, -1), width);
    const fits = row.length === 1 || target / height <= before / target; // which of both is nearer to the target
    if (!fits) row.pop();
    made.push(shelf(row, fits ? height : before));
    row = fits ? [] : [entry];
  }
  if (row.length) made.push(shelf(row, Math.min(heightOf(row, width), target)));
  return made;
}

function shelf(row, height) {
  const element = box("shelf", height);
  for (const { figure, ratio } of row) {
    figure.style.setProperty("--ratio", ratio.toFixed(4));
    element.append(figure);
  }
  return element;
}

function box(name, height) {
  const element = document.createElement("div");
  element.className = name;
  element.style.setProperty("--height", `${height.toFixed(2)}px`);
  return element;
}

function heading(title) {
  const element = document.createElement("h2");
  element.className = "small-title";
  element.textContent = title;
  return element;
}
