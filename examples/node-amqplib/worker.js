// A bot's slash commands, with amqplib: takes INTERACTION_CREATE, answers "pong", and asks Discord who has typed it.
//   AMQP_URL=amqp://user:password@host DISCORD_API=https://discord.com/api/v10 node worker.js
const amqp = require("amqplib");

const { AMQP_URL, DISCORD_API, BROKER_GROUP: GROUP = "gateway" } = process.env;
const [EVENT, ANSWERS] = ["INTERACTION_CREATE", "amq.rabbitmq.reply-to"];
const [PREFETCH, REMEMBERED] = [20, 10_000]; // so many at a time; so many message_ids, to tell what came twice
const [handled, working] = [new Set(), new Set()];
let stop;

async function handle(channel, body) {
  const { type, id, token, data, guild_id, member } = JSON.parse(body);
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
  channel.publish(GROUP, "SEND", Buffer.from(JSON.stringify(command)), { replyTo: ANSWERS, persistent: true });
}

async function take(channel, delivery) {
  const id = delivery.properties.messageId;
  const known = id && handled.has(id);
  if (id) handled.add(id);
  if (handled.size > REMEMBERED) handled.delete(handled.values().next().value); // the oldest
  const failure = known ? null : await handle(channel, delivery.content).catch((error) => error);
  if (failure) { console.log("failed", id, failure.message); handled.delete(id); }
  try { // acknowledged after the work. What fails is not tried again: Discord takes answers for 3 s only
    if (failure) channel.reject(delivery, false);
    else channel.ack(delivery);
  } catch { /* the connection was lost: RabbitMQ delivers it again */ }
}

async function setup(connection) { // once more after each loss of the connection
  connection.on("error", (error) => console.log("lost RabbitMQ:", error.message));
  const channel = await connection.createChannel();
  await channel.assertExchange(GROUP, "direct", { durable: true });
  await channel.assertQueue(`${GROUP}:${EVENT}`, { durable: true }); // no arguments: others declare it as well
  await channel.bindQueue(`${GROUP}:${EVENT}`, GROUP, EVENT);
  await channel.prefetch(PREFETCH);
  await channel.consume(ANSWERS, (answer) => console.log("gateway", String(answer.content)), { noAck: true });
  const { consumerTag } = await channel.consume(`${GROUP}:${EVENT}`, (delivery) => {
    if (!delivery) { console.log("the queue was deleted"); process.exit(1); } // to be started anew
    const work = take(channel, delivery).finally(() => working.delete(work));
    working.add(work);
  });
  stop = () => channel.cancel(consumerTag).catch(() => {}); // no more; what is under way is ended
}

amqp.connect(AMQP_URL, { recovery: { maxDelay: 5000, setup } }).then((connection) => {
  connection.on("error", () => {});
  process.once("SIGTERM", () => stop().then(() => Promise.all(working)).then(() => connection.close()));
});
