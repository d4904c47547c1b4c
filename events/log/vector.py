"""The cursor of an event stream: where its reader stands in each of its topics. Pure.

    e<tag>.<epoch>.<offset>[.<epoch>.<offset> ...]              in the order of the sorted topics
    s<tag>.<epoch>.<number>[.<index>.<offset> ...]              since a snapshot that is kept in the log

The tag is a digest of the topics, so that a cursor is only ever used with those it was made for. The second form is for
streams with too many topics for the first, and for patterns: it names a snapshot and what moved since. Offsets are
written with 36 digits, and epochs are shortened where there are several.
"""

import re
from collections.abc import Sequence
from hashlib import sha256
from typing import NamedTuple

import msgspec

from events.log.cursor import MAX_CURSOR_BYTES
from events.log.port import Position

SHORT_EPOCH = 4
NO_EPOCH = "0"
"""The epoch of a topic that was never written to."""
MAX_OFFSET_DIGITS = 10
_FORM = re.compile(r"([es])([0-9a-f]{8})((?:\.[A-Za-z0-9]{1,16}\.(?:0|[1-9a-z][0-9a-z]{0,9}))+)", re.ASCII)
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
NOWHERE = Position("", 0)


class VectorSnapshot(msgspec.Struct, frozen=True):
    """Where a reader stood in each of its topics: an event of the log, whose offset is its number."""

    topics: tuple[str, ...]
    """What was subscribed to."""
    names: list[str]
    epochs: list[str]
    offsets: list[int]


class DecodedVector(NamedTuple):
    """A cursor, taken apart and not yet believed."""

    tag: str
    positions: list[Position]
    """Of each topic; none when there is a snapshot."""
    snapshot: Position
    moved: dict[int, int]
    """Index in the snapshot → offset."""


def tag_of(topics: Sequence[str]) -> str:
    """What the cursors of a subscription, which is sorted, have in common."""
    return sha256("\n".join(topics).encode()).hexdigest()[:8]


def decode(text: str) -> DecodedVector | None:
    """None when it is not a cursor of this lane."""
    match = _FORM.fullmatch(text) if len(text) <= MAX_CURSOR_BYTES else None
    if match is None:
        return None
    words = match[3].split(".")[1:]
    pairs = list(zip(words[::2], words[1::2], strict=True))
    if match[1] == "e":
        positions = [_position(epoch, offset) for epoch, offset in pairs]
        is_sane = all(position.epoch or not position.offset for position in positions)
        return DecodedVector(match[2], positions, NOWHERE, {}) if is_sane else None
    if not all(_is_number(index) for index, _ in pairs[1:]):
        return None
    moved = {int(index, 36): int(offset, 36) for index, offset in pairs[1:]}
    return DecodedVector(match[2], [], _position(*pairs[0]), moved)


def _position(epoch: str, offset: str) -> Position:
    return Position("" if epoch == NO_EPOCH else epoch, int(offset, 36))


def _is_number(word: str) -> bool:
    return len(word) <= 3 and word == word.lower()


def is_epoch(told: str, epoch: str) -> bool:
    """Whether a cursor's epoch, perhaps shortened, is this one."""
    return told == epoch or (len(told) == SHORT_EPOCH and epoch.startswith(told))


class VectorPosition:
    """Where a reader stands in each topic that it follows, and how to say so in a cursor."""

    __slots__ = ("epochs", "is_fixed", "moved", "names", "offsets", "snapshot", "tag")

    def __init__(self, tag: str, names: Sequence[str], positions: Sequence[Position], *, is_fixed: bool) -> None:
        self.tag = tag
        self.is_fixed = is_fixed
        """The names are the subscription itself; else they match its patterns, and a cursor needs a snapshot."""
        self.names = list(names)
        self.epochs = [position.epoch for position in positions]
        self.offsets = [position.offset for position in positions]
        self.snapshot = NOWHERE
        """The event that holds where it once stood; its offset is 0 while there is none."""
        self.moved: dict[int, None] = {}
        """What moved since, by index."""

    def copy(self) -> "VectorPosition":
        made = VectorPosition(self.tag, self.names, (), is_fixed=self.is_fixed)
        made.epochs, made.offsets = self.epochs[:], self.offsets[:]
        made.snapshot, made.moved = self.snapshot, dict(self.moved)
        return made

    def is_at(self, other: "VectorPosition") -> bool:
        return self.offsets == other.offsets and self.epochs == other.epochs

    def around(self, index: int) -> tuple[str, str] | None:
        """What comes before and after the offset of one topic in a cursor; None: a snapshot must be made first."""
        if not self.snapshot.offset:
            if not self.is_fixed:
                return None
            parts = [(self._epoch(at), base36(offset)) for at, offset in enumerate(self.offsets)]
            before = "".join([f".{epoch}.{offset}" for epoch, offset in parts[:index]])
            after = "".join([f".{epoch}.{offset}" for epoch, offset in parts[index + 1 :]])
            left, right = f"e{self.tag}{before}.{parts[index][0]}.", after
        else:
            base = f"s{self.tag}.{self.snapshot.epoch[:SHORT_EPOCH]}.{base36(self.snapshot.offset)}"
            moved = "".join([f".{base36(at)}.{base36(self.offsets[at])}" for at in self.moved if at != index])
            left, right = f"{base}{moved}.{base36(index)}.", ""
        return (left, right) if len(left) + len(right) + MAX_OFFSET_DIGITS <= MAX_CURSOR_BYTES else None

    def text(self) -> str | None:
        """The cursor; None: a snapshot must be made first."""
        if not self.snapshot.offset:
            if not self.is_fixed:
                return None
            parts = [f".{self._epoch(at)}.{base36(offset)}" for at, offset in enumerate(self.offsets)]
            text = f"e{self.tag}{''.join(parts)}"
        else:
            moved = "".join([f".{base36(at)}.{base36(self.offsets[at])}" for at in self.moved])
            text = f"s{self.tag}.{self.snapshot.epoch[:SHORT_EPOCH]}.{base36(self.snapshot.offset)}{moved}"
        return text if len(text) <= MAX_CURSOR_BYTES else None

    def _epoch(self, at: int) -> str:
        epoch = self.epochs[at] or NO_EPOCH
        return epoch if len(self.epochs) == 1 else epoch[:SHORT_EPOCH]

    def renew(self, index: int, epoch: str) -> None:
        """A topic begins, or begins anew. No snapshot tells of that: another must be made."""
        self.epochs[index] = epoch
        self.offsets[index] = 0
        self.snapshot = NOWHERE

    def move(self, index: int, offset: int) -> None:
        """Events of a topic up to `offset` were read."""
        self.offsets[index] = offset
        if self.snapshot.offset:
            self.moved[index] = None

    def follow(self, name: str) -> None:
        """One more topic, from its beginning."""
        self.names.append(name)
        self.epochs.append("")
        self.offsets.append(0)
        self.snapshot = NOWHERE

    def kept(self, topics: tuple[str, ...]) -> VectorSnapshot:
        return VectorSnapshot(topics, self.names[:], self.epochs[:], self.offsets[:])

    def since(self, snapshot: Position) -> None:
        """From now on cursors name this snapshot, which holds where it stands."""
        self.snapshot = snapshot
        self.moved.clear()


def base36(number: int) -> str:
    if number < 36:
        return _DIGITS[number]
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = _DIGITS[digit] + digits
    return digits
