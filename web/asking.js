// What is asked for one by one: 신경's clients by a target, amybot's services, and what these are told to do.

import { $, ago, clock, count, make, many, now, ranges, say } from './words.js';
import { mistake, pretty } from './json.js';
import { Table, mark } from './panels.js';
import { Refused, TIMEOUT, request, token } from './live.js';

const EXAMPLES = {
  'every client of an application': { application: 'worker' },
  'who has shard 3': { application: 'worker', ops: [{ path: '/shards', op: '$contains', to: { value: 3 } }] },
  'the least busy one': { application: 'worker', selector: { $min: 'latency' } },
  'one in Europe, else anywhere': { application: 'worker', ops: [{ path: '/region', op: '$eq', to: { value: 'eu' } }], optional: true },
  'either of two things': { application: 'worker', ops: [{ op: '$or', with: [{ path: '/region', op: '$eq', to: { value: 'eu' } }, { path: '/load', op: '$lt', to: { value: 0.5 } }] }] },
  'also those that are restricted': { application: 'worker', restricted: true },
};

const LIMIT = 200;

export class Singyeong {
  #table = null;
  #asking = null;

  constructor() {
    for (const [name, target] of Object.entries(EXAMPLES)) $('examples').append(make('option', { value: JSON.stringify(target, null, 2), text: name }));
    $('examples').addEventListener('change', (event) => {
      if (!event.target.value) return;
      $('target').value = event.target.value;
      event.target.value = '';
      this.#ask();
    });
    $('ask').addEventListener('submit', (event) => { event.preventDefault(); this.#ask(); });
    $('target').addEventListener('keydown', (event) => {
      if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) { event.preventDefault(); this.#ask(); }
    });
  }

  show(state) {
    const on = state.singyeong;
    $('ask').hidden = !on;
    if (!on) {
      $('answer').hidden = true;
      return say($('singyeong-line'), 'Off: no process of this group serves 신경. SINGYEONG_ADDRESS turns it on.');
    }
    const more = [];
    if (on.restricted) more.push(`${count(on.restricted)} of them restricted`);
    if (on.set_aside) more.push(`${many(on.set_aside, 'message')} set aside`);
    say($('singyeong-line'), [many(on.clients, 'client'), ...more].join(', ') + '.');
  }

  async #ask() {
    const text = $('target').value.trim();
    this.#error('');
    if (text !== '') {
      let target;
      try {
        target = JSON.parse(text);
      } catch (failure) {
        const found = mistake($('target').value);
        return this.#error(found ? `This is no JSON: at line ${found.line}, column ${found.column} there should be ${found.wanted}.` : `This is no JSON: ${failure.message}.`);
      }
      if (target === null || typeof target !== 'object' || Array.isArray(target)) return this.#error('A target is an object: { "application": … }');
    }
    this.#asking?.abort();
    const asking = (this.#asking = new AbortController());
    const answer = $('answer');
    answer.classList.add('waiting');
    try {
      const response = await request('/api/singyeong/clients', { method: 'POST', body: `{"target":${text || null},"limit":${LIMIT}}`, signal: AbortSignal.any([asking.signal, AbortSignal.timeout(TIMEOUT)]) });
      this.#answer(await response.json(), text !== '');
    } catch (failure) {
      if (asking.signal.aborted) return;
      this.#error(failure instanceof Refused ? failure.message : 'The server cannot be reached.');
    } finally {
      if (this.#asking === asking) answer.classList.remove('waiting');
    }
  }

  #error(words) {
    say($('target-error'), words);
    if (words) {
      $('target').setAttribute('aria-invalid', 'true');
      $('answer').hidden = true;
    } else $('target').removeAttribute('aria-invalid');
  }

  #answer(answer, targeted) {
    if (answer.invalid) return this.#error(`신경 refuses this target: ${answer.invalid}`);
    $('answer').hidden = false;
    const told = answer.clients.length < answer.total ? ` The first ${count(answer.clients.length)} are shown.` : '';
    if (answer.total === 0) say($('answer-line'), 'No client is connected.');
    else if (targeted) say($('answer-line'), `${count(answer.matching)} of ${many(answer.total, 'client')} ${answer.matching === 1 ? 'matches' : 'match'}.${told}`);
    else say($('answer-line'), `${many(answer.total, 'client')}.${told}`);
    $('answer-send').hidden = !answer.send;
    say($('answer-send'), answer.send ? `A SEND with this target ${answer.send}.` : '');
    this.#table ??= new Table($('answer-clients'), 'Clients; those that the target means come first', [
      { head: 'Target', wide: true, fill: (cell, client) => this.#verdict(cell, client) },
      { head: 'Application', text: (client) => client.application },
      { head: 'Client', text: (client) => client.client + (client.restricted ? ' (restricted)' : '') },
      { head: 'Process', text: (client) => client.node },
      { head: 'Since', text: (client) => clock(client.since) },
      { head: 'Heartbeat', text: (client) => ago(client.last_heartbeat) },
      { head: 'Waits at', text: (client) => client.queues.join(', ') || '–' },
      { head: 'Metadata', wide: true, fill: metadata },
    ], (client) => `${client.application}\n${client.client}`, 50);
    this.#table.show(answer.clients.map((client) => ({ ...client, targeted })));
  }

  #verdict(cell, client) {
    if (!client.targeted) return mark(cell, 'off', '·', 'not asked');
    if (client.matches) mark(cell, 'good', '●', 'matches');
    else mark(cell, 'off', '✕', client.why_not ? `no: ${client.why_not}` : 'no');
  }
}

function metadata(cell, client) {
  // A process of an earlier version tells no text, and one that tells it may have cut it.
  const text = client.metadata_text || (JSON.stringify(client.metadata) ?? '');
  if (!cell.firstChild) cell.append(make('details', {}, make('summary'), make('pre')));
  const [summary, all] = cell.firstChild.children;
  say(summary, text.length > 40 ? `${text.slice(0, 39)}…` : text);
  say(all, pretty(text));
}

export class Amybot {
  #table = null;
  #proxied = null;
  #on = false;
  #asking = false;

  show(state) {
    const before = this.#on;
    this.#on = state.amybot;
    if (!this.#on) {
      say($('amybot-line'), 'Off: no process of this group serves amybot. AMYBOT_ADDRESS or AMYBOT_SHARD_COUNT turns it on.');
      $('amybot-services').hidden = true;
    } else if (!before) this.look();
  }

  // Who is there; asked again every few seconds by the page.
  async look() {
    if (!this.#on || this.#asking) return;
    this.#asking = true;
    try {
      this.#list(await (await request('/api/amybot/services', { signal: AbortSignal.timeout(TIMEOUT) })).json());
    } catch (failure) {
      if (this.#on) say($('amybot-line'), failure instanceof Refused ? `Services are not known: ${failure.message}.` : 'Services are not known: the server cannot be reached.');
      $('amybot-services').classList.add('old');
    } finally {
      this.#asking = false;
    }
  }

  #list(list) {
    const services = list.services.map((service) => ({ name: service.name, instances: service.instances.length, shards: service.instances.flatMap((one) => one.shards), waiting: service.instances.reduce((sum, one) => sum + one.waiting, 0), topics: [...new Set(service.instances.flatMap((one) => one.topics))] }));
    say($('amybot-line'), `${services.length ? many(services.length, 'service') : 'No service is there yet'}; ${count(list.free)} of ${many(list.shard_count, 'shard')} free for them.`);
    const box = $('amybot-services');
    box.hidden = false;
    box.classList.remove('old');
    this.#table ??= new Table(box, 'Services and their shards', [
      { head: 'Service', text: (service) => service.name },
      { head: 'Instances', number: true, text: (service) => count(service.instances) },
      { head: 'Shards', text: (service) => ranges(service.shards) || '–' },
      { head: 'Waits for', number: true, text: (service) => (service.waiting ? many(service.waiting, 'shard') : '–') },
      { head: 'Topics', text: (service) => service.topics.join(', ') || '–' },
      { head: 'Tell it', wide: true, fill: (cell, service) => this.#buttons(cell, service) },
    ], (service) => service.name, 50);
    this.#table.show(services);
    if (list.proxied.length || this.#proxied) {
      this.#proxied ??= new Table(box, 'Messages passed on between services', [
        { head: 'From', text: (one) => one.source },
        { head: 'Topic', text: (one) => one.topic },
        { head: 'Delivered', number: true, text: (one) => count(one.delivered) },
        { head: 'Wanted by nobody', number: true, text: (one) => count(one.set_aside) },
      ], (one) => `${one.source}\n${one.topic}`);
      this.#proxied.show(list.proxied);
    }
  }

  #buttons(cell, service) {
    cell.service = service;
    if (cell.firstChild) return;
    const button = (order, word) => {
      const node = make('button', { type: 'button', text: word, ariaLabel: `${word} ${service.name}` });
      node.addEventListener('click', () => sure(cell.service, order, word, (words) => { say($('amybot-outcome'), words); this.look(); }));
      return node;
    };
    cell.append(make('span', { className: 'row' }, button('shutdown', 'Shut down'), button('reboot', 'Reboot')));
  }
}

// The dialog as it was opened last; aborted when it is closed. What was asked for by an earlier one concerns it no more.
let opening = new AbortController();
$('sure').addEventListener('close', () => { if (!$('sure').open) opening.abort(); });

// Asks once more, and for the token if it is not known; then has the service told.
function sure(service, order, word, done) {
  const dialog = $('sure');
  opening.abort();
  const { signal } = (opening = new AbortController());
  say($('sure-title'), `${word} ${service.name}?`);
  say($('sure-words'), `${service.instances === 1 ? 'Its instance is' : `Its ${count(service.instances)} instances are`} told to ${order === 'shutdown' ? 'stop. Optic does not start them again' : 'stop and start anew'}.`);
  say($('sure-yes'), word);
  say($('sure-error'), '');
  const input = $('sure-token');
  const ask = (needed) => { $('sure-key').hidden = !needed; input.required = needed; input.value = ''; };
  ask(token.get() == null);
  $('sure-yes').disabled = false;
  $('sure-no').onclick = () => dialog.close();
  $('sure-form').onsubmit = async (event) => {
    event.preventDefault();
    // It may be on its way, or done, when nobody waits for the answer any more.
    const unknown = () => done(`${clock(now())}: it is not known whether ${service.name} was told to ${order === 'shutdown' ? 'shut down' : 'reboot'}: the answer was not waited for.`);
    signal.addEventListener('abort', unknown);
    const key = $('sure-key').hidden ? token.get() : input.value.trim();
    $('sure-yes').disabled = true;
    say($('sure-error'), '');
    try {
      const told = await (await request(`/api/amybot/services/${encodeURIComponent(service.name)}/${order}`, { method: 'POST', key, signal })).json();
      if (signal.aborted) return;
      signal.removeEventListener('abort', unknown);
      token.set(key);
      dialog.close();
      done(`${clock(now())}: ${many(told.instances, 'instance')} of ${told.service} ${told.instances === 1 ? 'was' : 'were'} told to ${order === 'shutdown' ? 'shut down' : 'reboot'}.`);
    } catch (failure) {
      if (signal.aborted) return;
      const status = failure instanceof Refused ? failure.status : 0;
      if (status === 401) {
        ask(true);
        input.focus();
        say($('sure-error'), 'The token is wrong.');
      } else if (status === 403) say($('sure-error'), 'Nobody may do that: HTTP_TOKEN is not set. Set it, and start Optic again.');
      else say($('sure-error'), status ? `Not done: ${failure.message}.` : 'Not known whether it was done: the server cannot be reached.');
    } finally {
      signal.removeEventListener('abort', unknown);
      if (!signal.aborted) $('sure-yes').disabled = false;
    }
  };
  dialog.showModal();
}
