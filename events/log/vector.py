"""Encodes and decodes the cursor of a stream of several topics: its reader's position in each of them. Pure.

    e<tag>.<epoch>.<offset>[.<epoch>.<offset> ...]              in the order of the sorted topics
    s<tag>.<epoch>.<number>[.<index>.<offset> ...]              since a snapshot that is kept in the log

The tag is a digest of the topics, so that a cursor is only ever used with those it was made for. The second form is for
streams with too many topics for the first, and for patterns: it names a snapshot and what moved since. Offsets are
written in base 36, and epochs are shortened where there are several. `events.log.cursor` has the cursor of a run.
"""

import re
from collections.abc import Sequence
from hashlib import sha256
from typing import NamedTuple

import msgspec

from events.log.cursor import MAX_CURSOR_BYTES, NO_EPOCH, NOWHERE
from events.log.port import Position

SHORT_EPOCH = 4
"""Letters of an epoch in a cursor that has several."""
MAX_OFFSET_DIGITS = 10
"""Maximum base-36 digits of an offset."""
_FORM = re.compile(r"([es])([0-9a-f]{8})((?:\.[A-Za-z0-9]{1,16}\.(?:0|[1-9a-z][0-9a-z]{0,9}))+)", re.ASCII)
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


class VectorSnapshot(msgspec.Struct, frozen=True):
    """A reader's position in each of its topics, kept as an event of the log, whose offset is the snapshot's number."""

    topics: tuple[str, ...]
    """The topics and patterns of the subscription."""
    names: list[str]
    epochs: list[str]
    offsets: list[int]


class DecodedVector(NamedTuple):
    """The parts of a cursor, not yet believed."""

    tag: str
    positions: list[Position]
    """The position in each topic; none when the cursor names a snapshot."""
    snapshot: Position
    changes: dict[int, int]
    """Offsets that differ from the snapshot's, by the topic's index in it."""


def tag_of(topics: Sequence[str]) -> str:
    """Returns the part that all cursors of one subscription share; its topics must be sorted."""
    return sha256("\n".join(topics).encode()).hexdigest()[:8]


def topic_cursor(topic: str, position: Position) -> str:
    """Returns the cursor of a stream that follows this topic alone."""
    return f"e{tag_of((topic,))}.{position.epoch or NO_EPOCH}.{base36(position.offset)}"


def decode_vector(text: str) -> DecodedVector | None:
    """Returns the parts of a cursor; None when it is not one of this kind."""
    match = _FORM.fullmatch(text) if len(text) <= MAX_CURSOR_BYTES else None
    if match is None:
        return None
    words = match[3].split(".")[1:]
    pairs = list(zip(words[::2], words[1::2], strict=True))
    if match[1] == "e":
        positions = [_position(epoch, offset) for epoch, offset in pairs]
        is_consistent = all(position.epoch or not position.offset for position in positions)
        return DecodedVector(match[2], positions, NOWHERE, {}) if is_consistent else None
    if not all(_is_index(index) for index, _ in pairs[1:]):
        return None
    changes = {int(index, 36): int(offset, 36) for index, offset in pairs[1:]}
    return DecodedVector(match[2], [], _position(*pairs[0]), changes)


def _position(epoch: str, offset: str) -> Position:
    return Position("" if epoch == NO_EPOCH else epoch, int(offset, 36))


def _is_index(word: str) -> bool:
    return len(word) <= 3 and word == word.lower()


def is_epoch(cursor_epoch: str, epoch: str) -> bool:
    """Returns whether the epoch in a cursor, perhaps shortened there, is this one."""
    return cursor_epoch == epoch or (len(cursor_epoch) == SHORT_EPOCH and epoch.startswith(cursor_epoch))


class VectorPosition:
    """A reader's position in each topic that it follows, and the cursor that says so."""

    __slots__ = ("changes", "epochs", "is_fixed", "names", "offsets", "snapshot", "tag")

    def __init__(self, tag: str, names: Sequence[str], positions: Sequence[Position], *, is_fixed: bool) -> None:
        self.tag = tag
        self.is_fixed = is_fixed
        """Whether the names are the subscription itself; else they match its patterns, and cursors need a snapshot."""
        self.names = list(names)
        self.epochs = [position.epoch for position in positions]
        self.offsets = [position.offset for position in positions]
        self.snapshot = NOWHERE
        """The event that holds an earlier state of this position; its offset is 0 while there is none."""
        self.changes: dict[int, None] = {}
        """Indices of the topics that moved since the snapshot, in the order of their first move."""

    def copy(self) -> "VectorPosition":
        """Returns an equal position, which moves by itself."""
        copy = VectorPosition(self.tag, self.names, (), is_fixed=self.is_fixed)
        copy.epochs, copy.offsets = self.epochs[:], self.offsets[:]
        copy.snapshot, copy.changes = self.snapshot, dict(self.changes)
        return copy

    def is_at(self, other: "VectorPosition") -> bool:
        """Returns whether both stand at the same events, whatever snapshots they name."""
        return self.offsets == other.offsets and self.epochs == other.epochs

    def encode(self) -> str | None:
        """Returns the cursor; None when a snapshot must be kept first."""
        if not self.snapshot.offset:
            if not self.is_fixed:
                return None
            pairs = [f".{self._epoch(at)}.{base36(offset)}" for at, offset in enumerate(self.offsets)]
            text = f"e{self.tag}{''.join(pairs)}"
        else:
            changes = "".join([f".{base36(at)}.{base36(self.offsets[at])}" for at in self.changes])
            text = f"{self._snapshot_prefix()}{changes}"
        return text if len(text) <= MAX_CURSOR_BYTES else None

    def around(self, index: int) -> tuple[str, str] | None:
        """Returns the cursor before and after the offset of one topic; None when a snapshot must be kept first.

        The events of one block differ in nothing else, so their cursors are encoded once for all of them.
        """
        if not self.snapshot.offset:
            if not self.is_fixed:
                return None
            pairs = [(self._epoch(at), base36(offset)) for at, offset in enumerate(self.offsets)]
            before = "".join([f".{epoch}.{offset}" for epoch, offset in pairs[:index]])
            after = "".join([f".{epoch}.{offset}" for epoch, offset in pairs[index + 1 :]])
            prefix, suffix = f"e{self.tag}{before}.{pairs[index][0]}.", after
        else:
            others = "".join([f".{base36(at)}.{base36(self.offsets[at])}" for at in self.changes if at != index])
            prefix, suffix = f"{self._snapshot_prefix()}{others}.{base36(index)}.", ""
        return (prefix, suffix) if len(prefix) + len(suffix) + MAX_OFFSET_DIGITS <= MAX_CURSOR_BYTES else None

    def _snapshot_prefix(self) -> str:
        return f"s{self.tag}.{self.snapshot.epoch[:SHORT_EPOCH]}.{base36(self.snapshot.offset)}"

    def _epoch(self, at: int) -> str:
        epoch = self.epochs[at] or NO_EPOCH
        return epoch if len(self.epochs) == 1 else epoch[:SHORT_EPOCH]

    def move(self, index: int, offset: int) -> None:
        """Moves to after the event at `offset` of a topic."""
        self.offsets[index] = offset
        if self.snapshot.offset:
            self.changes[index] = None

    def renew(self, index: int, epoch: str) -> None:
        """Moves to before the first event of a topic that begins, or begins anew.

        A cursor cannot add an epoch to a snapshot, so another snapshot must be kept.
        """
        self.epochs[index] = epoch
        self.offsets[index] = 0
        self.snapshot = NOWHERE

    def add(self, name: str) -> None:
        """Adds a topic, before its first event; another snapshot must be kept for it."""
        self.names.append(name)
        self.epochs.append("")
        self.offsets.append(0)
        self.snapshot = NOWHERE

    def to_snapshot(self, topics: tuple[str, ...]) -> VectorSnapshot:
        """Returns what the log keeps for a subscription to `topics` at this position."""
        return VectorSnapshot(topics, self.names[:], self.epochs[:], self.offsets[:])

    def base_on(self, snapshot: Position) -> None:
        """Encodes cursors from now on as changes since this snapshot, which holds the present position."""
        self.snapshot = snapshot
        self.changes.clear()


def base36(number: int) -> str:
    """Returns a number that is not negative in digits and small letters."""
    if number < 36:
        return _DIGITS[number]
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = _DIGITS[digit] + digits
    return digits
