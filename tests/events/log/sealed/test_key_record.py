"""A log remembers the keys that it was encrypted with, so that a wrong one is refused at the start."""

import asyncio
import os
from collections.abc import Sequence

import msgspec
import pytest
from structlog.testing import capture_logs

from events.log.memory import MemoryLog
from events.log.port import Slice, read_to_head
from events.log.sealed.key_record import RECORD_TOPIC, KeyEntry, check_keys
from gateway.encryption_settings import NO_ENCRYPTION, EncryptionKey
from gateway.errors import ConfigurationError
from tests.contract.engines import scenario

OLD, NEW = EncryptionKey("old", os.urandom(32)), EncryptionKey("new", os.urandom(32))
PLAIN = EncryptionKey(NO_ENCRYPTION)


async def log_of(*starts: Sequence[EncryptionKey]) -> MemoryLog:
    """Returns a log that gateways with these keys have opened, one after another."""
    log = MemoryLog()
    await log.open()
    for keys in starts:
        await check_keys(log, keys)
    return log


async def record(log: MemoryLog) -> list[str]:
    lines = [line async for part in read_to_head(log, RECORD_TOPIC) for block in part.blocks for line in block.data]
    return [msgspec.json.decode(line, type=KeyEntry).id for line in lines]


@scenario
async def test_a_log_without_keys_has_no_record() -> None:
    log = await log_of([], [])
    assert not log.may_exist(RECORD_TOPIC)


@scenario
async def test_each_key_that_begins_to_seal_is_noted_once() -> None:
    starts = [[PLAIN, OLD], [OLD], [OLD], [OLD, NEW], [NEW, OLD], [NEW], [PLAIN, NEW], []]
    assert await record(await log_of(*starts)) == ["old", "new", "none"]


@scenario
async def test_a_log_that_is_encrypted_is_not_opened_without_its_key() -> None:
    for keys in ([], [PLAIN], [NEW]):
        with pytest.raises(ConfigurationError, match=r"encrypted with the key 'old'.*TRILANE_ENCRYPTION_KEY"):
            await check_keys(await log_of([OLD]), keys)


@scenario
async def test_another_key_under_the_same_id_is_refused() -> None:
    log = await log_of([OLD], [NEW, OLD])
    for keys in ([EncryptionKey("old", os.urandom(32)), NEW], [NEW, EncryptionKey("old", os.urandom(32))]):
        with pytest.raises(ConfigurationError, match=r"'old' .* is not the one"):
            await check_keys(log, keys)


@scenario
async def test_a_key_that_was_taken_away_is_told_in_a_log_line() -> None:
    log = await log_of([OLD], [NEW, OLD])
    with capture_logs() as lines:
        await check_keys(log, [NEW])
    assert [(line["log_level"], line["key"]) for line in lines] == [("warning", "old")]


class LateLog(MemoryLog):
    """A log whose readers are overtaken by others."""

    async def read(self, topic: str, after: int, *, max_events: int = 1000, max_bytes: int = 262_144) -> Slice:
        part = await super().read(topic, after, max_events=max_events, max_bytes=max_bytes)
        await asyncio.sleep(0)
        return part


@scenario
async def test_processes_that_start_at_once_note_a_key_once() -> None:
    log = LateLog()
    await log.open()
    await asyncio.gather(*[check_keys(log, [OLD]) for _ in range(5)])
    assert await record(log) == ["old"]


@scenario
async def test_the_record_does_not_tell_a_key() -> None:
    log = await log_of([OLD])
    stored = repr((await log.read(RECORD_TOPIC, 0)).blocks)
    assert OLD.secret.hex() not in stored
    assert "old" in stored
