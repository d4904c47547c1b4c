"""Every engine counts events by name without reading them, also from the middle of a block."""

import random

from events.log.port import Append, Retention
from tests.contract.engines import Engine, put, scenario


@scenario
async def test_events_of_a_range_are_counted_by_their_names(engine: Engine) -> None:
    async with engine.open() as log:
        chance, names = random.Random(7), list[str]()
        for _ in range(40):
            name, count = chance.choice(["x", "y", "z 17"]), chance.randint(1, 4)
            await log.append(Append(topic="a", data=[b"1"] * count, name=name))
            names += [name] * count
        await put(log, "b", b"1")
        for after, upto in [
            (0, len(names)),
            (0, 1),
            (5, 5),
            *((chance.randint(0, 60), chance.randint(0, 120)) for _ in range(30)),
        ]:
            part = names[after:upto]
            assert await log.count_by_name("a", after, upto) == {name: part.count(name) for name in {*part}}
        assert await log.count_by_name("none", 0, 9) == {}


@scenario
async def test_events_that_are_gone_are_not_counted(engine: Engine) -> None:
    async with engine.open(lambda _: Retention(events=2)) as log:
        for _ in range(5):
            await put(log, "a", b"1")
        await log.sweep()
        assert await log.count_by_name("a", 0, 5) == {"message": 2}
        assert await log.count_by_name("a", 4, 5) == {"message": 1}
