"""A journal makes a run durable: it alone writes the run's topic, from the opening to exactly one end.

Every append is fenced with the offset that it expects, so a run that another process has ended can add nothing. The
last append closes the topic, tells the chat how the run ended and settles its usage, in one transaction: no end lacks
its usage row.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

import msgspec
import structlog

from events.log.port import Append, Appended, EventLog, read_past_damage
from gateway.chat.records.chat_record import FIRST_RECORD, RunFinished, RunInfo
from gateway.chat.records.record import HEARTBEAT, RECORD, REQUEST, RUN, TAKEN_OVER
from gateway.chat.topics import run_topic
from gateway.errors import LogConflict, LogError, TrilaneError

HEARTBEAT_S = 5.0
"""Seconds of silence after which a run shows that it lives."""
RETELL_S = 60.0
RETELL_EVENTS = 64
"""Seconds, and events, after which a run says again whose it is: of a long one the log may have dropped the start."""
MAX_UNACKNOWLEDGED = 64
"""Maximum appends on their way to the log; past that the producer is paused (a slow reader never has that effect)."""
NEVER = float("inf")
SETTLE_TRIES = 150
"""Tries to write an end that the log does not take: five minutes. After them another process may end the run."""
SETTLE_DELAY_S = 0.1
SETTLE_MAX_DELAY_S = 2.0

log = structlog.get_logger("journal")


class Pausable(Protocol):
    """A writer of a journal that can be made to wait."""

    def pause(self) -> None: ...
    def resume(self) -> None: ...


class LastAppend(Protocol):
    """The append that ends a run, and whatever goes with it."""

    finished: RunFinished
    chat: str
    """The topic of the run's chat; empty when it has none."""

    async def appends(self, expect: int) -> list[Append]:
        """Returns the appends that end the run now, whose last records get offset `expect`."""
        ...

    async def chat_changed(self) -> None:
        """Looks at the chat again, because one of them expected another head of it. Raises LogError."""
        ...


class Journal:
    """The topic of one run, for the process that owns it."""

    def __init__(self, info: RunInfo, event_log: EventLog, on_failure: Callable[[TrilaneError], None]) -> None:
        """`on_failure` is called once, when the log takes no more of this run."""
        self.topic = run_topic(info.run_id)
        self.failure: TrilaneError | None = None
        self._info = info
        self._log = event_log
        self._on_failure = on_failure
        self._loop = asyncio.get_running_loop()
        self._next = 0
        self._durable_to = 0
        """Offset of the last event that is known to be durable."""
        self._unacknowledged = 0
        self._producer: Pausable | None = None
        self._is_paused = False
        self._is_taking = False
        self._appended_at = self._told_at = self._loop.time()
        self._told_offset = 1
        """Offset at which the run last told whose it is."""

    def opening(self, records: list[bytes], request: bytes = b"") -> list[Append]:
        """Returns the appends that make the run exist; the caller appends them, the chat's and the usage's as one.

        `request` is what another process would go on with; empty when none could.
        """
        appends = opening_of(self._info, records, request)
        self._next = next_offset(appends)
        return appends

    def taking_over(self, head: int) -> Append:
        """Returns the append that makes this journal the one that writes the run, whose topic ends at `head`."""
        self._next = head + 2
        return Append(topic=self.topic, data=[b"{}"], name=TAKEN_OVER, expect=head + 1)

    # Writing

    def lead(self, producer: Pausable) -> None:
        """Lets `producer` write from now on: it is the one that is paused when the log falls behind."""
        self._producer = producer
        if self._is_paused:
            producer.pause()

    def write(self, records: list[bytes]) -> None:
        """Appends records, of which a log that groups its commits may make others wait a few milliseconds."""
        if records:
            self._append(records, RECORD, patient=True)

    def write_now(self, records: list[bytes]) -> None:
        """Appends records that somebody waits for."""
        if records:
            self._append(records, RECORD, patient=False)

    async def note(self, name: str, data: bytes) -> None:
        """Appends a hidden event, and returns when it is durable."""
        await self._append([data], name, patient=False)

    async def take(self, records: list[bytes], told: Append) -> bool:
        """Appends records in one with `told`; False when neither was, because the chat's topic has another head.

        Whoever writes by this journal waits for it: where the next record goes is known only then.
        """
        self._is_taking = True
        try:
            append = Append(topic=self.topic, data=records, name=RECORD, expect=self._next)
            written, _ = await self._log.append(append, told)
        except LogConflict as err:
            if err.topic != self.topic:
                return False
            self._failed(err)
            raise
        except LogError as err:
            self._failed(err)
            raise
        finally:
            self._is_taking = False
        self._appended_at = self._loop.time()
        self._next, self._durable_to = written.last + 1, written.last
        return True

    def beat(self, now: float) -> float:
        """Shows a sign of life after a silence; returns when the next one is due, by the event loop's clock."""
        if self._is_taking:
            return now + HEARTBEAT_S
        if now - self._told_at >= RETELL_S and self.failure is None:
            self._told_at = now
            if self._next - self._told_offset >= RETELL_EVENTS:
                self._told_offset = self._next
                self._append([msgspec.json.encode(self._info)], RUN, patient=True)
        if now - self._appended_at >= HEARTBEAT_S and self.failure is None:
            self._append([b"{}"], HEARTBEAT, patient=True)
        return self._appended_at + HEARTBEAT_S if self.failure is None else NEVER

    def _append(self, data: list[bytes], name: str, *, patient: bool) -> "asyncio.Future[list[Appended]]":
        append = Append(topic=self.topic, data=data, name=name, expect=self._next)
        result = self._log.append(append, patient=patient)
        self._next += len(data)
        self._appended_at = self._loop.time()
        self._unacknowledged += 1
        result.add_done_callback(self._acknowledged)
        if self._unacknowledged > MAX_UNACKNOWLEDGED and not self._is_paused and self._producer is not None:
            self._is_paused = True
            self._producer.pause()
        return result

    def _acknowledged(self, result: "asyncio.Future[list[Appended]]") -> None:
        self._unacknowledged -= 1
        if self._is_paused and self._unacknowledged < MAX_UNACKNOWLEDGED // 2 and self._producer is not None:
            self._is_paused = False
            self._producer.resume()
        failure = None if result.cancelled() else result.exception()
        if failure is None and not result.cancelled():
            self._durable_to = result.result()[-1].last
        if failure is not None:
            self._failed(failure)

    def _failed(self, failure: BaseException) -> None:
        if self.failure is None:
            self.failure = failure if isinstance(failure, TrilaneError) else LogError(str(failure))
            self._on_failure(self.failure)

    # The end

    async def settle(self, ending: LastAppend) -> RunFinished | None:
        """Appends the end, as often as it takes while the log cannot be written; never after another process has.

        Returns None when this process did not write the end.
        """
        has_chat_changed = False
        for attempt in range(SETTLE_TRIES):
            try:
                if self.failure is not None:
                    self._next = await self._actual_next()
                if has_chat_changed:
                    await ending.chat_changed()
                has_chat_changed = False
                await self._log.append(*await ending.appends(self._next))
            except LogConflict as err:
                if err.topic == ending.chat:
                    has_chat_changed = True
                    continue
                if err.closed or self.failure is None:
                    log.warning("run was ended by another process", run=self._info.run_id)
                    return None
            except LogError as err:
                if attempt == 0:
                    log.warning("run cannot be ended yet", run=self._info.run_id, reason=err.detail)
                self.failure = err
            else:
                return ending.finished
            await asyncio.sleep(min(SETTLE_MAX_DELAY_S, SETTLE_DELAY_S * 2**attempt))
        log.error("run left open: the log could not be written", run=self._info.run_id)
        return None

    def close(self) -> None:
        """Lets go of the run and its producer, which hold this journal; both have ended."""
        self._producer = None
        self._on_failure = _nobody

    async def _actual_next(self) -> int:
        """Returns the offset that the next event gets: after a failure it is not known what became durable.

        Raises LogConflict, as if the run were closed, when it was deleted, which an end would bring to life again, or
        when another process goes on with it.
        """
        head = 0
        async for part in read_past_damage(self._log, self.topic, _ignored, after=self._durable_to):
            head = part.head
            if not part.epoch or any(block.name == TAKEN_OVER for block in part.blocks):
                raise LogConflict(self.topic, self._next, head + 1, closed=True)
        return head + 1


def opening_of(info: RunInfo, records: list[bytes], request: bytes) -> list[Append]:
    """Returns the first appends of a run's topic."""
    topic = run_topic(info.run_id)
    appends = [
        Append(topic=topic, owner=info.sub, data=[msgspec.json.encode(info)], name=RUN, expect=1),
        Append(topic=topic, owner=info.sub, data=records, name=RECORD, expect=FIRST_RECORD),
    ]
    if request:
        appends.append(Append(topic=topic, data=[request], name=REQUEST, expect=FIRST_RECORD + len(records)))
    return appends


def next_offset(opening: list[Append]) -> int:
    """Returns the offset of what follows the first appends of a run's topic."""
    return 1 + sum(len(append.data) for append in opening)


def _ignored(first: int, last: int) -> None:
    """Passes over what is damaged: it was written by whoever had this run then."""


def _nobody(failure: TrilaneError) -> None:
    """Tells nobody: the run has ended."""
