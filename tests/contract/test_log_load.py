"""A megabyte a second, for a minute with LONG_TESTS=1, passes through the log from one process to another, in order."""

import asyncio
import statistics
import time

from events.log.port import Append, Retention
from tests.contract.engines import LONG, Engine, flat, scenario

SECONDS = 60.0 if LONG else 3.0
BATCH, PAUSE_S = 10, 0.01
EVENT = b"%020d " + 979 * b"x"
KEPT_BYTES = 2 << 20
LATE_S = 2.0
"""Seconds by which an event may be late on a busy machine."""


def keep_little(topic: str) -> Retention:
    return Retention(max_bytes=KEPT_BYTES)


@scenario
async def test_a_megabyte_a_second_is_written_and_followed_by_another_process(shared_engine: Engine) -> None:
    count = round(SECONDS / PAUSE_S) * BATCH
    acknowledged_s: list[float] = []
    seen_s: list[float] = []

    async with shared_engine.open(keep_little) as here, shared_engine.open(keep_little) as there:

        async def append(data: list[bytes], due: float) -> None:
            await here.append(Append(topic="much", data=data), patient=True)
            acknowledged_s.append(time.monotonic() - due)

        async def write(began: float) -> None:
            async with asyncio.TaskGroup() as appends:
                for at in range(0, count, BATCH):
                    due = began + at / BATCH * PAUSE_S
                    await asyncio.sleep(due - time.monotonic())
                    appends.create_task(append([EVENT % n for n in range(at, at + BATCH)], due))

        async def follow(began: float) -> None:
            after = 0
            while after < count:
                for offset, _, data in flat(await there.read("much", after, max_events=10_000, max_bytes=1 << 20)):
                    assert (offset, int(data[:20])) == (after + 1, after)
                    after = offset
                seen_s.append(time.monotonic() - began - after / BATCH * PAUSE_S)
                await asyncio.sleep(PAUSE_S)

        began = time.monotonic()
        await asyncio.gather(write(began), follow(began))
        part = await here.read("much", count - 1)
        assert part.head == count
        assert not LONG or part.oldest > count / 2, "what is too much is forgotten meanwhile"
    acknowledged, seen = (statistics.quantiles(times, n=100)[98] for times in (acknowledged_s, seen_s))
    print(f"\n{shared_engine.name}, {SECONDS:.0f} s: p99 {acknowledged:.3f} s to the receipt, {seen:.3f} s to a reader")
    assert max(acknowledged, seen) < LATE_S
