"""A sealed event is a line that only its key opens, in its topic, under its name and at its offset."""

import os

import pytest

from events.log.port import Block
from events.log.sealed.sealing import MAX_CIPHERS, Sealing
from gateway.encryption_settings import NO_ENCRYPTION, EncryptionKey
from gateway.errors import LogDamaged

OLD, NEW = EncryptionKey("old", os.urandom(32)), EncryptionKey("new", os.urandom(32))
PLAIN = EncryptionKey(NO_ENCRYPTION)
TOPIC, NAME = "run/1", "record"
EVENTS = [b'{"delta":"one"}', b"", b'{"delta":"\xc3\xa9\x00"}']


def sealed(*keys: EncryptionKey, first: int | None = None, topic: str = TOPIC) -> list[bytes]:
    return Sealing(keys).seal(topic, NAME, EVENTS, first)


def opened(
    lines: list[bytes], *keys: EncryptionKey, topic: str = TOPIC, name: str = NAME, first: int = 1
) -> list[bytes]:
    return Sealing(keys).open(topic, Block(first, lines, name, 0)).data


@pytest.mark.parametrize("first", [None, 1, 9_000_000_000])
def test_what_is_sealed_is_opened_as_it_was(first: int | None) -> None:
    lines = sealed(NEW, first=first)
    assert opened(lines, NEW, first=first or 77) == EVENTS
    assert not any(char in line for line in lines for char in b"\n\r")
    assert not any(b"delta" in line for line in lines)


def test_no_two_events_are_sealed_alike() -> None:
    sealing = Sealing([NEW])
    lines = [line for _ in range(2) for line in sealing.seal(TOPIC, NAME, [b"1"] * 100, None)]
    assert len({line.rpartition(b".")[2][:16] for line in lines}) == 200  # the nonces
    sealing.seal(TOPIC, NAME, [b"1"], None)
    for n in range(MAX_CIPHERS):
        sealing.seal(f"run/{n}", NAME, [b"1"], None)
    assert sealing.seal(TOPIC, NAME, [b"1"], None)[0] not in lines


def test_the_first_key_seals_and_every_key_opens() -> None:
    assert opened(sealed(OLD), NEW, OLD) == EVENTS
    assert opened(sealed(NEW, OLD), NEW) == EVENTS
    with pytest.raises(LogDamaged, match="'old'"):
        opened(sealed(OLD, NEW), NEW)


def test_events_from_before_there_was_a_key_are_read_as_they_are() -> None:
    assert sealed(PLAIN, NEW) == EVENTS
    assert opened(EVENTS, NEW) == EVENTS
    assert opened(sealed(NEW), PLAIN, NEW) == EVENTS


def test_another_key_of_the_same_id_opens_nothing() -> None:
    with pytest.raises(LogDamaged, match="not as it was encrypted"):
        opened(sealed(NEW), EncryptionKey("new", os.urandom(32)))


@pytest.mark.parametrize(
    "moved", [{"topic": "run/2"}, {"name": "other"}, {"first": 2}], ids=lambda moved: next(iter(moved))
)
def test_an_event_that_was_moved_cannot_be_opened(moved: dict[str, str]) -> None:
    lines = sealed(NEW, first=1)
    assert opened(lines, NEW) == EVENTS
    with pytest.raises(LogDamaged):
        opened(lines, NEW, **moved)


def test_an_event_at_its_offset_does_not_pass_for_one_at_any() -> None:
    line = sealed(NEW, first=1)[0]
    with pytest.raises(LogDamaged):
        opened([b"~" + line[1:]], NEW)


@pytest.mark.parametrize(
    "bad", [b"~", b"~new", b"~new.", b"~new.AAAA", b"@new.%%%%", b"~new." + b"A" * 80, b"~\xff\xff.AAAA"]
)
def test_a_line_that_is_no_sealed_event_is_damage(bad: bytes) -> None:
    with pytest.raises(LogDamaged):
        opened([bad], NEW)


def test_every_changed_byte_is_noticed() -> None:
    line = sealed(NEW)[0]
    for place in range(len(b"~new."), len(line)):
        changed = line[:place] + (b"A" if line[place : place + 1] != b"A" else b"Q") + line[place + 1 :]
        with pytest.raises(LogDamaged):
            opened([changed], NEW)


def test_a_block_is_opened_up_to_what_cannot_be() -> None:
    lines = sealed(NEW)
    assert opened([*lines[:2], lines[2][:-8]], NEW) == EVENTS[:2]


def test_an_error_shows_nothing_of_an_event() -> None:
    with pytest.raises(LogDamaged) as error:
        opened([sealed(NEW)[0][:-4]], NEW)
    assert "delta" not in error.value.detail
    assert "'run/1'" in error.value.detail
