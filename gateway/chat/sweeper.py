"""Looks after the runs of processes that died: goes on with those that can go on, and ends the others.

Whoever sees an open run whose head has not moved for a while (`gateway.chat.silence`) takes it over, or ends it as
`interrupted`; what a process that ends has left to others is begun at once. Of several that try, one wins; the dead
writer, should it wake, can append nothing more.
"""

import asyncio
from collections import deque
from collections.abc import Mapping

import structlog

from events.log.hub import Hub
from events.log.port import NO_EVENTS, Append, Block, EventLog, Position
from gateway.chat.abandoned import read_run
from gateway.chat.change import turns_in_slices
from gateway.chat.ending import Aborted, Failed
from gateway.chat.history import read_history
from gateway.chat.recovery import recovery_of
from gateway.chat.runs import Runs
from gateway.chat.silence import SilenceWatch
from gateway.chat.topics import LEFT_RUNS, RUNS, run_id_of
from gateway.core.process import HEALTH
from gateway.errors import LogConflict, LogError, TrilaneError

SWEEP_S = 1.0
MAX_SWEEP_S = 2.0
"""Maximum seconds between two sweeps, which come more rarely where their listing takes long."""
LISTING_SHARE = 0.05
"""Share of the time that listing may take until sweeps come more rarely: of 100,000 ended runs, SQLite takes 0.15 s."""
WRITERS_TURN_S = 1.0
"""Seconds in which the writer of a run that lives has written what waited, once the log takes writes again."""
MAX_OPEN_SWEPT = 10_000
MAX_LEFT = 1000
"""Maximum runs that are left to others and wait here to be begun; the oldest of more is found by its silence."""
LEFT_BEFORE = 100
"""Runs that were left before this process started, and are looked at: it may be the only one."""

log = structlog.get_logger("runs")


class Sweeper:
    """Looks at all open runs of others, for as long as it lives."""

    def __init__(self, event_log: EventLog, hub: Hub, runs: Runs) -> None:
        self._log = event_log
        self._hub = hub
        self._runs = runs
        self._left = deque[str](maxlen=MAX_LEFT)
        self._is_left = asyncio.Event()
        self._listing_s = 0.0
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._sweep(), name="sweep open runs"),
            loop.create_task(self._take_up(), name="begin what is left"),
        ]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _take_up(self) -> None:
        """Begins at once with what processes that end leave to others; what it misses, silence tells of."""
        try:
            head = await self._log.read(LEFT_RUNS, NO_EVENTS, max_events=1)
            earlier = await self._log.read(LEFT_RUNS, max(0, head.head - LEFT_BEFORE), max_events=LEFT_BEFORE)
        except LogError as err:
            log.warning("runs that are left to others are not heard of", reason=err.detail)
            return
        unwatch = self._hub.watch(LEFT_RUNS, Position(head.epoch, head.head), self._hear, is_standing=True)
        for block in earlier.blocks:
            self._hear(block)
        try:
            while True:
                await self._is_left.wait()
                self._is_left.clear()
                while self._left and not self._runs.draining:
                    run_id = self._left.popleft()
                    try:
                        await self._look_after(run_id, is_left=True)
                    except TrilaneError as err:
                        log.warning("a run that was left cannot be begun yet", run=run_id, reason=err.detail)
        finally:
            unwatch()

    def _hear(self, block: Block) -> None:
        self._left += (data.decode() for data in block.data)
        self._is_left.set()

    async def _sweep(self) -> None:
        watch = SilenceWatch()
        while True:
            await asyncio.sleep(max(SWEEP_S, min(MAX_SWEEP_S, self._listing_s / LISTING_SHARE)))
            try:
                await self._sweep_once(watch)
            except LogError as err:
                log.warning("open runs cannot be listed", reason=err.detail)

    async def _sweep_once(self, watch: SilenceWatch) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        infos = await self._log.topics(RUNS, open_only=True, limit=MAX_OPEN_SWEPT)
        self._listing_s = loop.time() - began
        heads = {info.topic: info.head for info in infos if self._runs.get(run_id_of(info.topic)) is None}
        silent_topics = watch.look(heads, loop.time())
        for topic in await self._still_silent(silent_topics, heads):
            run_id = run_id_of(topic)
            try:
                await self._look_after(run_id)
            except LogError as err:  # what hinders one must not keep the others open
                log.warning("an open run cannot be ended", run=run_id, reason=err.detail)

    async def _still_silent(self, topics: list[str], heads: Mapping[str, int]) -> list[str]:
        """Returns those of silent topics that stay silent once the log takes writes.

        The log can be read while somebody's lock keeps every writer out, the writers of these runs too.
        """
        if topics:
            await self._log.append(Append(topic=HEALTH, data=[b"1"], name="check"))
            await asyncio.sleep(WRITERS_TURN_S)
            now_open = await self._log.topics(RUNS, open_only=True, limit=MAX_OPEN_SWEPT)
            topics = [info.topic for info in now_open if info.topic in topics and info.head == heads[info.topic]]
        return topics

    async def _look_after(self, run_id: str, *, is_left: bool = False) -> None:
        """Goes on with a run, or ends it; one that `is_left` to others is theirs from when the first has begun."""
        run = await read_run(self._log, run_id)
        if is_left and not run.is_left:
            return
        if run.info is None or run.request is None:
            await self._runs.end_other(run_id, _interrupted())
            return
        history = await read_history(self._log, run.info.sub, run.info.chat_id, topic=run.info.topic)
        is_entered_again = self._runs.agents.run_by_worker(run.info.model) is not None
        recovery = recovery_of(run, history, is_entered_again=is_entered_again)
        if run_id in history.stopped:
            await self._runs.end_other(run_id, Aborted("stopped"))
        elif recovery is None:
            await self._runs.end_other(run_id, _interrupted())
        elif not self._runs.draining:  # another process has room for it
            taken = self._runs.take_over(recovery, await turns_in_slices(recovery.conversation))
            taken.watch(self._hub, history)
            opening = self._log.append(taken.journal.taking_over(recovery.head))
            try:
                await opening  # before anything is called: of two that try, one must not
            except LogConflict:
                self._runs.discard(taken)
                del opening  # it holds its error, whose frames hold it
                return
            self._runs.let_run(taken, opening)
            log.info("goes on with a run of another process", run=run_id)


def _interrupted() -> Failed:
    return Failed(TrilaneError("the process that wrote this answer is gone", code="interrupted", retryable=True))
