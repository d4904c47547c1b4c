"""Carries the counts of this process to the log's engine: one batch at a time, in which all that waits goes together.

Where the engine counts within the call (`take_at_once`), a caller goes alone and at once: a task and a turn of the
event loop would cost it as much again.

This process says how many slots it holds, never that one came or went, so an answer that was lost leaves nothing to
repair. Slots that are free again, and corrections of rates, go along with the next call, or else on their own within
FLUSH_S. Nothing is sent, and no timer runs, while nothing is held.
"""

import asyncio
import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import structlog

from events.log.port import EventLog
from events.log.quotas import HEARTBEAT_S, LIVE_S, SLOTS, Settlement, Take, TakeBatch, TakeOutcome, TakeReply, Window
from gateway.errors import LogUnavailable, Overloaded, TrilaneError

KNOWN_S = LIVE_S - HEARTBEAT_S
"""Seconds for which the engine surely does not take this process for dead, if its answer comes in time."""
FLUSH_S = 0.05
"""Seconds after which freed slots are reported at the latest."""
ANSWER_S = 5.0
"""Seconds in which the engine must answer."""
ALONG = 32
"""Maximum freed slots and settlements that go along with a call that is made at once."""
MAX_WAITING = 10_000
"""Maximum calls that wait for the batch before theirs; past it they are refused."""
RETRY_S = 1.0
"""Seconds after which an engine that failed is told again what it missed."""
BATCH_CALLS = 256
BATCH_ITEMS = 2000
"""Maximum reported counters, and settlements, of one batch."""

log = structlog.get_logger("limits")


class TakeAnswer(NamedTuple):
    """What the engine said of one call, and when."""

    outcome: TakeOutcome
    now_s: float


class WaitingCall(NamedTuple):
    takes: Sequence[Take]
    future: "asyncio.Future[TakeAnswer]"


class QuotaClient:
    """The one that counts for this process."""

    def __init__(self, event_log: EventLog) -> None:
        self._log = event_log
        self._holder = secrets.token_hex(8)
        self._held: dict[str, int] = {}
        """The slots that this process holds, by counter."""
        self._stale: dict[str, None] = {}
        """The counters of which the engine knows another number, or perhaps does."""
        self._settlements: dict[tuple[str, int, Window], int] = {}
        """Corrections that the engine was not told of, by counter, bucket and window."""
        self._waiting: list[WaitingCall] = []
        self._trips: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._heard_at = 0.0
        self._has_failed = False
        self.is_open = True

    def held(self, counter: str) -> int:
        """Returns how many slots of a counter this process holds."""
        return self._held.get(counter, 0)

    async def take(self, takes: Sequence[Take]) -> TakeAnswer:
        """Makes all takes or none. Slots are held until `release`. Raises LogUnavailable, Overloaded."""
        if self._trips is None and (reply := self._tell_at_once(takes)) is not None:
            return TakeAnswer(reply.outcomes[0], reply.now_s)
        if len(self._waiting) >= MAX_WAITING:
            raise Overloaded("too many requests wait for their limits to be looked at", retry_after="1")
        call = WaitingCall(takes, asyncio.get_running_loop().create_future())
        self._waiting.append(call)
        self._go()
        return await call.future

    def _tell_at_once(self, takes: Sequence[Take]) -> TakeReply | None:
        """Tells the engine what waits, and makes the takes of one call, if any, within this turn of the event loop.

        None where that cannot be. What waits goes along with calls, so that while they come nothing is told on its own.
        """
        now = asyncio.get_running_loop().time()
        if now - self._heard_at > KNOWN_S:
            return None
        own, stale = self._held, self._stale
        slots = [take for take in takes if not take.window.bucket_s]
        held = {take.counter: own.get(take.counter, 0) for take in slots}
        goes_along = len(stale) + len(self._settlements) <= ALONG
        if goes_along:
            for counter in stale:
                held[counter] = own.get(counter, 0)
        elif not takes:
            return None
        settlements = _listed(self._settlements.items()) if goes_along and self._settlements else ()
        reply = self._log.take_at_once(
            TakeBatch(holder=self._holder, held=held, settlements=settlements, calls=[takes] if takes else ())
        )
        if reply is None:
            return None
        if settlements:
            self._settlements.clear()
        if stale:
            for counter in held:
                stale.pop(counter, None)
        if takes and reply.outcomes[0].refused < 0:
            for take in slots:
                self._hold(take.counter, take.amount)
        self._note_reply(reply, held, now)
        if stale:
            self._schedule(FLUSH_S)
        elif self._timer is None and own:
            self._schedule(HEARTBEAT_S)
        return reply

    def settle(self, settlements: Iterable[Settlement]) -> None:
        """Corrects rates, soon; what cannot be told to the engine in time is forgotten, as its window passes, too."""
        for settlement in settlements:
            place = settlement.counter, settlement.bucket, settlement.window
            self._settlements[place] = self._settlements.get(place, 0) + settlement.amount
        self._schedule(FLUSH_S)

    def release(self, counters: Iterable[str]) -> None:
        """Gives one slot of each counter back, soon."""
        for counter in counters:
            self._hold(counter, -1)
            self._stale[counter] = None
        self._schedule(FLUSH_S)

    async def close(self) -> None:
        """Gives every slot back."""
        self.is_open = False
        self._stale |= dict.fromkeys(self._held)
        self._held.clear()
        if self._stale or self._settlements:
            self._go()
        if self._timer is not None:
            self._timer.cancel()
        if self._trips is not None:
            await asyncio.wait([self._trips])

    def _hold(self, counter: str, change: int) -> None:
        count = self._held.get(counter, 0) + change
        if count > 0:
            self._held[counter] = count
        else:
            self._held.pop(counter, None)

    # Trips

    def _go(self) -> None:
        if self._trips is None:
            self._trips = asyncio.get_running_loop().create_task(self._travel(), name="limits")

    async def _travel(self) -> None:
        try:
            while True:
                await self._trip()
                left = max(len(self._stale), len(self._settlements))
                goes_on = left >= (BATCH_ITEMS if self.is_open else 1)
                if not self._waiting and (self._has_failed or not goes_on):
                    break
        finally:
            self._trips = None
            if self._stale or self._settlements:
                self._schedule(RETRY_S if self._has_failed else FLUSH_S)
            elif self._held:
                self._schedule(HEARTBEAT_S)

    def _schedule(self, delay_s: float) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + delay_s
        if self._timer is not None:
            if self._timer.when() <= due:
                return
            self._timer.cancel()
        self._timer = loop.call_at(due, self._wake) if self.is_open else None

    def _wake(self) -> None:
        """Tells the engine what waits, or that this process lives; calls may have told it all meanwhile."""
        self._timer = None
        quiet_s = asyncio.get_running_loop().time() - self._heard_at
        if self._stale or self._settlements or quiet_s > HEARTBEAT_S - FLUSH_S:
            if self._trips is None and self._tell_at_once(()) is None:
                self._go()
        elif self._held:
            self._schedule(HEARTBEAT_S - quiet_s)

    async def _trip(self) -> None:
        if self._is_almost_forgotten():
            self._stale |= dict.fromkeys(self._held)  # it may be taken for dead, and counts again only when told so
        calls, self._waiting = self._waiting[:BATCH_CALLS], self._waiting[BATCH_CALLS:]
        calls = [call for call in calls if not call.future.done()]
        stale = list(self._stale)[:BATCH_ITEMS]
        slots = [take.counter for call in calls for take in call.takes if take.window == SLOTS]
        told = list(self._settlements.items())[:BATCH_ITEMS]
        for place, _ in told:
            del self._settlements[place]
        batch = TakeBatch(
            holder=self._holder,
            held={counter: self._held.get(counter, 0) for counter in (*stale, *slots)},
            settlements=_listed(told),
            calls=[call.takes for call in calls],
        )
        for counter in batch.held:
            self._stale.pop(counter, None)
        try:
            async with asyncio.timeout(ANSWER_S):
                reply = await self._log.take(batch)
        except (TrilaneError, TimeoutError) as err:
            self._stale |= dict.fromkeys(batch.held)
            self._fail(calls, err)
            return
        self._note_reply(reply, batch.held, asyncio.get_running_loop().time())
        self._answer(calls, reply)

    def _is_almost_forgotten(self) -> bool:
        """Returns whether the engine may take this process for dead before it hears of it."""
        return asyncio.get_running_loop().time() - self._heard_at > KNOWN_S

    def _note_reply(self, reply: TakeReply, reported: Mapping[str, int], now: float) -> None:
        self._has_failed = False
        self._heard_at = now
        if not reply.was_known:
            self._stale |= dict.fromkeys(counter for counter in self._held if counter not in reported)

    def _answer(self, calls: Sequence[WaitingCall], reply: TakeReply) -> None:
        for call, outcome in zip(calls, reply.outcomes, strict=True):
            slots = [take for take in call.takes if take.window == SLOTS] if outcome.refused < 0 else []
            for take in slots:
                self._hold(take.counter, take.amount)
            if call.future.done():  # the caller has left meanwhile, and nobody else would give them back
                for take in slots:
                    self._hold(take.counter, -take.amount)
                    self._stale[take.counter] = None
                rates = [take for take in call.takes if take.window != SLOTS] if outcome.refused < 0 else []
                self.settle(
                    Settlement(take.counter, take.window.current(reply.now_s), -take.amount, take.window)
                    for take in rates
                )
            else:
                call.future.set_result(TakeAnswer(outcome, reply.now_s))

    def _fail(self, calls: Sequence[WaitingCall], error: Exception) -> None:
        reason = error.detail if isinstance(error, TrilaneError) else f"no answer within {ANSWER_S:g} s"
        if not self._has_failed:
            log.warning("limits cannot be counted", reason=reason)
        self._has_failed = True
        for call in calls:
            if not call.future.done():
                call.future.set_exception(LogUnavailable(f"limits cannot be counted now: {reason}"))


def _listed(settlements: Iterable[tuple[tuple[str, int, Window], int]]) -> list[Settlement]:
    return [Settlement(counter, bucket, amount, window) for (counter, bucket, window), amount in settlements]


class WorkTurn:
    """One process's turn at work that one of all does at a time, until it ends: it holds the one slot of a counter.

    The slot of a process that died is free again soon. It is a hint and no lock: what is done in a turn must be right
    when two do it at once, which a process that was stopped and wakes may bring about.
    """

    def __init__(self, client: QuotaClient, name: str) -> None:
        """Takes what counts for this process, and the name of the work."""
        self._client = client
        self._take = Take(f"{name}/all", 1, 1, SLOTS)
        self._is_held = False

    async def take(self) -> bool:
        """Returns whether it is this process's turn, until it ends or `leave`. Raises LogUnavailable, Overloaded."""
        if not self._is_held:
            self._is_held = (await self._client.take([self._take])).outcome.refused < 0
        return self._is_held

    def leave(self) -> None:
        """Lets another process begin at once. Idempotent."""
        if self._is_held:
            self._is_held = False
            self._client.release([self._take.counter])
