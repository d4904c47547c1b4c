"""The stream of a run for dialects that keep a state: its records, from the first, each told once and in order."""

from collections.abc import Callable, Iterable
from typing import Protocol

import msgspec

from events.log.cursor import cursor_prefix
from events.log.hub import TopicReader
from events.log.port import Block
from events.log.source import Source
from gateway.chat.records.record import RECORD


class PlainRecords(msgspec.Struct, frozen=True):
    """An encoder for a hub: each record of a run as one line, everything else as nothing."""

    def __call__(self, epoch: str, block: Block) -> list[bytes]:
        is_record = block.name == RECORD
        return [data + b"\n" if is_record else b"" for data in block.data]


PLAIN_RECORDS = PlainRecords()


class CursorRecords(msgspec.Struct, frozen=True):
    """An encoder for a hub: each record of one run as a line, its cursor first, then a space."""

    run_id: str

    def __call__(self, epoch: str, block: Block) -> list[bytes]:
        if block.name != RECORD:
            return [b""] * len(block.data)
        lead = cursor_prefix(self.run_id, epoch)
        return [b"%b%d %b\n" % (lead, offset, data) for offset, data in enumerate(block.data, block.first)]


class Teller(Protocol):
    """Tells a run's records in the words of a dialect, in order."""

    def feed(self, records: Iterable[bytes]) -> bytes: ...


class RecordSource(Source):
    """A Source with the frames of one run, for one connection."""

    __slots__ = ("_reader", "_teller", "on_wake")

    def __init__(self, reader: TopicReader, teller: Teller) -> None:
        """Reads by `reader`, which has read nothing yet and encodes each record as a line."""
        self.on_wake: Callable[[], object] = _nobody
        self._teller = teller
        self._reader = reader
        reader.on_wake = self._wake

    def _wake(self) -> None:
        self.on_wake()

    @property
    def ended(self) -> bool:
        return self._reader.ended

    @property
    def complete(self) -> bool:
        return self._reader.complete

    def poll(self) -> bytes | None:
        while data := self._reader.poll():
            if frames := self._teller.feed(data[:-1].split(b"\n")):  # each record is a line
                return frames
        return data

    async def catch_up(self) -> None:
        await self._reader.catch_up()

    def close(self) -> None:
        self.on_wake = _nobody
        self._reader.close()


def _nobody() -> None:
    """Does nothing: nobody waits."""
