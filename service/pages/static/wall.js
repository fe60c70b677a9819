// Pictures in rows of one height, whole and as wide as they are, with headings between them. Asks for nothing.

const GAP = 8; // px, as in the style sheet
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
    const shelf = this.#place.lastElementChild;
    const from = shelf?.matches(".shelf.open") ? this.#entries.length - shelf.childElementCount : this.#entries.length;
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
    let row = [];
    const close = (last) => {
      if (row.length) made.append(shelf(row, heightOf(row, this.#width), target, last));
      row = [];
    };
    for (const entry of this.#entries.slice(from)) {
      if (entry.title && entry.title !== title) {
        close(true);
        made.append(heading(entry.title));
      }
      title = entry.title;
      row.push(entry);
      const height = heightOf(row, this.#width);
      if (height > target) continue;
      const before = heightOf(row.slice(0, -1), this.#width);
      const fits = row.length === 1 || target / height <= before / target; // which of both is nearer to the target
      if (!fits) row.pop();
      close(false);
      if (!fits) row = [entry];
    }
    close(true);
    place.append(made);
    held?.focus({ preventScroll: true });
  }
}

/** The height at which pictures side by side fill a width. */
const heightOf = (row, width) => (width - GAP * (row.length - 1)) / row.reduce((sum, { ratio }) => sum + ratio, 0);

/** A row; the last one of a heading is no taller than the others, and open for more. */
function shelf(row, height, target, last) {
  const element = document.createElement("div");
  element.className = last ? "shelf open" : "shelf";
  element.style.setProperty("--height", `${(last ? Math.min(height, target) : height).toFixed(2)}px`);
  for (const { figure, ratio } of row) {
    figure.style.setProperty("--ratio", ratio.toFixed(4));
    element.append(figure);
  }
  return element;
}

function heading(title) {
  const element = document.createElement("h2");
  element.className = "small-title";
  element.textContent = title;
  return element;
}
