// A handler or a sink: its version, its figures, its failures, its log, what it is granted, and the way back.

import { get, send } from './api.js';
import { bars } from './bars.js';
import { facts, h, millis, notice, number, section, short, table } from './dom.js';
import { logs } from './logs.js';
import { tell } from './pipeline.js';
import { settings } from './settings.js';

export function page({ name }, report) {
  const place = Object.fromEntries(['figures', 'version', 'shards', 'failures'].map((part) => [part, h('div')]));
  const versions = h('div', {}, h('p', { class: 'faint' }, 'loading …'));
  const said = h('p', { role: 'status' });
  const isHandler = find(report, name)?.kind === 'handler';
  const granted = settings(name);
  const lines = logs(name);
  const element = h('div', {}, h('h1', {}, name), said,
    h('div', { class: 'columns' }, section('Now', place.figures), section('Version', place.version)),
    isHandler && section('Versions at hand', versions),
    h('div', { class: 'columns' }, section('Failures', place.failures), section('Shards', place.shards)),
    section('Log', lines.element), section('In pipeline.toml', granted.element));
  let digest = null;
  const list = async () => {
    try {
      tell(versions, [shelf(name, await get(`/admin/handlers/${encodeURIComponent(name)}/versions`), said, list)]);
    } catch (error) {
      // The next report tries again.
      digest = null;
      tell(versions, [notice(error.message, 'bad')]);
    }
  };
  const update = (now) => {
    const subscriber = find(now, name);
    if (!subscriber) {
      tell(place.figures, [notice(`There is no ${name} in pipeline.toml any more.`)]);
      return;
    }
    if (isHandler && subscriber.digest !== digest) {
      digest = subscriber.digest;
      list();
    }
    granted.update(now);
    show(place, subscriber, now.recent[name] ?? {});
  };
  update(report);
  return { element, update, leave: lines.leave };
}

const find = (report, name) => report.subscribers.find((subscriber) => subscriber.name === name);

function show(place, subscriber, recent) {
  const { version, figures } = subscriber;
  tell(place.figures, [facts([
    ['Reads', subscriber.subscribe.join(', ')],
    ['Lag', Object.entries(subscriber.lag).map(([topic, { events }]) => `${topic}: ${number(events)}`).join(', ') || null],
    ['Publishes', subscriber.publish.join(', ') || 'nothing'],
    ['Dead letters to', subscriber.dead_letter],
    ['Consumer group', subscriber.group],
    ['Events', `${number(subscriber.events)}, ${number(recent.events_per_s ?? 0)} a second`],
    ['Outputs', `${number(subscriber.outputs)}, ${number(recent.outputs_per_s ?? 0)} a second`],
    ['Transactions', `${number(subscriber.commits)}, ${number(subscriber.refusals)} refused`],
    ['Batch', spread(figures.batch_events, (value) => `${number(value)} events`)],
    ['Handling a batch', spread(figures.handling_us, (us) => millis(us / 1000))],
    ['Transaction', spread(figures.commit_us, (us) => millis(us / 1000))],
    ['Since the request', spread(figures.since_request_us, (us) => millis(us / 1000))],
  ]), ...[['Handling a batch', 'handling_us'], ['Transaction', 'commit_us'], ['Since the request', 'since_request_us']]
    .map(([title, figure]) => bars(title, figures[figure], (us) => millis(us / 1000))).filter(Boolean)]);
  tell(place.version, [
    version.refused && notice(`The file as it is now was refused: ${version.refused}`, 'bad'),
    facts([
      ['Runs', h('code', { id: 'digest' }, short(subscriber.digest))],
      ['Before', version.previous && h('code', {}, short(version.previous))],
      ['Swapped', version.swapped_at_ms && new Date(version.swapped_at_ms).toLocaleString()],
      ['Swaps', number(version.swaps)],
      ['Compiled in', version.compile_ms != null ? millis(version.compile_ms) : null],
      ['First of each partition', Object.entries(version.first_offsets).map(([partition, offset]) => `${partition}/${offset}`).join(', ') || null],
    ]),
  ].filter(Boolean));
  tell(place.shards, [table('Shards', ['State', 'Runs', 'Reads', 'Parked keys', 'Paused'], subscriber.shards.map((shard) => [
    shard.reason ? `${shard.state}: ${shard.reason}` : shard.state, h('code', {}, short(shard.digest)), shard.partitions.join(', '), number(shard.parked_keys), shard.full_partitions.join(', '),
  ]), [3])]);
  const kinds = Object.entries(figures.failures);
  tell(place.failures, [
    kinds.length === 0 ? h('p', { class: 'faint' }, 'None since the host started.')
      : table('Failures by kind', ['Kind', 'Events, each try counted'], kinds.map(([kind, count]) => [kind, number(count)]), [1]),
    facts([['Tried again', number(subscriber.retries)], ['Dead letters', number(subscriber.dead_letters)], ['Last failure', subscriber.last_failure]]),
  ]);
}

const spread = ({ count, p50, p99 }, text) => (count === 0 ? '–' : `p50 ${text(p50)}, p99 ${text(p99)}`);

/** The versions that a rollback can go to. */
function shelf(name, { versions }, said, list) {
  const back = async (digest) => {
    said.textContent = `going back to ${short(digest)} …`;
    try {
      await send('POST', `/admin/handlers/${encodeURIComponent(name)}/rollback`, { to: digest });
      said.textContent = `runs ${short(digest)} now, until the component's file changes`;
    } catch (error) {
      said.replaceChildren(notice(error.message, 'bad'));
    }
    list();
  };
  return table('Versions', ['Version', 'Since', 'Way back'], versions.map(({ digest, running, loaded_at_ms: since }) => [
    h('code', {}, short(digest)),
    since ? new Date(since).toLocaleString() : '–',
    running ? h('strong', {}, 'runs') : h('button', { class: 'plain', 'aria-label': `Roll back to it: ${short(digest)}`, onclick: () => back(digest) }, 'Roll back to it'),
  ]));
}
