// What the browser keeps for this page. Where it may keep nothing, that lasts as long as the page is open.

const forNow = new Map();

/** A value in `localStorage` or `sessionStorage`; null where there is none. */
export function recall(place, name) {
  try {
    return forNow.has(name) ? forNow.get(name) : window[place].getItem(name);
  } catch {
    return null;
  }
}

/** Keep a value there; an empty one is taken out. */
export function keep(place, name, value) {
  try {
    if (value) window[place].setItem(name, value);
    else window[place].removeItem(name);
    forNow.delete(name);
  } catch {
    forNow.set(name, value || null);
  }
}
