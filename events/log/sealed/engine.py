"""Encrypts what a log stores: a log around any engine, which sees sealed events only and needs to know nothing of it.

All else of this process has plain events: callers append them, readers and the listener get them. Each event is sealed
once, when it is appended. One that another process wrote is opened once for all readers here; what this process wrote
is remembered until it is announced. An event that cannot be opened
(changed in the storage, or sealed with a key that is not set) is damaged, and told as every damage is.

It departs from the port in one way: sizes, in retention and in the limits of a read, are those of sealed events, a
third and 50 bytes more than what was appended.
"""

import asyncio
from collections.abc import Sequence

import msgspec

from events.log.port import (
    Append,
    Appended,
    Block,
    Commit,
    EventLog,
    Holding,
    Interest,
    Listener,
    Slice,
    TopicInfo,
    WriteMeter,
)
from events.log.quotas import TakeBatch, TakeReply
from events.log.rules import ignore, ignore_time
from events.log.sealed.key_record import check_keys
from events.log.sealed.sealing import Sealing
from gateway.encryption_settings import EncryptionKey
from gateway.errors import LogDamaged, LogUnavailable

MAX_OWN = 8192
"""Maximum events remembered as they were before they were sealed. Past that all are forgotten, and opened instead: they
are those of appends that failed, or there are more on their way than a log takes."""


class SealedLog:
    """An EventLog that seals with the first of `keys`, and opens what any of them has sealed."""

    listener: Listener
    interest: Interest
    on_written: WriteMeter

    def __init__(self, storage: EventLog, keys: Sequence[EncryptionKey]) -> None:
        self.listener = ignore
        self.interest = frozenset[str]()
        self._storage = storage
        self._keys = keys
        self._sealing = Sealing(keys)
        self._own: dict[bytes, bytes] = {}
        """Events on their way to the storage, by what they were sealed to."""
        self.on_written = ignore_time
        storage.on_written = lambda seconds: self.on_written(seconds)
        storage.listener = self._on_commits
        storage.interest = self

    def __contains__(self, topic: object) -> bool:
        """Returns whether news of the topic are of interest here: the storage asks."""
        return topic in self.interest

    def __len__(self) -> int:
        return len(self.interest)

    @property
    def backlog(self) -> int:
        return self._storage.backlog

    @property
    def failure(self) -> LogUnavailable | None:
        return self._storage.failure

    async def open(self) -> None:
        """Opens the storage. Raises ConfigurationError, also when these are not the keys of this log."""
        await self._storage.open()
        try:
            await check_keys(self._storage, self._keys)
        except BaseException:
            await self._storage.close()
            raise

    async def close(self) -> None:
        await self._storage.close()

    def append(self, *appends: Append, patient: bool = False) -> asyncio.Future[list[Appended]]:
        """Seals, and appends atomically. Raises what the storage raises."""
        return self._storage.append(*[self._sealed(append) for append in appends], patient=patient)

    def _sealed(self, append: Append) -> Append:
        data = self._sealing.seal(append.topic, append.name, append.data, append.expect)
        if len(self._own) > MAX_OWN:
            self._own.clear()
        self._own.update(zip(data, append.data, strict=True))
        return Append(
            topic=append.topic,
            data=data,
            name=append.name,
            owner=append.owner,
            expect=append.expect,
            key=append.key,
            close=append.close,
        )

    def may_exist(self, topic: str) -> bool:
        return self._storage.may_exist(topic)

    async def read(self, topic: str, after: int, *, max_events: int = 1000, max_bytes: int = 262_144) -> Slice:
        """Returns the events strictly after offset `after`, up to one that cannot be opened; raises at that one."""
        part = await self._storage.read(topic, after, max_events=max_events, max_bytes=max_bytes)
        return msgspec.structs.replace(part, blocks=self._opened(topic, part.blocks)) if part.blocks else part

    def _opened(self, topic: str, blocks: Sequence[Block]) -> list[Block]:
        opened: list[Block] = []
        for block in blocks:
            try:
                opened.append(self._sealing.open(topic, block))
            except LogDamaged:
                if not opened:
                    raise
                break
            if opened[-1].last < block.last:
                break
        return opened

    def take_at_once(self, batch: TakeBatch) -> TakeReply | None:
        return self._storage.take_at_once(batch)

    async def take(self, batch: TakeBatch) -> TakeReply:
        """Counts for limits; counters hold no content."""
        return await self._storage.take(batch)

    async def next_readable(self, topic: str, after: int, upto: int) -> int:
        """Returns the offset of the first event after `after` that can be read and opened; `upto` + 1 when none can."""
        while after < upto:
            after = await self._storage.next_readable(topic, after, upto) - 1
            part = await self._storage.read(topic, after)
            if not part.blocks:
                break
            for block in part.blocks:
                for offset, line in enumerate(block.data, block.first):
                    event = Block(first=offset, data=[line], name=block.name, time_ms=block.time_ms)
                    if self._can_open(topic, event):
                        return min(offset, upto + 1)
            after = part.blocks[-1].last
        return upto + 1

    def _can_open(self, topic: str, event: Block) -> bool:
        try:
            self._sealing.open(topic, event)
        except LogDamaged:
            return False
        return True

    async def count_by_name(self, topic: str, after: int, upto: int) -> dict[str, int]:
        return await self._storage.count_by_name(topic, after, upto)

    async def topics(
        self,
        prefix: str,
        *,
        owner: str | None = None,
        open_only: bool = False,
        before_ms: int | None = None,
        limit: int = 100,
    ) -> list[TopicInfo]:
        return await self._storage.topics(prefix, owner=owner, open_only=open_only, before_ms=before_ms, limit=limit)

    async def holdings(self, owner: str | None) -> list[Holding]:
        """Returns what is kept of an owner, or in all, sealed as it is."""
        return await self._storage.holdings(owner)

    async def delete(self, topic: str) -> bool:
        return await self._storage.delete(topic)

    async def scrub(self) -> str:
        return await self._storage.scrub()

    async def names(self, after: str, limit: int) -> list[str]:
        return await self._storage.names(after, limit)

    async def adopt(self, topic: str, part: Slice) -> None:
        """Takes over what another log holds of a topic, and seals it."""
        blocks = [
            Block(
                block.first, self._sealing.seal(topic, block.name, block.data, block.first), block.name, block.time_ms
            )
            for block in part.blocks
        ]
        await self._storage.adopt(topic, msgspec.structs.replace(part, blocks=blocks))

    def _on_commits(self, commits: Sequence[Commit]) -> None:
        self.listener([self._opened_commit(commit) for commit in commits])

    def _opened_commit(self, commit: Commit) -> Commit:
        block = commit.block
        if block is None or not block.data:
            return commit
        own = [self._own.pop(line, None) for line in block.data]
        data = [line for line in own if line is not None]
        if len(data) < len(own):
            data = self._open_all(commit.topic, block)
        # What cannot be opened is found, and told, when it is read.
        opened = Block(first=block.first, data=data, name=block.name, time_ms=block.time_ms) if data else None
        return Commit(topic=commit.topic, epoch=commit.epoch, block=opened, closed=commit.closed)

    def _open_all(self, topic: str, block: Block) -> list[bytes]:
        """Returns the events of a block; none when not all of them can be opened."""
        try:
            data = self._sealing.open(topic, block).data
        except LogDamaged:
            return []
        return data if len(data) == len(block.data) else []
