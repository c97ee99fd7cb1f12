"""A bot's slash commands, with aio-pika: takes INTERACTION_CREATE, answers "pong", and asks Discord who has typed it.
AMQP_URL=amqp://user:password@host DISCORD_API=https://discord.com/api/v10 python worker.py"""
import asyncio, json, os, signal
import aio_pika, aiohttp

GROUP, EVENT = os.environ.get("BROKER_GROUP", "gateway"), "INTERACTION_CREATE"
API = os.environ.get("DISCORD_API")  # to answer is REST, the worker's own business; not set: it only says what it got
PREFETCH, REMEMBERED = 20, 10_000  # so many at a time; so many message_ids, to tell what came twice

async def main():
    stop, handled, working = asyncio.Event(), {}, set()
    connection = await aio_pika.connect_robust(os.environ["AMQP_URL"], fail_fast=False)  # comes back, with all below
    for name in ("SIGTERM", "SIGINT"):
        asyncio.get_running_loop().add_signal_handler(getattr(signal, name), stop.set)
    async with aiohttp.ClientSession() as http:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=PREFETCH)
        exchange = await channel.declare_exchange(GROUP, "direct", durable=True)
        queue = await channel.declare_queue(f"{GROUP}:{EVENT}", durable=True)  # no arguments: others declare it as well
        await queue.bind(exchange, EVENT)
        answers = await channel.get_queue("amq.rabbitmq.reply-to")

        async def handle(interaction):
            if interaction["type"] != 2:  # a button or the like
                return
            print("command", "/" + interaction["data"]["name"], flush=True)
            if API:
                url = f"{API}/interactions/{interaction['id']}/{interaction['token']}/callback"
                async with http.post(url, json={"type": 4, "data": {"content": "pong"}}) as answer:
                    answer.raise_for_status()
            if "guild_id" in interaction:  # SEND finds the guild's shard; the member comes as GUILD_MEMBERS_CHUNK
                d = {"guild_id": interaction["guild_id"], "user_ids": [interaction["member"]["user"]["id"]]}
                body = json.dumps({"guild_id": interaction["guild_id"], "packet": {"op": 8, "d": d}}).encode()
                await exchange.publish(aio_pika.Message(body, reply_to=answers.name, delivery_mode=2), "SEND")

        async def take(message):
            working.add(asyncio.current_task())
            try:  # acknowledged after the work. What fails is not tried again: Discord takes answers for 3 s only
                async with message.process(requeue=False):
                    done = message.message_id in handled
                    handled.update({message.message_id: True} if message.message_id else {})
                    if len(handled) > REMEMBERED:
                        handled.pop(next(iter(handled)))  # the oldest
                    if not done:
                        await handle(json.loads(message.body))
                        done = True
            except Exception as error:  # a lost connection, too: RabbitMQ delivers again what was not acknowledged
                handled.pop(None if done else message.message_id, None)
                print("failed", message.message_id, repr(error), flush=True)
            working.discard(asyncio.current_task())

        await answers.consume(lambda answer: print("gateway", answer.body.decode(), flush=True), no_ack=True)
        tag = await queue.consume(take)
        await stop.wait()
        await asyncio.wait([asyncio.ensure_future(queue.cancel(tag))], timeout=5)  # no more; RabbitMQ may be away
        await asyncio.wait([asyncio.gather(*working)], timeout=5)  # what is under way is ended
    await connection.close()

asyncio.run(main())
