// Small helpers for elements, numbers and times. Sends no request.

import { locale } from "/static/text.js";

const DRAWN = ["svg", "path", "line", "polyline", "circle", "text"]; // SVG elements have a namespace of their own

/** An element: `make("p", {class: "x", onclick: f}, "text", other)`; null and false children are left out. */
export function make(tag, properties = {}, ...children) {
  const svg = DRAWN.includes(tag);
  const element = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name.startsWith("--")) element.style.setProperty(name, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const byId = (id) => document.getElementById(id);

/** Whether a key was pressed with another one that makes it a command of the browser. */
export const withModifier = (event) => event.ctrlKey || event.metaKey || event.altKey;

/** Replace the children of an element; hide it when there are none. */
export function fill(element, ...children) {
  const kept = children.flat(Infinity).filter(Boolean);
  element.replaceChildren(...kept);
  element.hidden = kept.length === 0;
}

/** A sentence of the server: what stands in it between backticks is a name in the code, and is drawn as one. */
export const withCode = (text) => text.split("`").map((part, place) => (place % 2 ? make("code", {}, part) : part));

export const whole = (number) => new Intl.NumberFormat(locale).format(number);
export const decimal = (number, digits = 1) => new Intl.NumberFormat(locale, { minimumFractionDigits: digits, maximumFractionDigits: digits }).format(number);
export const percent = (share) => decimal(share * 100);

/** A difference in percentage points, with its sign. */
export function points(difference) {
  const size = Math.abs(difference * 100);
  return `${size < 0.05 ? "±" : difference < 0 ? "−" : "+"}${decimal(size)}`;
}

/** `July 2019`, of a date or of `2019-07`. */
export const monthName = (date) => new Intl.DateTimeFormat(locale, { month: "long", year: "numeric", timeZone: "UTC" }).format(new Date(date));

export function time(iso) {
  if (!iso) return "";
  const at = new Date(iso);
  if (Number.isNaN(at.getTime())) return String(iso);
  const style = iso.length > 10 ? { dateStyle: "medium", timeStyle: "short" } : { dateStyle: "medium", timeZone: "UTC" }; // a day alone
  const shown = new Intl.DateTimeFormat(locale === "en" ? "en-GB" : locale, style).format(at);
  return make("time", { datetime: iso, title: at.toISOString() }, shown);
}

/** `20 seconds`, `3 minutes`. */
export function duration(seconds) {
  const [length, unit] = seconds < 60 ? [seconds, "second"] : seconds < 3600 ? [seconds / 60, "minute"] : [seconds / 3600, "hour"];
  return new Intl.NumberFormat(locale, { style: "unit", unit, unitDisplay: "long", maximumFractionDigits: 0 }).format(Math.max(1, length));
}

export function bytes(count) {
  const [unit, size, digits] = count < 1e6 ? ["kilobyte", Math.max(1, count / 1e3), 0] : count < 1e9 ? ["megabyte", count / 1e6, 1] : ["gigabyte", count / 1e9, 1];
  return new Intl.NumberFormat(locale, { style: "unit", unit, minimumFractionDigits: digits, maximumFractionDigits: digits }).format(size);
}

/** Content that may be wider than the window: it scrolls, also with the keyboard, and fades where more of it follows. */
export function scrolled(name, ...content) {
  const element = make("div", { class: "scroll", role: "region", "aria-label": name, tabindex: "0" }, ...content);
  const tell = () => {
    const gone = Math.abs(element.scrollLeft);
    element.toggleAttribute("data-before", gone > 1);
    element.toggleAttribute("data-after", gone + element.clientWidth < element.scrollWidth - 1);
  };
  element.addEventListener("scroll", tell, { passive: true });
  new ResizeObserver(tell).observe(element);
  return element;
}

/** What the marks of a plot or map mean: each mark stays beside its words. */
export const legend = (...pairs) => make("p", { class: "legend" }, pairs.map(([mark, words]) => make("span", { class: "pair" }, mark, words)));

/** A bar for a fraction 0..1 with its number; a dash when it was not measured. */
export function bar(share, label) {
  if (typeof share !== "number") return make("span", { class: "none" }, "–");
  return make(
    "span",
    { class: "bar", title: label },
    make("span", { class: "track", "aria-hidden": "true" }, make("span", { class: "filled", "--share": share })),
    make("span", { class: "number" }, percent(share)),
  );
}
