// The shell: which page is shown, what the host last said, and whether it says anything.

import { follow, token } from './api.js';
import { h, notice } from './dom.js';
import { page as handler } from './handler.js';
import { config, parked } from './host.js';
import { letter, page as letters } from './letters.js';
import { page as pipeline, troubles } from './pipeline.js';
import { page as resource, trace } from './resource.js';

/** The pages, by the parts of the address behind the #. */
const PAGES = [
  [/^$/, [], pipeline],
  [/^handlers\/([^/]+)$/, ['name'], handler],
  [/^resources\/([^/]+)$/, ['resource'], resource],
  [/^trace\/([^/]+)\/([^/]+)$/, ['resource', 'id'], trace],
  [/^dead-letters$/, [], letters],
  [/^dead-letters\/(.+)\/(\d+)\/(\d+)$/, ['topic', 'partition', 'offset'], letter],
  [/^parked$/, [], parked],
  [/^config$/, [], config],
];

const main = document.getElementById('main');
const state = document.getElementById('state');
let report = null;
let shown = null;

function show({ focus }) {
  if (!report) return;
  const address = location.hash.replace(/^#\/?/, '');
  const [found] = PAGES.flatMap(([pattern, names, page]) => {
    const parts = address.match(pattern)?.slice(1).map(decoded);
    return parts && !parts.includes(null) ? [{ page, parameters: Object.fromEntries(names.map((name, at) => [name, parts[at]])) }] : [];
  });
  shown?.leave?.();
  shown = found ? found.page(found.parameters, report) : { element: h('h1', {}, 'There is no such page') };
  main.replaceChildren(shown.element);
  document.title = `${main.querySelector('h1')?.textContent ?? 'Wasmill'} · ${report.pipeline}`;
  navigation(address);
  // Who came by a link or a key goes on reading here.
  if (focus) main.focus();
}

/** What a part of an address says; null where somebody typed a % that begins nothing. */
function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return null;
  }
}

function navigation(address) {
  const links = [['', 'Pipeline'], ...report.resources.map(({ name }) => [`resources/${name}`, name]), ['dead-letters', 'Dead letters'], ['parked', 'Parked keys'], ['config', 'Configuration']];
  document.getElementById('pages').replaceChildren(...links.map(([to, name]) =>
    h('a', { href: `#/${to}`, 'aria-current': isOf(address, to) ? 'page' : null }, name)));
}

/** Whether the page at this address belongs to what the link leads to. */
function isOf(address, to) {
  const trace = `trace/${to.slice('resources/'.length)}/`;
  return address === to || (to !== '' && (address.startsWith(`${to}/`) || (to.startsWith('resources/') && address.startsWith(trace))));
}

function say(text, kind) {
  if (state.textContent === text) return;
  state.className = kind;
  state.textContent = text;
}

function told(now) {
  const first = !report || JSON.stringify(report.resources) !== JSON.stringify(now.resources);
  report = now;
  document.getElementById('pipeline-name').textContent = now.pipeline;
  const count = troubles(now).length;
  say(count === 0 ? 'all is well' : `${count} ${count === 1 ? 'thing needs' : 'things need'} a look`, count === 0 ? 'good' : 'bad');
  if (first) show({ focus: false });
  else shown?.update?.(now);
}

function lost(error) {
  if (error.status === 401) {
    say('the host wants a token', 'warn');
    ask(error.message);
    return 'stop';
  }
  if (error.status === 403) {
    // There is no token that would help.
    say('the host lets nobody in from here', 'bad');
    clear();
    main.replaceChildren(h('section', {}, h('h1', {}, 'This host lets nobody in from here'), h('p', {}, error.message)));
    return 'go on';
  }
  say('no word from the host; trying on', 'bad');
  return 'go on';
}

/** What was shown is nobody's business here. */
function clear() {
  shown?.leave?.();
  shown = null;
  report = null;
}

/** For the token, where the host was started with one. */
function ask(why) {
  clear();
  const input = h('input', { id: 'token', type: 'password', autocomplete: 'current-password', required: true });
  const go = h('button', {}, 'Go on');
  main.replaceChildren(h('section', {}, h('h1', {}, 'This host wants to know who asks'), h('p', {}, why),
    h('form', { onsubmit: (event) => {
      event.preventDefault();
      // What begins here goes on until the host refuses the token, and then there is a new form: a second one would stay.
      go.disabled = true;
      token.set(input.value);
      say('connecting …', '');
      follow(told, lost);
    } }, h('div', { class: 'field' }, h('label', { for: 'token' }, 'The token: what WASMILL_ADMIN_TOKEN is set to where the host runs'), input), go)));
  input.focus();
}

addEventListener('hashchange', () => show({ focus: true }));
follow(told, lost);
