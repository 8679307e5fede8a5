// The host's API. The token, where the host wants one, stays in this tab.

const TOKEN = 'wasmill-admin-token';

/** What an answer may take, in milliseconds: the host reads whole topics for some. */
const PATIENCE = 60_000;
/** A host that says nothing for so long, in milliseconds, is gone, or the way to it: it speaks once a second. */
const SILENCE = 10_000;

/** What the host answered, or why there is no answer. */
export class Failure extends Error {
  constructor(status, problem) {
    super([problem.title, problem.detail, problem.help].filter(Boolean).join('. ').replaceAll('..', '.'));
    this.status = status;
    this.problem = problem;
  }
}

export const token = {
  get: () => sessionStorage.getItem(TOKEN),
  set: (value) => sessionStorage.setItem(TOKEN, value),
};

function request(path, options = {}) {
  const headers = { ...options.headers };
  if (token.get() && path.startsWith('/admin/')) headers.authorization = `Bearer ${token.get()}`;
  return fetch(path, { cache: 'no-store', ...options, headers });
}

async function answer(response) {
  const text = await response.text();
  let body = {};
  try {
    body = text ? JSON.parse(text) : {};
  } catch {
    body = { title: text.slice(0, 200) };
  }
  if (!response.ok) throw new Failure(response.status, body);
  return body;
}

export async function get(path) {
  return answer(await request(path, { signal: AbortSignal.timeout(PATIENCE) }));
}

export async function send(method, path, body) {
  const headers = { 'content-type': 'application/json' };
  return answer(await request(path, { method, headers, body: JSON.stringify(body) }));
}

/** Has `show` ask for something, and again `ms` after each answer, until what this returns is called. */
export function poll(show, ms) {
  let timer = null;
  let ended = false;
  const round = () => show().finally(() => {
    if (!ended) timer = setTimeout(round, ms);
  });
  round();
  return () => {
    ended = true;
    clearTimeout(timer);
  };
}

/**
 * Follows `/admin/live` for ever, while somebody sees the page: `told` gets each report, `lost` why there is none. A browser
 * has few connections to one host, and a tab in the background must not hold one.
 */
export async function follow(told, lost) {
  for (let wait = 500; ; wait = Math.min(wait * 2, 5000)) {
    await seen();
    try {
      await listen((report) => {
        wait = 500;
        try {
          told(report);
        } catch (error) {
          // A fault of the page, and none of the connection.
          reportError(error);
        }
      });
      lost(new Error('the host has closed the connection'));
    } catch (error) {
      if (!document.hidden && lost(error) === 'stop') return;
    }
    await new Promise((done) => setTimeout(done, wait));
  }
}

/** Until somebody sees the page. */
async function seen() {
  while (document.hidden) await new Promise((done) => document.addEventListener('visibilitychange', done, { once: true }));
}

/** EventSource can't send a token, so the stream is read by hand; of its format only what this host writes. */
async function listen(told) {
  const over = new AbortController();
  const hide = () => document.hidden && over.abort();
  document.addEventListener('visibilitychange', hide);
  let silence = null;
  const heard = () => {
    clearTimeout(silence);
    silence = setTimeout(() => over.abort(new Error('the host says nothing any more')), SILENCE);
  };
  heard();
  try {
    const response = await request('/admin/live', { signal: over.signal });
    if (!response.ok) await answer(response);
    let text = '';
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      heard();
      text += part.value;
      const events = text.split('\n\n');
      text = events.pop();
      for (const event of events) told(JSON.parse(event.slice('data: '.length)));
    }
  } finally {
    clearTimeout(silence);
    document.removeEventListener('visibilitychange', hide);
    over.abort();
  }
}
