"""Keeps the schedules of users: each is a topic of its own, one of a fixed number of names that every user has.

So there can be no more of them than names, however many are asked for at once. `gateway.chat.due` starts what is due.
"""

import secrets
from collections.abc import Callable

import msgspec

from events.log.port import NO_EVENTS, Append, EventLog
from gateway.access.grants import Principal
from gateway.chat.change import new_addresses
from gateway.chat.chats import again
from gateway.chat.fetches import check_fetch
from gateway.chat.records.messages import UIMessage
from gateway.chat.records.schedule_record import (
    SCHEDULE,
    DueEntry,
    Schedule,
    ScheduleRequest,
    ScheduleView,
)
from gateway.chat.room import check_posted
from gateway.chat.topics import chat_topic, check_id, due_topic, schedules_of
from gateway.core.limits import Limiter
from gateway.core.usage import now_ms
from gateway.errors import BadRequest, NotFound, TooLarge, TrilaneError
from gateway.settings import Settings

MAX_PER_USER = 100
MAX_PER_CHAT = 20
MAX_MESSAGE_BYTES = 65_536
"""Maximum bytes of a schedule's message, which is written again with each occurrence."""
_json = msgspec.json.Encoder().encode


class StoredSchedule(msgspec.Struct, frozen=True):
    """A schedule, and where it is in the log."""

    topic: str
    head: int
    schedule: Schedule
    is_over: bool = False


async def read_schedule(event_log: EventLog, topic: str) -> StoredSchedule | None:
    """Returns the schedule that a topic holds; None when there is none."""
    part = await event_log.read(topic, NO_EVENTS, max_events=1)
    if part.head:
        part = await event_log.read(topic, part.head - 1, max_events=1)
    if not part.blocks:
        return None
    schedule = msgspec.json.decode(part.blocks[-1].data[-1], type=Schedule)
    return StoredSchedule(topic, part.blocks[-1].last, schedule, part.closed)


def schedule_append(topic: str, schedule: Schedule, expect: int, *, is_over: bool = False) -> Append:
    """Returns the append that makes a schedule what it says, fenced by what was read of it."""
    return Append(topic=topic, owner=schedule.sub, name=SCHEDULE, data=[_json(schedule)], expect=expect, close=is_over)


def due_append(entry: DueEntry, at_ms: int) -> Append:
    """Returns the append that has an occurrence looked at from a time on."""
    return Append(topic=due_topic(at_ms), name="due", data=[_json(entry)])


class Schedules:
    """Makes, shows and removes schedules, in one process."""

    def __init__(
        self, event_log: EventLog, limiter: Limiter, settings: Settings, clock_ms: Callable[[], int] = now_ms
    ) -> None:
        """`clock_ms` gives milliseconds since 1970."""
        self._clock_ms = clock_ms
        self._log = event_log
        self._limiter = limiter
        self._allowed_fetches = settings.allowed_fetches

    async def add(self, who: Principal, chat_id: str, request: ScheduleRequest) -> ScheduleView:
        """Makes a schedule; the same message again is the same one.

        Raises BadRequest (`bad_schedule`), TooLarge, TrilaneError (409 `too_many_schedules`), RateLimited, LogError.
        """
        check_id("chat id", chat_id)
        self._check(request.message)
        first_ms, every_s = request.times(self._clock_ms())

        async def attempt() -> ScheduleView:
            stored = await self._of(who.sub)
            of_chat = [one.schedule for one in stored if one.schedule.chat_id == chat_id and not one.is_over]
            same = next((schedule for schedule in of_chat if schedule.message.id == request.message.id), None)
            if same is not None:
                return ScheduleView.of(same)
            taken = {one.schedule.slot for one in stored}
            slot = next((f"{number:02d}" for number in range(MAX_PER_USER) if f"{number:02d}" not in taken), "")
            if not slot or len(of_chat) >= MAX_PER_CHAT:
                bound = f"{MAX_PER_CHAT} of one chat and {MAX_PER_USER} of one user"
                raise TrilaneError(
                    f"there are as many schedules as may be, {bound}: remove one", code="too_many_schedules", status=409
                )
            schedule = Schedule(
                id=f"{slot}-{secrets.token_hex(4)}",
                sub=who.sub,
                chat_id=chat_id,
                message=request.message,
                model=request.model or "",
                every_s=every_s,
                next_ms=first_ms,
                chat_epoch=(await self._log.read(chat_topic(who.sub, chat_id), NO_EVENTS, max_events=1)).epoch,
                key=who.key_id,
                expires_ms=int(who.expires_at * 1000) if who.key_id and who.expires_at is not None else 0,
                limits=who.grants.limits,
            )
            topic = schedules_of(who.sub) + slot
            entry = DueEntry(topic=topic, id=schedule.id, due_ms=first_ms)
            append = schedule_append(topic, schedule, 1)
            await self._limiter.keep(who, topics=0, stored_bytes=len(append.data[0]))
            await self._log.append(append, due_append(entry, max(first_ms, self._clock_ms())))
            return ScheduleView.of(schedule)

        return await again(attempt)

    async def of_chat(self, who: Principal, chat_id: str) -> list[ScheduleView]:
        """Returns the schedules of a chat, the next one first."""
        check_id("chat id", chat_id)
        stored = [one for one in await self._of(who.sub) if one.schedule.chat_id == chat_id and not one.is_over]
        return [ScheduleView.of(one.schedule) for one in sorted(stored, key=lambda one: one.schedule.next_ms)]

    async def remove(self, who: Principal, chat_id: str, schedule_id: str) -> None:
        """Removes a schedule; a run that it has started goes on. Raises NotFound (`schedule_not_found`)."""
        for one in await self._of(who.sub):
            if (one.schedule.id, one.schedule.chat_id) == (schedule_id, chat_id) and not one.is_over:
                await self._log.delete(one.topic)
                return
        raise NotFound(f"chat {chat_id!r} has no schedule {schedule_id[:64]!r}", code="schedule_not_found")

    async def remove_all(self, who: Principal, chat_id: str) -> None:
        """Removes the schedules of a chat that is gone."""
        for one in await self._of(who.sub):
            if one.schedule.chat_id == chat_id:
                await self._log.delete(one.topic)

    async def _of(self, sub: str) -> list[StoredSchedule]:
        infos = await self._log.topics(schedules_of(sub), owner=sub, limit=MAX_PER_USER)
        stored = [await read_schedule(self._log, info.topic) for info in infos]
        return [one for one in stored if one is not None]

    def _check(self, message: UIMessage) -> None:
        check_id("message id", message.id)
        check_posted([message])
        if message.role != "user" or not message.parts:
            raise BadRequest("message: want the message of a user, with parts", code="bad_schedule")
        if (size := len(_json(message))) > MAX_MESSAGE_BYTES:
            raise TooLarge(f"message: {size} bytes, and a schedule's has at most {MAX_MESSAGE_BYTES}")
        for url in new_addresses([message]):
            check_fetch(url, self._allowed_fetches)
