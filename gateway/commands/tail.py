"""`trilane tail`: events of topics and patterns as they are written, from the log itself; no server needs to run."""

import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence

import click

from events.feed.frames import name_of
from events.log.hub import Hub
from events.log.port import Block, EventLog, Position, Slice
from events.log.topics import STORED, check_subscription, is_pattern
from gateway.core.engines import make_log
from gateway.errors import LogError, LogUnavailable
from gateway.settings import Settings

RETRY_S = 0.5
LOOK_S = 5.0
"""How often a quiet topic is read all the same."""


async def tail(settings: Settings, topics: Sequence[str], *, earliest: bool, as_json: bool, raw: bool) -> None:
    """Prints the events of `topics` as they come, for ever; `raw`: as topics are named in the log."""
    names = tuple(topics) if raw else check_subscription(topics)
    log = make_log(settings)
    await log.open()
    hub = Hub(log)
    prefix = "" if raw else STORED
    try:
        async with asyncio.TaskGroup() as group:
            tails = Tails(log, hub, group, prefix, as_json=as_json)
            for name in names:
                if is_pattern(name):
                    await tails.find(name, earliest=earliest)
                else:
                    tails.follow(prefix + name, earliest=earliest)
    finally:
        await hub.close()
        await log.close()


class Tails:
    """The topics that are printed, each by a task of its own."""

    def __init__(self, log: EventLog, hub: Hub, group: asyncio.TaskGroup, prefix: str, *, as_json: bool) -> None:
        self._log = log
        self._hub = hub
        self._group = group
        self._prefix = prefix
        self._line = _json_line if as_json else _line
        self._followed: set[str] = set()

    async def find(self, pattern: str, *, earliest: bool) -> None:
        """Follows what a pattern stands for, now and later."""
        prefix = self._prefix + pattern[:-1]
        self._hub.find(prefix, lambda topic: self.follow(topic, earliest=True))
        for info in await self._log.topics(prefix, limit=10_000):
            self.follow(info.topic, earliest=earliest, head=Position(info.epoch, info.head))

    def follow(self, topic: str, *, earliest: bool, head: Position | None = None) -> None:
        if topic not in self._followed:
            self._followed.add(topic)
            self._group.create_task(self._print(topic, earliest=earliest, head=head))

    async def _print(self, topic: str, *, earliest: bool, head: Position | None) -> None:
        if not earliest and head is None:
            found = await self._read(topic, 0)
            head = Position(found.epoch, found.head)
        at = Position("", 0) if earliest or head is None else head
        while True:
            news = asyncio.Event()
            unwatch = self._hub.watch(topic, at, _setting(news))
            found = await self._read(topic, at.offset)
            at = self._show(topic, at, found)
            if not found.blocks and at.offset >= found.head:
                await _within(news, LOOK_S)
            unwatch()

    async def _read(self, topic: str, after: int) -> Slice:
        """A log that cannot be read for a while is waited for."""
        told = False
        while True:
            try:
                return await self._log.read(topic, after)
            except LogUnavailable as err:
                if not told:
                    click.echo(f"waiting: {err.detail}", err=True)
                    told = True
            except LogError as err:
                raise click.ClickException(err.detail) from err
            await asyncio.sleep(RETRY_S)

    def _show(self, topic: str, at: Position, found: Slice) -> Position:
        """Prints what was read; and where its reader then stands."""
        name = topic.removeprefix(self._prefix)
        if at.epoch and found.epoch != at.epoch:
            self._gap(f"{name}: gap after {at.offset}: the topic was deleted")
            return Position("", 0)
        if at.offset + 1 < found.oldest and (at.epoch or at.offset):
            self._gap(f"{name}: gap from {at.offset + 1} to {found.oldest - 1}: no longer kept")
        for block in found.blocks:
            sys.stdout.buffer.writelines(self._line(name, found.epoch, block))
        sys.stdout.buffer.flush()
        last = found.blocks[-1].last if found.blocks else max(at.offset, found.oldest - 1)
        return Position(found.epoch, last)

    def _gap(self, text: str) -> None:
        click.echo(text, err=True)


def _json_line(topic: str, epoch: str, block: Block) -> Iterator[bytes]:
    for offset, data in enumerate(block.data, block.first):
        head = {"topic": topic, "epoch": epoch, "offset": offset, "event": name_of(block), "time": block.time_ms}
        yield json.dumps(head)[:-1].encode() + b', "data": ' + data + b"}\n"


def _line(topic: str, epoch: str, block: Block) -> Iterator[bytes]:
    at = time.strftime("%H:%M:%S", time.localtime(block.time_ms / 1000))
    for offset, data in enumerate(block.data, block.first):
        yield f"{at} {topic} {offset} {name_of(block)} ".encode() + data + b"\n"


def _setting(news: asyncio.Event) -> Callable[[Block], None]:
    return lambda _: news.set()


async def _within(news: asyncio.Event, timeout_s: float) -> None:
    try:
        await asyncio.wait_for(news.wait(), timeout_s)
    except TimeoutError:
        return
