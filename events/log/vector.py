"""Encodes and decodes the cursor of a stream of several topics: its reader's position in each of them. Pure.

    e<tag>.<epoch>.<offset>                             of one topic
    m.<place>[.<place> ...]                             of several; a place is the topic's tag, epoch and offset
    s<tag>.<epoch>.<number>[.<index>.<offset> ...]      since a snapshot that is kept in the log

Every place says by a tag, which is a digest, whose it is, so it holds in streams of other topics, too. The third form
is for streams with too many topics for the second, and for patterns: it names a snapshot and what moved since. Offsets
are written in base 36, and epochs are shortened where there are several. `events.log.cursor` has the cursor of a run.
The first form with several places, in the order of the sorted topics, was sent by older releases, and is still read.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple

import msgspec

from events.log.cursor import MAX_CURSOR_BYTES, NO_EPOCH, NOWHERE
from events.log.port import Position

SHORT_EPOCH = 4
"""Letters of an epoch in a cursor that has several."""
NO_SHORT_EPOCH = "~"
"""The epoch in a cursor of several topics of one that was never written to."""
MAX_OFFSET_DIGITS = 10
"""Maximum base-36 digits of an offset."""
MAX_PLACES = 24
"""Maximum topics of a cursor without a snapshot; the places of more would not fit, however short they are."""
TOPIC_TAG = 4
"""Letters of a topic's tag in a cursor of several topics."""
_LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_PLACES = re.compile(r"m(?:\.[A-Za-z0-9]{4}(?:[A-Za-z0-9]{4}|~)(?:0|[1-9a-z][0-9a-z]{0,9}))+", re.ASCII)
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
    places: dict[str, Position]
    """The position in each of several topics, by the topic's tag; none in the other forms."""


def tag_of(topics: Sequence[str]) -> str:
    """Returns the part that all cursors of one subscription share; its topics must be sorted."""
    return sha256("\n".join(topics).encode()).hexdigest()[:8]


@lru_cache(4096)
def topic_tag(name: str) -> str:
    """Returns the part of a place in a cursor that says whose it is: one topic in 15 million has the same."""
    number = int.from_bytes(sha256(name.encode()).digest()[:8])
    letters = ""
    for _ in range(TOPIC_TAG):
        number, letter = divmod(number, len(_LETTERS))
        letters += _LETTERS[letter]
    return letters


def topic_cursor(topic: str, position: Position) -> str:
    """Returns the cursor of a stream that follows this topic alone."""
    return f"e{tag_of((topic,))}.{position.epoch or NO_EPOCH}.{base36(position.offset)}"


def decode_vector(text: str) -> DecodedVector | None:
    """Returns the parts of a cursor; None when it is not one of this kind."""
    if len(text) > MAX_CURSOR_BYTES:
        return None
    if _PLACES.fullmatch(text):
        return _decode_places(text.split(".")[1:])
    match = _FORM.fullmatch(text)
    if match is None:
        return None
    words = match[3].split(".")[1:]
    pairs = list(zip(words[::2], words[1::2], strict=True))
    if match[1] == "e":
        positions = [_position(epoch, offset) for epoch, offset in pairs]
        is_consistent = all(position.epoch or not position.offset for position in positions)
        return DecodedVector(match[2], positions, NOWHERE, {}, {}) if is_consistent else None
    if not all(_is_index(index) for index, _ in pairs[1:]):
        return None
    changes = {int(index, 36): int(offset, 36) for index, offset in pairs[1:]}
    return DecodedVector(match[2], [], _position(*pairs[0]), changes, {})


def _decode_places(words: Sequence[str]) -> DecodedVector | None:
    places = {word[:TOPIC_TAG]: _short_position(word[TOPIC_TAG:]) for word in words}
    is_consistent = all(position.epoch or not position.offset for position in places.values())
    return DecodedVector("", [], NOWHERE, {}, places) if is_consistent else None


def _position(epoch: str, offset: str) -> Position:
    return Position("" if epoch == NO_EPOCH else epoch, int(offset, 36))


def _short_position(word: str) -> Position:
    if word.startswith(NO_SHORT_EPOCH):
        return Position("", int(word[1:], 36))
    return Position(word[:SHORT_EPOCH], int(word[SHORT_EPOCH:], 36))


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
            leads = self._leads()
            if leads is None:
                return None
            text = "".join([f"{lead}{base36(offset)}" for lead, offset in zip(leads, self.offsets, strict=True)])
        else:
            changes = "".join([f".{base36(at)}.{base36(self.offsets[at])}" for at in self.changes])
            text = f"{self._snapshot_prefix()}{changes}"
        return text if len(text) <= MAX_CURSOR_BYTES else None

    def around(self, index: int) -> tuple[str, str] | None:
        """Returns the cursor before and after the offset of one topic; None when a snapshot must be kept first.

        The events of one block differ in nothing else, so their cursors are encoded once for all of them.
        """
        if not self.snapshot.offset:
            leads = self._leads()
            if leads is None:
                return None
            places = [f"{lead}{base36(offset)}" for lead, offset in zip(leads, self.offsets, strict=True)]
            prefix, suffix = "".join([*places[:index], leads[index]]), "".join(places[index + 1 :])
        else:
            others = "".join([f".{base36(at)}.{base36(self.offsets[at])}" for at in self.changes if at != index])
            prefix, suffix = f"{self._snapshot_prefix()}{others}.{base36(index)}.", ""
        return (prefix, suffix) if len(prefix) + len(suffix) + MAX_OFFSET_DIGITS <= MAX_CURSOR_BYTES else None

    def _snapshot_prefix(self) -> str:
        return f"s{self.tag}.{self.snapshot.epoch[:SHORT_EPOCH]}.{base36(self.snapshot.offset)}"

    def _leads(self) -> list[str] | None:
        """Returns what stands before each offset; None when only a snapshot can say where this is."""
        if not self.is_fixed:
            return None
        if len(self.names) == 1:
            return [f"e{self.tag}.{self.epochs[0] or NO_EPOCH}."]
        if len(self.names) > MAX_PLACES:
            return None
        tags = [topic_tag(name) for name in self.names]
        if len({*tags}) < len(tags):
            return None
        leads = [f".{tag}{epoch[:SHORT_EPOCH] or NO_SHORT_EPOCH}" for tag, epoch in zip(tags, self.epochs, strict=True)]
        return [f"m{leads[0]}", *leads[1:]]

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
