"""Hears what other processes have written: one subscription per process, whatever the number of topics followed.

All processes publish on one channel, once per group, and each picks what is followed here. With a channel per topic
Redis would have to be told of each reader that comes and goes, and a group of a hundred topics would be a hundred
messages. A small group is carried in its message, which saves a read; of a larger one the message only says that there
is something to be read. One that is lost on the way costs no event: what follows it leaves a hole that is read, and
everything followed is compared with what Redis holds after each connection, and every IDLE_S.
"""

import asyncio
from collections.abc import Callable, Sequence

import msgspec
import structlog
from redis.exceptions import ResponseError

from events.log.port import Block, Commit, Interest
from events.log.redis.address import RedisAddress
from events.log.redis.connect import Backoff, RedisConnection, dial, unavailable
from events.log.redis.heads import Heads, TopicNews
from events.log.redis.outage import Outage
from events.log.redis.reader import RedisPool, RedisReader
from events.log.rules import report_end
from gateway.errors import LogUnavailable

log = structlog.get_logger("log")

IDLE_S = 10.0
"""Seconds between two comparisons of all topics that are followed; a connection silent for twice as long is dropped."""
MISSED_TOPICS = 5000
"""Topics, last changed first, among which those are looked for that were made while the subscription was cut."""
START_S = 5.0
"""Seconds within which it must be listening when the log is opened."""

_unpack = msgspec.msgpack.Decoder(tuple[str, list[TopicNews]]).decode


class NewsReader:
    """Owns the subscription. `name` is that of this process, whose own news come with its appends.

    It ends with the number of the database, because channels are the same in all databases of a server.
    """

    def __init__(
        self,
        address: RedisAddress,
        name: str,
        *,
        announce: Callable[[Sequence[Commit]], None],
        interest: Callable[[], Interest],
        pool: RedisPool,
        heads: Heads,
        outage: Outage,
    ) -> None:
        self._address = address
        self._name = name
        self._database = name.rpartition(".")[2]
        self._announce = announce
        self._interest = interest
        self._pool = pool
        self._heads = heads
        self._outage = outage
        self._connection: RedisConnection | None = None
        self._heard = True
        """Whether anything came since the last ping."""
        self._is_subscribed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begins to listen, and returns once nothing can be missed any more. Raises TimeoutError."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._follow(), name="log-news"), loop.create_task(self._check())]
        for task in self._tasks:
            task.add_done_callback(report_end)
        async with asyncio.timeout(START_S):
            await self._is_subscribed.wait()

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._hang_up()

    async def _hang_up(self) -> None:
        if self._connection is not None:
            await self._connection.close()

    async def _follow(self) -> None:
        backoff = Backoff()
        while True:
            try:
                self._connection = await dial(self._address)
                (reply,) = await self._connection.ask(("SUBSCRIBE", f"{self._address.prefix}news"))
                if isinstance(reply, ResponseError):
                    raise unavailable(reply)
                self._outage.note_success()
                await self._compare()
                if self._is_subscribed.is_set():
                    await self._look_for_new_topics()
                self._is_subscribed.set()
                backoff = Backoff()
                await self._hear(self._connection)
            except LogUnavailable as err:
                self._outage.note_failure(err)
                await self._hang_up()
                await asyncio.sleep(backoff.next_delay())

    async def _hear(self, connection: RedisConnection) -> None:
        while True:
            message = await connection.message()
            self._heard = True
            self._outage.note_success()
            if message[0] == b"message":
                self._tell(message[2])

    def _tell(self, payload: bytes) -> None:
        try:
            size, _, rest = payload.partition(b" ")
            name, news = _unpack(rest[: int(size)])
        except (ValueError, msgspec.DecodeError):
            log.warning("a message on the channel of the log is not of this version", size=len(payload))
            return
        if name == self._name or (name and name.rpartition(".")[2] != self._database):
            return
        interest, at = self._interest(), int(size)
        commits: list[Commit] = []
        for item in news:
            start, at = at, at + item.size
            if item.topic in interest:
                is_next = self._heads.may_follow(item.topic, item.epoch)
                block = carried_block(item, rest[start:at]) if is_next else None
                commits.append(Commit(topic=item.topic, epoch=item.epoch, block=block, closed=item.closed))
                self._heads.note_news([item])
        if commits:
            self._announce(commits)

    async def _compare(self) -> None:
        commits = await self._heads.compare(self._pool.run, self._interest())
        if commits:
            self._announce(commits)

    async def _look_for_new_topics(self) -> None:
        """Tells of topics made while the subscription was cut: who follows a prefix could know them in no other way."""
        interest = self._interest()
        infos = await RedisReader(self._pool).topics("", None, False, None, MISSED_TOPICS) if len(interest) else []
        news = [info for info in infos if info.topic in interest and not self._heads.knows(info.topic)]
        for info in news:
            self._heads.note_read(info.topic, info.epoch, info.head, info.closed)
        if news:
            self._announce([Commit(topic=n.topic, epoch=n.epoch, block=None, closed=n.closed) for n in news])

    async def _check(self) -> None:
        while True:
            await asyncio.sleep(IDLE_S)
            connection = self._connection
            if connection is None or not connection.is_open:
                continue
            try:
                if not self._heard:
                    await connection.close()
                    continue
                self._heard = False
                await connection.send("PING")
                await self._compare()
            except LogUnavailable as err:
                self._outage.note_failure(err)


def carried_block(news: TopicNews, data: bytes) -> Block | None:
    """Returns the block that a message carries of a topic; None: it must be read."""
    if news.name is None:
        return None
    return Block(news.head - news.count + 1, data.split(b"\n"), news.name, news.time_ms)
