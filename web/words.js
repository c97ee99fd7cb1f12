// Numbers, times and states in words, and the few helpers that make nodes. Text comes in by textContent alone: names, reasons
// and metadata are written by others.

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat('en', { maximumFractionDigits: 1 });
const clockFormat = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const dayFormat = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit' });

export const none = '–';

export const count = (n) => (n == null ? none : whole.format(n));
export const rate = (n) => (n == null ? none : n >= 100 ? whole.format(n) : tenths.format(n));
export const ms = (n) => (n == null ? none : `${n >= 100 ? whole.format(n) : tenths.format(n)} ms`);
export const many = (n, one, more = `${one}s`) => `${count(n)} ${n === 1 ? one : more}`;

export function bytes(n) {
  if (n == null) return none;
  const units = ['B', 'KB', 'MB', 'GB', 'TB'];
  let unit = 0;
  while (n >= 1000 && unit < units.length - 1) { n /= 1000; unit += 1; }
  return `${unit ? tenths.format(n) : whole.format(n)} ${units[unit]}`;
}

// The server's clock by ours: ages are told by the clock that the times were taken from.
let ahead = 0;
export const setClock = (serverNow) => { ahead = serverNow - Date.now(); };
export const now = () => Date.now() + ahead;

export const clock = (at) => (at == null ? none : Math.abs(now() - at) > 20 * 3600e3 ? dayFormat.format(at) : clockFormat.format(at));

export const minute = (at) => clock(at).replace(/^(\d+:\d+):\d+$/, '$1');

export function span(milliseconds) {
  const seconds = Math.max(0, Math.round(milliseconds / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 36 * 3600) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} days`;
}
export const ago = (at) => (at == null ? 'never' : `${span(now() - at)} ago`);

// Each state has a word and a sign; the colour alone tells nothing.
export const STATES = {
  ended: { sign: '■', word: 'ended', what: 'Discord has refused it for good' },
  nobody: { sign: '○', word: 'nobody', what: 'no process runs it' },
  disconnected: { sign: '✕', word: 'disconnected', what: 'no connection, it will try again' },
  paused: { sign: '‖', word: 'paused', what: 'it does not read, because the broker takes nothing' },
  unknown: { sign: '?', word: 'unknown', what: 'its process does not answer' },
  suspended: { sign: '–', word: 'suspended', what: 'it has not begun, or is kept from connecting' },
  resuming: { sign: '↻', word: 'resuming', what: 'it takes its session up again' },
  connecting: { sign: '→', word: 'connecting', what: 'it connects' },
  waiting: { sign: '…', word: 'waiting', what: 'it waits for its turn to identify' },
  identifying: { sign: '↑', word: 'identifying', what: 'it waits for READY' },
  connected: { sign: '●', word: 'connected', what: 'its events come' },
};
export const stateOf = (name) => STATES[name] ?? { sign: '!', word: String(name), what: '' };

// Numbers as ranges: `0-3, 7`.
export function ranges(numbers) {
  const parts = [];
  const sorted = [...numbers].sort((a, b) => a - b);
  for (let i = 0; i < sorted.length; i += 1) {
    const first = sorted[i];
    while (sorted[i + 1] === sorted[i] + 1) i += 1;
    parts.push(first === sorted[i] ? `${first}` : `${first}–${sorted[i]}`);
  }
  return parts.join(', ');
}

export const $ = (id) => document.getElementById(id);

export function make(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (key === 'text') node.textContent = value;
    else if (key === 'data') Object.assign(node.dataset, value);
    else if (key in node) node[key] = value;
    else node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}

// Writes only what is different: most of a page stays as it is from one second to the next.
export function say(node, text) {
  if (node.firstChild?.nodeType === Node.TEXT_NODE && node.childNodes.length === 1) {
    if (node.firstChild.data !== text) node.firstChild.data = text;
  } else if (node.textContent !== text || node.childNodes.length > 0) {
    node.textContent = text;
  }
}
export function put(node, attribute, value) {
  if (node.getAttribute(attribute) !== value) node.setAttribute(attribute, value);
}

// Makes the children of a node those of these keys, in this order; nodes are kept from one time to the next. What is put in
// again loses the focus and is read out again, even at the place where it was: so the rest goes first, and as few as can be move.
export function keyed(parent, items, keyOf, build, update) {
  const before = parent.keyed ?? new Map();
  const known = new Map(items.map((item) => [keyOf(item), item]));
  const nodes = new Set();
  for (const [key, item] of known) {
    const node = before.get(key) ?? build(item);
    known.set(key, node);
    nodes.add(node);
    update?.(node, item);
  }
  parent.keyed = known;
  for (const child of [...parent.children]) if (!nodes.has(child)) child.remove();
  const places = new Map([...parent.children].map((child, place) => [child, place]));
  const resting = rising([...nodes].filter((node) => places.has(node)), (node) => places.get(node));
  const focus = parent.contains(document.activeElement) ? document.activeElement : null;
  let at = parent.firstElementChild;
  for (const node of nodes) {
    while (at && !resting.has(at)) at = at.nextElementSibling;
    if (node === at) at = at.nextElementSibling;
    else parent.insertBefore(node, at);
  }
  if (focus && focus !== document.activeElement && focus.isConnected) focus.focus({ preventScroll: true });
}

// As many of these as can be whose places rise from one to the next.
function rising(nodes, placeOf) {
  const ends = [];
  const former = new Map();
  for (const node of nodes) {
    let low = 0;
    for (let high = ends.length; low < high;) {
      const middle = (low + high) >> 1;
      if (placeOf(ends[middle]) < placeOf(node)) low = middle + 1;
      else high = middle;
    }
    former.set(node, ends[low - 1]);
    ends[low] = node;
  }
  const found = new Set();
  for (let node = ends.at(-1); node; node = former.get(node)) found.add(node);
  return found;
}
