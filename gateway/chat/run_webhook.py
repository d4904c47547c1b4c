"""Tells the operator's webhook how runs in the background ended: each at least once, those of one user in order.

One process of all delivers: it holds a slot of the log's engine, which is free again soon after its death. How far the
ends of each user are cursor is an event of the log that expects its offset, so of two that deliver at once one stops.
Users do not wait for each other: what the receiver refuses of one holds up that one alone. It is sent again, ever less
often, until the answer is a 2xx or the log has dropped it, by its age or by how many there are, which is logged.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import structlog
from msgspec import Raw

from events.log.port import NO_EVENTS, Append, EventLog, Position, Slice, TopicInfo
from events.log.rules import report_end
from gateway.chat.records.run_end import RUN_ENDED, RUN_ENDS, RunEnd, run_ends_topic
from gateway.core.process import Core
from gateway.core.quota_client import WorkTurn
from gateway.core.usage import now_ms
from gateway.core.usage_report import iso
from gateway.core.usage_rows import SLACK_MS
from gateway.core.webhook import DeliveryError, Post, Webhook
from gateway.errors import LogConflict, LogDamaged, LogError, Overloaded

CURSORS = "outbox/runs/"
"""Prefix of the topics whose newest event is how far the ends of one user each are cursor, as a Position."""
POLL_S = 1.0
MAX_AT_ONCE = 16
"""Maximum users whose ends are told at once; the others wait for one of them."""
FIRST_DELAY_S = 0.5
MAX_DELAY_S = 60.0
"""Seconds between two tries of an end that was refused: they double from the one to the other."""
SLICE_EVENTS = 100
FIRST_LIMIT = 1000
MAX_KNOWN = 50_000
"""Users of whom is known in memory how far they are told; past that it is read anew."""
_json = msgspec.json.Encoder().encode
_end = msgspec.json.Decoder(RunEnd).decode
_position = msgspec.json.Decoder(Position).decode

log = structlog.get_logger("runs")


def run_webhooks(core: Core) -> "list[RunWebhook]":
    """Returns what delivers to the webhook that is set; nothing where none is."""
    url, key = core.settings.run_webhook_url, core.settings.run_webhook_secret
    if not url:
        return []
    webhook = Webhook(url, key)
    tries = core.metrics.counter("chat_run_posts", "Posts of ends of runs to the webhook, by outcome", "outcome")
    turn = WorkTurn(core.limiter.client, "run_webhook")
    return [RunWebhook(core.log, turn, webhook.post, webhook.aclose, lambda outcome: tries.labels(outcome).inc())]


class EndsCursor(msgspec.Struct):
    """How far the ends of one user are told."""

    next_offset: int = 1
    """Offset of the next event of the cursor's topic."""
    position: Position = Position("", 0)
    tries: int = 0
    """How often the end after that was refused."""
    due_s: float = 0.0
    """The event loop's time before which it is not sent again."""


class RunWebhook:
    """The delivery of one log's ends of runs, in one process."""

    def __init__(
        self,
        event_log: EventLog,
        turn: WorkTurn,
        post: Post,
        aclose: Callable[[], Coroutine[Any, Any, None]],
        on_try: Callable[[str], None],
    ) -> None:
        """`aclose` lets go of what `post` uses; `on_try` is called after each try, with `delivered` or `failed`."""
        self._log = event_log
        self._turn = turn
        self._post = post
        self._aclose = aclose
        self._on_try = on_try
        self._cursors: dict[str, EndsCursor] = {}
        self._telling: dict[str, asyncio.Task[None]] = {}
        self._complete_ms = 0
        """The time, in milliseconds since 1970, before which every end was told."""
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(), name="tell the ends of runs")
        self._task.add_done_callback(report_end)

    async def close(self) -> None:
        tasks = [*self._telling.values(), *([self._task] if self._task is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._turn.leave()
        await self._aclose()

    async def _run(self) -> None:
        while True:
            try:
                names = await self._log.names(RUN_ENDS, 1)
                if names and names[0].startswith(RUN_ENDS):
                    if await self._turn.take():
                        await self._tell_all()
                    else:
                        self._cursors.clear()  # another process moves them
            except (LogError, Overloaded) as err:
                log.warning("ends of runs cannot be told: the log fails", reason=err.detail)
            await asyncio.sleep(POLL_S)

    async def _tell_all(self) -> None:
        for info in await self._untold():
            while len(self._telling) >= MAX_AT_ONCE:
                await asyncio.wait(self._telling.values(), return_when=asyncio.FIRST_COMPLETED)
            self._begin(info)

    async def _untold(self) -> list[TopicInfo]:
        """Returns the users' topics that may have something to tell, in the order of their changes."""
        began_ms, since_ms, limit = now_ms(), self._complete_ms - SLACK_MS, FIRST_LIMIT
        infos = await self._log.topics(RUN_ENDS, limit=limit)
        while len(infos) == limit and infos[-1].updated_ms >= since_ms:
            limit *= 10
            infos = await self._log.topics(RUN_ENDS, limit=limit)
        untold = [info for info in reversed(infos) if info.updated_ms >= since_ms and not self._is_told(info)]
        if not untold:
            self._complete_ms = began_ms
        return untold

    def _is_told(self, info: TopicInfo) -> bool:
        cursor = self._cursors.get(info.topic.removeprefix(RUN_ENDS))
        return cursor is not None and cursor.position == Position(info.epoch, info.head)

    def _begin(self, info: TopicInfo) -> None:
        """Begins to tell the ends of a user, unless that is being done, or it is too early to try again."""
        loop, sub = asyncio.get_running_loop(), info.topic.removeprefix(RUN_ENDS)
        cursor = self._cursors.get(sub)
        if sub in self._telling or (cursor is not None and loop.time() < cursor.due_s):
            return
        task = self._telling[sub] = loop.create_task(self._tell(sub), name="tell the ends of a user's runs")
        task.add_done_callback(report_end)
        task.add_done_callback(lambda done: self._telling.pop(sub, None))

    async def _tell(self, sub: str) -> None:
        """Tells a user's ends until none is left, or one is refused."""
        try:
            cursor = await self._cursor(sub)
            if not await self._tell_rest(sub, cursor):
                delay_s = min(MAX_DELAY_S, FIRST_DELAY_S * 2 ** min(cursor.tries, 16))
                cursor.tries += 1
                cursor.due_s = asyncio.get_running_loop().time() + delay_s * random.uniform(0.5, 1.0)
        except LogConflict:
            log.info("another process tells the ends of runs now")
            self._cursors.clear()
            self._turn.leave()
        except LogError as err:
            log.warning("ends of runs cannot be told: the log fails", reason=err.detail)
            self._cursors.pop(sub, None)

    async def _tell_rest(self, sub: str, cursor: EndsCursor) -> bool:
        """Tells what follows a user's cursor, and moves that; returns False when the receiver has refused one."""
        topic = run_ends_topic(sub)
        while True:
            try:
                part = await self._log.read(topic, cursor.position.offset, max_events=SLICE_EVENTS)
            except LogDamaged:
                part = await self._log.read(topic, NO_EVENTS, max_events=1)
                first = await self._log.next_readable(topic, cursor.position.offset, part.head)
            else:
                first = part.blocks[0].first if part.blocks else part.head + 1
            if not part.epoch or cursor.position == Position(part.epoch, part.head):
                return True
            if part.epoch != cursor.position.epoch:  # it is new: from now on it is noticed when the user is forgotten
                await self._move(sub, cursor, Position(part.epoch, 0))
            elif first > cursor.position.offset + 1:
                log.error("ends of runs are lost", topic=topic, first=cursor.position.offset + 1, last=first - 1)
                await self._move(sub, cursor, Position(part.epoch, first - 1))
            elif not await self._tell_slice(sub, cursor, part):
                return False

    async def _tell_slice(self, sub: str, cursor: EndsCursor, part: Slice) -> bool:
        for block in part.blocks:
            for offset, data in enumerate(block.data, block.first):
                if block.name == RUN_ENDED and not await self._is_taken(data):
                    return False
                await self._move(sub, cursor, Position(part.epoch, offset))
        return True

    async def _cursor(self, sub: str) -> EndsCursor:
        """Returns how far a user's ends are told. Raises LogError."""
        if (cursor := self._cursors.get(sub)) is not None:
            return cursor
        if len(self._cursors) >= MAX_KNOWN:
            self._cursors.clear()
        part = await self._log.read(CURSORS + sub, 0, max_events=1)
        if part.head:
            part = await self._log.read(CURSORS + sub, part.head - 1, max_events=1)
        cursor = EndsCursor()
        if part.blocks:
            cursor = EndsCursor(part.blocks[-1].last + 1, _position(part.blocks[-1].data[-1]))
        self._cursors[sub] = cursor
        return cursor

    async def _move(self, sub: str, cursor: EndsCursor, position: Position) -> None:
        """Moves a user's cursor. Raises LogConflict when another process has, or the user was forgotten."""
        data, expect = [_json(position)], cursor.next_offset
        await self._log.append(Append(topic=CURSORS + sub, owner=sub, data=data, name="cursor", expect=expect))
        cursor.next_offset += 1
        cursor.position, cursor.tries, cursor.due_s = position, 0, 0.0

    async def _is_taken(self, data: bytes) -> bool:
        body = _json({"type": "run.ended", "timestamp": iso(_end(data).ended_ms), "data": Raw(data)})
        try:
            await self._post(body)
        except DeliveryError as err:
            log.warning("the end of a run was not taken: it is told again", reason=str(err))
            self._on_try("failed")
            return False
        self._on_try("delivered")
        return True
