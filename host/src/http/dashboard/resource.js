// A resource: place one, see the newest, and follow one on its way.

import { get, poll, send } from './api.js';
import { facts, h, millis, notice, replace, s, section, short, table, time } from './dom.js';
import { field } from './form.js';
import { tell } from './pipeline.js';

/** How often what is shown is asked for anew, in milliseconds. */
const AGAIN = 1000;

const path = (...parts) => `/${parts.map(encodeURIComponent).join('/')}`;

export function page({ resource }, report) {
  let now = report;
  const newest = h('div');
  const search = h('form', { class: 'row', role: 'search', onsubmit: (event) => {
    event.preventDefault();
    location.hash = `#${path('trace', resource, search.elements.id.value.trim())}`;
  } }, h('label', { for: 'search' }, 'Follow the one with the id'), h('input', { id: 'search', name: 'id', required: true }), h('button', {}, 'Follow'));
  const placing = h('div');
  const element = h('div', {}, h('h1', {}, resource),
    h('div', { class: 'columns' }, section('Newest', search, newest), section(`New: POST /${resource}`, placing)));
  const show = async () => {
    try {
      const { items } = await get(`${path(resource)}?limit=25`);
      tell(newest, [items.length === 0 ? h('p', { class: 'faint' }, 'There are none yet.') : table(`Newest of ${resource}`, ['Id', 'Last seen', 'In'], items.map((item) => {
        const failed = Object.keys(item.topics).filter((topic) => isDead(item.topics, topic, now));
        const topics = Object.keys(item.topics).filter((topic) => !deadLetters(now).has(topic));
        return [h('a', { href: `#${path('trace', resource, item.id)}` }, item.id), time(item.updated_ms),
          failed.length > 0 ? h('span', { class: 'bad' }, failed.join(', ')) : topics.at(-1)];
      }))]);
    } catch (error) {
      tell(newest, [notice(error.message, 'bad')]);
    }
  };
  place(resource, placing);
  return { element, update: (next) => { now = next; }, leave: poll(show, AGAIN) };
}

/** The topics of dead letters, whatever pipeline.toml calls them. */
const deadLetters = ({ subscribers }) => new Set(subscribers.map(({ dead_letter: topic }) => topic));

/** Whether it lies in this topic of dead letters and was not put back since, nor anything new of it to where it came from. */
function isDead(topics, topic, { subscribers }) {
  const owners = subscribers.filter(({ dead_letter: its }) => its === topic);
  const isNewer = (from) => topics[from]?.timestamp_ms > topics[topic].timestamp_ms;
  return owners.length > 0 && !owners.some(({ subscribe }) => subscribe.some(isNewer));
}

/** The form for a new one. */
async function place(resource, into) {
  let schema;
  try {
    schema = (await get('/openapi.json')).components.schemas[resource] ?? {};
  } catch (error) {
    into.replaceChildren(notice(error.message, 'bad'));
    return;
  }
  // Without a schema, of all that may be in it only the key is known.
  const isKnown = Object.keys(schema.properties ?? {}).length > 1 || schema.required?.length > 0;
  const body = isKnown ? field(schema, '') : field({ description: 'As JSON.' }, 'body');
  const said = h('div', { role: 'status' });
  into.replaceChildren(h('form', { onsubmit: async (event) => {
    event.preventDefault();
    try {
      const made = await send('POST', path(resource), body.value());
      const id = Object.entries(made).find(([name]) => !['topic', 'partition', 'offset'].includes(name))?.[1];
      said.replaceChildren(h('p', {}, 'Placed: ', h('a', { href: `#${path('trace', resource, id)}` }, id)));
    } catch (error) {
      const faults = error.problem?.errors ?? error.problem?.faults ?? [];
      replace(said, [notice(error.message, 'bad'), faults.length > 0 && h('ul', {}, faults.map((fault) => h('li', {}, text(fault))))]);
    }
  } }, body.element, h('button', {}, 'Place it')), said);
}

const text = (value) => (typeof value === 'string' ? value : Object.values(value).filter((part) => typeof part !== 'object').join(': '));

/** One of them, on its way over the topics. */
export function trace({ resource, id }, report) {
  const place = h('div');
  const open = new Set();
  const element = h('div', {}, h('p', {}, h('a', { href: `#${path('resources', resource)}` }, resource)), h('h1', {}, id), place);
  let dead = deadLetters(report);
  let last = '';
  const show = async () => {
    try {
      const one = await get(path(resource, id));
      const now = JSON.stringify([one, ...dead]);
      if (now !== last) replace(place, way(one, dead, open));
      last = now;
    } catch (error) {
      last = '';
      tell(place, [notice(error.message, error.status === 404 ? '' : 'bad')]);
    }
  };
  return { element, update: (next) => { dead = deadLetters(next); }, leave: poll(show, AGAIN) };
}

function way({ latest, history, history_dropped: dropped, complete }, dead, open) {
  const start = Math.min(...history.map(begun));
  const length = Math.max(1, ...history.map((step) => step.timestamp_ms - start));
  const traceIds = [...new Set(history.map((step) => step.headers.traceparent?.split('-')[1]).filter(Boolean))];
  const steps = history.map((step) => {
    const newest = latest[step.topic];
    const record = newest && newest.partition === step.partition && newest.offset === step.offset ? newest : null;
    return entry({ step, record, history, latest, start, length, dead, open });
  });
  return [
    section('Way', facts([[traceIds.length > 1 ? 'Traces' : 'Trace', traceIds.length > 0 ? traceIds.map((traceId) => h('div', {}, h('code', {}, traceId))) : null], ['Took', millis(length)], ['Records', String(history.length)]]),
      dropped > 0 && notice(`${dropped} earlier records are not shown.`), !complete && h('p', { class: 'faint' }, 'There may be more to come.'),
      h('ol', { class: 'waterfall' }, steps)),
  ];
}

/** In milliseconds: the request, where the record goes back to one. */
const begun = (step) => (step.headers['wasmill-ingress-us'] ? Number(step.headers['wasmill-ingress-us']) / 1000 : step.timestamp_ms);

function entry({ step, record, history, latest, start, length, dead, open }) {
  const { topic, partition, offset, headers, timestamp_ms: at } = step;
  const place = `${topic}/${partition}/${offset}`;
  const source = history.find((other) => `${other.topic}/${other.partition}/${other.offset}` === headers['wasmill-source']);
  // Its other headers are those of the record that it was before; nobody worked at it meanwhile.
  const again = headers['wasmill-redrive-of'];
  const from = Math.max(0, (again ? at : source ? source.timestamp_ms : begun(step)) - start);
  const failed = dead.has(topic);
  const why = `${headers['wasmill-failure-kind'] ?? 'failed'}: ${headers['wasmill-failure-message'] ?? ''}`;
  const [inShort] = why.split('\n');
  const by = again ? 'put back' : headers['wasmill-handler'] ? `${headers['wasmill-handler']} ${short(headers['wasmill-digest'])}` : 'the request';
  const details = h('details', { ontoggle: () => (details.open ? open.add(place) : open.delete(place)) },
    h('summary', {}, h('span', { class: failed ? 'bad' : null }, h('strong', {}, topic), h('br'), h('small', { class: 'faint' }, by),
        failed && [h('br'), h('small', {}, inShort.length > 100 ? `${inShort.slice(0, 99)}…` : inShort)]),
      bar(from / length, Math.max(0, at - start) / length, failed), h('span', {}, again ? '' : millis(Math.max(0, at - start - from)))),
    failed && [notice(why, 'bad'), h('p', {}, h('a', { href: `#/dead-letters/${place}` }, 'Put it back, or let go of it'))],
    facts([['Record', place], ['Written', new Date(at).toISOString()], ...Object.entries(headers)]),
    record ? payload(record, source && latest[source.topic]) : h('p', { class: 'faint' }, 'A later record of this id in the topic is shown instead.'));
  details.open = open.has(place);
  return h('li', {}, details);
}

function bar(from, to, failed) {
  return s('svg', { class: 'bar', viewBox: '0 0 100 6', preserveAspectRatio: 'none', 'aria-hidden': 'true' },
    s('rect', { class: 'track', width: 100, height: 6 }),
    s('rect', { class: failed ? 'span bad' : 'span', x: from * 98, width: Math.max(2, (to - from) * 98), height: 6 }));
}

/** The payload; of JSON that came from JSON, with what the handler changed. */
function payload(record, before) {
  if (record.payload === undefined) return h('pre', {}, record.payload_text ?? record.payload_base64 ?? 'no payload: the key was deleted');
  const mail = record.payload && typeof record.payload === 'object' && typeof record.payload.subject === 'string' && letter(record.payload);
  const lines = JSON.stringify(record.payload, null, 2).split('\n');
  if (!before || before.payload === undefined) return [mail, h('pre', {}, lines.join('\n'))];
  return [mail, h('pre', { class: 'diff' }, changes(JSON.stringify(before.payload, null, 2).split('\n'), lines))];
}

/** A payload that looks like an e-mail, as its reader sees it. */
function letter({ from, to, subject, body, text: plain }) {
  return h('section', { 'aria-label': 'E-mail' }, facts([['From', from], ['To', [to].flat().join(', ')], ['Subject', subject]]), h('pre', {}, plain ?? body ?? ''));
}

/** Lines that both have, those that were added, and those that went: by the longest common subsequence. */
function changes(before, after) {
  if (before.length * after.length > 1_000_000) return after.join('\n');
  const common = Array.from({ length: before.length + 1 }, () => new Uint32Array(after.length + 1));
  for (let a = before.length - 1; a >= 0; a -= 1) {
    for (let b = after.length - 1; b >= 0; b -= 1) {
      common[a][b] = before[a] === after[b] ? common[a + 1][b + 1] + 1 : Math.max(common[a + 1][b], common[a][b + 1]);
    }
  }
  const lines = [];
  let [a, b] = [0, 0];
  while (a < before.length || b < after.length) {
    if (a < before.length && b < after.length && before[a] === after[b]) {
      lines.push(`  ${after[b]}\n`);
      a += 1;
      b += 1;
    } else if (b < after.length && (a === before.length || common[a][b + 1] >= common[a + 1][b])) {
      lines.push(h('ins', {}, `+ ${after[b]}\n`));
      b += 1;
    } else {
      lines.push(h('del', {}, `- ${before[a]}\n`));
      a += 1;
    }
  }
  return lines;
}
