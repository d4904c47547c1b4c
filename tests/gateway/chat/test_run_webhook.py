"""The ends of runs are told at least once, those of one user in order, and no user waits for another."""

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import msgspec

from events.log.memory import MemoryLog
from events.log.port import Append, Position, Retention
from gateway.chat.records.run_end import RUN_ENDS, RunEnd, run_end_append
from gateway.chat.run_webhook import CURSORS, MAX_AT_ONCE, MAX_DELAY_S, POLL_S, RunWebhook
from gateway.commands.forget import forget_all
from gateway.core.quota_client import QuotaClient, WorkTurn
from gateway.core.usage import Usage
from gateway.core.webhook import DeliveryError
from gateway.errors import LogUnavailable
from tests.audio.lanes import MoodyLog
from tests.support.virtual_time import simulated

USAGE = Usage(input_tokens=1, output_tokens=2, total_tokens=3)


def nothing(sub: str) -> None:
    """Does nothing: the receiver is well."""


class Told:
    """Keeps what the receiver was sent, and does as a test says."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.times_s: dict[str, list[float]] = {}
        self.refused: set[str] = set()
        """Ids of runs whose ends are refused."""
        self.then: Callable[[str], Any] = nothing

    async def post(self, body: bytes) -> None:
        message = msgspec.json.decode(body)
        run_id = message["data"]["runId"]
        self.times_s.setdefault(run_id, []).append(asyncio.get_running_loop().time())
        if run_id in self.refused:
            raise DeliveryError("no")
        self.ids.append(run_id)
        self.bodies.append(message)
        if (waiting := self.then(run_id)) is not None:
            await waiting

    async def aclose(self) -> None: ...


class Tellers:
    """Processes that tell the ends in one log to one receiver."""

    def __init__(self, log: MemoryLog) -> None:
        self.log = log
        self.told = Told()
        self.tries: list[str] = []
        self.living: list[tuple[RunWebhook, QuotaClient]] = []

    def start(self) -> RunWebhook:
        client = QuotaClient(self.log)
        hook = RunWebhook(
            self.log, WorkTurn(client, "run_webhook"), self.told.post, self.told.aclose, self.tries.append
        )
        hook.start()
        self.living.append((hook, client))
        return hook

    async def leave(self) -> None:
        """Ends the oldest one in good order."""
        hook, client = self.living.pop(0)
        await hook.close()
        await client.close()

    async def end(self, sub: str, *numbers: int) -> None:
        for number in numbers:
            end = RunEnd(
                run_id=f"{sub}{number}",
                chat_id="c",
                message_id="a",
                sub=sub,
                outcome="finish",
                ended_ms=1_700_000_000_500,
                usage=USAGE,
            )
            await self.log.append(run_end_append(end))

    async def cursor(self, sub: str) -> Position | None:
        part = await self.log.read(CURSORS + sub, 0)
        return msgspec.json.decode(part.blocks[-1].data[-1], type=Position) if part.blocks else None


def telling(test: Callable[[Tellers], Any]) -> Callable[[], None]:
    @simulated
    async def run() -> None:
        log = MoodyLog()
        await log.open()
        tellers = Tellers(log)
        try:
            await test(tellers)
        finally:
            while tellers.living:
                await tellers.leave()
            await log.close()

    run.__name__ = test.__name__
    return run


@telling
async def test_ends_of_before_and_of_later_are_told_once_and_in_order(here: Tellers) -> None:
    await here.end("me", 1, 2)
    await here.end("you", 1)
    here.start()
    await asyncio.sleep(2 * POLL_S)
    assert sorted(here.told.ids) == ["me1", "me2", "you1"]
    await here.end("me", *range(3, 300))
    await asyncio.sleep(60)
    assert [run for run in here.told.ids if run != "you1"] == [f"me{number}" for number in range(1, 300)]
    assert here.tries == ["delivered"] * 300
    body = here.told.bodies[0]
    assert (body["type"], body["timestamp"], body["data"]["usage"]["totalTokens"]) == (
        "run.ended",
        "2023-11-14T22:13:20.500Z",
        3,
    )


@telling
async def test_what_is_refused_of_one_user_is_told_again_ever_less_often_and_holds_up_nobody_else(
    here: Tellers,
) -> None:
    here.told.refused = {"me2"}
    await here.end("me", 1, 2, 3)
    here.start()
    for number in range(40):
        await here.end("you", number)
        await asyncio.sleep(MAX_DELAY_S / 2)
    assert [run for run in here.told.ids if run != "me1"] == [f"you{number}" for number in range(40)]
    times = here.told.times_s["me2"]
    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert pauses[0] <= 0.5 + POLL_S
    assert all(MAX_DELAY_S / 2 <= pause <= MAX_DELAY_S + POLL_S for pause in pauses[10:])
    here.told.refused.clear()
    await asyncio.sleep(MAX_DELAY_S + 2 * POLL_S)
    assert here.told.ids[-2:] == ["me2", "me3"]


@telling
async def test_a_receiver_that_hangs_for_many_holds_up_the_others_no_longer_than_that(here: Tellers) -> None:
    here.told.then = lambda run_id: asyncio.sleep(10) if run_id.startswith("slow") else None
    for number in range(3 * MAX_AT_ONCE):
        await here.end(f"slow{number}-", 1)
    await here.end("me", 1)
    here.start()
    await asyncio.sleep(3 * (10 + POLL_S) + 2 * POLL_S)
    assert len(here.told.ids) == 3 * MAX_AT_ONCE + 1


@telling
async def test_of_several_processes_one_tells_and_another_once_that_has_left(here: Tellers) -> None:
    for _ in range(3):
        here.start()
    for number in range(30):
        await here.end("me", number)
        if number in (10, 20):
            await here.leave()
        await asyncio.sleep(5)
    assert here.told.ids == [f"me{number}" for number in range(30)]


@telling
async def test_what_a_process_had_told_when_it_died_is_told_again(here: Tellers) -> None:
    await here.end("me", 1, 2)
    here.told.then = lambda run_id: asyncio.get_running_loop().create_future()  # it hears no answer any more
    here.start()
    await asyncio.sleep(2 * POLL_S)
    assert here.told.ids == ["me1"]
    here.told.then = nothing
    await here.leave()
    here.start()
    await asyncio.sleep(2 * POLL_S)
    assert here.told.ids == ["me1", "me1", "me2"]


@telling
async def test_a_process_that_wakes_after_it_was_thought_dead_moves_no_cursor(here: Tellers) -> None:
    await here.end("me", 1, 2)
    asleep = asyncio.Event()
    here.told.then = lambda run_id: asleep.wait()
    first = here.start()
    await asyncio.sleep(2 * POLL_S)
    epoch = (await here.log.read(f"{RUN_ENDS}me", 0)).epoch
    told_by_another = Append(topic=f"{CURSORS}me", data=[msgspec.json.encode(Position(epoch, 2))], name="cursor")
    await here.log.append(told_by_another)
    here.told.then = nothing
    asleep.set()
    await asyncio.sleep(3 * POLL_S)
    assert here.told.ids == ["me1"]
    assert await here.cursor("me") == Position(epoch, 2)
    assert first is here.living[0][0]
    await here.end("me", 3)
    await asyncio.sleep(2 * POLL_S)
    assert here.told.ids == ["me1", "me3"]


@telling
async def test_a_log_that_is_away_delays_and_loses_nothing(here: Tellers) -> None:
    assert isinstance(here.log, MoodyLog)
    here.start()
    await here.end("me", 1)
    await asyncio.sleep(2 * POLL_S)
    await here.end("me", 2, 3)
    here.log.append_failure = LogUnavailable("away")
    await asyncio.sleep(30)
    here.log.append_failure = None
    await asyncio.sleep(5)
    assert list(dict.fromkeys(here.told.ids)) == ["me1", "me2", "me3"]
    count = len(here.told.ids)
    await asyncio.sleep(60)
    assert len(here.told.ids) == count


@telling
async def test_who_is_forgotten_while_an_end_is_being_told_leaves_nothing(here: Tellers) -> None:
    await here.end("me", 1, 2)
    gone = asyncio.Event()
    here.told.then = lambda run_id: gone.wait()
    here.start()
    await asyncio.sleep(2 * POLL_S)
    assert (await forget_all(here.log, "me")).is_done
    gone.set()
    await asyncio.sleep(60)
    assert here.told.ids == ["me1"]
    assert not [name for name in await here.log.names("", 1000) if name.endswith("me")]
    await here.end("me", 3)
    await asyncio.sleep(2 * POLL_S)
    assert here.told.ids == ["me1", "me3"], "who comes back begins anew"


def test_what_the_log_has_dropped_is_passed_over_and_nothing_after_it() -> None:
    @simulated
    async def play() -> None:
        log = MemoryLog(lambda topic: Retention(events=2) if topic.startswith(RUN_ENDS) else Retention())
        await log.open()
        here = Tellers(log)
        here.told.refused = {"me1"}
        await here.end("me", 1)
        here.start()
        await asyncio.sleep(2 * POLL_S)
        await here.end("me", *range(2, 8))
        await log.sweep()
        here.told.refused.clear()
        await asyncio.sleep(MAX_DELAY_S)
        assert here.told.ids[-2:] == ["me6", "me7"]
        await here.leave()

    play()
