// A bot's slash commands, with Spectacles: takes INTERACTION_CREATE, answers "pong", and asks Discord who has typed it.
//   AMQP_URL=amqp://user:password@host DISCORD_API=https://discord.com/api/v10 node worker.js
const { Amqp } = require("@spectacles/brokers");
const amqp = require("amqplib");

const { AMQP_URL, DISCORD_API, BROKER_GROUP: GROUP = "gateway" } = process.env;
const [EVENT, PREFETCH, REMEMBERED] = ["INTERACTION_CREATE", 20, 10_000]; // so many at a time; so many ids kept
const [handled, working] = [new Set(), new Set()];
const json = { serialize: (data) => Buffer.from(JSON.stringify(data)), deserialize: (body) => JSON.parse(body) };
const broker = new Amqp(GROUP, json); // without that it writes MessagePack

async function handle({ type, id, token, data, guild_id, member }) {
  if (type !== 2) return; // a button or the like
  console.log("command", `/${data.name}`);
  if (DISCORD_API) { // to answer is REST, and the worker's own business; not set: it only says what it got
    const [headers, pong] = [{ "content-type": "application/json" }, { type: 4, data: { content: "pong" } }];
    const url = `${DISCORD_API}/interactions/${id}/${token}/callback`;
    const answer = await fetch(url, { method: "POST", headers, body: JSON.stringify(pong) });
    if (!answer.ok) throw new Error(`Discord answered ${answer.status}`);
  }
  if (!guild_id) return; // else SEND finds the guild's shard; the member comes as GUILD_MEMBERS_CHUNK
  const command = { guild_id, packet: { op: 8, d: { guild_id, user_ids: [member.user.id] } } };
  broker.call("SEND", command, { expiration: 60_000, persistent: true })
    .then((answer) => console.log("gateway", JSON.stringify(answer)), (error) => console.log("gateway", error.message));
}

async function take(interaction, { ack, reject }) {
  const [channel, id] = [broker.channel, interaction?.id]; // message_id is not passed on; the interaction's id serves
  const known = id && handled.has(id); // it came twice
  if (id) handled.add(id);
  if (handled.size > REMEMBERED) handled.delete(handled.values().next().value); // the oldest
  const failure = known ? null : await handle(interaction).catch((error) => error);
  if (failure) { console.log("failed", id, failure.message); handled.delete(id); }
  if (broker.channel !== channel) return; // reconnected: it is delivered again, and this ack would hit another message
  try { // acknowledged after the work. What fails is not tried again: Discord takes answers for 3 s only
    if (failure) reject(false);
    else ack();
  } catch { /* the connection was lost: RabbitMQ delivers it again */ }
}

broker.on("error", (error) => console.log("failed", error.message)); // no JSON: Spectacles has rejected it
broker.on(EVENT, (...event) => {
  const work = take(...event).finally(() => working.delete(work));
  working.add(work);
});

async function setup(connection) { // after each loss, too: Spectacles comes back seldom, and without its queues
  connection.on("error", (error) => console.log("lost RabbitMQ:", error.message));
  await broker.connect(connection);
  broker.channel.on("cancel", () => { console.log("the queue was deleted"); process.exit(1); }); // to be started anew
  await broker.channel.prefetch(PREFETCH);
  await broker.subscribe(EVENT);
}

amqp.connect(AMQP_URL, { recovery: { maxDelay: 5000, setup } }).then((connection) => {
  const ended = () => Promise.all(working).then(() => connection.close()).then(() => process.exit()); // waits no more
  connection.on("error", () => {});
  process.once("SIGTERM", () => broker.unsubscribe([EVENT]).catch(() => {}).then(ended)); // what is under way is ended
});
