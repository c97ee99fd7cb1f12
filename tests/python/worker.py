"""A worker as people write them, with pika: takes MESSAGE_CREATE of a group, and checks what it gets.

    worker.py AMQP_URL GROUP COUNT

Ends with 0 and a line of JSON after COUNT different events, with 1 and the reason otherwise.
"""
import json
import sys

import pika

url, group, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
EVENT = "MESSAGE_CREATE"

connection = pika.BlockingConnection(pika.URLParameters(url))
channel = connection.channel()
channel.exchange_declare(group, "direct", durable=True)
channel.queue_declare(f"{group}:{EVENT}", durable=True)
channel.queue_bind(f"{group}:{EVENT}", group, EVENT)
channel.basic_qos(prefetch_count=50)
print("bound", flush=True)

seen, again, shards, last = set(), 0, set(), {}
for method, properties, body in channel.consume(f"{group}:{EVENT}", inactivity_timeout=60):
    if method is None:
        raise SystemExit(f"nothing came for 60 s, after {len(seen)} events")
    if properties.message_id in seen:
        again += 1
        channel.basic_ack(method.delivery_tag)
        continue
    assert method.exchange == group and method.routing_key == EVENT, method
    assert properties.content_type == "application/json", properties
    assert properties.delivery_mode == 2, properties
    assert properties.type == EVENT and properties.app_id == "optic", properties
    assert properties.timestamp > 1_600_000_000 and properties.expiration is None, properties
    session, sequence = properties.message_id.rsplit(":", 1)
    shard = properties.headers["shard"]
    message = json.loads(body)
    assert isinstance(message, dict) and int(message["id"]) and message["author"]["id"], message
    if "guild_id" in message:
        assert (int(message["guild_id"]) >> 22) % 2 == shard, (message["guild_id"], shard)
    # Nothing went wrong, so that they come in order.
    assert int(sequence) > last.get(session, 0), (session, sequence, last)
    last[session] = int(sequence)
    seen.add(properties.message_id)
    shards.add(shard)
    channel.basic_ack(method.delivery_tag)
    if len(seen) == count:
        break

channel.cancel()
connection.close()
print(json.dumps({"events": len(seen), "again": again, "shards": sorted(shards)}))
