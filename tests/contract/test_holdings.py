"""What the log keeps of an owner is told by every engine: by family, and less when something has gone."""

import pytest

from events.log.port import Append, EventLog, Holding, Retention
from tests.contract.engines import Engine, keep_all, put, scenario


async def of(log: EventLog, owner: str | None) -> dict[str, tuple[int, int]]:
    return {held.family: (held.topics, held.stored_bytes) for held in await log.holdings(owner)}


@scenario
async def test_each_family_has_its_topics_and_the_bytes_of_their_events(plain_engine: Engine) -> None:
    async with plain_engine.open() as log:
        assert await log.holdings("ann") == []
        await put(log, "chat/1", b"12345", b"678", owner="ann")
        await put(log, "chat/1", b"9", name="other")
        await put(log, "chat/2", b"1", owner="ann")
        await log.append(Append(topic="run/1", data=[], owner="ann"))
        await put(log, "run/2", b"22", owner="ann")
        await log.append(Append(topic="run/2", data=[b"4444"], close=True))
        await put(log, "alone", b"333", owner="ann")
        await put(log, "chat/3", b"of bob", owner="bob")
        await put(log, "chat/4", b"of nobody")
        assert await of(log, "ann") == {"chat/": (2, 10), "run/": (2, 6), "": (1, 3)}
        assert await log.holdings("bob") == [Holding("chat/", 1, 6)]
        assert await of(log, None) == {"chat/": (4, 25), "run/": (2, 6), "": (1, 3)}
        assert await log.delete("chat/1")
        assert await of(log, "ann") == {"chat/": (1, 1), "run/": (2, 6), "": (1, 3)}


@scenario
async def test_what_was_trimmed_or_has_expired_is_not_held(plain_engine: Engine) -> None:
    def retention(topic: str) -> Retention:
        return Retention(events=2) if topic == "t/trimmed" else Retention(idle_age_s=100, closed_age_s=50)

    async with plain_engine.open(retention) as log:
        for number in range(8):
            await put(log, "t/trimmed", b"1234", name=f"n{number % 2}", owner="ann")
        await put(log, "t/idle", b"1", owner="ann")
        await log.append(Append(topic="t/closed", data=[b"22"], owner="ann", close=True))
        await log.sweep()
        assert await of(log, "ann") == {"t/": (3, 11)}
        plain_engine.clock.now_s += 60
        await log.sweep()
        assert await of(log, "ann") == {"t/": (2, 9)}
        plain_engine.clock.now_s += 60
        await log.sweep()
        assert await of(log, "ann") == {"t/": (1, 8)}


@scenario
async def test_more_topics_than_are_looked_at_at_once_are_all_counted(plain_engine: Engine) -> None:
    async with plain_engine.open(keep_all) as log:
        for first in range(0, 2500, 500):
            await log.append(*[Append(topic=f"t/{first + n}", data=[b"12"], owner="ann") for n in range(500)])
        assert await of(log, "ann") == {"t/": (2500, 5000)}
        await log.append(*[Append(topic=f"t/{n}", data=[b"3"], close=True) for n in range(1000)])
        assert await of(log, None) == {"t/": (2500, 6000)}


@pytest.mark.parametrize("owner", ["\x1fmaker", "é\n*", "'; --"])
@scenario
async def test_an_owner_may_have_any_name(plain_engine: Engine, owner: str) -> None:
    async with plain_engine.open() as log:
        await put(log, "t/1", b"1", owner=owner)
        assert await of(log, owner) == {"t/": (1, 1)}
