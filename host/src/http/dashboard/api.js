// The host's API. The token, where the host wants one, stays in this tab.

const TOKEN = 'wasmill-admin-token';

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
  return answer(await request(path));
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
 * Follows `/admin/live` for ever: `told` gets each report, `lost` why there is none. EventSource can't send a token, so the
 * stream is read by hand; of its format only what this host writes.
 */
export async function follow(told, lost) {
  for (let wait = 500; ; wait = Math.min(wait * 2, 5000)) {
    try {
      const response = await request('/admin/live');
      if (!response.ok) await answer(response);
      let text = '';
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let part = await reader.read(); !part.done; part = await reader.read()) {
        text += part.value;
        const events = text.split('\n\n');
        text = events.pop();
        for (const event of events) told(JSON.parse(event.slice('data: '.length)));
        wait = 500;
      }
      lost(new Error('the host has closed the connection'));
    } catch (error) {
      if (lost(error) === 'stop') return;
    }
    await new Promise((done) => setTimeout(done, wait));
  }
}
