// What pipeline.toml says of a handler or a sink: what it is granted, and what becomes of its failures.

import { get } from './api.js';
import { facts, h, millis, notice, number } from './dom.js';
import { tell } from './pipeline.js';

export function settings(name) {
  const element = h('div', {}, h('p', { class: 'faint' }, 'loading …'));
  let read = null;
  const update = async (report) => {
    if (read === report.config.loaded_at_ms) return;
    read = report.config.loaded_at_ms;
    try {
      tell(element, [shown(await get(`/admin/handlers/${encodeURIComponent(name)}`))]);
    } catch (error) {
      // The next report tries again.
      read = null;
      tell(element, [notice(error.message, 'bad')]);
    }
  };
  return { element, update };
}

function shown({ kind, component, sha256, allow, env, to, has_login: login, subscribe, publish, dead_letter: letters, limits, retry, shards, keep, log }) {
  const list = (names, none) => (names.length > 0 ? names.join(', ') : none);
  return facts([
    ['Component', component], ['Pinned to', sha256], ['Sends to', to], ['Logs in', kind === 'sink' ? (login ? 'yes' : 'no') : null],
    ['May read', list(subscribe)], ['May publish to', list(publish, 'nothing')], ['Dead letters to', letters],
    ['May import', allow && list(allow.map((name) => (name === 'wasi:filesystem' ? `${name} (there are no files)` : name)), 'nothing')],
    ['Environment', env && (env.length > 0 ? h('span', {}, list(env), h('small', { class: 'faint' }, ' (values aren’t shown)')) : 'none')],
    ['Memory', limits.memory_bytes && `${number(limits.memory_bytes / 1024 / 1024)} MiB`],
    [kind === 'sink' ? 'Time of one event' : 'Time of one call', millis(limits.time_ms)],
    ['Batch', `up to ${number(limits.batch)} ${limits.batch === 1 ? 'event' : 'events'}`],
    ['Tries', retry.attempts ? `${number(retry.attempts)} in all` : 'for ever'],
    ['Between two tries', `${millis(retry.backoff_min_ms)} to ${millis(retry.backoff_max_ms)}`],
    ['Threads here', number(shards)], ['Versions kept', keep && number(keep)],
    ['Log level', kind === 'handler' ? log ?? 'the host’s' : null],
  ]);
}
