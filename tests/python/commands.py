"""A worker as people write them, with pika: takes events, publishes a command, asks and reads the answer.

    BROKER_ENCODING=json|etf|msgpack|msgpack-text commands.py AMQP_URL GROUP SHARDS

Ends with 0 and a line of JSON when everything came, with 1 and the reason otherwise.
"""
import json
import os
import sys
import time
import uuid

import erlpack
import msgpack
import pika

from dialects import of_erlang

url, group, shards = sys.argv[1], sys.argv[2], int(sys.argv[3])
PATIENCE = 60

# What bodies are declared as, written with, and read with.
CONTENT_TYPE, dumps, loads = {
    "json": ("application/json", json.dumps, json.loads),
    "etf": ("application/vnd.erlang.etf", erlpack.pack, lambda body: of_erlang(erlpack.unpack(body))),
    "msgpack": ("application/msgpack", msgpack.packb, msgpack.unpackb),
    # As Spectacles' client for Go has it.
    "msgpack-text": (
        "application/msgpack",
        lambda value: msgpack.packb(json.dumps(value)),
        lambda body: json.loads(msgpack.unpackb(body)),
    ),
}[os.environ["BROKER_ENCODING"]]

connection = pika.BlockingConnection(pika.URLParameters(url))
channel = connection.channel()
channel.exchange_declare(group, "direct", durable=True)
events, answers, chunks = {}, {}, {}


def subscribe(event, take):
    def on_message(channel, method, properties, body):
        assert properties.content_type == CONTENT_TYPE, properties
        take(loads(body))
        channel.basic_ack(method.delivery_tag)

    channel.queue_declare(f"{group}:{event}", durable=True)
    channel.queue_bind(f"{group}:{event}", group, event)
    channel.basic_consume(f"{group}:{event}", on_message)


def on_answer(channel, method, properties, body):
    assert properties.content_type == CONTENT_TYPE, properties
    answers[properties.correlation_id] = loads(body)


subscribe("GUILD_CREATE", lambda guild: events.setdefault("guild", guild["id"]))
subscribe("GUILD_MEMBERS_CHUNK", lambda chunk: chunks.setdefault(chunk["nonce"], chunk))
channel.basic_consume("amq.rabbitmq.reply-to", on_answer, auto_ack=True)
print("bound", flush=True)


def wait(where, name):
    until = time.monotonic() + PATIENCE
    while name not in where:
        if time.monotonic() > until:
            raise SystemExit(f"{name} did not come within {PATIENCE} s")
        connection.process_data_events(time_limit=1)
    return where[name]


def publish(key, body, **properties):
    properties = pika.BasicProperties(content_type=CONTENT_TYPE, delivery_mode=2, **properties)
    channel.basic_publish(group, key, dumps(body), properties)


def ask(key, body):
    name = uuid.uuid4().hex
    publish(key, body, reply_to="amq.rabbitmq.reply-to", correlation_id=name)
    return wait(answers, name)


guild = wait(events, "guild")
shard = (int(guild) >> 22) % shards


def members(nonce):
    return {"op": 8, "d": {"guild_id": guild, "query": "m", "limit": 3, "nonce": nonce}}


publish(str(shard), members("published"))
assert len(wait(chunks, "published")["members"]) == 3

got = {"shard": ask(str(shard), members("called"))}
wait(chunks, "called")
got["guild"] = ask("SEND", {"guild_id": int(guild), "packet": members("sent")})
wait(chunks, "sent")
got["noGuild"] = ask("SEND", {"packet": members("no guild")})
got["identify"] = ask(str(shard), {"op": 2, "d": {}})
assert list(chunks) == ["published", "called", "sent"], chunks
connection.close()
print(json.dumps({"shard": shard, "answers": got}))
