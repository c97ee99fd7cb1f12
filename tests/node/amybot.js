// Two services on ws, each at another process of Optic: shards, a message from one to the other, a shutdown by HTTP.
'use strict';

const WebSocket = require('ws');

const { addresses, admin, token } = JSON.parse(process.argv[2]);

class Service {
  constructor(address, name) {
    this.name = name;
    this.heard = [];
    this.waiting = [];
    this.socket = new WebSocket(`ws://${address}/gateway/amybot`);
    this.opened = new Promise((done, failed) => this.socket.on('open', done).on('error', failed));
    this.closed = new Promise((done) => this.socket.on('close', (code) => done(code)));
    this.socket.on('message', (text) => {
      const message = JSON.parse(text);
      const next = this.waiting.shift();
      if (next) next(message);
      else this.heard.push(message);
    });
  }

  say(t, d) {
    this.socket.send(JSON.stringify({ s: this.name, t, d }));
  }

  op(d) {
    this.say('gateway:opcode', d);
  }

  hear() {
    if (this.heard.length) return Promise.resolve(this.heard.shift());
    return new Promise((done) => this.waiting.push(done));
  }

  async identify(topics) {
    await this.opened;
    this.op({ opcode: 0, topics });
    const { s, t, d } = await this.hear();
    if (s !== 'gateway' || t !== 'gateway:opcode' || d.accepted !== true) throw new Error(JSON.stringify(d));
  }

  async shard() {
    this.op({ opcode: 10 });
    const { d } = await this.hear();
    if (d.opcode !== 11 || d.shard_count !== 2) throw new Error(JSON.stringify(d));
    return d.shard_id;
  }
}

async function main() {
  const one = new Service(addresses[0], 'bot');
  const other = new Service(addresses[1], 'bot');
  await one.identify([]);
  await other.identify(['music.*']);
  const shards = (await Promise.all([one.shard(), other.shard()])).sort();
  one.say('gateway-proxy:bot:music.play', { song: '오늘' });
  const proxied = await other.hear();
  if (proxied.t !== 'music.play' || proxied.s !== 'bot') throw new Error(JSON.stringify(proxied));
  const answer = await fetch(`${admin}/bot/shutdown`, { method: 'POST', headers: { authorization: `Bearer ${token}` } });
  const { instances } = await answer.json();
  const orders = await Promise.all([one.hear(), other.hear()]);
  const shutdowns = orders.filter(({ d }) => d.opcode === 1).length;
  if (instances !== shutdowns) throw new Error(`${instances} were told`);
  const wrong = new Service(addresses[0], 'wrong');
  await wrong.opened;
  wrong.op({ opcode: 10 });
  const refused = await wrong.closed;
  one.socket.close();
  other.socket.close();
  await Promise.all([one.closed, other.closed]);
  console.log(JSON.stringify({ shards, proxied: proxied.d, shutdowns, refused }));
}

main().catch((failure) => {
  console.error(failure);
  process.exit(1);
});
