// A 신경 client on the packages ws, @msgpack/msgpack and erlang_js: it says what it is told to, and keeps what it hears.
const assert = require('assert');
const WebSocket = require('ws');
const msgpack = require('@msgpack/msgpack');
const { Erlang } = require('erlang_js');

// When a test gives up: far beyond what anything takes on a busy machine.
const PATIENCE = 90000;

// JavaScript's values as Erlang's: texts are binaries, null is the atom nil.
function toErlang(value) {
  if (value === null || value === undefined) return new Erlang.OtpErlangAtom('nil');
  if (typeof value === 'string') return new Erlang.OtpErlangBinary(Buffer.from(value));
  if (Array.isArray(value)) return new Erlang.OtpErlangList(value.map(toErlang));
  if (typeof value !== 'object') return value;
  const entries = Object.entries(value).map(([key, value]) => [toErlang(key), toErlang(value)]);
  return new Erlang.OtpErlangMap(new Map(entries));
}

// And back. `atoms` gathers the paths of keys that are atoms.
function fromErlang(term, atoms, path = '') {
  if (term instanceof Erlang.OtpErlangAtom) return term.value === 'nil' ? null : String(term.value);
  if (term instanceof Erlang.OtpErlangBinary) return term.value.toString('utf8');
  if (term instanceof Erlang.OtpErlangList) return term.value.map((value, n) => fromErlang(value, atoms, `${path}/${n}`));
  // A list of small numbers comes as Erlang writes such: as a text of bytes.
  if (typeof term === 'string') return [...Buffer.from(term, 'latin1')];
  if (!(term instanceof Erlang.OtpErlangMap)) return term;
  const value = {};
  for (const [key, inner] of term.value) {
    const name = fromErlang(key, atoms, path);
    if (key instanceof Erlang.OtpErlangAtom) atoms.add(`${path}/${name}`);
    value[name] = fromErlang(inner, atoms, `${path}/${name}`);
  }
  return value;
}

// The library calls back at once.
function now(call) {
  let result;
  call((error, value) => {
    if (error) throw error;
    result = value;
  });
  return result;
}

const ENCODINGS = {
  json: {
    encode: packet => JSON.stringify(packet),
    decode: data => JSON.parse(data.toString('utf8')),
    isBinary: false,
  },
  msgpack: { encode: packet => msgpack.encode(packet), decode: data => msgpack.decode(data), isBinary: true },
  etf: {
    encode: packet => now(done => Erlang.term_to_binary(toErlang(packet), done)),
    decode: (data, atoms) => fromErlang(now(done => Erlang.binary_to_term(data, done)), atoms),
    isBinary: true,
  },
};

class Client {
  // Opens a websocket; hello is the first packet.
  static async open(address, encoding = 'json') {
    const client = new Client();
    client.encoding = ENCODINGS[encoding];
    client.heard = [];
    client.atoms = new Set();
    client.waiting = [];
    client.socket = new WebSocket(`ws://${address}/gateway/websocket?encoding=${encoding}`);
    client.closed = new Promise(resolve => client.socket.on('close', (code, reason) => {
      resolve({ code, reason: reason.toString() });
    }));
    client.socket.on('message', (data, isBinary) => {
      assert.strictEqual(isBinary, client.encoding.isBinary, 'the kind of frame fits the encoding');
      client.hear(client.encoding.decode(data, client.atoms));
    });
    await new Promise((resolve, reject) => {
      client.socket.on('open', resolve);
      client.socket.on('error', reject);
    });
    return client;
  }

  // Opens one and identifies; ready is heard already.
  static async identify(address, application, id, { encoding, ...more } = {}) {
    const client = await Client.open(address, encoding);
    client.id = id;
    client.hello = await client.next(packet => packet.op === 0);
    client.say(1, { client_id: id, application_id: application, ...more });
    client.ready = await client.next(packet => [2, 3, 8].includes(packet.op));
    assert.strictEqual(client.ready.op, 2, JSON.stringify(client.ready));
    return client;
  }

  hear(packet) {
    assert.deepStrictEqual(Object.keys(packet).sort(), ['d', 'op', 't', 'ts'], 'every packet has all four keys');
    const at = this.waiting.findIndex(({ wanted }) => wanted(packet));
    if (at < 0) {
      this.heard.push(packet);
    } else {
      this.waiting.splice(at, 1)[0].resolve(packet);
    }
  }

  // The first packet that is wanted, heard already or to come.
  next(wanted) {
    const at = this.heard.findIndex(wanted);
    if (at >= 0) return Promise.resolve(this.heard.splice(at, 1)[0]);
    const heard = new Promise(resolve => this.waiting.push({ wanted, resolve }));
    const closed = this.closed.then(({ code }) => { throw new Error(`${this.id} was closed with ${code}, waiting for ${wanted}; heard ${JSON.stringify(this.heard.slice(-5))}`); });
    return must(`${this.id}: ${wanted}`, Promise.race([heard, closed]));
  }

  dispatched(type, wanted = () => true) {
    return this.next(packet => packet.op === 4 && packet.t === type && wanted(packet.d));
  }

  // The packet's error, which must be the next of this op.
  error(op) {
    return this.next(packet => packet.op === op).then(packet => packet.d);
  }

  say(op, d, t) {
    this.socket.send(this.encoding.encode(t === undefined ? { op, d } : { op, d, t }));
  }

  dispatch(t, d) {
    this.say(4, d, t);
  }

  // Done when everything said before was worked on.
  async settled() {
    this.say(5, { client_id: this.id });
    return this.next(packet => packet.op === 6);
  }

  async update(metadata) {
    this.dispatch('UPDATE_METADATA', typed(metadata));
    await this.settled();
  }

  async close() {
    this.socket.close();
    await must('the end of a connection', this.closed);
  }
}

// Values with the types that they have; [type, value] says it itself.
function typed(metadata) {
  const types = { string: 'string', boolean: 'boolean' };
  return Object.fromEntries(Object.entries(metadata).map(([key, given]) => {
    const [type, value] = Array.isArray(given) ? given
      : [types[typeof given] || (Number.isInteger(given) ? 'integer' : 'float'), given];
    return [key, { type, value }];
  }));
}

async function must(what, promise) {
  let timer;
  const given = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`gave up waiting: ${what}`)), PATIENCE);
  });
  return Promise.race([promise, given]).finally(() => clearTimeout(timer));
}

module.exports = { Client, ENCODINGS, must, typed };
