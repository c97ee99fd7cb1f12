// A tile a shard, how to find one, and what there is to know about the one that is picked.

import { $, STATES, ago, clock, count, keyed, make, many, ms, now, put, rate, say, span, stateOf } from './words.js';

// A row as the server sends it.
const ID = 0, STATE = 1, PROCESS = 2, GUILDS = 3, LATENCY = 4, RATE = 5, SINCE = 6, LAST_RESUME = 7, RESUMES = 8, LAST_DISCONNECT = 9, GAPS = 10;

const NOT_CONNECTED = 'not connected';

export class Shards {
  #rows = [];
  #processes = [];
  #whole = null;
  #tiles = new Map();
  #dirty = new Set();
  #size = '';
  #state = '';
  #process = '';
  #found = null;
  #picked = null;
  #shown = [];

  constructor() {
    $('by-process').addEventListener('change', (event) => { this.#process = event.target.value; this.#filter(); });
    $('find').addEventListener('input', () => this.#search());
    const tiles = $('tiles');
    tiles.addEventListener('keydown', (event) => this.#key(event));
    tiles.addEventListener('click', (event) => this.#pickNode(event.target.closest('.tile')));
    tiles.addEventListener('focusin', (event) => this.#pickNode(event.target.closest('.tile')));
  }

  // Takes a state in; nothing is painted yet.
  take(state) {
    if (state.all || state.shard_count !== this.#whole?.shard_count) {
      if (state.all) this.#rows = [];
      for (const row of this.#rows) if (row) this.#dirty.add(row[ID]);
    }
    for (const row of state.shards) {
      this.#rows[row[ID]] = row;
      this.#dirty.add(row[ID]);
    }
    // After a rescale there are fewer.
    if (state.shard_count > 0 && this.#rows.length > state.shard_count) this.#rows.length = state.shard_count;
    this.#whole = state;
    this.#processes = state.processes;
  }

  get rows() { return this.#rows.filter(Boolean); }

  get connected() { return this.#count('connected'); }

  // Whose process does not answer.
  get unknown() { return this.#count('unknown'); }

  #count(state) { return this.#rows.reduce((sum, row) => sum + (row?.[STATE] === state ? 1 : 0), 0); }

  get guilds() { return this.#rows.reduce((sum, row) => sum + (row?.[GUILDS] ?? 0), 0); }

  paint() {
    const rows = this.rows;
    const size = rows.length <= 36 ? 'large' : rows.length <= 256 ? 'middle' : 'small';
    const tiles = $('tiles');
    if (size !== this.#size) {
      this.#size = size;
      tiles.dataset.size = size;
      tiles.replaceChildren();
      this.#tiles.clear();
    }
    const anew = rows.length !== this.#tiles.size || rows.some((row) => !this.#tiles.has(row[ID]));
    if (anew) {
      this.#tiles = new Map(rows.map((row) => [row[ID], this.#tiles.get(row[ID]) ?? this.#build(row[ID])]));
      tiles.replaceChildren(...[...this.#tiles.values()].map((tile) => tile.node));
      for (const row of rows) this.#dirty.add(row[ID]);
    }
    // A large tile tells ages, which change by themselves.
    if (size === 'large') for (const row of rows) this.#dirty.add(row[ID]);
    let moved = anew;
    for (const id of this.#dirty) {
      const tile = this.#tiles.get(id);
      if (tile) moved = this.#update(tile, this.#rows[id]) || moved;
    }
    this.#dirty.clear();
    this.#choices(rows);
    if (moved || rows.length === 0) this.#filter();
    $('shards').classList.toggle('none', rows.length === 0);
    this.#detail();
  }

  #build(id) {
    const sign = make('span', { className: 'sign', ariaHidden: 'true' });
    const number = make('span', { className: 'number', text: String(id) });
    const word = make('span', { className: 'word' });
    const facts = make('span', { className: 'facts' });
    const node = make('div', { className: 'tile', tabIndex: -1, data: { id } }, sign, number);
    node.setAttribute('role', 'option');
    node.setAttribute('aria-selected', 'false');
    if (this.#size === 'large') node.append(word);
    if (this.#size !== 'small') node.append(facts);
    return { id, node, sign, word, facts, state: null, process: null };
  }

  // Whether it may have to be shown or hidden now.
  #update(tile, row) {
    const state = stateOf(row[STATE]);
    const moved = tile.state !== row[STATE] || tile.process !== row[PROCESS];
    if (tile.state !== row[STATE]) {
      tile.state = row[STATE];
      tile.node.dataset.state = row[STATE] in STATES ? row[STATE] : 'other';
      say(tile.sign, state.sign);
      say(tile.word, state.word);
    }
    tile.process = row[PROCESS];
    let name = `Shard ${tile.id}, ${state.word}`;
    if (this.#size === 'large') {
      const owner = this.#owner(row) ?? 'no process';
      const lines = [
        row[GUILDS] == null ? 'guilds not known' : many(row[GUILDS], 'guild'),
        `${ms(row[LATENCY])} · ${rate(row[RATE])}/s`,
        `resumed ${ago(row[LAST_RESUME])}`,
        owner,
      ];
      keyed(tile.facts, lines.map((text, at) => ({ text, at })), (line) => line.at, () => make('span'), (node, line) => say(node, line.text));
      name += `, ${lines[0]}, ${ms(row[LATENCY])} latency, ${rate(row[RATE])} events a second, ${lines[2]}, ${owner}`;
    } else if (this.#size === 'middle') {
      say(tile.facts, `${rate(row[RATE])}/s`);
    }
    put(tile.node, 'aria-label', name);
    return moved;
  }

  #owner(row) {
    return row[PROCESS] == null ? null : (this.#processes[row[PROCESS]]?.name ?? null);
  }

  #choices(rows) {
    const counts = new Map();
    for (const row of rows) counts.set(row[STATE], (counts.get(row[STATE]) ?? 0) + 1);
    const wrong = rows.length - (counts.get('connected') ?? 0);
    const chips = [{ key: '', text: `all ${count(rows.length)}` }];
    if (wrong > 0 && wrong < rows.length) chips.push({ key: NOT_CONNECTED, text: `not connected ${count(wrong)}` });
    const order = [...Object.keys(STATES), ...[...counts.keys()].filter((name) => !(name in STATES))];
    for (const name of order) {
      // The one that is chosen stays, though no shard is so any more.
      if (counts.has(name) || this.#state === name) {
        chips.push({ key: name, sign: stateOf(name).sign, text: `${stateOf(name).word} ${count(counts.get(name) ?? 0)}`, what: stateOf(name).what });
      }
    }
    if (!chips.some((chip) => chip.key === this.#state)) this.#state = '';
    keyed($('chips'), rows.length ? chips : [], (chip) => chip.key, (chip) => {
      const node = make('button', { type: 'button', className: 'chip' }, make('span', { className: 'sign', ariaHidden: 'true', text: chip.sign ?? '' }), make('span'));
      if (chip.sign) node.dataset.state = chip.key;
      else node.firstChild.remove();
      if (chip.what) node.title = chip.what;
      node.addEventListener('click', () => { this.#state = this.#state === chip.key ? '' : chip.key; this.#choices(this.rows); this.#filter(); });
      return node;
    }, (node, chip) => {
      say(node.lastChild, chip.text);
      put(node, 'aria-pressed', String(this.#state === chip.key));
    });

    const select = $('by-process');
    const processes = [{ value: '', text: 'any' }, ...this.#processes.map((process) => ({ value: process.node, text: process.name }))];
    if (counts.has('nobody')) processes.push({ value: 'nobody', text: 'nobody' });
    if (!processes.some((process) => process.value === this.#process)) this.#process = '';
    keyed(select, processes, (process) => process.value, (process) => make('option', { value: process.value }), (node, process) => say(node, process.text));
    if (select.value !== this.#process) select.value = this.#process;
  }

  #matches(row) {
    if (this.#found != null) return row[ID] === this.#found;
    if (this.#state === NOT_CONNECTED ? row[STATE] === 'connected' : this.#state && row[STATE] !== this.#state) return false;
    if (this.#process === 'nobody') return row[PROCESS] == null;
    return !this.#process || this.#processes[row[PROCESS]]?.node === this.#process;
  }

  #filter() {
    this.#shown = [];
    for (const [id, tile] of this.#tiles) {
      const shown = this.#matches(this.#rows[id]);
      if (tile.node.hidden === shown) tile.node.hidden = !shown;
      if (shown) this.#shown.push(id);
    }
    this.#rove();
    const empty = $('tiles-none');
    empty.hidden = this.#shown.length > 0;
    if (this.#tiles.size) say(empty, 'No shard is so.');
    else if (this.#processes.length && this.#processes.every((process) => process.mode === 'no_bot')) say(empty, 'There is no bot here: these processes serve 신경 or amybot alone.');
    else say(empty, 'No shards yet: they are here as soon as Discord has told how many there are.');
  }

  // One tile can be reached by Tab; the arrow keys go on from there.
  #rove() {
    const at = this.#shown.includes(this.#picked) ? this.#picked : this.#shown[0];
    for (const [id, tile] of this.#tiles) {
      const index = id === at ? 0 : -1;
      if (tile.node.tabIndex !== index) tile.node.tabIndex = index;
    }
  }

  #search() {
    const text = $('find').value.trim();
    const total = this.#whole?.shard_count || this.#rows.length;
    const found = $('found');
    this.#found = null;
    if (text === '') say(found, '');
    else if (!/^\d{1,20}$/.test(text)) say(found, 'A shard has a number, and so has a guild: digits alone.');
    else if (total === 0) say(found, 'There are no shards yet.');
    else {
      const number = BigInt(text);
      if (number < BigInt(total)) {
        this.#found = Number(number);
        say(found, `Shard ${this.#found}`);
      } else if (number >= 1n << 22n) {
        this.#found = Number((number >> 22n) % BigInt(total));
        say(found, `Guild ${text} is on shard ${this.#found}.`);
      } else say(found, `There is no shard ${text}: the last is ${total - 1}.`);
    }
    this.#filter();
    if (this.#found != null) this.#pick(this.#found);
  }

  #key(event) {
    const at = this.#shown.indexOf(Number(event.target.closest('.tile')?.dataset.id));
    if (at < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    const columns = getComputedStyle($('tiles')).gridTemplateColumns.split(' ').length;
    const last = this.#shown.length - 1;
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, ArrowDown: at + columns, ArrowUp: at - columns, Home: 0, End: last, PageDown: at + 5 * columns, PageUp: at - 5 * columns }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.#tiles.get(this.#shown[Math.max(0, Math.min(last, to))]).node.focus();
  }

  #pickNode(node) {
    if (node) this.#pick(Number(node.dataset.id));
  }

  #pick(id) {
    if (this.#picked === id) return;
    const before = this.#tiles.get(this.#picked)?.node;
    if (before) put(before, 'aria-selected', 'false');
    this.#picked = id;
    const tile = this.#tiles.get(id)?.node;
    if (tile) put(tile, 'aria-selected', 'true');
    this.#rove();
    this.#detail();
  }

  #detail() {
    const aside = $('shard');
    const row = this.#picked == null ? null : this.#rows[this.#picked];
    aside.classList.toggle('empty', !row);
    if (!row) {
      if (aside.dataset.of !== '') {
        aside.dataset.of = '';
        aside.keyed = null;
        aside.replaceChildren(make('p', { className: 'quiet', text: 'Pick a shard to see more of it.' }));
      }
      return;
    }
    if (aside.dataset.of !== String(row[ID])) {
      aside.dataset.of = String(row[ID]);
      const close = make('button', { type: 'button', className: 'close', text: '✕', ariaLabel: 'Close' });
      close.addEventListener('click', () => {
        const tile = this.#tiles.get(this.#picked)?.node;
        // The focus goes back to the tile, which would pick it.
        tile?.focus({ preventScroll: true });
        this.#pick(null);
      });
      aside.replaceChildren(make('h3', { text: `Shard ${row[ID]}` }), close, make('p', { className: 'state' }, make('span', { className: 'sign', ariaHidden: 'true' }), make('span')), make('dl'));
    }
    const state = stateOf(row[STATE]);
    const [, , line, list] = aside.children;
    line.dataset.state = row[STATE] in STATES ? row[STATE] : 'other';
    say(line.firstChild, state.sign);
    say(line.lastChild, `${state.word}: ${state.what}`);
    const process = this.#processes[row[PROCESS]];
    const facts = [
      ['Since', row[SINCE] ? `${clock(row[SINCE])}, ${span(now() - row[SINCE])}` : '–'],
      ['Process', process ? process.name + (process.answers ? '' : ' (does not answer)') : 'none'],
      ['Guilds', count(row[GUILDS])],
      ['Latency', ms(row[LATENCY])],
      ['Events', `${rate(row[RATE])} a second`],
      ['Resumes', row[RESUMES] ? `${count(row[RESUMES])}, last ${ago(row[LAST_RESUME])}` : 'none'],
      ['Last disconnect', row[LAST_DISCONNECT] ?? 'none'],
    ];
    if (row[GAPS] != null) facts.push(['Events lost', row[GAPS] ? many(row[GAPS], 'time') : 'never']);
    keyed(list, facts, (fact) => fact[0], (fact) => make('div', {}, make('dt', { text: fact[0] }), make('dd')), (node, fact) => say(node.lastChild, fact[1]));
  }
}
