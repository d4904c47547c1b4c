"""People first write this on Litestar: its channels in memory and its `ServerSentEvent`, with nothing kept.

    python -m loadtests.bench.events.peer_litestar PORT

Events have ids and topics. Litestar sends no pings. Nothing is kept: a reader that comes back has missed what came
meanwhile; so has, without being told, one that falls behind by a whole queue.
"""

import itertools
import sys
from collections.abc import AsyncIterator

import uvicorn
from litestar import Litestar, Request, get, post
from litestar.channels import ChannelsPlugin
from litestar.channels.backends.memory import MemoryChannelsBackend
from litestar.response import ServerSentEvent, ServerSentEventMessage

MOST_UNREAD = 10_000
numbers = itertools.count(1)


@get("/events")
async def events(channels: ChannelsPlugin, topic: str) -> ServerSentEvent:
    async def channel_events() -> AsyncIterator[ServerSentEventMessage]:
        async with channels.start_subscription([topic]) as subscriber:
            async for message in subscriber.iter_events():
                number, _, data = message.partition(b" ")
                yield ServerSentEventMessage(data, id=number.decode())

    return ServerSentEvent(channel_events())


@post("/publish")
async def publish(channels: ChannelsPlugin, topic: str, request: Request) -> None:
    channels.publish(b"%d %b" % (next(numbers), await request.body()), [topic])


@get("/readyz")
async def readyz() -> None:
    """Answers that it can serve."""


plugin = ChannelsPlugin(MemoryChannelsBackend(), arbitrary_channels_allowed=True, subscriber_max_backlog=MOST_UNREAD)
app = Litestar([events, publish, readyz], plugins=[plugin])

if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), loop="uvloop", http="httptools", access_log=False, log_level="warning")
