"""Starts what is due of schedules: each occurrence once, late rather than never, and one for all that were missed.

The index of what is due lies in the log, a topic for each few seconds; one process of all looks at the earliest. What
starts an occurrence is one append: the message and the run, fenced by the chat's head; the schedule with its next
occurrence, fenced by its own; and that one's place in the index. So whoever dies before has started nothing, and who
comes second finds it done. An occurrence of a chat that is busy, or at a limit, is tried again until it is too late.
"""

import asyncio
from collections.abc import Callable

import msgspec
import structlog

from events.log.port import Append, EventLog, read_past_damage
from events.log.topics import stored, user_topic
from gateway.access.grants import Grants, Principal
from gateway.chat.chats import CONFLICT_TRIES, Chats
from gateway.chat.records.schedule_record import DueEntry, Occurrence, text_of
from gateway.chat.roles import require
from gateway.chat.run_start import EncoderOf
from gateway.chat.runs import Runs
from gateway.chat.schedules import StoredSchedule, due_append, read_schedule, schedule_append
from gateway.chat.sending import Sending
from gateway.chat.submission import SendRequest, Submission
from gateway.chat.topics import BUCKET_MS, DUE, due_from_ms, new_run_id
from gateway.core.quota_client import WorkTurn
from gateway.core.usage import now_ms
from gateway.errors import BadRequest, Forbidden, LogConflict, LogError, NotFound, Overloaded, TooLarge, TrilaneError

SWEEP_S = 2.0
RETRY_S = 10.0
MAX_RETRY_S = 300.0
"""Seconds between two tries of an occurrence that cannot be started: they double from the one to the other."""
PATIENCE_S = 86_400.0
"""Seconds for which an occurrence is tried at most; of one that comes again, until the next is due."""
NEVER_WORKS = (BadRequest, TooLarge, NotFound, Forbidden)
_json = msgspec.json.Encoder().encode

log = structlog.get_logger("schedules")


class DueSchedules:
    """Starts what is due, whenever it is this process's turn."""

    def __init__(
        self,
        event_log: EventLog,
        turn: WorkTurn,
        chats: Chats,
        runs: Runs,
        sending: Sending,
        encoder_of: EncoderOf,
        is_revoked: Callable[[str], bool],
        clock_ms: Callable[[], int] = now_ms,
    ) -> None:
        """`is_revoked` says whether an API key was revoked, by its id; `clock_ms` gives milliseconds since 1970."""
        self._log = event_log
        self._turn = turn
        self._chats = chats
        self._runs = runs
        self._sending = sending
        self._encoder_of = encoder_of
        self._is_revoked = is_revoked
        self._clock_ms = clock_ms
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(), name="start what is due")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._turn.leave()

    async def _run(self) -> None:
        while not self._runs.draining:
            await asyncio.sleep(SWEEP_S)
            try:
                if not await self._earliest():
                    self._turn.leave()
                elif await self._turn.take():
                    await self.sweep()
            except (LogError, Overloaded) as err:
                log.warning("what is due cannot be started", reason=err.detail)
        self._turn.leave()

    async def sweep(self) -> None:
        """Starts all that is due until now."""
        while not self._runs.draining and (topic := await self._earliest()):
            await self._empty(topic)

    async def _earliest(self) -> str:
        """Returns the topic of the index that is due first; empty when nothing is due."""
        names = await self._log.names(DUE, 1)
        is_due = bool(names) and names[0].startswith(DUE) and due_from_ms(names[0]) <= self._clock_ms()
        return names[0] if is_due else ""

    async def _empty(self, topic: str) -> None:
        """Does what a topic of the index says, and deletes it once nobody can add to it."""
        is_closed = False
        while not is_closed:
            head, entries = 0, list[DueEntry]()
            async for part in read_past_damage(self._log, topic, lambda first, last: None):
                head = part.head
                lines = [data for block in part.blocks for data in block.data]
                entries += [msgspec.json.decode(line, type=DueEntry) for line in lines]
            for entry in entries:
                await self._settle(entry)
            try:
                await self._log.append(Append(topic=topic, data=[], expect=head + 1, close=True))
                is_closed = True
            except LogConflict as err:  # an entry came meanwhile, or whoever closed it has died
                is_closed = err.closed
        await self._log.delete(topic)

    async def _settle(self, entry: DueEntry) -> None:
        """Starts the occurrence of an entry, puts it off, or gives it up. Nothing happens to one that is done."""
        for _ in range(CONFLICT_TRIES):
            current = await read_schedule(self._log, entry.topic)
            if current is None or current.schedule.id != entry.id:
                return  # it was removed
            if current.is_over:
                await self._log.delete(entry.topic)
                return
            if current.schedule.next_ms != entry.due_ms:
                return
            try:
                await self._try(current, entry)
                return
            except LogConflict:  # the chat or the schedule has changed
                continue
        await self._later(entry)

    async def _try(self, current: StoredSchedule, entry: DueEntry) -> None:
        try:
            await self._begin(current)
        except LogError:
            raise
        except NEVER_WORKS as err:
            await self._give_up(current, err.code, is_over=True)
        except TrilaneError as err:
            patience_s = min(PATIENCE_S, current.schedule.every_s or PATIENCE_S)
            if self._clock_ms() - entry.due_ms < patience_s * 1000:
                await self._later(entry)
            else:
                await self._give_up(current, err.code, is_over=not current.schedule.every_s)

    async def _begin(self, current: StoredSchedule) -> None:
        """Starts the next occurrence of a schedule. Raises TrilaneError when that cannot be."""
        schedule, now = current.schedule, self._clock_ms()
        if schedule.key and self._is_revoked(schedule.key):
            raise Forbidden("the key of this schedule was revoked", code="key_revoked")
        if schedule.expires_ms and now >= schedule.expires_ms:
            raise Forbidden("the key of this schedule has expired", code="token_expired")
        who = Principal(sub=schedule.sub, grants=Grants(limits=schedule.limits), key_id=schedule.key)
        with self._chats.in_memory.hold() as held:
            history = await self._chats.read(schedule.sub, schedule.chat_id, held)
            was_there = bool(schedule.chat_epoch or schedule.started)
            if was_there and (not history.epoch or schedule.chat_epoch not in ("", history.epoch)):
                raise NotFound("the chat of this schedule was deleted", code="chat_gone")
            if history.epoch:
                require(history, who.sub, "send", schedule.chat_id)
            if history.active is not None or history.open_asks:
                raise Overloaded("the chat is busy", code="chat_busy")
            run_id = new_run_id()  # of this try alone: a run that is not opened may have written already
            last = Occurrence(at=text_of(schedule.next_ms), outcome="started", run_id=run_id)
            following = schedule.after(now, last, history.epoch)
            is_over = not schedule.every_s
            beside = [schedule_append(current.topic, following, current.head + 1, is_over=is_over)]
            if not is_over:
                entry = DueEntry(topic=current.topic, id=schedule.id, due_ms=following.next_ms)
                beside.append(due_append(entry, following.next_ms))
            message = schedule.occurrence_message()
            request = SendRequest(id=schedule.chat_id, message=message, model=schedule.model or None, background=True)
            submission = Submission(
                who, request, request.posting(), message.id, {}, has_stream=False, run_id=run_id, beside=beside
            )
            attached = await self._sending.start(submission, history, self._encoder_of)
            if attached.run is not None:
                held.keep_until(attached.run.verdict)
        attached.reader.close()
        if is_over:
            await self._log.delete(current.topic)

    async def _later(self, entry: DueEntry) -> None:
        delay_s = min(MAX_RETRY_S, RETRY_S * 2**entry.tries)
        again = msgspec.structs.replace(entry, tries=entry.tries + 1)
        await self._log.append(due_append(again, self._clock_ms() + int(delay_s * 1000)))

    async def _give_up(self, current: StoredSchedule, code: str, *, is_over: bool) -> None:
        """Goes on without the next occurrence, or ends the schedule, and tells the user why."""
        schedule = current.schedule
        last = Occurrence(at=text_of(schedule.next_ms), outcome="skipped", code=code)
        following = schedule.after(self._clock_ms(), last)
        appends = [schedule_append(current.topic, following, current.head + 1, is_over=is_over)]
        if not is_over:
            entry = DueEntry(topic=current.topic, id=schedule.id, due_ms=following.next_ms)
            appends.append(due_append(entry, max(following.next_ms, self._clock_ms() + BUCKET_MS)))
        told = {"scheduleId": schedule.id, "chatId": schedule.chat_id, "at": last.at, "code": code, "ended": is_over}
        notice = Append(topic=stored(user_topic(schedule.sub)), data=[_json(told)], name="schedule-skipped")
        await self._log.append(*appends, notice)
        log.info("an occurrence of a schedule was skipped", schedule=schedule.id, code=code, ended=is_over)
        if is_over:
            await self._log.delete(current.topic)
