// Dead letters: which there are, one of them whole, the way back, and the way out.

import { get, send } from './api.js';
import { facts, h, notice, number, replace, section, short, table } from './dom.js';
import { duration } from './pipeline.js';

/** What an event can fail by. */
const CAUSES = ['retry', 'reject', 'trap', 'timeout', 'memory', 'contract', 'unknown'];

const place = (position) => `#/dead-letters/${position}`;
const ago = (ms) => (ms ? `${duration(Math.max(0, Math.round((Date.now() - ms) / 1000)))} ago` : '–');

/** All of them, chosen by whose they are and why. */
export function page(_parameters, report) {
  const found = h('div', {}, h('p', { class: 'faint' }, 'reading …'));
  const said = h('div', { role: 'status' });
  const choice = (id, label, options, all) => {
    const select = h('select', { id, onchange: () => show() }, h('option', { value: '' }, all), options.map((option) => h('option', {}, option)));
    return { select, field: h('div', { class: 'field' }, h('label', { for: id }, label), select) };
  };
  const handler = choice('of', 'Of the handler or sink', report.subscribers.map(({ name }) => name), 'all of them');
  const cause = choice('cause', 'That failed by', CAUSES, 'anything');
  const element = h('div', {}, h('h1', {}, 'Dead letters'),
    section('Which', h('form', { class: 'columns', onsubmit: (event) => event.preventDefault() }, handler.field, cause.field)), said, found);
  /** The group's handler, which chooses the group. */
  const chooser = (group) => (report.subscribers.some(({ name }) => name === group.handler)
    ? h('button', { class: 'plain', type: 'button', onclick: () => {
      [handler.select.value, cause.select.value] = [group.handler, group.cause];
      show();
    } }, group.handler)
    : group.handler);
  const read = async () => {
    try {
      const asked = new URLSearchParams(Object.entries({ handler: handler.select.value, cause: cause.select.value }).filter(([, value]) => value));
      const { groups, letters } = await get(`/admin/dead-letters?${asked}`);
      replace(found, groups.length === 0 ? [notice('There are none.')] : [
        section('By handler and cause', table('Dead letters by handler and cause', ['Handler', 'Cause', 'Letters', 'Oldest', 'Newest', 'The newest says'],
          groups.map((group) => [chooser(group), group.cause, number(group.count), ago(group.oldest_ms), ago(group.newest_ms), group.message]), [2])),
        h('div', { class: 'row' }, h('button', { class: 'plain', type: 'button', onclick: () => show() }, 'Read again'),
          !handler.select.value && h('span', { class: 'faint' }, 'Choose a handler or sink to put back all of its letters, or to let go of them.')),
        handler.select.value && section('All that are chosen', settling({ handler: handler.select.value, ...(cause.select.value && { cause: cause.select.value }) }, said, show)),
        section(`The newest ${letters.length}`, table('Dead letters', ['Letter', 'Key', 'Cause', 'Failed', 'Message'], letters.toReversed().map((letter) => [
          h('a', { href: place(letter.position) }, letter.position), letter.key ?? h('span', { class: 'faint' }, 'no key'), letter.cause, ago(letter.failed_ms), letter.message,
        ]))),
      ]);
    } catch (error) {
      found.replaceChildren(notice(error.message, 'bad'));
    }
  };
  // The host reads whole topics for each answer, so one at a time; of what is chosen meanwhile, the last.
  let [reading, latest] = [Promise.resolve(), 0];
  const show = () => {
    const mine = (latest += 1);
    reading = reading.then(() => mine === latest && read());
    return reading;
  };
  show();
  return { element };
}

/** One of them: the event as it was, and what is known of its failure. */
export function letter({ topic, partition, offset }, report) {
  const position = `${topic}/${partition}/${offset}`;
  const whole = h('div', {}, h('p', { class: 'faint' }, 'reading …'));
  const said = h('div', { role: 'status' });
  const element = h('div', {}, h('h1', {}, `Dead letter ${position}`), said, whole);
  const show = async () => {
    try {
      const it = await get(`/admin/dead-letters/${encodeURIComponent(topic)}/${partition}/${offset}`);
      // Several may share the topic.
      const owner = report.subscribers.find(({ name }) => name === it.handler)?.name;
      replace(whole, [
        section('Why', facts([
          ['Handler', it.handler && h('a', { href: `#/handlers/${encodeURIComponent(it.handler)}` }, it.handler)],
          ['Version', it.digest && h('code', {}, short(it.digest))],
          ['Cause', it.kind], ['Message', it.message], ['Attempts', it.attempts != null ? number(it.attempts) : null],
          ['Failed', it.last_failed_ms && new Date(it.last_failed_ms).toLocaleString()],
          ['At first', it.first_failed_ms && it.first_failed_ms !== it.last_failed_ms ? new Date(it.first_failed_ms).toLocaleString() : null],
          ['Source', it.source],
          ['Settled', it.settled && `${it.settled.settled}, ${new Date(it.settled.at_ms).toLocaleString()}${it.settled.reason ? `: ${it.settled.reason}` : ''}`],
        ]), it.backtrace && h('pre', { 'aria-label': 'Backtrace' }, it.backtrace)),
        !it.settled && owner && section('What to do', settling({ handler: owner, at: [position] }, said, show)),
        section('The event', facts([['Key', text(it.key) ?? 'none'], ...it.headers.map(([name, value]) => [name, text(value)])]),
          h('pre', { 'aria-label': 'Payload' }, text(it.payload) ?? 'none')),
      ]);
    } catch (error) {
      whole.replaceChildren(notice(error.message, 'bad'));
    }
  };
  show();
  return { element };
}

const text = (content) => content && (content.text ?? (content.base64 ? `base64 ${content.base64}` : JSON.stringify(content.json, null, 2)));

/** Buttons that put these back or let go of them. What came of it is `said` where it stays when, `after` it, all is shown anew. */
function settling(which, said, after) {
  const act = async (what, more, done) => {
    said.replaceChildren(h('p', {}, '…'));
    try {
      const report = await send('POST', `/admin/dead-letters/${what}`, { ...which, ...more });
      said.replaceChildren(outcome(report, done));
      if (!report.dry_run) await after();
    } catch (error) {
      said.replaceChildren(notice(error.message, 'bad'));
    }
  };
  const reason = h('input', { id: 'reason', required: true, maxlength: 500 });
  const discard = h('form', { class: 'row', onsubmit: (event) => {
    event.preventDefault();
    act('discard', { reason: reason.value }, 'discarded');
  } }, h('label', { for: 'reason' }, 'Let go of it for good, because'), reason, h('button', { class: 'plain' }, 'Discard'));
  return h('div', {},
    h('div', { class: 'row' },
      h('button', { class: 'plain', onclick: () => act('redrive', { dry_run: true }, 'would be put back') }, 'Dry run'),
      h('button', { onclick: () => act('redrive', {}, 'put back') }, 'Put back')),
    h('p', { class: 'faint' }, 'Only the handler that failed takes it once more. It is done once, however often it is asked for.'),
    discard);
}

function outcome({ count, letters, already, too_often: tooOften, failed_count: failedCount, failed }, done) {
  const more = [already > 0 && `${number(already)} had been settled before`, tooOften > 0 && `${number(tooOften)} were put back as often as they may be`];
  return h('div', {},
    notice([`${number(count)} ${done}`, ...more.filter(Boolean)].join('; ')),
    count > 1 && h('details', {}, h('summary', {}, 'which'), h('ul', {}, letters.map((position) => h('li', {}, position)))),
    failed.map(([position, why]) => notice(`${position} stays: ${why}`, 'bad')),
    failedCount > failed.length && notice(`${number(failedCount - failed.length)} more stay`, 'bad'));
}
