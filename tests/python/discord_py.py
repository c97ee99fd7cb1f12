"""discord.py against Optic's simulator: log in with two shards, read messages, live through a forced reconnect.

    discord_py.py http://127.0.0.1:PORT

Ends with 0 and a line of JSON when everything came, with 1 and the reason otherwise.
"""
import asyncio
import json
import logging
import sys
import urllib.error
import urllib.request

import discord
import yarl

base = sys.argv[1]
discord.http.Route.BASE = f"{base}/api/v10"
# Asked for only where the shard count is not given; set, nothing goes anywhere else by mistake.
discord.gateway.DiscordWebSocket.DEFAULT_GATEWAY = yarl.URL(base.replace("http", "ws", 1))
PATIENCE = 60


def control(request):
    try:
        urllib.request.urlopen(urllib.request.Request(f"{base}/control/{request}", method="POST"), timeout=10).read()
    except urllib.error.HTTPError as error:
        raise SystemExit(f"{request}: {error.read().decode()}")


class Failures(logging.Handler):
    """What discord.py logs as an error is a payload that it did not understand."""

    def __init__(self):
        super().__init__(logging.ERROR)
        self.texts = []

    def emit(self, record):
        self.texts.append(self.format(record))


class Bot(discord.AutoShardedClient):
    def __init__(self):
        super().__init__(intents=discord.Intents.all(), shard_count=2, chunk_guilds_at_startup=False)
        self.messages = 0
        self.raw = 0
        self.problems = []
        self.enough = asyncio.Event()
        self.was_ready = asyncio.Event()
        self.was_resumed = asyncio.Event()

    async def on_ready(self):
        self.was_ready.set()

    async def on_message(self, message):
        assert message.author.id and message.channel.id
        self.messages += 1
        if self.messages >= 20:
            self.enough.set()

    async def on_shard_resumed(self, shard_id):
        self.was_resumed.set()

    async def on_socket_event_type(self, event_type):
        self.raw += 1

    async def on_error(self, event_method, *args, **kwargs):
        self.problems.append(f"{event_method}: {sys.exc_info()[1]!r}")


async def main():
    failures = Failures()
    logging.getLogger("discord").addHandler(failures)
    bot = Bot()
    running = asyncio.create_task(bot.start("offline"))

    async def expect(event, what):
        waiting = asyncio.create_task(event.wait())
        await asyncio.wait({waiting, running}, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
        if not event.is_set():
            raise SystemExit(f"{what} did not come within {PATIENCE} s")

    await expect(bot.was_ready, "on_ready")
    await expect(bot.enough, "on_message")
    # Every kind of event there is an example of, once.
    for name in sys.argv[2:]:
        await asyncio.to_thread(control, f"event?shard=0&name={name}")
        await asyncio.sleep(0)
        if running.done():
            running.result()
    await asyncio.to_thread(control, "reconnect?shard=0")
    await expect(bot.was_resumed, "on_shard_resumed")
    bot.messages = 0
    bot.enough.clear()
    await expect(bot.enough, "on_message after the resume")
    summary = {"discord.py": discord.__version__, "shards": len(bot.shards), "guilds": len(bot.guilds), "events": bot.raw}
    await bot.close()
    problems = bot.problems + failures.texts
    if problems:
        raise SystemExit("\n".join(problems))
    print(json.dumps(summary))


asyncio.run(main())
