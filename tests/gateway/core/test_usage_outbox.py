"""Every settled row reaches the receiver at least once, in the order of its user, from one process at a time."""

import asyncio
import random
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Any

import msgspec
import pytest

from events.log.memory import MemoryLog
from events.log.port import Append, Appended
from gateway.commands.forget import ForgetTally, forget_all
from gateway.core.personal import personal_topics
from gateway.core.prices import Prices
from gateway.core.usage import UsageRow, now_ms, reserved, settled
from gateway.core.usage_outbox import (
    CLAIM,
    CURSORS,
    MAX_DELAY_S,
    MAX_ROWS,
    POLL_S,
    SILENCE_S,
    UsageOutbox,
    cursor_topic,
)
from gateway.core.webhook import DeliveryError
from gateway.errors import LogUnavailable
from gateway.upstream_settings import PriceSettings
from tests.audio.lanes import MoodyLog
from tests.support.virtual_time import simulated

PRICES = Prices([PriceSettings(model="gpt", input=Decimal("0.5"))])


def nothing() -> None:
    """Does nothing: the receiver is well."""


class Receiver:
    """Keeps what it was sent, and does as a test says."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.times_s: list[float] = []
        self.refusals = 0
        self.then: Callable[[], Any] = nothing

    async def post(self, body: bytes) -> None:
        self.times_s.append(asyncio.get_running_loop().time())
        if self.refusals:
            self.refusals -= 1
            raise DeliveryError("no")
        self.bodies.append(msgspec.json.decode(body))
        if (waiting := self.then()) is not None:
            await waiting

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [row for body in self.bodies for row in body["data"]["rows"]]

    def ids(self, sub: str) -> list[str]:
        return [row["id"] for row in self.rows if row["sub"] == sub]


class Deliveries:
    """Processes that deliver from one log to one receiver."""

    def __init__(self, log: MemoryLog) -> None:
        self.log = log
        self.receiver = Receiver()
        self.tries: list[str] = []
        self.tasks: dict[UsageOutbox, asyncio.Task[None]] = {}

    def start(self) -> UsageOutbox:
        outbox = UsageOutbox(self.log, self.receiver.post, PRICES, self.tries.append)
        self.tasks[outbox] = asyncio.create_task(outbox.run())
        return outbox

    def kill(self, outbox: UsageOutbox) -> None:
        self.tasks[outbox].cancel()

    async def settle(self, sub: str, *numbers: int) -> None:
        for number in numbers:
            row = UsageRow(
                id=f"r{number}",
                lane="chat",
                kind="run",
                outcome="finish",
                model="gpt",
                ended_ms=now_ms(),
                quantities={"inputTokens": number},
            )
            await self.log.append(reserved(sub, row.id))
            await self.log.append(settled(sub, row))


def delivering(test: Callable[[Deliveries], Any]) -> Callable[[], None]:
    @simulated
    async def run() -> None:
        log = MoodyLog()
        await log.open()
        deliveries = Deliveries(log)
        try:
            await test(deliveries)
        finally:
            for task in deliveries.tasks.values():
                task.cancel()
            await asyncio.wait(deliveries.tasks.values())
            await log.close()

    run.__name__ = test.__name__
    return run


@delivering
async def test_rows_of_before_and_of_later_are_delivered_once_with_their_cost(here: Deliveries) -> None:
    await here.settle("me", 1, 2)
    await here.settle("you", 3)
    here.start()
    await asyncio.sleep(2 * POLL_S)
    [body] = here.receiver.bodies
    assert body["type"] == "usage.settled"
    assert sorted((row["sub"], row["id"]) for row in here.receiver.rows) == [("me", "r1"), ("me", "r2"), ("you", "r3")]
    costs = {row["id"]: row["cost"] for row in here.receiver.rows}
    assert costs["r2"] == {"currency": "USD", "amount": "0.000001"}
    await here.log.append(reserved("me", "running"))
    await here.settle("me", 4)
    await asyncio.sleep(60)
    assert here.receiver.ids("me") == ["r1", "r2", "r4"]
    assert here.tries == ["delivered"] * 2


@delivering
async def test_many_rows_come_in_batches_in_the_order_of_their_user(here: Deliveries) -> None:
    for number in range(400):
        await here.settle(f"u{number % 3}", number)
    here.start()
    await asyncio.sleep(60)
    assert max(len(body["data"]["rows"]) for body in here.receiver.bodies) < 2 * MAX_ROWS
    assert len(here.receiver.rows) == 400
    for user in range(3):
        assert here.receiver.ids(f"u{user}") == [f"r{number}" for number in range(user, 400, 3)]


@delivering
async def test_a_receiver_that_refuses_is_asked_again_for_ever_ever_less_often(here: Deliveries) -> None:
    here.receiver.refusals = 40
    await here.settle("me", 1)
    here.start()
    await asyncio.sleep(40 * MAX_DELAY_S)
    assert here.receiver.ids("me") == ["r1"]
    assert here.tries == [*["failed"] * 40, "delivered"]
    pauses = [later - earlier for earlier, later in zip(here.receiver.times_s, here.receiver.times_s[1:], strict=False)]
    assert pauses[0] <= 0.5
    assert all(MAX_DELAY_S / 2 <= pause <= MAX_DELAY_S for pause in pauses[10:])


@delivering
async def test_a_process_that_dies_between_delivery_and_cursor_has_it_delivered_again(here: Deliveries) -> None:
    await here.settle("me", 1, 2)
    first = here.start()
    here.receiver.then = lambda: here.kill(first)
    await asyncio.sleep(POLL_S)
    await asyncio.sleep(0)
    assert here.receiver.ids("me") == ["r1", "r2"]
    here.receiver.then = nothing
    here.start()
    await asyncio.sleep(SILENCE_S / 2)
    assert len(here.receiver.bodies) == 1
    await asyncio.sleep(SILENCE_S)
    assert here.receiver.bodies[0] == here.receiver.bodies[1]
    await here.settle("me", 3)
    await asyncio.sleep(2 * POLL_S)
    assert here.receiver.ids("me") == ["r1", "r2", "r1", "r2", "r3"]


@delivering
async def test_of_several_processes_one_delivers(here: Deliveries) -> None:
    for _ in range(5):
        here.start()
    for number in range(30):
        await here.settle("me", number)
        await asyncio.sleep(5)
    assert here.receiver.ids("me") == [f"r{number}" for number in range(30)]


@delivering
async def test_one_that_leaves_is_followed_at_once(here: Deliveries) -> None:
    first = here.start()
    await asyncio.sleep(POLL_S)
    here.start()
    await asyncio.sleep(POLL_S / 2)
    here.kill(first)
    await first.leave()
    await here.settle("me", 1)
    await asyncio.sleep(2 * POLL_S)
    assert here.receiver.ids("me") == ["r1"]


@delivering
async def test_a_receiver_that_hangs_costs_nobody_the_claim(here: Deliveries) -> None:
    here.receiver.then = lambda: asyncio.sleep(5 * SILENCE_S)
    await here.settle("me", 1)
    here.start()
    here.start()
    await asyncio.sleep(6 * SILENCE_S)
    assert here.receiver.ids("me") == ["r1"]


@delivering
async def test_a_process_that_wakes_after_it_was_thought_dead_moves_no_cursor(here: Deliveries) -> None:
    await here.settle("me", 1)
    asleep = asyncio.Event()
    here.receiver.then = asleep.wait
    first = here.start()
    await asyncio.sleep(0.1)
    part = await here.log.read(CLAIM, 0)
    await here.log.append(Append(topic=CLAIM, data=[b'{"holder":"another"}'], expect=part.head + 1))
    asleep.set()
    await asyncio.sleep(0.1)
    assert not (await here.log.read(CURSORS + "me", 0)).head
    assert not here.tasks[first].done()
    await asyncio.sleep(SILENCE_S + 2 * POLL_S)  # the other one was never there
    assert here.receiver.ids("me") == ["r1", "r1"]


@delivering
async def test_a_log_that_is_away_delays_and_loses_nothing(here: Deliveries) -> None:
    assert isinstance(here.log, MoodyLog)
    here.start()
    await asyncio.sleep(POLL_S)
    await here.settle("me", 1)
    here.log.append_failure = LogUnavailable("away")
    await asyncio.sleep(30)
    here.log.append_failure = None
    await asyncio.sleep(SILENCE_S + 2 * POLL_S)
    assert set(here.receiver.ids("me")) == {"r1"}
    delivered = len(here.receiver.rows)
    await asyncio.sleep(60)
    assert len(here.receiver.rows) == delivered


@delivering
async def test_rows_of_a_forgotten_user_that_were_delivered_are_not_under_the_pseudonym(here: Deliveries) -> None:
    outbox = here.start()
    await here.settle("me", 1, 2, 3)
    await here.settle("you", 5)
    await asyncio.sleep(2 * POLL_S)
    assert here.receiver.ids("me") == ["r1", "r2", "r3"]
    here.kill(outbox)
    await outbox.leave()
    await here.settle("me", 4)
    tally = await forget_all(here.log, "me")
    assert (tally.is_done, tally.rows) == (True, 4)
    here.start()
    await asyncio.sleep(60)
    assert here.receiver.ids("me") == ["r1", "r2", "r3"]
    [last] = [row for row in here.receiver.rows if row["sub"] == tally.pseudonym]
    assert last["quantities"] == {"inputTokens": 4}
    assert not (await here.log.read(CURSORS + "me", 0)).head


@pytest.mark.parametrize("moment", ["posted", "noted"])
def test_whoever_is_forgotten_while_their_rows_are_delivered_leaves_no_name(moment: str) -> None:
    @delivering
    async def check(here: Deliveries) -> None:
        tallies: list[ForgetTally] = []
        append = here.log.append

        async def forget() -> None:
            if not tallies:
                tallies.append(await forget_all(here.log, "me"))

        async def forget_first(*appends: Append) -> list[Appended]:
            if any(one.topic == cursor_topic("me") for one in appends):
                await forget()
            return await append(*appends)

        if moment == "posted":
            here.receiver.then = forget
        else:
            here.log.append = forget_first  # pyright: ignore[reportAttributeAccessIssue]
        await here.settle("me", 1, 2)
        await here.settle("you", 3)
        here.start()
        await asyncio.sleep(60)
        assert [tally.is_done for tally in tallies] == [True]
        assert not await personal_topics(here.log, "me")
        assert here.receiver.ids("me") == ["r1", "r2"]
        assert here.receiver.ids("you") == ["r3"]

    check()


@delivering
async def test_a_user_who_is_called_like_a_pseudonym_is_delivered_like_any_other(here: Deliveries) -> None:
    await here.settle("forgotten-0123456789abcdef", 1)
    here.start()
    await asyncio.sleep(2 * POLL_S)
    assert here.receiver.ids("forgotten-0123456789abcdef") == ["r1"]


@delivering
async def test_a_user_whose_topic_was_made_anew_begins_anew(here: Deliveries) -> None:
    here.start()
    await here.settle("me", 1, 2, 3)
    await asyncio.sleep(2 * POLL_S)
    await here.log.delete("usage/me")
    await here.settle("me", 4)
    await asyncio.sleep(2 * POLL_S)
    assert here.receiver.ids("me") == ["r1", "r2", "r3", "r4"]


@pytest.mark.parametrize("seed", range(5))
def test_whatever_dies_no_row_is_lost_and_none_overtakes(seed: int) -> None:
    rng = random.Random(seed)

    @delivering
    async def check(here: Deliveries) -> None:
        alive = [here.start() for _ in range(3)]
        for number in range(60):
            await here.settle(f"u{number % 4}", number)
            here.receiver.refusals += rng.random() < 0.1
            if rng.random() < 0.2:
                victim = rng.randrange(3)
                here.receiver.then = partial(here.kill, alive[rng.randrange(3)]) if rng.random() < 0.5 else nothing
                here.kill(alive[victim])
                alive[victim] = here.start()
            await asyncio.sleep(rng.random() * 8)
        here.receiver.then = nothing
        here.start()
        await asyncio.sleep(10 * SILENCE_S)
        for user in range(4):
            first_times = list(dict.fromkeys(here.receiver.ids(f"u{user}")))
            assert first_times == [f"r{number}" for number in range(user, 60, 4)]

    check()
