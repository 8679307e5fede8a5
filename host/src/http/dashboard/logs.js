// The newest lines of the log about a handler, the newest first.

import { get, poll } from './api.js';
import { h, notice, time } from './dom.js';
import { tell } from './pipeline.js';

/** How often they are asked for anew, in milliseconds. */
const AGAIN = 2000;

const KINDS = { error: 'bad', warn: 'warn', debug: 'faint', trace: 'faint' };

export function logs(name) {
  const said = h('div');
  const rows = h('tbody');
  const element = h('div', {}, said, h('div', { class: 'scroll log', tabindex: 0, role: 'group', 'aria-label': 'Log' }, h('table', {},
    h('thead', {}, h('tr', {}, ['Time', 'Level', 'Line', 'Trace'].map((head) => h('th', { scope: 'col' }, head)))), rows)));
  // A row stays the same element while it is shown: whoever reads on, or holds the focus in it, isn't thrown out.
  let shown = new Map();
  const show = async () => {
    try {
      const { lines, traces } = await get(`/admin/handlers/${encodeURIComponent(name)}/logs`);
      const now = new Map();
      for (const line of lines) {
        const owner = traces[line.trace];
        // They are numbered anew by each start of the host.
        const key = `${line.number} ${line.at_ms} ${owner ? owner.id : ''}`;
        now.set(key, shown.get(key) ?? row(line, owner));
      }
      for (const [key, element] of shown) if (!now.has(key)) element.remove();
      let before = null;
      for (const element of now.values()) {
        if (!element.parentNode) rows.insertBefore(element, before);
        before = element;
      }
      shown = now;
      tell(said, lines.length === 0 ? [h('p', { class: 'faint' }, 'No lines since the host started.')] : []);
    } catch (error) {
      tell(said, [notice(error.message, 'bad')]);
    }
  };
  return { element, leave: poll(show, AGAIN) };
}

function row({ at_ms: at, level, printed, message, trace, fields }, owner) {
  const more = Object.entries(fields).map(([name, value]) => `${name}=${value}`).join(' ');
  const id = trace && h('code', { title: trace }, trace.slice(0, 8));
  return h('tr', {}, h('td', {}, time(at)), h('td', { class: KINDS[level] ?? null }, level),
    h('td', {}, printed ? h('code', {}, message) : message, more && h('small', { class: 'faint' }, ` ${more}`)),
    h('td', {}, owner ? h('a', { href: `#/trace/${encodeURIComponent(owner.resource)}/${encodeURIComponent(owner.id)}` }, id) : id));
}
