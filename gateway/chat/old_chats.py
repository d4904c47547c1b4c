"""Deletes the chats that nobody has written to for `TRILANE_RETENTION_CHATS_S`, with their runs; usage stays.

One process of all does so: it holds a slot of the log's engine, which is free again soon after its death. A chat is
closed before it is deleted, at the head that it was judged by, so whoever writes to it meanwhile keeps it, or finds it
gone. Nothing is deleted by a clock that may be wrong: ages are told by the log's own clock, which must have gone as
this machine's monotonic one does for a while before; a jump begins that time anew.
"""

import asyncio
from collections.abc import Callable

import structlog

from events.log.port import NO_EVENTS, Append, EventLog, TopicInfo, read_past_damage
from gateway.chat.history import History
from gateway.chat.topics import CHATS, run_topic
from gateway.core.process import HEALTH
from gateway.core.quota_client import QuotaClient, WorkTurn
from gateway.errors import LogConflict, LogError, Overloaded

SWEEP_S = 600.0
"""Seconds between two sweeps, at most."""
TRUST_S = 3600.0
"""Seconds for which the clocks must have agreed before the first deletion, at most."""
TOLERANCE_S = 60.0
"""Seconds by which the log's clock may have gone otherwise than ours."""
MAX_SWEPT = 200
"""Maximum chats that one sweep deletes; the others wait for the next."""
PAUSE_S = 0.02
"""Seconds after each chat: the others come first."""

log = structlog.get_logger("chats")


class ClockWatch:
    """Knows for how long the log's clock has gone as the monotonic one does."""

    def __init__(self) -> None:
        self._began: tuple[float, float] | None = None

    def agree_s(self, log_s: float, own_s: float) -> float:
        """Notes both clocks, in seconds; returns for how long they have agreed."""
        if self._began is None or abs((log_s - self._began[0]) - (own_s - self._began[1])) > TOLERANCE_S:
            self._began = log_s, own_s
        return own_s - self._began[1]


class OldChats:
    """Sweeps the chats. `client` counts the one slot that says whose turn it is."""

    def __init__(self, event_log: EventLog, client: QuotaClient, retention_s: float) -> None:
        self._log = event_log
        self.turn = WorkTurn(client, "chat_sweeps")
        self._retention_s = retention_s
        self._every_s = min(SWEEP_S, retention_s / 4)
        self._trust_s = min(TRUST_S, retention_s / 4)
        self._watch = ClockWatch()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        if self._retention_s:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="delete old chats")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self.turn.leave()

    async def _run(self) -> None:
        now = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(self._every_s)
            try:
                if await self.turn.take() and (deleted := await self.sweep(now)):
                    log.info("old chats were deleted", chats=deleted)
            except (LogError, Overloaded) as err:
                log.warning("old chats cannot be deleted", reason=err.detail)

    async def sweep(self, now: Callable[[], float]) -> int:
        """Deletes what is due, MAX_SWEPT chats at most; returns how many. `now` gives monotonic seconds."""
        now_ms = await self._log_ms()
        is_trusted = self._watch.agree_s(now_ms / 1000, now()) >= self._trust_s
        before_ms = now_ms - int(self._retention_s * 1000)
        deleted = 0
        for info in await self._log.topics(CHATS, before_ms=before_ms, limit=MAX_SWEPT):
            if not (is_trusted or info.closed):  # one that is closed was due for another process, which has died
                continue
            try:
                deleted += await self._delete(info)
            except LogConflict:
                continue  # somebody has come back to it
            except LogError as err:  # what hinders one must not keep the others
                log.warning("an old chat cannot be deleted", topic=info.topic, reason=err.detail)
            await asyncio.sleep(PAUSE_S)
        return deleted

    async def _log_ms(self) -> int:
        """Returns the time by the clock that tells the chats' age."""
        await self._log.append(Append(topic=HEALTH, data=[b"1"], name="check"))
        [info] = await self._log.topics(HEALTH, limit=1)
        return info.updated_ms

    async def _delete(self, info: TopicInfo) -> bool:
        """Deletes a chat and its runs, unless one of them is running. Raises LogConflict when it has changed."""
        history = History(chat_id="")
        async for part in read_past_damage(self._log, info.topic, history.lose):
            history.epoch = part.epoch
            for block in part.blocks:
                history.apply(block)
        if history.epoch != info.epoch or (history.active is not None and await self._is_open(history.active.run_id)):
            return False
        if not info.closed:
            await self._log.append(Append(topic=info.topic, data=[], expect=info.head + 1, close=True))
        await self._log.delete(info.topic)
        for run_id in history.runs:
            await self._log.delete(run_topic(run_id))
        return True

    async def _is_open(self, run_id: str) -> bool:
        run = await self._log.read(run_topic(run_id), NO_EVENTS, max_events=1)
        return bool(run.epoch) and not run.closed
