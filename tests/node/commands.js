// A worker as people write them with Spectacles: takes events, publishes a command, calls and reads the answer.
//
//   BROKER_ENCODING=json|msgpack NODE_PATH=… node commands.js AMQP_URL GROUP SHARDS
//
// Ends with 0 and a line of JSON when everything came, with 1 and the reason otherwise.
const { Amqp } = require('@spectacles/brokers');
const assert = require('assert');

const [url, group, shards] = process.argv.slice(2);
const PATIENCE = { expiration: 60000 };
// The library writes MessagePack unless told otherwise.
const JSON_BODIES = {
  serialize: data => Buffer.from(JSON.stringify(data)),
  deserialize: body => JSON.parse(body.toString()),
};

const [OWN, OTHER] = process.env.BROKER_ENCODING === 'msgpack' ? [{}, JSON_BODIES] : [JSON_BODIES, {}];

async function connect(options) {
  const broker = new Amqp(group, options);
  broker.on('error', fail);
  // It puts the scheme there itself.
  await broker.connect(url.replace('amqp://', ''));
  return broker;
}

function fail(error) {
  console.error(error);
  process.exit(1);
}

async function main() {
  const broker = await connect(OWN);
  const chunks = new Map();
  const guild = new Promise(resolve => broker.on('GUILD_CREATE', (guild, { ack }) => { ack(); resolve(guild.id); }));
  broker.on('GUILD_MEMBERS_CHUNK', (chunk, { ack }) => { ack(); expected(chunk.nonce).resolve(chunk); });
  function expected(nonce) {
    if (!chunks.has(nonce)) {
      const entry = {};
      entry.came = new Promise(resolve => { entry.resolve = resolve; });
      chunks.set(nonce, entry);
    }
    return chunks.get(nonce);
  }
  await broker.subscribe(['GUILD_CREATE', 'GUILD_MEMBERS_CHUNK']);
  console.log('bound');

  const guildId = await guild;
  assert.strictEqual(typeof guildId, 'string', 'an id is a text, whatever Discord wrote');
  const shard = Number((BigInt(guildId) >> 22n) % BigInt(shards));
  const members = nonce => ({ op: 8, d: { guild_id: guildId, query: 'm', limit: 3, nonce } });
  const answers = {};

  broker.publish(String(shard), members('published'));
  assert.strictEqual((await expected('published').came).members.length, 3);

  answers.shard = await broker.call(String(shard), members('called'), { ...PATIENCE });
  await expected('called').came;

  answers.guild = await broker.call('SEND', { guild_id: guildId, packet: members('sent') }, { ...PATIENCE });
  await expected('sent').came;

  answers.noGuild = await broker.call('SEND', { packet: members('no guild') }, { ...PATIENCE });
  answers.identify = await broker.call(String(shard), { op: 2, d: {} }, { ...PATIENCE });

  const other = await connect(OTHER);
  // A map of three, which begins like a term of Erlang's.
  const command = { guild_id: guildId, packet: members('in the other'), trace: null };
  answers.other = await other.call('SEND', command, { ...PATIENCE });
  await expected('in the other').came;

  assert.deepStrictEqual([...chunks.keys()], ['published', 'called', 'sent', 'in the other']);
  console.log(JSON.stringify({ shard, answers }));
  process.exit(0);
}

main().catch(fail);
