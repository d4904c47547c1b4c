"""The function on the server decides as `events.log.rules` does: random appends end alike in memory and there."""

import asyncio
import random
from typing import Any

from events.log.memory import MemoryLog
from events.log.port import Append, Appended
from events.log.postgres.engine import PostgresLog
from gateway.errors import LogConflict, LogError, WrongOwner
from tests.contract.engines import Clock, keep_all, scenario, whole

TOPICS = ["a", "b", "c/é", "c/1"]
ROUNDS = 60


def random_append(chance: random.Random, heads: dict[str, int]) -> Append:
    topic = chance.choice(TOPICS)
    count = chance.choice([0, 1, 1, 2, 3])
    size = chance.choice([0, 3, 3, 40_000]) if count < 3 else 2
    expect = chance.choice([None, None, None, heads[topic] + 1, heads[topic] + 1, heads[topic] + 2, 0, -7, 1 << 70])
    heads[topic] += count  # what it probably will be
    return Append(
        topic=topic,
        data=[bytes(chance.choices(b"xyz \xff\x00", k=size)) for _ in range(count)],
        name=chance.choice(["message", "message", "tick"]),
        owner=chance.choice(["", "", "", "me", "you"]),
        expect=expect,
        key=chance.choice([None, None, None, "k1", "k2", "k" * 300]),
        close=chance.random() < 0.02,
    )


def plain(outcome: list[Appended] | BaseException) -> object:
    """Returns an outcome without what differs by chance: the epochs."""
    match outcome:
        case LogConflict():
            return "conflict", outcome.topic, outcome.expected, outcome.actual, outcome.closed
        case WrongOwner():
            return "owner", outcome.detail
        case LogError():
            return "error", outcome.detail
        case BaseException():
            raise outcome
        case _:
            return [(result.first, result.last, result.duplicate) for result in outcome]


@scenario
async def test_random_appends_have_the_same_outcomes_as_in_memory(postgres_url: str) -> None:
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    chance, clock = random.Random(seed), Clock()
    memory, postgres = MemoryLog(clock=clock), PostgresLog(postgres_url, keep_all, clock=clock)
    await memory.open()
    await postgres.open()
    heads = dict.fromkeys(TOPICS, 0)
    try:
        for _ in range(ROUNDS):
            calls = [
                [random_append(chance, heads) for _ in range(chance.choice([1, 1, 1, 2, 5]))]
                for _ in range(chance.choice([1, 3, 12]))
            ]
            outcomes: list[list[Any]] = []
            for log in (memory, postgres):
                futures = [log.append(*call, patient=True) for call in calls]
                outcomes.append([plain(one) for one in await asyncio.gather(*futures, return_exceptions=True)])
            assert outcomes[0] == outcomes[1]
            clock.now_s += chance.choice([0, 0, 1, 400])
            if chance.random() < 0.2:
                topic = chance.choice(TOPICS)
                assert await memory.delete(topic) == await postgres.delete(topic)
                heads[topic] = 0
            for topic in TOPICS:
                assert await whole(memory, topic) == await whole(postgres, topic)
                states = [await log.read(topic, 1 << 52) for log in (memory, postgres)]
                assert len({(one.owner, one.head, one.closed, bool(one.epoch)) for one in states}) == 1
                heads[topic] = states[0].head
            expected, listed = [
                [(info.topic, info.head, info.updated_ms, info.closed) for info in await log.topics("c/")]
                for log in (memory, postgres)
            ]
            assert listed == expected
    finally:
        await memory.close()
        await postgres.close()
