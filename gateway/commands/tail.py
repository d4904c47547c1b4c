"""`trilane tail`: prints events as they are written, from the log itself; no server needs to run."""

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
from gateway.core.engines import opened_log
from gateway.errors import LogError, LogUnavailable
from gateway.settings import Settings

RETRY_S = 0.5
"""Seconds between two tries to read a log that cannot be read."""
QUIET_READ_S = 5.0
"""Seconds after which a topic without news is read all the same."""


async def tail(settings: Settings, topics: Sequence[str], *, earliest: bool, as_json: bool, raw: bool) -> None:
    """Prints the events of `topics` as they come, for ever; `raw`: as topics are named in the log."""
    names = tuple(topics) if raw else check_subscription(topics)
    prefix = "" if raw else STORED
    async with opened_log(settings) as log:
        hub = Hub(log)
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


class Tails:
    """Prints topics, each in a task of its own."""

    def __init__(self, log: EventLog, hub: Hub, group: asyncio.TaskGroup, prefix: str, *, as_json: bool) -> None:
        self._log = log
        self._hub = hub
        self._group = group
        self._prefix = prefix
        self._line = _json_line if as_json else _line
        self._topics: set[str] = set()

    async def find(self, pattern: str, *, earliest: bool) -> None:
        """Follows the topics of a pattern, those of now and those to come."""
        prefix = self._prefix + pattern[:-1]
        self._hub.find(prefix, lambda topic: self.follow(topic, earliest=True))
        for info in await self._log.topics(prefix, limit=10_000):
            self.follow(info.topic, earliest=earliest, head=Position(info.epoch, info.head))

    def follow(self, topic: str, *, earliest: bool, head: Position | None = None) -> None:
        if topic not in self._topics:
            self._topics.add(topic)
            self._group.create_task(self._print(topic, earliest=earliest, head=head))

    async def _print(self, topic: str, *, earliest: bool, head: Position | None) -> None:
        if not earliest and head is None:
            part = await self._read(topic, 0)
            head = Position(part.epoch, part.head)
        at = Position("", 0) if earliest or head is None else head
        while True:
            news = asyncio.Event()
            unwatch = self._hub.watch(topic, at, _setting(news))
            part = await self._read(topic, at.offset)
            at = self._show(topic, at, part)
            if not part.blocks and at.offset >= part.head:
                await _within(news, QUIET_READ_S)
            unwatch()

    async def _read(self, topic: str, after: int) -> Slice:
        """Reads a part of a topic; waits while the log cannot be read, and says so once."""
        is_reported = False
        while True:
            try:
                return await self._log.read(topic, after)
            except LogUnavailable as err:
                if not is_reported:
                    click.echo(f"waiting: {err.detail}", err=True)
                    is_reported = True
            except LogError as err:
                raise click.ClickException(err.detail) from err
            await asyncio.sleep(RETRY_S)

    def _show(self, topic: str, at: Position, part: Slice) -> Position:
        """Prints a part of a topic; returns the position after it."""
        name = topic.removeprefix(self._prefix)
        if at.epoch and part.epoch != at.epoch:
            self._gap(f"{name}: gap after {at.offset}: the topic was deleted")
            return Position("", 0)
        if at.offset + 1 < part.oldest and (at.epoch or at.offset):
            self._gap(f"{name}: gap from {at.offset + 1} to {part.oldest - 1}: no longer kept")
        for block in part.blocks:
            sys.stdout.buffer.writelines(self._line(name, part.epoch, block))
        sys.stdout.buffer.flush()
        last = part.blocks[-1].last if part.blocks else max(at.offset, part.oldest - 1)
        return Position(part.epoch, last)

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
