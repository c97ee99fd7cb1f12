"""singyeong.py 1.0.1, as it is: clients in JSON and MessagePack find each other, over a restart of the server, too.

    python singyeong_py.py PORT PASSWORD

Says "restart" when the server is to be, and ends with 0 and a line of JSON when everything was as it must be.
"""
import asyncio
import json
import os
import sys
import traceback

import singyeong
from singyeong import (Average, Contains, Equal, GreaterThan, GreaterThanEqual, In, LessThan, LessThanEqual, Maximum,
                       Minimum, NotContains, NotEqual, Target, VersionType)

PATIENCE = 90
PORT, PASSWORD = sys.argv[1:]
VALUES = [None, True, 0, -1, 1.5, 2 ** 40, 'text', '신경', [], [[1], {}], {'a': {'b': None}}]


class Member:
    """A client of the library, and what it has received."""

    def __init__(self, application, encoding, password=PASSWORD):
        # The library takes no host with dots.
        self.client = singyeong.Client(f'singyeong://{application}:{password}@localhost:{PORT}/?encoding={encoding}')
        self.client.on_ready = self.on_ready
        self.client.on_raw_packet = self.on_raw_packet
        self.ready = asyncio.Semaphore(0)
        self.received = asyncio.Queue()
        self.task = asyncio.ensure_future(self.client.connect())

    async def on_ready(self):
        self.ready.release()

    async def on_raw_packet(self, message):
        assert isinstance(message.timestamp, int)
        await self.received.put(message)

    async def is_ready(self):
        await asyncio.wait_for(self.ready.acquire(), PATIENCE)

    async def next(self):
        return await asyncio.wait_for(self.received.get(), PATIENCE)


def target(*operators, **more):
    return Target(application='workers', operators=list(operators), **more)


async def look(seeker, workers, restricted):
    """Asks everything that there is to ask, and looks at who was reached."""
    async def reached(label, to):
        """Which workers a broadcast reaches."""
        await seeker.client.broadcast(to, label, nonce=label)
        await seeker.client.broadcast(Target(application='workers', restricted=True), 'end', nonce=label)
        found = set()
        for name, member in {**workers, 'restricted': restricted}.items():
            while True:
                message = await member.next()
                assert (message.nonce, message.event_name) == (label, 'BROADCAST'), message
                if message.payload == 'end':
                    break
                assert message.payload == label, message
                found.add(name)
        return found

    cases = {
        'all': (target(), {1, 2, 3}),
        'restricted': (target(restricted=True), {1, 2, 3, 'restricted'}),
        'eq': (target(Equal('/n', 2)), {2}),
        'float is integer': (target(Equal('/n', 2.0)), {2}),
        'ne': (target(NotEqual('/n', 2)), {1, 3}),
        'gt': (target(GreaterThan('/n', 1)), {2, 3}),
        'gte': (target(GreaterThanEqual('/n', 2)), {2, 3}),
        'lt': (target(LessThan('/n', 2)), {1}),
        'lte': (target(LessThanEqual('/n', 2)), {1, 2}),
        'and': (target(GreaterThan('/n', 1), LessThan('/n', 3)), {2}),
        'in': (target(In('/n', [1, 3, 'x'])), {1, 3}),
        'contains': (target(Contains('/list', 2)), {2}),
        'ncontains': (target(NotContains('/list', 2)), {1, 3}),
        'text': (target(Equal('/text', 'w3')), {3}),
        'version': (target(GreaterThan('/version', VersionType('1.9.0'))), {2, 3}),
        'missing': (target(NotEqual('/none', 1)), set()),
        'min': (target(selector=Minimum('n')), {1}),
        'max': (target(selector=Maximum('n')), {3}),
        'avg': (target(selector=Average('n')), {2}),
        'optional': (target(Equal('/n', 99), optional=True), {1, 2, 3}),
        'droppable': (target(Equal('/n', 99), droppable=True), set()),
    }
    for label, (to, expected) in cases.items():
        found = await reached(label, to)
        assert found == expected, f'{label}: {found}'

    for value in VALUES:
        await seeker.client.send(target(Equal('/n', 2)), value, nonce=value)
        message = await workers[2].next()
        assert (message.event_name, message.payload, message.nonce) == ('SEND', value, value), message
    chosen = set()
    for n in range(5):
        await seeker.client.send(target(key='k'), n)
        getting = {asyncio.ensure_future(worker.received.get()): name for name, worker in workers.items()}
        done, waiting = await asyncio.wait(list(getting), timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        assert [future.result().payload for future in done] == [n], done
        chosen.update(getting[future] for future in done)
        for future in waiting:
            future.cancel()
    assert len(chosen) == 1, chosen


async def settled(seeker, members):
    """Each tells the seeker that it is there, behind what it said of itself."""
    for name, member in members.items():
        await member.client.send(Target(application='seekers'), name)
    told = {(await seeker.next()).payload for _ in members}
    assert told == set(members), told


async def main():
    seeker = Member('seekers', 'json')
    workers = {n: Member('workers', 'msgpack' if n == 2 else 'json') for n in (1, 2, 3)}
    restricted = Member('workers', 'json', password='wrong')
    members = [seeker, restricted, *workers.values()]
    for member in members:
        await member.is_ready()
    for n, worker in workers.items():
        await worker.client.update_metadata({
            'n': n, 'text': f'w{n}', 'float': n / 2, 'list': [n, n * 10], 'version': VersionType(f'1.{n * 8}.0'),
        })
    await settled(seeker, workers)
    await look(seeker, workers, restricted)
    for worker in workers.values():
        assert worker.client.latency < PATIENCE * 1000, 'the heartbeat was answered'

    print('restart', flush=True)
    for member in members:
        await member.is_ready()
    # The library says again what it is, when it is ready again.
    await settled(seeker, workers)
    await look(seeker, workers, restricted)
    return {'members': len(members)}


try:
    summary = asyncio.get_event_loop().run_until_complete(main())
    print(json.dumps(summary), flush=True)
    os._exit(0)
except BaseException:
    traceback.print_exc()
    sys.stderr.flush()
    os._exit(1)
