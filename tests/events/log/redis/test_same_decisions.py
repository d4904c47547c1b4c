"""The script decides as `events.log.rules` does: random calls have the same results in memory and in Redis."""

import random
from collections.abc import Sequence
from typing import Any

from events.log.port import Append, Appended, EventLog, Retention, Slice
from gateway.errors import LogConflict, LogError
from tests.contract.engines import Engine, scenario, whole

TOPICS = ["a", "chat/1", "chat/2", "run/x", "run/é", "event/a/b", "event/a"]
OWNERS = ["", "", "", "me", "you"]
CALLS = 250


def random_append(chance: random.Random) -> Append:
    return Append(
        topic=chance.choice(TOPICS),
        data=[chance.randbytes(chance.choice([0, 1, 40])).replace(b"\n", b" ") for _ in range(chance.randint(0, 3))],
        name=chance.choice(["message", "tick", "a name"]),
        owner=chance.choice(OWNERS),
        expect=chance.choice([None, None, None, chance.randint(1, 6)]),
        key=chance.choice([None, None, "k1", "k2", "ключ"]),
        close=chance.random() < 0.04,
    )


class EpochNames:
    """Calls the epochs of two logs by the same names, in the order in which they come."""

    def __init__(self) -> None:
        self._names: dict[str, int] = {"": 0}

    def of(self, epoch: str) -> int:
        return self._names.setdefault(epoch, len(self._names))

    def plain(self, results: Sequence[Appended]) -> list[tuple[int, int, int, bool]]:
        return [(self.of(one.epoch), one.first, one.last, one.duplicate) for one in results]


async def outcome(log: EventLog, epochs: EpochNames, appends: Sequence[Append]) -> Any:
    try:
        return epochs.plain(await log.append(*appends))
    except LogConflict as err:
        return "conflict", err.topic, err.expected, err.actual, err.closed
    except LogError as err:
        return type(err).__name__, err.detail


def state(part: Slice, epochs: EpochNames) -> tuple[Any, ...]:
    return epochs.of(part.epoch), part.owner, part.head, part.closed


@scenario
async def test_random_calls_have_the_same_results_as_in_memory(engine: Engine) -> None:
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    print(f"seed {seed}")
    limits = {"chat/1": Retention(events=5), "run/x": Retention(max_bytes=100), "a": Retention(closed_age_s=60)}

    def retention(topic: str) -> Retention:
        return limits.get(topic, Retention(age_s=500))

    twin = Engine("memory", engine.folder, clock=engine.clock)
    async with engine.open(retention) as redis, twin.open(retention) as memory:
        names = EpochNames(), EpochNames()
        for _ in range(CALLS):
            appends = [random_append(chance) for _ in range(chance.choice([1, 1, 1, 2, 5]))]
            results = [await outcome(log, epochs, appends) for log, epochs in zip((memory, redis), names, strict=True)]
            assert results[0] == results[1]
            if chance.random() < 0.3:
                engine.clock.now_s += chance.choice([0.001, 1, 50, 301])
            if chance.random() < 0.05:
                topic = chance.choice(TOPICS)
                assert await memory.delete(topic) == await redis.delete(topic)
            if chance.random() < 0.1:
                await memory.sweep()
                await redis.sweep()
                await compare(memory, redis, names, chance, engine.clock.now_s)


async def compare(
    memory: EventLog, redis: EventLog, names: tuple[EpochNames, EpochNames], chance: random.Random, now_s: float
) -> None:
    for topic in TOPICS:
        parts = [await log.read(topic, 0) for log in (memory, redis)]
        assert state(parts[0], names[0]) == state(parts[1], names[1])
        assert parts[1].oldest <= parts[0].oldest  # appends of one call may share a block, which goes as a whole
        after = max(chance.randint(0, 12), parts[0].oldest - 1)
        assert await whole(memory, topic, after) == await whole(redis, topic, after)
        upto = chance.randint(0, 20)
        assert await memory.count_by_name(topic, after, upto) == await redis.count_by_name(topic, after, upto)
    for prefix in ("", "c", "chat/", "run/", "event/a", "event/a/"):
        for owner in (None, "me", ""):
            how: dict[str, Any] = {"owner": owner, "open_only": chance.random() < 0.5, "limit": chance.randint(1, 5)}
            if chance.random() < 0.5:
                how["before_ms"] = int(now_s * 1000) - chance.choice([-1, 0, 1, 2, 1000, 50_000])
            lists = [await log.topics(prefix, **how) for log in (memory, redis)]
            assert [(i.topic, i.owner, i.head, i.updated_ms, i.closed) for i in lists[0]] == [
                (i.topic, i.owner, i.head, i.updated_ms, i.closed) for i in lists[1]
            ]
