// The first page: what runs, how fast, and what is wrong.

import { facts, h, millis, notice, number, replace, section, short } from './dom.js';
import { graph, topology } from './graph.js';

export function page(_parameters, report) {
  let drawn = { shape: null };
  const warnings = h('div', { 'aria-live': 'polite' });
  const drawing = h('div', { class: 'scroll' });
  const rows = h('tbody');
  const broker = h('div');
  const element = h('div', {},
    h('h1', {}, 'Pipeline'), warnings, section('Flow', drawing),
    section('Handlers and sinks', h('p', { class: 'faint' }, 'Events and dead letters are counted since the host started, rates and times over some seconds.'), h('div', { class: 'scroll' }, h('table', {},
      h('thead', {}, h('tr', {}, HEADS.map(([head, kind]) => h('th', { scope: 'col', class: kind }, head)))), rows))),
    section('Host', broker));
  const update = (now) => {
    const shape = JSON.stringify(topology(now));
    if (shape !== drawn.shape) {
      drawn = { shape, ...graph(now) };
      drawing.replaceChildren(drawn.element);
      rows.replaceChildren(...now.subscribers.map(row));
    }
    drawn.update(now);
    now.subscribers.forEach((subscriber, index) => {
      cells(subscriber, now.recent[subscriber.name] ?? {}).forEach((text, column) => {
        const cell = rows.children[index].children[column + 1];
        if (cell.textContent !== text) cell.textContent = text;
      });
    });
    tell(warnings, troubles(now));
    tell(broker, [facts([
      ['Brokers', now.broker.embedded ? `${now.broker.brokers}, embedded: in memory only` : now.broker.brokers],
      ['Up for', duration(now.uptime_seconds)],
      ['pipeline.toml', now.config.loaded_at_ms ? `as of ${new Date(now.config.loaded_at_ms).toLocaleString()}` : 'not read yet'],
    ])]);
  };
  update(report);
  return { element, update };
}

const HEADS = [['Name'], ['Version'], ['State'], ['Events/s', 'number'], ['Events', 'number'], ['Lag', 'number'], ['Failures/s', 'number'],
  ['Dead letters', 'number'], ['Parked', 'number'], ['Batch p99', 'number'], ['Since request p99', 'number']];

function row({ name }) {
  return h('tr', {}, h('th', { scope: 'row' }, h('a', { href: `#/handlers/${encodeURIComponent(name)}` }, name)),
    HEADS.slice(1).map(([, kind]) => h('td', { class: kind })));
}

function cells(subscriber, recent) {
  const states = [...new Set(subscriber.shards.map((shard) => shard.state))];
  return [short(subscriber.digest), states.join(', ') || 'leaving', number(recent.events_per_s ?? 0), number(subscriber.events),
    lag(subscriber), number(recent.failures_per_s ?? 0), number(subscriber.dead_letters),
    number(subscriber.shards.reduce((sum, shard) => sum + shard.parked_keys, 0)),
    millis(recent.handling_p99_ms), millis(recent.since_request_p99_ms)];
}

/** Events that are not done, of all topics; as long as nobody knows, none is said. */
function lag({ lag: byTopic }) {
  const topics = Object.values(byTopic);
  return topics.length === 0 ? '–' : number(topics.reduce((sum, { events }) => sum + events, 0));
}

/** What a person should know of at once. */
export function troubles(report) {
  return [
    ...report.not_ready.map((reason) => notice(reason, 'bad')),
    report.config.error && notice(`pipeline.toml as it is now was refused: ${report.config.error}`, 'bad'),
    ...report.subscribers.filter(({ version }) => version.refused)
      .map(({ name, version }) => notice(`${name}: the component's file was refused, the version before goes on: ${version.refused}`, 'bad')),
    ...report.subscribers.flatMap(({ name, shards }) => shards.flatMap(({ full_partitions: full }) =>
      full.map((partition) => notice(`${name}: ${partition} is paused, because so much of it waits behind parked keys`, 'warn')))),
  ].filter(Boolean);
}

/** Replaces what is there only where it would look different: whoever reads it aloud is not interrupted. */
export function tell(place, content) {
  const next = h('div', {}, content);
  if (next.innerHTML !== place.innerHTML) replace(place, next.childNodes);
}

export function duration(seconds) {
  const [days, hours, minutes] = [Math.floor(seconds / 86400), Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60];
  return [days && `${days} d`, hours && `${hours} h`, (minutes || seconds < 60) && (seconds < 60 ? `${seconds} s` : `${minutes} min`)]
    .filter(Boolean).join(' ');
}
