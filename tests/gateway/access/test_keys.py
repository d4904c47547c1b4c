"""Keys are made, used and revoked while a process runs; what it cannot read of them counts against them."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from events.log.hub import Hub
from events.log.memory import MemoryLog
from events.log.port import Append, Block
from gateway.access.grants import EVERYTHING, Grants
from gateway.access.keys import TOPIC, USES, KeyTable, add_key, digest_of, key_statuses, revoke_key
from gateway.errors import NotFound, Unauthorized

pytestmark = pytest.mark.anyio
SOME = Grants(subscribe=["team/*"], chat=False)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Clock:
    now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def opened(log: MemoryLog, clock: Clock | None = None) -> AsyncGenerator[KeyTable]:
    hub = Hub(log)
    table = KeyTable(log, hub, clock or Clock())
    await table.open()
    yield table
    await hub.close()


@pytest.fixture
async def log() -> AsyncGenerator[MemoryLog]:
    made = MemoryLog()
    await made.open()
    yield made
    await made.close()


async def test_a_key_stands_for_its_user_with_its_grants(log: MemoryLog) -> None:
    key, key_id = await add_key(log, "alice", SOME)
    async with opened(log) as table:
        who = table.principal_of(digest_of(key))
        assert who is not None
        assert (who.sub, who.grants, who.key_id, who.expires_at) == ("alice", SOME, key_id, None)
        assert table.principal_of(digest_of(key)) is who
        assert table.principal_of(digest_of(key + "x")) is None


async def test_a_key_is_a_new_secret_that_the_log_never_holds(log: MemoryLog) -> None:
    keys = [(await add_key(log, "alice", EVERYTHING))[0] for _ in range(20)]
    assert len(set(keys)) == 20
    assert all(key.startswith("tl_") and len(key) == 46 for key in keys)
    stored = b"".join(b"".join(block.data) for block in (await log.read(TOPIC, 0)).blocks)
    assert all(key[3:].encode() not in stored and digest_of(key).encode() in stored for key in keys)


async def test_a_key_that_is_made_later_is_known_at_once_and_one_that_is_revoked_is_not(log: MemoryLog) -> None:
    async with opened(log) as table:
        key, key_id = await add_key(log, "alice", EVERYTHING)
        other, _ = await add_key(log, "alice", EVERYTHING)
        ends: list[str] = []
        table.on_revoke.append(ends.append)
        assert table.principal_of(digest_of(key)) is not None
        await revoke_key(log, key_id)
        with pytest.raises(Unauthorized) as error:
            table.principal_of(digest_of(key))
        assert (error.value.code, ends, table.is_revoked(key_id)) == ("key_revoked", [key_id], True)
        assert table.principal_of(digest_of(other)) is not None


async def test_a_key_that_was_revoked_before_the_process_began_is_refused(log: MemoryLog) -> None:
    key, key_id = await add_key(log, "alice", EVERYTHING)
    await revoke_key(log, key_id)
    async with opened(log) as table:
        with pytest.raises(Unauthorized):
            table.principal_of(digest_of(key))


async def test_a_key_ends_by_itself(log: MemoryLog) -> None:
    lasting, _ = await add_key(log, "alice", EVERYTHING, expires_at=time.time() + 60)
    over, _ = await add_key(log, "alice", EVERYTHING, expires_at=time.time() - 0.1)
    async with opened(log) as table:
        who = table.principal_of(digest_of(lasting))
        assert who is not None
        assert 50 < who.remaining_s() <= 60
        with pytest.raises(Unauthorized, match="expired"):
            table.principal_of(digest_of(over))


async def test_a_revocation_outlives_the_history_that_held_it(log: MemoryLog) -> None:
    """A log that was restored from a copy, or lost its last events in a failover, makes no key good again."""
    async with opened(log) as table:
        key, key_id = await add_key(log, "alice", EVERYTHING)
        kept = (await log.read(TOPIC, 0)).blocks[0]
        await revoke_key(log, key_id)
        await log.delete(TOPIC)
        await log.append(Append(topic=TOPIC, name=kept.name, data=kept.data))
        other, _ = await add_key(log, "bob", EVERYTHING)
        await asyncio.sleep(0)
        with pytest.raises(Unauthorized):
            table.principal_of(digest_of(key))
        who = table.principal_of(digest_of(other))
        assert who is not None
        assert who.sub == "bob"


async def test_keys_of_a_history_that_is_gone_are_good_no_longer(log: MemoryLog) -> None:
    async with opened(log) as table:
        key, _ = await add_key(log, "alice", EVERYTHING)
        await log.delete(TOPIC)
        await add_key(log, "bob", EVERYTHING)
        await asyncio.sleep(0)
        assert table.principal_of(digest_of(key)) is None


async def test_keys_before_a_damaged_part_of_the_log_are_good_no_longer(log: MemoryLog) -> None:
    """One of them may have been revoked in it."""
    async with opened(log) as table:
        old, _ = await add_key(log, "alice", EVERYTHING)
        table._tail.skip(2)
        assert table.principal_of(digest_of(old)) is None
        data = b'{"id":"k","digest":"%b","sub":"bob","created_at":1}' % digest_of("new").encode()
        table._tail.feed(table._tail.epoch, Block(first=3, data=[data], name="added", time_ms=0))
        assert table.principal_of(digest_of("new")) is not None


@pytest.mark.parametrize(
    ("name", "data", "is_known"),
    [
        ("added", b'{"id":"k","grants":{"limits":{"unheard_of":1}}}', True),
        ("revoked", b'{"all":true}', False),
        ("paused", b"{}", False),
    ],
)
async def test_what_a_later_release_writes_makes_no_key_good(
    log: MemoryLog, name: str, data: bytes, is_known: bool
) -> None:
    """Nor does it keep what comes after from being read."""
    async with opened(log) as table:
        before, key_id = await add_key(log, "alice", EVERYTHING)
        await log.append(Append(topic=TOPIC, name=name, data=[data]))
        assert (table.principal_of(digest_of(before)) is not None) == is_known
        after, _ = await add_key(log, "bob", EVERYTHING)
        assert table.principal_of(digest_of(after)) is not None
        await revoke_key(log, key_id)
        assert table.is_revoked(key_id)


async def test_its_use_is_noted_once_a_minute_by_all_processes_together(log: MemoryLog) -> None:
    clock = Clock()
    key, key_id = await add_key(log, "alice", EVERYTHING)
    async with opened(log, clock) as table:
        others = KeyTable(log, Hub(log), clock)
        await others.open()
        for seconds in (0, 1, 30, 60, 61):
            clock.now = Clock.now + seconds
            for one in (table, others, table):
                one.principal_of(digest_of(key))
        await asyncio.sleep(0.01)
        assert (await log.read(USES + key_id, 0)).head == 2


async def test_a_listing_tells_of_every_key_what_became_of_it(log: MemoryLog) -> None:
    key, key_id = await add_key(log, "alice", SOME, name="the app", expires_at=2e9)
    unused, unused_id = await add_key(log, "bob", EVERYTHING)
    async with opened(log) as table:
        table.principal_of(digest_of(key))
        await asyncio.sleep(0.01)
    await revoke_key(log, unused_id)
    await revoke_key(log, unused_id)
    alices, bobs = await key_statuses(log)
    assert (alices.key.id, alices.key.name, alices.key.grants, alices.key.expires_at) == (key_id, "the app", SOME, 2e9)
    assert alices.last_used_at is not None
    assert abs(alices.last_used_at - time.time()) < 5
    assert (alices.revoked_at, bobs.last_used_at) == (None, None)
    assert bobs.revoked_at is not None
    assert unused not in str(bobs)


async def test_what_is_no_key_cannot_be_revoked(log: MemoryLog) -> None:
    await add_key(log, "alice", EVERYTHING)
    with pytest.raises(NotFound, match="trilane keys list"):
        await revoke_key(log, "nonsense")
    assert (await log.read(TOPIC, 0)).head == 1
