"""shinkei 0.1.6, as it is, which writes queries in the form of 2018: clients find each other, over a restart, too.

    python shinkei_client.py PORT PASSWORD

Says "restart" when the server is to be, and ends with 0 and a line of JSON when everything was as it must be.
"""
import asyncio
import json
import os
import sys
import traceback

import shinkei
from shinkei import Node, QueryBuilder, VersionMetadata

PATIENCE = 90
PORT, PASSWORD = sys.argv[1:]
URL = f'singyeong://127.0.0.1:{PORT}'
VALUES = [None, True, 0, -1, 1.5, 2 ** 40, 'text', '신경', [], [[1], {}], {'a': {'b': None}}]


class Member(shinkei.Handler):
    """What a client of the library was told."""

    def __init__(self):
        self.ready = asyncio.Semaphore(0)
        self.received = asyncio.Queue()
        self.errors = asyncio.Queue()

    @classmethod
    async def connect(cls, application, client, password=PASSWORD, **more):
        self = cls()
        self.client = await shinkei.connect(URL, application, client, password, handlers=[self], **more)
        await self.is_ready()
        return self

    async def is_ready(self):
        await asyncio.wait_for(self.ready.acquire(), PATIENCE)

    async def next(self):
        return await asyncio.wait_for(self.received.get(), PATIENCE)

    @shinkei.listens_to('ready')
    async def on_ready(self):
        self.ready.release()

    @shinkei.listens_to('data')
    async def on_data(self, data):
        await self.received.put(data)

    @shinkei.listens_to('error')
    async def on_error(self, message):
        await self.errors.put(message)


def query(**more):
    return QueryBuilder('workers', more.pop('key', None), **more)


async def look(seeker, workers, restricted):
    """Asks everything that there is to ask, and looks at who was reached."""
    async def reached(label, to):
        """Which workers a broadcast reaches."""
        await seeker.client.broadcast(label, target=to, nonce=label)
        await seeker.client.broadcast('end', target=query(restricted=True), nonce=label)
        found = set()
        for name, member in {**workers, 'restricted': restricted}.items():
            while True:
                message = await member.next()
                assert message.nonce == label, (label, message.nonce, message.payload)
                if message.payload == 'end':
                    break
                assert message.payload == label, message.payload
                found.add(name)
        return found

    cases = {
        'all': (query(), {1, 2, 3}),
        'restricted': (query(restricted=True), {1, 2, 3, 'restricted'}),
        'eq': (query().eq('n', 2), {2}),
        'ne': (query().ne('n', 2), {1, 3}),
        'gt': (query().gt('n', 1), {2, 3}),
        'gte': (query().gte('n', 2), {2, 3}),
        'lt': (query().lt('n', 2), {1}),
        'lte': (query().lte('n', 2), {1, 2}),
        'several': (query().gt('n', 1).lt('n', 3), {2}),
        'inside': (query().inside('n', [1, 3]), {1, 3}),
        'ninside': (query().ninside('n', [1, 3]), {2}),
        'contains': (query().contains('list', 2), {2}),
        'ncontains': (query().ncontains('list', 2), {1, 3}),
        'text': (query().eq('text', 'w3'), {3}),
        'version': (query().gt('version', '1.9.0'), {2, 3}),
        'also': (query().also('n', Node().gt(1).lt(3)), {2}),
        'either': (query().either('n', Node().eq(1).eq(3)), {1, 3}),
        'neither': (query().neither('n', Node().eq(1).eq(3)), {2}),
        'optional': (query(optional=True).eq('n', 99), {1, 2, 3}),
    }
    for label, (to, expected) in cases.items():
        found = await reached(label, to)
        assert found == expected, f'{label}: {found}'
    for value in VALUES:
        await seeker.client.send(value, target=query().eq('n', 2), nonce=value)
        message = await workers[2].next()
        assert (message.payload, message.nonce) == (value, value), (message.payload, message.nonce)
    # Nobody matches: told by op 3, which the library raises and goes on.
    await seeker.client.send('nobody', target=query().eq('n', 99), nonce='n')
    assert await asyncio.wait_for(seeker.errors.get(), PATIENCE) == 'no_route'


async def update(workers):
    # Not kept by the library: what it keeps it cannot send again.
    for n, worker in workers.items():
        await worker.client.update_metadata({
            'n': n, 'text': f'w{n}', 'float': n / 2, 'list': [n, n * 10], 'version': VersionMetadata(f'1.{n * 8}.0'),
        }, cache=False)


async def settled(seeker, members):
    """Each tells the seeker that it is there, behind what it said of itself."""
    for name, member in members.items():
        await member.client.send(name, target=QueryBuilder('seekers', None))
    told = {(await seeker.next()).payload for _ in members}
    assert told == set(members), told


async def main():
    seeker = await Member.connect('seekers', 'seeker', tags=['a'])
    workers = {n: await Member.connect('workers', f'worker-{n}', proxy_ip='10.0.0.1:80') for n in (1, 2, 3)}
    restricted = await Member.connect('workers', 'restricted', password='wrong')
    assert restricted.client.restricted and not seeker.client.restricted
    assert (seeker.client.version.api, seeker.client.version.singyeong) == ('v1', '0.0.1')
    try:
        await seeker.client.discover(['a'])
        raise AssertionError('tags are gone since 2020')
    except shinkei.ShinkeiHTTPException as error:
        assert error.code == 404, error

    await update(workers)
    await settled(seeker, workers)
    await look(seeker, workers, restricted)

    print('restart', flush=True)
    members = [seeker, restricted, *workers.values()]
    for member in members:
        await member.is_ready()
    await update(workers)
    await settled(seeker, workers)
    await look(seeker, workers, restricted)
    for member in members:
        await member.client.close()
    return {'members': len(members)}


try:
    summary = asyncio.get_event_loop().run_until_complete(main())
    print(json.dumps(summary), flush=True)
    os._exit(0)
except BaseException:
    traceback.print_exc()
    sys.stderr.flush()
    os._exit(1)
