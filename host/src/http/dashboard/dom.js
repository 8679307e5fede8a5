// Elements, made without a line of markup: what comes from events and handlers is only ever text.

const SVG = 'http://www.w3.org/2000/svg';

/** An element with its attributes and children; what is null or false is left out. */
export function h(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** The same, of SVG. */
export function s(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value == null || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child != null && child !== false));
  return element;
}

/**
 * Puts others in the place of what is there. The focus stays on the link that it was on, or at the same place, unless there is
 * a button for something else by now; so does what was scrolled.
 */
export function replace(place, nodes) {
  const stops = () => [...place.querySelectorAll('a, button, summary, [tabindex]')];
  const was = document.activeElement;
  const [at, href] = [stops().indexOf(was), was?.getAttribute('href')];
  const name = (stop) => stop.getAttribute('aria-label') ?? stop.textContent;
  const isTheSame = (stop) => stop && (stop.tagName !== 'BUTTON' || name(stop) === name(was));
  const scrolled = [...place.querySelectorAll('.scroll')].map(({ scrollLeft: left, scrollTop: top }) => ({ left, top }));
  place.replaceChildren(...[...nodes].filter((node) => node != null && node !== false));
  [...place.querySelectorAll('.scroll')].forEach((each, index) => each.scrollTo(scrolled[index] ?? { left: 0, top: 0 }));
  if (at < 0) return;
  const now = stops();
  const stop = now.find((each) => href && each.getAttribute('href') === href) ?? [now[at]].find(isTheSame);
  stop?.focus({ preventScroll: true });
}

export function section(title, ...content) {
  return h('section', {}, h('h2', {}, title), ...content);
}

/** A table of rows of cells; `numbers` are the columns that hold such. */
export function table(caption, heads, rows, numbers = []) {
  const kind = (column) => (numbers.includes(column) ? 'number' : null);
  return h('div', { class: 'scroll', tabindex: 0, role: 'group', 'aria-label': caption },
    h('table', {},
      h('thead', {}, h('tr', {}, heads.map((head, column) => h('th', { scope: 'col', class: kind(column) }, head)))),
      h('tbody', {}, rows.map((row) => h('tr', {}, row.map((cell, column) => h('td', { class: kind(column) }, cell)))))));
}

/** Pairs of a name and what it is. */
export function facts(pairs) {
  return h('dl', {}, pairs.filter(([, fact]) => fact != null).map(([name, fact]) => [h('dt', {}, name), h('dd', {}, fact)]));
}

export function notice(text, kind = '') {
  return h('p', { class: `notice ${kind}`, role: kind === 'bad' ? 'alert' : null }, text);
}

export const short = (digest) => (digest ?? '').slice(0, 12);

export function number(value) {
  if (value == null) return '–';
  return value >= 100 || Number.isInteger(value) ? Math.round(value).toLocaleString('en') : value.toFixed(1);
}

export function millis(value) {
  if (value == null) return '–';
  if (value >= 1000) return `${(value / 1000).toFixed(value >= 10000 ? 0 : 1)} s`;
  return `${value >= 10 ? Math.round(value) : value.toFixed(1)} ms`;
}

/** A time of today, or a day as well. */
export function time(ms) {
  const at = new Date(ms);
  const isToday = at.toDateString() === new Date().toDateString();
  const text = isToday ? at.toLocaleTimeString([], { hour12: false }) : at.toLocaleString([], { hour12: false });
  return h('time', { datetime: at.toISOString() }, text);
}
