// What is wrong, the numbers at a glance, and the tables: each is told the newest state and writes what is different.

import { $, ago, bytes, clock, count, keyed, make, many, minute, ms, none, now, rate, say, span } from './words.js';

// So many rows are shown before somebody asks for all.
const FEW = 12;

export function problems(state, alive = $('problems')) {
  const list = state.problems;
  if (!alive.dataset.ready) {
    alive.dataset.ready = 'yes';
    alive.replaceChildren(make('p', { className: 'fine' }, make('span', { className: 'sign', ariaHidden: 'true', text: '✓' }), make('span', { text: 'Nothing is wrong.' })), make('ul'));
  }
  const [fine, all] = alive.children;
  if (fine.hidden !== list.length > 0) fine.hidden = list.length > 0;
  // Nobody who says anything is no good news.
  const heard = state.processes.length > 0 && !state.partial;
  say(fine.firstChild, heard ? '✓' : '…');
  say(fine.lastChild, heard ? 'Nothing is wrong.' : state.partial ? 'Looking at all processes …' : 'No process has said yet how it is.');
  // A problem that stays keeps its node, also when it tells how long it has been there: a screen reader speaks only of what is
  // new (aria-relevant in index.html).
  const seen = new Map();
  for (const text of list) {
    let key = lasting(text);
    while (seen.has(key)) key += ' again';
    seen.set(key, text);
  }
  keyed(all, [...seen], (one) => one[0], () => make('li', {}, make('span', { className: 'sign', ariaHidden: 'true', text: '▲' }), make('span')), (node, one) => say(node.lastChild, one[1]));
}

// What of a problem stays as long as it lasts: shards and names, and no other number.
const lasting = (text) => text.replace(/(\bshards? \(?\d[\d, -]*)|(?<![\w:.-])\d[\d.,]*(?![\w-])( (s|min|h|days?)\b)?/g, (_, shards) => shards ?? '');

export function totals(state, shards) {
  const connected = shards.connected;
  // Processes that are alone run what they were told to; whether others run the rest is not known here.
  const alone = state.processes.length > 0 && state.processes.every((process) => process.mode === 'alone');
  const total = (!alone && state.shard_count) || shards.rows.length;
  const unknown = shards.unknown;
  const more = [shards.guilds ? many(shards.guilds, 'guild') : 'guilds are not known yet'];
  if (unknown) more.push(`${many(unknown, 'shard')} not known`);
  tell('shards', total ? `${count(connected)} of ${count(total)}` : none, total ? more.join(' · ') : 'no shards yet', !state.partial && connected + unknown < total);
  const perSecond = state.events.reduce((sum, event) => sum + event.rate, 0);
  const top = state.events[0];
  tell('rate', rate(perSecond), top && perSecond > 0 ? `${Math.round((100 * top.rate) / perSecond)} % ${top.name}` : 'no events yet');
  const publishing = state.publishing;
  // Not all have told yet, or not all answer.
  const told = publishing && publishing.of !== publishing.processes ? ` · of ${count(publishing.of)} of ${many(publishing.processes, 'process', 'processes')}` : '';
  const pace = publishing?.rate == null ? 'how many is not known yet' : `${rate(publishing.rate)} messages a second`;
  tell('latency', ms(publishing?.latency_ms), publishing ? pace + told : 'nothing is published to RabbitMQ');
  const lost = publishing?.abandoned ?? 0;
  tell('unconfirmed', count(publishing?.unconfirmed), publishing ? (lost ? `${many(lost, 'message')} given up` : bytes(publishing.unconfirmed_bytes)) + told : '', lost > 0);
  const identifies = state.identifies;
  if (identifies) {
    const resets = identifies.resets_at > now() ? `reset in ${span(identifies.resets_at - now())}, at ${minute(identifies.resets_at)}` : 'reset is due';
    const waiting = identifies.waiting ? ` · ${count(identifies.waiting)} waiting` : '';
    tell('identifies', `${count(identifies.remaining)} of ${count(identifies.total)}`, resets + waiting, identifies.remaining < identifies.total / 10);
  } else tell('identifies', none, 'not known yet');
  const answering = state.processes.filter((process) => process.answers).length;
  const ready = state.processes.filter((process) => process.answers && process.ready).length;
  tell('processes', `${count(answering)} of ${count(state.processes.length)}`, ready === state.processes.length ? (ready ? 'all are ready' : 'none has answered yet') : `${count(ready)} ready`, answering < state.processes.length);
}

function tell(name, value, more, bad = false) {
  say($(`t-${name}`), value);
  say($(`t-${name}-more`), more);
  $(`t-${name}`).parentNode.classList.toggle('bad', bad);
}

// A table whose rows stay. A column is {head, text or fill, number, wide}; `fill(cell, row)` for more than text.
export class Table {
  #columns;
  #keyOf;
  #few;
  #body;
  #all = false;
  #rows = [];
  #button;

  constructor(parent, caption, columns, keyOf, few = FEW) {
    this.#columns = columns;
    this.#keyOf = keyOf;
    this.#few = few;
    // Roles by name: on a phone rows are laid out as cards, and some browsers forget then that this is a table.
    const row = make('tr', {}, ...columns.map((column) => {
      const head = make('th', { scope: 'col', className: column.number ? 'number' : '', text: column.head });
      head.setAttribute('role', 'columnheader');
      return head;
    }));
    row.setAttribute('role', 'row');
    const top = make('thead', {}, row);
    top.setAttribute('role', 'rowgroup');
    this.#body = make('tbody');
    this.#body.setAttribute('role', 'rowgroup');
    this.node = make('table', {}, make('caption', { text: caption }), top, this.#body);
    this.node.setAttribute('role', 'table');
    this.#button = make('button', { type: 'button', hidden: true });
    this.#button.addEventListener('click', () => { this.#all = !this.#all; this.show(this.#rows); });
    parent.append(this.node, this.#button);
  }

  show(rows) {
    this.#rows = rows;
    const more = rows.length - this.#few;
    keyed(this.#body, this.#all ? rows : rows.slice(0, this.#few), this.#keyOf, () => this.#build(), (node, row) => {
      for (const [at, column] of this.#columns.entries()) {
        if (column.fill) column.fill(node.children[at].firstChild, row);
        else {
          const text = String(column.text(row));
          say(node.children[at].firstChild, text);
          node.children[at].classList.toggle('none', text === none);
        }
      }
    });
    this.node.hidden = rows.length === 0;
    this.#button.hidden = more <= 0;
    say(this.#button, this.#all ? 'Show fewer' : `Show all ${count(rows.length)}`);
  }

  #build() {
    const row = make('tr', {}, ...this.#columns.map((column) => {
      const cell = make('td', { className: column.number ? 'number' : column.wide ? 'wide' : '', data: { head: column.head } }, make('div'));
      cell.setAttribute('role', 'cell');
      return cell;
    }));
    row.setAttribute('role', 'row');
    return row;
  }
}

// What stands under a heading is made when the first state is there.
const parts = new Map();
function part(id, build) {
  let made = parts.get(id);
  if (!made) {
    const section = $(id);
    section.querySelector('.skeleton')?.remove();
    parts.set(id, (made = build(section)));
  }
  return made;
}

const line = (section) => section.appendChild(make('p', { className: 'quiet' }));

// A sign and words, coloured by `kind`: good, bad, off.
export function mark(node, kind, sign, words) {
  if (!node.marked) {
    node.marked = make('span', { className: 'mark' }, make('span', { className: 'sign', ariaHidden: 'true' }), make('span'));
    node.append(node.marked);
  }
  node.marked.dataset.kind = kind;
  say(node.marked.firstChild, sign);
  say(node.marked.lastChild, words);
}

function fate(event) {
  if (event.fate === 'not_listed') return ['off', '–', 'not listed'];
  if (event.fate === 'no_queue') return ['off', '○', 'no queue'];
  if (event.consumers === 0) return event.messages ? ['bad', '▲', 'no consumer'] : ['off', '○', 'no consumer'];
  return ['good', '●', 'published'];
}

export function events(state) {
  const made = part('events', (section) => ({
    line: line(section),
    table: new Table(section, 'What Discord sends, the most frequent first', [
      { head: 'Event', text: (event) => event.name },
      { head: 'Share', fill: (cell, event) => bar(cell, event.share) },
      { head: 'A second', number: true, text: (event) => rate(event.rate) },
      { head: 'Received', number: true, text: (event) => count(event.received) },
      { head: 'What becomes of it', fill: (cell, event) => mark(cell, ...fate(event)) },
      { head: 'In its queue', number: true, text: (event) => count(event.messages) },
      { head: 'Consumers', number: true, text: (event) => count(event.consumers) },
    ], (event) => event.name),
  }));
  const most = Math.max(1e-9, ...state.events.map((event) => event.rate));
  made.table.show(state.events.map((event) => ({ ...event, share: event.rate / most })));
  const idle = state.events.filter((event) => event.fate === 'published' && event.consumers === 0).map((event) => event.name);
  const lone = state.events.filter((event) => event.fate === 'no_queue').map((event) => event.name);
  const words = [];
  if (state.events.length === 0) words.push('No event has come yet.');
  if (idle.length) words.push(`Nobody consumes ${named(idle)}.`);
  if (lone.length) words.push(`${named(lone)} ${lone.length === 1 ? 'has' : 'have'} no queue: no worker wants ${lone.length === 1 ? 'it' : 'them'}.`);
  const listed = state.events.filter((event) => event.fate === 'published');
  const unknown = listed.filter((event) => event.consumers == null).map((event) => event.name);
  // Before queues were looked at, and where there are none, nothing is known of them.
  const looked = state.queues.length > 0 && state.publishing != null;
  if (unknown.length && looked) words.push(`${named(unknown)} ${unknown.length === 1 ? 'has' : 'have'} no queue of that name: workers may take ${unknown.length === 1 ? 'it' : 'them'} from another.`);
  else if (listed.length && !unknown.length && !words.length) words.push('Each event that is published has a queue with a consumer.');
  if (state.publishing?.unconverted) words.push(`${many(state.publishing.unconverted, 'event')} went out as received, because they cannot be converted.`);
  say(made.line, words.join(' '));
}

const named = (names) => (names.length <= 4 ? names.join(', ') : `${names.slice(0, 3).join(', ')} and ${names.length - 3} more`);

function bar(cell, share) {
  cell.bar ??= cell.appendChild(make('span', { className: 'share' })).appendChild(make('span'));
  const width = `${Math.round(share * 100)}%`;
  if (cell.bar.style.width !== width) cell.bar.style.width = width;
}

export function commands(state) {
  const made = part('commands', (section) => ({
    line: line(section),
    facts: section.appendChild(make('dl', { className: 'facts' })),
    reasons: new Table(section, 'Rejected, by reason', [
      { head: 'Reason', text: (counted) => counted.kind },
      { head: 'Commands', number: true, text: (counted) => count(counted.count) },
    ], (counted) => counted.kind),
    last: new Table(section, 'Rejected last', [
      { head: 'When', text: (rejected) => clock(rejected.at) },
      { head: 'Process', text: (rejected) => rejected.process },
      { head: 'Queue', text: (rejected) => rejected.source },
      { head: 'Reason', text: (rejected) => rejected.kind },
      { head: 'In words', wide: true, text: (rejected) => rejected.reason },
      { head: 'Bytes', number: true, text: (rejected) => count(rejected.bytes) },
    ], (rejected) => rejected.key, 5),
  }));
  const { sent, delayed, held_up: heldUp, rejected, last_rejected: last } = state.commands;
  const total = rejected.reduce((sum, counted) => sum + counted.count, 0);
  say(made.line, sent + total === 0 ? 'Workers have sent no command yet.' : 'What workers wanted sent to Discord. What is rejected stays in the queue of rejected messages.');
  facts(made.facts, [['Sent', count(sent)], ['Had to wait for Discord’s limit', count(delayed)], ['Could not be passed on at once', count(heldUp)], ['Rejected', count(total)]]);
  made.reasons.show([...rejected].sort((a, b) => b.count - a.count));
  const seen = new Map();
  made.last.show(last.map((one) => {
    // Two of one moment are told apart by their turn, counted from the oldest.
    const base = `${one.at} ${one.process} ${one.source} ${one.kind} ${one.bytes}`;
    seen.set(base, (seen.get(base) ?? 0) + 1);
    return { ...one, key: `${base} ${seen.get(base)}` };
  }));
}

function facts(list, pairs) {
  keyed(list, pairs, (pair) => pair[0], (pair) => make('div', {}, make('dt', { text: pair[0] }), make('dd')), (node, pair) => say(node.lastChild, pair[1]));
}

function health(process) {
  if (!process.answers) return ['bad', '✕', `does not answer since ${clock(process.at)}`];
  if (!process.ready) return ['bad', '▲', process.missing.length ? `waits for ${process.missing.join(', ')}` : 'not ready'];
  return ['good', '●', 'ready'];
}

const MODES = { alone: 'alone', static: 'static', leased: 'leased', no_bot: 'no bot' };

export function processes(state) {
  const made = part('processes', (section) => ({
    line: line(section),
    table: new Table(section, 'The cluster’s processes', [
      { head: 'Process', text: (process) => process.name + (process.here ? ' (this page)' : '') },
      { head: 'How it is', wide: true, fill: (cell, process) => mark(cell, ...health(process)) },
      { head: 'Shards', text: (process) => process.shards || none },
      { head: 'Connected', number: true, text: (process) => count(process.connected) },
      { head: 'RabbitMQ', text: (process) => process.broker || none },
      { head: 'CPU', number: true, text: (process) => `${(process.cpu * 100).toFixed(1)} %` },
      { head: 'Memory', number: true, text: (process) => bytes(process.resident_bytes) },
      { head: 'Mode', text: (process) => MODES[process.mode] ?? process.mode },
      { head: 'Optic', text: (process) => process.optic },
      { head: 'Started', text: (process) => ago(process.started_at) },
    ], (process) => process.node, 32),
  }));
  const silent = state.processes.filter((process) => !process.answers).length;
  const versions = new Set(state.processes.map((process) => process.optic));
  const words = [many(state.processes.length, 'process', 'processes') + (state.group ? ` of the group ${state.group}.` : '.')];
  if (silent) words.push(`${count(silent)} ${silent === 1 ? 'does' : 'do'} not answer: what is shown of ${silent === 1 ? 'it' : 'them'} is old.`);
  if (versions.size > 1) words.push(`They are of ${versions.size} versions.`);
  say(made.line, words.join(' '));
  made.table.show(state.processes.map((process) => ({ ...process, here: process.node === state.here })));
}

export function queues(state) {
  const made = part('queues', (section) => ({
    line: line(section),
    table: new Table(section, 'Queues that RabbitMQ tells of; messages that consumers hold are not counted', [
      { head: 'Queue', text: (queue) => queue.name },
      { head: 'Event', wide: true, text: (queue) => queue.event ?? none },
      { head: 'Messages', number: true, text: (queue) => count(queue.messages) },
      { head: 'Consumers', fill: (cell, queue) => (queue.consumers ? mark(cell, 'good', '●', count(queue.consumers)) : queue.messages ? mark(cell, 'bad', '▲', 'nobody consumes it') : mark(cell, 'off', '○', 'none')) },
    ], (queue) => queue.name),
  }));
  const left = (queue) => (queue.consumers === 0 && queue.messages > 0 ? 1 : 0);
  made.table.show([...state.queues].sort((a, b) => left(b) - left(a) || b.messages - a.messages || (a.name < b.name ? -1 : 1)));
  const words = [];
  if (state.queues.length === 0) words.push('No queue has been looked at yet, or there is none.');
  else words.push(`${many(state.queues.reduce((sum, queue) => sum + queue.messages, 0), 'message')} in ${many(state.queues.length, 'queue')}.`);
  if (state.forwarding) {
    const forwarding = state.forwarding;
    words.push(`Forwarded to another 신경 server: ${count(forwarding.sent)} sent, ${count(forwarding.covered)} known to have arrived, ${count(forwarding.set_aside)} set aside, ${count(forwarding.no_route)} that nobody there wanted.`);
  }
  say(made.line, words.join(' '));
}
