// How values are spread: a bar for each bucket of a histogram, and the same in words for who doesn't see it.

import { h, number, s } from './dom.js';

/** The greatest bound that the host counts by. */
const GREATEST = 100_000_000;
/** Of all of it, and of one bar with the gap behind it. */
const HEIGHT = 40;
const STEP = 24;

/** `text` says a bound in its unit. */
export function bars(name, { buckets, count }, text) {
  if (count === 0) return null;
  const most = Math.max(...buckets.map(([, of]) => of));
  const what = (at) => (buckets[at][0] == null ? `above ${text(GREATEST)}` : `up to ${text(buckets[at][0])}`);
  const words = buckets.map(([, of], at) => (of > 0 ? `${number(of)} ${what(at)}` : null)).filter(Boolean).join(', ');
  return h('figure', { class: 'bars' }, h('figcaption', {}, name),
    s('svg', { viewBox: `0 0 ${buckets.length * STEP} ${HEIGHT}`, preserveAspectRatio: 'none', width: buckets.length * STEP, height: HEIGHT, role: 'img', 'aria-label': `${name}: ${words}` },
      buckets.map(([, of], at) => {
        const height = of > 0 ? Math.max(1, (of / most) * HEIGHT) : 0;
        return s('rect', { x: at * STEP, y: HEIGHT - height, width: STEP - 2, height }, s('title', {}, `${number(of)} ${what(at)}`));
      })),
    h('p', { class: 'faint', 'aria-hidden': 'true' }, buckets.length > 1 ? `${what(0)} … ${what(buckets.length - 1)}` : what(0)));
}
