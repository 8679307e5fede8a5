// The host: what became of pipeline.toml, what is in force of it, and which keys wait.

import { get, poll, send } from './api.js';
import { facts, h, notice, number, replace, section, table, time } from './dom.js';
import { tell } from './pipeline.js';
import { settings } from './settings.js';

/** How often the keys that wait are asked for, in milliseconds. */
const AGAIN = 2000;

export function config(_parameters, report) {
  const state = h('div');
  const said = h('div', { role: 'status' });
  const reload = async () => {
    try {
      const { changes } = await send('POST', '/admin/reload', {});
      said.replaceChildren(changes.length > 0 ? h('ul', {}, changes.map(({ message }) => h('li', {}, message))) : h('p', {}, 'Nothing has changed.'));
    } catch (error) {
      replace(said, [notice(error.message, 'bad'), error.problem?.detail && h('pre', {}, error.problem.detail)]);
    }
  };
  const force = h('div');
  const element = h('div', {}, h('h1', {}, 'Configuration'),
    section('pipeline.toml', state, h('div', { class: 'row' }, h('button', { onclick: reload }, 'Read it again')), said),
    section('In force', force));
  let subscribers = [];
  const update = (now) => {
    tell(state, told(now));
    if (subscribers.map(({ name }) => name).join() !== now.subscribers.map(({ name }) => name).join()) {
      subscribers = now.subscribers.map(({ name }) => subscribers.find((each) => each.name === name) ?? folded(name));
      replace(force, subscribers.map((each) => each.element));
    }
    subscribers.forEach((each) => each.update(now));
  };
  update(report);
  return { element, update };
}

function told(now) {
  return [
    now.config.error && h('div', {}, notice('The file as it is now was refused; what ran before goes on.', 'bad'), h('pre', {}, now.config.error)),
    facts([
      ['Runs', now.config.loaded_at_ms ? `what was read ${new Date(now.config.loaded_at_ms).toLocaleString()}` : 'nothing yet'],
      ['Changes taken', number(now.config.reloads)], ['Changes refused', number(now.config.refused)],
      ['Resources', now.resources.map(({ name, topic }) => `/${name} → ${topic}`).join(', ') || 'none'],
    ]),
  ].filter(Boolean);
}

/** What holds for a handler or a sink; it is asked for as soon as somebody wants to see it. */
function folded(name) {
  const its = settings(name);
  const element = h('details', {}, h('summary', {}, name), its.element);
  return { name, element, update: (report) => element.open && its.update(report) };
}

export function parked() {
  const place = h('div');
  const element = h('div', {}, h('h1', {}, 'Parked keys'),
    section('Waiting for the next try', place));
  const show = async () => {
    try {
      const all = (await get('/admin/parked')).parked;
      const rows = all.flatMap(({ subscriber, keys }) => keys.map((key) => [
        subscriber, key.key ?? h('span', { class: 'faint' }, 'no key'), key.event, number(key.attempt), time(key.first_failed_ms), time(key.next_try_ms), number(key.behind),
      ]));
      tell(place, [rows.length === 0 ? h('p', { class: 'faint' }, 'No key waits.')
        : table('Parked keys', ['Handler', 'Key', 'Event', 'Next try is no.', 'Failing since', 'Next try', 'Behind it'], rows, [3, 6])]);
    } catch (error) {
      tell(place, [notice(error.message, 'bad')]);
    }
  };
  return { element, leave: poll(show, AGAIN) };
}
