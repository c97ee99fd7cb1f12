// The way to the server: the token, single requests, and the stream of states, which is taken up again whenever it breaks.

const KEY = 'optic-token';

// No longer than this may nothing come, not even a sign of life.
const SILENCE = 15000;

// No longer than this may a single answer take.
export const TIMEOUT = 10000;

// How long to wait before the next try, in seconds.
const WAITS = [1, 2, 4, 8, 15];

let held = null;
try { held = sessionStorage.getItem(KEY); } catch { /* storage is forbidden here: until the tab is left */ }

export const token = {
  get: () => held,
  set(value) {
    held = value;
    try {
      if (value == null) sessionStorage.removeItem(KEY);
      else sessionStorage.setItem(KEY, value);
    } catch { /* see above */ }
  },
};

// What the server answered instead of what was asked for.
export class Refused extends Error {
  constructor(status, words) {
    super(words);
    this.status = status;
  }
}

// A body is JSON as text: what is parsed and written anew has lost what a number has beyond 2^53.
export async function request(path, { method = 'GET', body, signal, key = held } = {}) {
  const headers = {};
  if (key != null) headers.Authorization = `Bearer ${plain(key)}`;
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  const response = await fetch(path, { method, headers, signal, body, cache: 'no-store' });
  if (response.ok) return response;
  let words = `the server answers ${response.status}`;
  try { words = (await response.json()).error || words; } catch { /* it says no more */ }
  throw new Refused(response.status, words);
}

// A header carries bytes: what cannot be in one is a wrong token anyway, and must not look like a lost connection.
const plain = (text) => (/^[\x21-\x7e]+$/.test(text) ? text : 'unreadable');

// Events out of a stream that may be cut anywhere. `pieces` yields text.
export async function* events(pieces) {
  let rest = '';
  let name = '';
  let data = [];
  for await (const piece of pieces) {
    rest += piece;
    // A line break may be \r\n, and the piece may end between the two.
    const parts = rest.split(/\r\n|\n|\r(?!$)/);
    rest = parts.pop();
    for (const line of parts) {
      if (line === '') {
        if (data.length) yield { name: name || 'message', data: data.join('\n') };
        name = '';
        data = [];
      } else if (!line.startsWith(':')) {
        const colon = line.indexOf(':');
        const field = colon < 0 ? line : line.slice(0, colon);
        const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
        if (field === 'event') name = value;
        else if (field === 'data') data.push(value);
      }
    }
  }
}

async function* textOf(body, alive) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    alive();
    yield decoder.decode(value, { stream: true });
  }
}

// Calls `on.state` for each state, `on.lost(words, milliseconds)` when there is nothing and until when it waits, `on.door(refused)`
// when there is no way in. Where a token is wanted it rests until `again` is called, and tries on by itself after all else.
export class Live {
  #on;
  #tries = 0;
  #stop = null;
  #timer = 0;

  constructor(on) { this.#on = on; }

  again() {
    clearTimeout(this.#timer);
    this.#stop?.abort('again');
    this.#run();
  }

  async #run() {
    const stop = (this.#stop = new AbortController());
    let watch = 0;
    const alive = () => {
      clearTimeout(watch);
      watch = setTimeout(() => stop.abort('silent'), SILENCE);
    };
    let why = 'the server has ended the connection';
    let shut = null;
    try {
      alive();
      const response = await request('/api/live', { signal: stop.signal });
      for await (const event of events(textOf(response.body, alive))) {
        if (stop.signal.aborted) return;
        if (event.name !== 'state') continue;
        this.#tries = 0;
        this.#on.state(JSON.parse(event.data));
      }
    } catch (failure) {
      if (stop.signal.reason === 'again') return;
      if (failure instanceof Refused) {
        // Whoever guesses tokens at the same address makes the server refuse ours too, for a while.
        if (failure.status === 401 || (failure.status === 429 && held == null)) return this.#on.door(failure);
        if (failure.status === 403) shut = failure;
        why = failure.message;
      } else if (stop.signal.reason === 'silent') {
        why = 'the server says nothing any more';
      } else {
        why = failure instanceof SyntaxError ? 'the server sends what this page cannot read' : 'the server cannot be reached';
      }
    } finally {
      clearTimeout(watch);
      stop.abort('done');
    }
    if (this.#stop !== stop) return;
    const wait = WAITS[Math.min(this.#tries, WAITS.length - 1)] * 1000 * (0.8 + Math.random() * 0.4);
    this.#tries += 1;
    this.#timer = setTimeout(() => this.#run(), wait);
    if (shut) this.#on.door(shut);
    else this.#on.lost(why, Date.now() + wait);
  }
}
