"""A service that runs a shard of its own: asks for it over AMQP, connects to Discord with what it got, and identifies at once.

    amybot.py AMQP_URL GROUP GATEWAY_URL

Says a line of JSON when it is ready, and then waits to be killed.
"""
import asyncio
import json
import sys

import aiohttp
import pika

url, group, gateway = sys.argv[1:4]
PATIENCE = 60


def ask_for_a_shard():
    """Asks until it gets one: of a service that has just died, the shard may come back any moment."""
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    queue = channel.queue_declare("", exclusive=True).method.queue
    answers = channel.consume(queue, auto_ack=True, inactivity_timeout=PATIENCE)

    def ask(data):
        properties = pika.BasicProperties(content_type="application/json", reply_to=queue, correlation_id="ask")
        body = json.dumps({"s": "shards", "t": "gateway:opcode", "d": data})
        channel.basic_publish(group, "gateway", body, properties)
        method, properties, body = next(answers)
        if method is None:
            raise SystemExit(f"no answer to {data} within {PATIENCE} s")
        assert properties.correlation_id == "ask", properties
        answer = json.loads(body)
        assert (answer["s"], answer["t"]) == ("gateway", "gateway:opcode"), answer
        return answer["d"]

    told = ask({"opcode": 0})
    assert told == {"opcode": 0, "accepted": True}, told
    refusals = 0
    while (told := ask({"opcode": "10"}))["opcode"] != 11:
        assert told["opcode"] == 10 and told["accepted"] is False and told["reason"], told
        refusals += 1
        connection.sleep(0.05)
    # Without its queue, a service is taken for dead.
    return connection, told["shard_id"], told["shard_count"], refusals


async def run(shard_id, shard_count, refusals):
    async with aiohttp.ClientSession() as session, session.ws_connect(f"{gateway}/?v=10&encoding=json") as socket:
        hello = await socket.receive_json(timeout=PATIENCE)
        assert hello["op"] == 10, hello
        identify = {
            "token": "simulated",
            "intents": 1,
            "shard": [shard_id, shard_count],
            "properties": {"os": "linux", "browser": "test", "device": "test"},
        }
        await socket.send_json({"op": 2, "d": identify})
        ready = await socket.receive_json(timeout=PATIENCE)
        assert ready["t"] == "READY" and ready["d"]["shard"] == [shard_id, shard_count], ready
        print(json.dumps({"shard": shard_id, "count": shard_count, "refusals": refusals}), flush=True)
        await asyncio.Event().wait()


connection, *shard = ask_for_a_shard()
asyncio.run(run(*shard))
