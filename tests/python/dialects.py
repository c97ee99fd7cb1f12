"""Reads values in Erlang's term format and in MessagePack, and writes them.

For each line {"json", "etf", "msgpack", "text"} on standard input, the last three in hexadecimal digits, it prints a line with what it
read in JSON, and what it wrote itself: {"etf", "msgpack", "text", "packed_etf", "packed_msgpack"}.
"""
import json
import sys

import erlpack
import msgpack


def of_erlang(term):
    if isinstance(term, bytes):
        return term.decode()
    if isinstance(term, (list, tuple)):
        return [of_erlang(item) for item in term]
    if isinstance(term, dict):
        return {of_erlang(key): of_erlang(value) for key, value in term.items()}
    return term


for line in sys.stdin if __name__ == "__main__" else ():
    line = json.loads(line)
    etf, packed, text = (bytes.fromhex(line[name]) for name in ("etf", "msgpack", "text"))
    value = json.loads(line["json"])
    print(
        json.dumps(
            {
                "etf": json.dumps(of_erlang(erlpack.unpack(etf))),
                "msgpack": json.dumps(msgpack.unpackb(packed)),
                "text": msgpack.unpackb(text),
                "packed_etf": erlpack.pack(value).hex(),
                "packed_msgpack": msgpack.packb(value).hex(),
            }
        )
    )
