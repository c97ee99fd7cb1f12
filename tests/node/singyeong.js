// spec/singyeong.md, held by clients of other people's libraries.
//
//   NODE_PATH=… node singyeong.js SCENARIO '{"address": …, "group": …, "amqp": …}'
//
// Ends with 0 and a line of JSON when everything was as it must be, with 1 and the reason otherwise. Some scenarios say
// a line before, and wait for one: what is asked for is done to Optic.
const assert = require('assert');
const readline = require('readline');
const amqplib = require('amqplib');
const { Client, must } = require('./singyeong_client.js');

const [scenario, given] = process.argv.slice(2);
const { address, group, amqp, auth } = JSON.parse(given);
const commands = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();

const identify = (application, id, more) => Client.identify(address, application, id, more);
const all = application => ({ application });

// Asks the test for something, and waits until it is done; gives what it said.
async function ask(what) {
  console.log(what);
  return must(what, commands.next()).then(({ value }) => value);
}

// An AMQP worker's channel, with G:<subgroup>:<key> bound as Spectacles' clients do.
async function worker() {
  const connection = await amqplib.connect(amqp);
  const channel = await connection.createConfirmChannel();
  return {
    channel,
    async bind(subgroup, key) {
      const queue = `${group}:${subgroup}:${key}`;
      await channel.assertExchange(group, 'direct', { durable: true });
      await channel.assertQueue(queue, { durable: true });
      await channel.bindQueue(queue, group, key);
      return queue;
    },
    async publish(key, body, options = {}) {
      channel.publish(group, key, Buffer.from(JSON.stringify(body)), { persistent: true, contentType: 'application/json', ...options });
      await channel.waitForConfirms();
    },
    // The next message out of a queue, acknowledged.
    async take(queue) {
      const poll = async () => {
        for (;;) {
          const message = await channel.get(queue);
          if (message) {
            channel.ack(message);
            return message;
          }
          await new Promise(resolve => setTimeout(resolve, 10));
        }
      };
      return must(`a message in ${queue}`, poll());
    },
    close: () => connection.close(),
  };
}

const scenarios = {
  // Every op and dispatch, in one encoding after the other.
  async ops() {
    for (const encoding of ['json', 'msgpack', 'etf']) {
      const application = `ops-${encoding}`;
      const watcher = await identify('watchers', `watcher-${encoding}`, { encoding, receive_client_updates: true });
      assert.deepStrictEqual(watcher.hello.d, { heartbeat_interval: 45000 });
      assert.strictEqual(watcher.hello.t, null);
      assert.ok(Math.abs(watcher.hello.ts - Date.now()) < 3600000, 'ts is a time in milliseconds');
      assert.deepStrictEqual(watcher.ready.d, { client_id: watcher.id, restricted: false });

      const metadata = { n: { type: 'integer', value: 1 }, v: { type: 'version', value: '1.2.3' } };
      const one = await identify(application, 'one', { encoding, metadata, ip: '10.0.0.1:80', namespace: ['x'] });
      const two = await identify(application, 'two', { encoding });
      const ours = d => d.payload.app === application;
      for (let n = 0; n < 2; n++) {
        const connected = await watcher.dispatched('CLIENT_CONNECTED', ours);
        assert.deepStrictEqual(connected.d, { nonce: null, payload: { app: application }, target: null });
      }

      await two.update({ n: 2, f: 1.5, s: 'ü', b: true, l: ['list', [1, 'x', null]], m: ['map', { a: { b: [7] } }] });

      // One that matches, and what it gets is what was sent.
      // erlang_js writes no more than 32 bits of an integer.
      const values = [null, true, 0, -1, 1.5, encoding === 'etf' ? 2 ** 32 - 1 : 2 ** 40, 'text', '신경', [], [[1], {}], { a: { b: null } }];
      for (const payload of values) {
        one.dispatch('SEND', { target: { application, ops: [{ path: '/n', op: '$eq', to: { value: 2 } }] }, nonce: payload, payload });
        const { d } = await two.dispatched('SEND');
        assert.deepStrictEqual(d, { nonce: payload, payload, target: null, sender: 'one' });
      }
      // The old form, and no nonce.
      one.dispatch('SEND', { sender: 'one', target: { application, ops: [{ f: { $gt: 1, $lt: 2 } }] }, payload: 'old' });
      assert.deepStrictEqual((await two.dispatched('SEND')).d, { nonce: null, payload: 'old', target: null, sender: 'one' });
      // Everybody, the sender too.
      two.dispatch('BROADCAST', { target: all(application), payload: 'to all', nonce: 'n' });
      for (const client of [one, two]) {
        const { d } = await client.dispatched('BROADCAST');
        assert.deepStrictEqual(d, { nonce: 'n', payload: 'to all', target: null, sender: 'two' });
      }
      const matching = async op => {
        one.dispatch('QUERY_NODES', { application, ops: [op] });
        const { d } = await one.dispatched('QUERY_NODES');
        return Object.values(d.nodes).flat().map(client => client.client_id).sort();
      };
      const compare = (path, op, value) => ({ path, op, to: { value } });
      assert.deepStrictEqual(await matching(compare('/n', '$lte', 2)), ['one', 'two']);
      assert.deepStrictEqual(await matching(compare('/m/a/b/0', '$eq', 7)), ['two']);
      assert.deepStrictEqual(await matching(compare('/v', '$lt', '1.10.0')), ['one']);
      assert.deepStrictEqual(await matching(compare('/n', '$in', [1, 3])), ['one']);
      assert.deepStrictEqual(await matching(compare('/s', '$ne', 'x')), ['two']);
      assert.deepStrictEqual(await matching(compare('/encoding', '$eq', encoding)), ['one', 'two']);
      assert.deepStrictEqual(await matching({ op: '$nor', with: [compare('/n', '$eq', 1)] }), ['two']);
      one.dispatch('QUERY_NODES', { application, selector: { $max: 'n' } });
      const [shown] = Object.values((await one.dispatched('QUERY_NODES')).d.nodes).flat();
      assert.strictEqual(shown.client_id, 'two');
      assert.deepStrictEqual([shown.metadata.m, shown.metadata_types.m], [{ a: { b: [7] } }, 'map']);

      // A key chooses the same client each time.
      const chosen = new Set();
      for (let n = 0; n < 10; n++) {
        one.dispatch('SEND', { target: { application, key: 'k' }, payload: n });
        chosen.add(await Promise.any([one, two].map(client => client.dispatched('SEND', d => d.payload === n).then(() => client.id))));
      }
      assert.strictEqual(chosen.size, 1);

      // A queue: confirmed, then delivered; acknowledged.
      one.dispatch('QUEUE', { queue: 'jobs', target: all(application), nonce: { n: 1 }, payload: { job: 1 } });
      assert.deepStrictEqual((await one.dispatched('QUEUE_CONFIRM')).d, { queue: 'jobs' });
      two.dispatch('QUEUE_REQUEST', { queue: 'jobs' });
      const { d: job } = await two.dispatched('QUEUE');
      assert.deepStrictEqual(job.nonce, { n: 1 });
      assert.deepStrictEqual([job.target, job.payload.queue, job.payload.payload], [null, 'jobs', { job: 1 }]);
      assert.strictEqual(typeof job.payload.id, 'string');
      two.dispatch('QUEUE_ACK', { queue: 'jobs', id: job.payload.id });
      // None after it is cancelled.
      two.dispatch('QUEUE_REQUEST', { queue: 'jobs' });
      two.dispatch('QUEUE_REQUEST_CANCEL', { queue: 'jobs' });
      await two.settled();
      one.dispatch('QUEUE', { queue: 'jobs', target: all(application), nonce: null, payload: 2 });
      await one.dispatched('QUEUE_CONFIRM');
      one.dispatch('QUEUE_REQUEST', { queue: 'jobs' });
      const { d: second } = await one.dispatched('QUEUE');
      assert.deepStrictEqual([second.nonce, second.payload.payload], [null, 2]);
      one.dispatch('QUEUE_ACK', { queue: 'jobs', id: second.payload.id });

      // What is refused, and goes on.
      two.dispatch('UPDATE_METADATA', { n: { type: 'integer', value: 'x' }, ip: { type: 'string', value: '' }, z: { type: 'no', value: 1 } });
      assert.deepStrictEqual(await two.error(3), {
        error: 'invalid metadata',
        extra_info: {
          n: "n: value fails validation for 'integer'", ip: 'ip: forbidden metadata key', z: "z: type 'no' doesn't exists",
        },
      });
      two.dispatch('QUEUE', { queue: 'jobs', payload: 1 });
      const refused = await two.error(3);
      assert.strictEqual(refused.error, 'invalid dispatch payload');
      assert.strictEqual(refused.extra_info.op, 'dispatch');
      assert.deepStrictEqual((await two.settled()).d, { client_id: 'two' });

      if (encoding === 'etf') {
        for (const path of ['/op', '/d', '/t', '/ts']) assert.ok(two.atoms.has(path), `${path} is an atom`);
        for (const path of ['/d/nonce', '/d/payload', '/d/target']) assert.ok(two.atoms.has(path), `${path} is an atom`);
        assert.ok(!two.atoms.has('/d/payload/a'), 'keys of payloads are none');
      }

      await one.close();
      await watcher.dispatched('CLIENT_DISCONNECTED', ours);
      await two.close();
      await watcher.dispatched('CLIENT_DISCONNECTED', ours);
      await watcher.close();
    }
  },

  // What is no packet, or not the one that must come, is told by op 8, and the connection closed.
  async errors() {
    const identified = () => identify('errors', `client-${Math.random()}`);
    const cases = [
      [null, '{"op":4,"t":"SEND","d":{}}', 'sent payload with non-identify opcode without identifying first', 4003],
      [null, '{"op":1,"d":{"client_id":"a"}}', 'decode: payload: unrecoverable', 4004],
      [null, '{"op":1,"d":{"client_id":1,"application_id":"a"}}', 'payload has no data', 4004],
      [null, '{"op":1,"d":{"client_id":"a","application_id":"a","metadata":{"n":{"type":"integer","value":""}}}}', 'initial metadata: invalid', 4004],
      [identified, '{"op":0,"d":{}}', 'invalid client op :hello', 4002],
      [identified, '{"op":99,"d":{}}', 'invalid client op nil', 4002],
      [identified, '[]', 'decode: payload: unrecoverable', 4002],
      [identified, '{"op":', 'unexpected end of input at position 6', 4002],
      [identified, '{"op":4,"t":"SEND","d":{"payload":1}}', 'internal server error', 4002],
      [identified, '{"op":4,"t":"SEND","d":{"payload":1,"target":{"selector":{}}}}', 'decode: payload: unrecoverable', 4002],
      [identified, Buffer.from('{}'), 'decode: payload: invalid websocket opcode/encoding combo: {binary, json}', 4002],
    ];
    for (const [open, text, error, code] of cases) {
      const client = open ? await open() : await Client.open(address);
      client.socket.send(text);
      const told = await client.error(8);
      assert.strictEqual(told.error, error, text);
      assert.ok('extra_info' in told);
      assert.strictEqual((await must(`a close for ${text}`, client.closed)).code, code, text);
    }
    const refused = await Client.open(address, 'json').then(client => client.close()).then(
      () => new Promise(resolve => {
        const http = require('http');
        http.get(`http://${address}/gateway/websocket`, response => resolve(response.statusCode));
      }));
    assert.strictEqual(refused, 426);
  },

  // Workers on AMQP and clients share queues, both ways.
  async queues() {
    const { channel, bind, publish, take, close } = await worker();
    const client = await identify('shared', 'client');

    // From a client to a worker, and the headers that it may ignore.
    const jobs = await bind('shared', 'jobs');
    client.dispatch('QUEUE', { queue: 'jobs', target: all('shared'), nonce: 'n', payload: { from: 'client' } });
    await client.dispatched('QUEUE_CONFIRM');
    const got = await take(jobs);
    assert.deepStrictEqual(JSON.parse(got.content), { from: 'client' });
    assert.strictEqual(got.properties.contentType, 'application/json');
    assert.strictEqual(got.properties.deliveryMode, 2);
    assert.ok(got.properties.messageId);
    assert.strictEqual(got.properties.headers['x-singyeong-nonce'], '"n"');
    assert.strictEqual(got.properties.headers['x-singyeong-sender'], 'client');
    assert.ok(!('x-singyeong-target' in got.properties.headers));

    // From a worker to a client, by the event's name, as Spectacles publishes.
    client.dispatch('QUEUE_REQUEST', { queue: 'jobs' });
    await client.settled();
    await publish('jobs', { from: 'worker' }, { messageId: 'worker-1' });
    const { d } = await client.dispatched('QUEUE');
    assert.deepStrictEqual(d, {
      nonce: null, target: null, payload: { queue: 'jobs', id: 'worker-1', payload: { from: 'worker' } },
      ...('sender' in d ? { sender: d.sender } : {}),
    });
    client.dispatch('QUEUE_ACK', { queue: 'jobs', id: 'worker-1' });
    await client.settled();

    // No more is taken than is asked for: the rest is there for workers.
    client.dispatch('QUEUE_REQUEST', { queue: 'jobs' });
    await client.settled();
    for (const n of [1, 2]) await publish('jobs', n);
    const first = (await client.dispatched('QUEUE')).d.payload;
    const second = JSON.parse((await take(jobs)).content);
    assert.deepStrictEqual([first.payload, second].sort(), [1, 2]);
    client.dispatch('QUEUE_ACK', { queue: 'jobs', id: first.id });

    // Any other dispatch is a message to the exchange; nobody bound is no route; Optic's own keys are refused.
    const events = await bind('listeners', 'CUSTOM_EVENT');
    client.dispatch('CUSTOM_EVENT', { a: [1] });
    assert.deepStrictEqual(JSON.parse((await take(events)).content), { a: [1] });
    client.dispatch('NOBODY_HAS_THIS', 1);
    assert.strictEqual((await client.error(3)).error, 'no_route');
    for (const reserved of ['7', 'REJECTED', 'SINGYEONG_SEND', 'gateway', 'optic:x']) {
      client.dispatch(reserved, {});
      assert.strictEqual((await client.error(3)).error, 'invalid dispatch payload', reserved);
    }

    // A worker sends to clients, and hears what came of it. What a first client sends makes the queues of both, if they are
    // not made yet.
    for (const t of ['SEND', 'BROADCAST']) {
      client.dispatch(t, { target: all('shared'), payload: 'first' });
      await client.dispatched(t);
    }
    const replies = await channel.assertQueue('', { exclusive: true });
    const outcome = async (key, body) => {
      await publish(key, body, { replyTo: replies.queue, correlationId: 'c' });
      const reply = await take(replies.queue);
      assert.strictEqual(reply.properties.correlationId, 'c');
      return JSON.parse(reply.content);
    };
    assert.strictEqual((await outcome('SINGYEONG_SEND', { target: all('shared'), payload: 'hi', nonce: 3 })).ok, true);
    const sent = (await client.dispatched('SEND')).d;
    assert.deepStrictEqual([sent.payload, sent.nonce, sent.target], ['hi', 3, null]);
    assert.deepStrictEqual(await outcome('SINGYEONG_SEND', { target: all('nobody'), payload: 1 }), { ok: false, error: 'no_route' });
    await publish('SINGYEONG_BROADCAST', { target: all('shared'), payload: 'all' });
    assert.strictEqual((await client.dispatched('BROADCAST')).d.payload, 'all');

    await client.close();
    await close();
  },

  // Discord's events, each once an application, acknowledged one by one by several clients.
  async events() {
    const clients = [];
    for (const application of ['first', 'second']) {
      for (const n of [1, 2]) clients.push(await identify(application, `${application}-${n}`));
    }
    const seen = { first: [], second: [] };
    // A confirm says that the queue is there; then the events begin.
    for (const client of [clients[0], clients[2]]) {
      const [application] = client.id.split('-');
      client.dispatch('QUEUE', { queue: 'MESSAGE_CREATE', target: all(application), nonce: null, payload: null });
      await client.dispatched('QUEUE_CONFIRM');
      client.dispatch('QUEUE_REQUEST', { queue: 'MESSAGE_CREATE' });
      const { queue, id } = (await client.dispatched('QUEUE')).d.payload;
      client.dispatch('QUEUE_ACK', { queue, id });
    }
    for (const client of clients) client.dispatch('QUEUE_REQUEST', { queue: 'MESSAGE_CREATE' });
    const wanted = Number(await ask('requested'));
    let done;
    const allSeen = new Promise(resolve => { done = resolve; });
    const work = async client => {
      const [application] = client.id.split('-');
      for (;;) {
        const { queue, id } = (await client.dispatched('QUEUE')).d.payload;
        seen[application].push(id);
        client.dispatch('QUEUE_ACK', { queue, id });
        client.dispatch('QUEUE_REQUEST', { queue });
        if (Object.values(seen).every(ids => ids.length >= wanted)) done();
      }
    };
    await Promise.race([allSeen, ...clients.map(work)]);
    return seen;
  },

  // What is not acknowledged is another's: after a time, and at once when its receiver goes.
  async redelivery() {
    const sender = await identify('senders', 'sender');
    const [a, b] = [await identify('workers', 'a'), await identify('workers', 'b')];
    const request = async client => {
      client.dispatch('QUEUE_REQUEST', { queue: 'q' });
      await client.settled();
    };
    const queue = async payload => {
      sender.dispatch('QUEUE', { queue: 'q', target: all('workers'), nonce: 'n', payload });
      await sender.dispatched('QUEUE_CONFIRM');
    };
    await request(a);
    await request(a);
    await queue('times out');
    const first = (await a.dispatched('QUEUE')).d;
    // Another's acknowledgement is none.
    b.dispatch('QUEUE_ACK', { queue: 'q', id: first.payload.id });
    await request(b);
    const again = (await b.dispatched('QUEUE')).d;
    assert.deepStrictEqual(again, first);
    // It is b's now, and a cannot acknowledge it any more.
    a.dispatch('QUEUE_ACK', { queue: 'q', id: first.payload.id });
    await a.settled();
    await request(a);
    await b.close();
    assert.deepStrictEqual((await a.dispatched('QUEUE')).d, first);
    a.dispatch('QUEUE_ACK', { queue: 'q', id: first.payload.id });
    await a.settled();
    // Only who matches receives, whoever asked first; the longest waiting among those.
    const c = await identify('workers', 'c', { metadata: { n: { type: 'integer', value: 1 } } });
    const d = await identify('workers', 'd', { metadata: { n: { type: 'integer', value: 1 } } });
    await request(a);
    await request(c);
    await request(d);
    const target = { application: 'workers', ops: [{ path: '/n', op: '$eq', to: { value: 1 } }] };
    for (const payload of ['to c', 'to d']) {
      sender.dispatch('QUEUE', { queue: 'q', target, nonce: null, payload });
      await sender.dispatched('QUEUE_CONFIRM');
    }
    for (const client of [c, d]) {
      const { payload } = (await client.dispatched('QUEUE')).d;
      assert.strictEqual(payload.payload, `to ${client.id}`);
      client.dispatch('QUEUE_ACK', { queue: 'q', id: payload.id });
      await client.settled();
    }
    await queue('to a');
    assert.strictEqual((await a.dispatched('QUEUE')).d.payload.payload, 'to a');
  },

  // An id is one client's: a healthy one keeps it.
  async duplicates() {
    const healthy = await identify('app', 'same');
    const newcomer = await Client.open(address);
    newcomer.say(1, { client_id: 'same', application_id: 'app' });
    assert.deepStrictEqual(await newcomer.error(8), { error: 'same: already registered for app app', extra_info: null });
    assert.strictEqual((await must('a close', newcomer.closed)).code, 4005);
    // Not in another application.
    await (await identify('other', 'same')).close();
    healthy.dispatch('SEND', { target: all('app'), payload: 'still here' });
    assert.strictEqual((await healthy.dispatched('SEND')).d.payload, 'still here');
    // One that hears nothing any more is replaced.
    healthy.socket.pause();
    const replacing = await identify('app', 'same');
    replacing.dispatch('SEND', { target: all('app'), payload: 'mine' });
    assert.strictEqual((await replacing.dispatched('SEND')).d.payload, 'mine');
    // One that left makes room at once.
    await replacing.close();
    const later = await identify('app', 'same');
    // A second identify is none.
    later.say(1, { client_id: 'new', application_id: 'app' });
    await later.error(8);
    await must('a close', later.closed);
  },

  // Who does not know the password may be looked at, and no more.
  async restricted() {
    const known = await identify('app', 'known', { auth });
    for (const [id, more] of [['none', {}], ['wrong', { auth: 'wrong' }]]) {
      const client = await identify('app', id, more);
      assert.deepStrictEqual(client.ready.d, { client_id: id, restricted: true });
      for (const [t, d] of [
        ['SEND', { target: {}, payload: 1 }],
        ['BROADCAST', { target: {}, payload: 1 }],
        ['QUERY_NODES', {}],
        ['QUEUE', { queue: 'q', target: {}, nonce: null, payload: 1 }],
        ['QUEUE_REQUEST', { queue: 'q' }],
        ['MESSAGE_CREATE', {}],
      ]) {
        client.dispatch(t, d);
        assert.deepStrictEqual(await client.error(3), { error: `invalid dispatch type ${t} (are you restricted?)` });
      }
      await client.update({ n: 1 });
      // Hidden, unless asked for.
      known.dispatch('QUERY_NODES', all('app'));
      const ids = packet => Object.values(packet.d.nodes).flat().map(client => client.client_id);
      assert.deepStrictEqual(ids(await known.dispatched('QUERY_NODES')), ['known']);
      known.dispatch('SEND', { target: { application: 'app', restricted: true, ops: [{ path: '/restricted', op: '$eq', to: { value: true } }] }, payload: 'p' });
      assert.strictEqual((await client.dispatched('SEND')).d.payload, 'p');
      known.dispatch('QUERY_NODES', { application: 'app', restricted: true, ops: [{ path: '/n', op: '$eq', to: { value: 1 } }] });
      const [shown] = Object.values((await known.dispatched('QUERY_NODES')).d.nodes).flat();
      assert.deepStrictEqual([shown.client_id, shown.socket_ip], [id, null]);
      await client.close();
    }
    const etf = await identify('app', 'etf', { encoding: 'etf' });
    etf.dispatch('UPDATE_METADATA', {});
    assert.strictEqual((await etf.error(8)).error, 'restricted clients may not use ETF');
    await must('a close', etf.closed);
    const query = authorization => fetch(`http://${address}/api/v1/query`, { method: 'POST', headers: { authorization }, body: '{}' });
    assert.strictEqual((await query(auth)).status, 200);
    const refused = await query('wrong');
    assert.deepStrictEqual([refused.status, await refused.json()], [401, { status: 'error', error: 'not authorized' }]);
  },

  // Over a limit there is a word and a code, and others do not notice.
  async limits() {
    const bystander = await identify('app', 'bystander');
    const large = await identify('app', 'large');
    large.dispatch('BROADCAST', { target: { droppable: true, application: 'none' }, payload: 'x'.repeat(70000) });
    assert.strictEqual((await must('a close', large.closed)).code, 1009);
    const metadata = await identify('app', 'metadata');
    metadata.dispatch('UPDATE_METADATA', { s: { type: 'string', value: 'x'.repeat(5000) } });
    assert.strictEqual((await metadata.error(3)).error, 'invalid metadata');
    await metadata.update({ s: 'short' });
    let op = { path: '/x', op: '$eq', to: { value: 1 } };
    for (let n = 0; n < 12; n++) op = { op: '$and', with: [op] };
    metadata.dispatch('SEND', { target: { ops: [op] }, payload: 1 });
    const deep = await metadata.next(packet => [3, 8].includes(packet.op));
    assert.ok(deep.d.error.length > 0);
    const many = [bystander];
    let status;
    while (status === undefined) {
      await Client.open(address).then(client => many.push(client), error => {
        status = /Unexpected server response: (\d+)/.exec(error.message)[1];
      });
      assert.ok(many.length <= 20, 'as many as are allowed');
    }
    assert.strictEqual(status, '503');
    bystander.dispatch('SEND', { target: all('app'), payload: 'well' });
    assert.strictEqual((await bystander.dispatched('SEND', d => d.payload === 'well')).d.sender, 'bystander');
  },

  // Nobody matches: the sender hears it, with what it sent.
  async no_route() {
    for (const encoding of ['json', 'msgpack', 'etf']) {
      const client = await identify('app', encoding, { encoding });
      const ops = [{ path: '/x', op: '$eq', to: { value: 1 } }];
      for (const t of ['SEND', 'BROADCAST']) {
        for (const target of [all('nobody'), { application: 'app', ops }, { application: 'app', ops, selector: { $min: 'x' } }]) {
          client.dispatch(t, { target, nonce: [t, 1], payload: { p: null } });
          const { error, extra_info: info } = await client.error(3);
          assert.strictEqual(error, 'no_route');
          assert.deepStrictEqual([info.op, info.t, info.d.nonce, info.d.payload], [4, t, [t, 1], { p: null }]);
          const keys = ['application', 'droppable', 'key', 'ops', 'optional', 'restricted', 'selector'];
          assert.deepStrictEqual(Object.keys(info.d.target).sort(), keys);
          assert.strictEqual(info.d.target.application, target.application);
        }
        client.dispatch(t, { target: { ...all('nobody'), droppable: true }, nonce: 'dropped', payload: 1 });
        client.dispatch(t, { target: { application: 'app', ops, optional: true }, nonce: 'optional', payload: 1 });
        assert.strictEqual((await client.dispatched(t)).d.nonce, 'optional');
      }
      assert.ok(!client.heard.some(packet => packet.op === 3), 'what may be dropped is dropped in silence');
      await client.close();
    }
  },

  // A client that does not read is closed, and others get theirs all the while.
  async slow() {
    const slow = await identify('app', 'slow');
    const quick = await identify('app', 'quick');
    const sender = await identify('senders', 'sender');
    slow.socket.pause();
    const payload = 'x'.repeat(50000);
    let isGone = false;
    for (let n = 0; !isGone; n++) {
      sender.dispatch('BROADCAST', { target: all('app'), payload, nonce: n });
      await quick.dispatched('BROADCAST', d => d.nonce === n);
      sender.dispatch('QUERY_NODES', all('app'));
      const { d } = await sender.dispatched('QUERY_NODES');
      isGone = Object.values(d.nodes).flat().every(client => client.client_id !== 'slow');
      assert.ok(n < 5000, 'the slow one is bounded');
    }
    slow.socket.resume();
    const { code } = await must('a close', slow.closed);
    assert.ok([4008, 1006].includes(code), `closed with ${code}`);
  },

  // SIGTERM: goodbye, and a code after which clients come back.
  async goodbye() {
    const client = await identify('app', 'client');
    console.log('terminate');
    const goodbye = await client.next(packet => packet.op === 7);
    assert.deepStrictEqual(goodbye.d, { reason: 'load balancing' });
    assert.strictEqual((await must('a close', client.closed)).code, 1012);
  },

  // No heartbeat, no client: told and closed. Pings alone are not enough.
  async heartbeat() {
    const client = await identify('app', 'client');
    const interval = client.hello.d.heartbeat_interval;
    const beating = await identify('app', 'beating');
    const mute = await identify('app', 'mute');
    const beats = setInterval(() => beating.say(5, { client_id: 'beating' }), interval / 10);
    const pings = setInterval(() => client.socket.ping(), interval / 10);
    assert.strictEqual((await must('a close', mute.closed)).code, 4009);
    assert.strictEqual((await client.error(8)).error, 'heartbeat took too long');
    assert.strictEqual((await must('a close', client.closed)).code, 4009);
    clearInterval(pings);
    clearInterval(beats);
    await beating.settled();
  },

  // The gateway is a client like others: found, looked at, and told what to do.
  async gateway() {
    const client = await identify('bots', 'client');
    let shown;
    // Its latency is there after a first heartbeat.
    while (!(shown && shown.metadata.shards.length === 2 && shown.metadata.latency >= 0)) {
      client.dispatch('QUERY_NODES', all(group));
      [shown] = Object.values((await client.dispatched('QUERY_NODES')).d.nodes).flat();
      await new Promise(resolve => setTimeout(resolve, 50));
    }
    assert.deepStrictEqual([shown.metadata.shards, shown.metadata.shard_count], [[0, 1], 2]);
    assert.deepStrictEqual([shown.metadata_types.shards, shown.metadata_types.shard_count, shown.metadata_types.latency], ['list', 'integer', 'float']);
    const told = async (payload, nonce) => {
      client.dispatch('SEND', { target: all(group), nonce, payload });
      return (await client.dispatched('SEND', d => d.nonce === nonce)).d.payload;
    };
    const packet = { op: 3, d: { since: null, activities: [], status: 'idle', afk: false } };
    assert.deepStrictEqual(await told({ shard_id: 1, packet }, 'to a shard'), { ok: true, shard: 1 });
    const guild_id = String(BigInt(1) << 22n);
    assert.strictEqual((await told({ guild_id, packet }, 'to a guild')).ok, true);
    const refused = await told({ shard_id: 0, packet: { op: 2, d: {} } }, 'identify');
    assert.strictEqual(refused.ok, false);
    assert.ok(refused.error.includes('(Identify) is not for workers'), refused.error);
    // Its name is nobody else's.
    const other = await Client.open(address);
    other.say(1, { client_id: 'x', application_id: group });
    await other.error(8);
    await must('a close', other.closed);
  },

  // REST, with Node's own client, and the proxy to a client's own server.
  async rest() {
    const http = require('http');
    const server = http.createServer((request, response) => {
      let body = '';
      request.on('data', data => { body += data; });
      request.on('end', () => {
        response.setHeader('x-own', '1');
        response.statusCode = 201;
        response.end(JSON.stringify({ method: request.method, url: request.url, body, forwarded: request.headers['x-forwarded-for'] }));
      });
    });
    await new Promise(resolve => server.listen(0, '127.0.0.1', resolve));
    const client = await identify('app', 'client', { ip: `127.0.0.1:${server.address().port}` });
    await client.update({ n: 1 });
    assert.deepStrictEqual(await (await fetch(`http://${address}/api/version`)).json(), { api: 'v1', singyeong: '0.0.1' });
    const post = async (path, body) => {
      const response = await fetch(`http://${address}${path}`, {
        method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body),
      });
      return [response.status, await response.json(), response.headers];
    };
    const [, [found]] = await post('/api/v1/query', all('app'));
    assert.deepStrictEqual([found.app_id, found.client_id, found.metadata.n, found.metadata_types.n], ['app', 'client', 1, 'integer']);
    const request = { method: 'POST', route: '/hello?x=1', query: all('app'), body: { a: 1 } };
    const [status, answer, headers] = await post('/api/v1/proxy', request);
    assert.deepStrictEqual([status, headers.get('x-own')], [201, '1']);
    assert.deepStrictEqual(answer, { method: 'POST', url: '/hello?x=1', body: '{"a":1}', forwarded: '127.0.0.1' });
    // By another name of the same machine, which is not allowed.
    const hidden = await identify('hidden', 'client', { ip: '[::1]:1' });
    const [refused, { errors: [error] }] = await post('/api/v1/proxy', { ...request, query: all('hidden') });
    assert.strictEqual(refused, 400);
    assert.ok(error.startsWith('::1 is not to be asked'), error);
    await hidden.close();
    server.close();
  },
};

scenarios[scenario]().then(summary => {
  console.log(JSON.stringify(summary || {}));
  process.exit(0);
}, error => {
  console.error(error);
  process.exit(1);
});
