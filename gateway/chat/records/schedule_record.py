"""A schedule is a message that is sent to a chat later, once or again and again. Pure.

The newest event of its topic is the schedule as it stands; an index of what is due (`due/...`) names it by its next
occurrence. Intervals are seconds, so a day is 24 hours: clocks that are set do not move them.
"""

import re
from datetime import UTC, datetime
from typing import Literal

import msgspec
from msgspec import UNSET, Raw, UnsetType

from gateway.access.grants import GrantedLimits
from gateway.chat.records.messages import UIMessage
from gateway.errors import BadRequest

SCHEDULE = "schedule"
"""Name of the events of a schedule's topic."""
MIN_EVERY_S = 60
MAX_AHEAD_S = 400 * 86_400
"""Maximum seconds from now to the first occurrence, and between two."""
LATE_S = 60
"""Seconds by which the time of a new schedule may have passed already."""
DURATION = re.compile(
    r"P(?:(?P<W>\d{1,3})W)?(?:(?P<D>\d{1,3})D)?(?:T(?:(?P<H>\d{1,5})H)?(?:(?P<M>\d{1,6})M)?(?:(?P<S>\d{1,8})S)?)?"
)
SECONDS = {"W": 604_800, "D": 86_400, "H": 3600, "M": 60, "S": 1}
_json = msgspec.json.Encoder().encode
_fields = msgspec.json.Decoder(dict[str, object]).decode


class ScheduleRequest(msgspec.Struct, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """The body of a request for a schedule."""

    message: UIMessage
    """The user's message, as `POST /api/chat` takes it; the same id again is the same schedule."""
    at: str | None = None
    """The first occurrence, as in RFC 3339 with its offset; left out: one interval from now."""
    every: int | float | str | None = None
    """Seconds between occurrences, or an ISO 8601 duration of weeks, days, hours, minutes and seconds: `PT1H`."""
    model: str | None = None

    def times(self, now_ms: int) -> tuple[int, int]:
        """Returns the first occurrence in milliseconds since 1970, and the seconds between two, 0 for one alone."""
        if self.at is None and self.every is None:
            raise BadRequest("say when: `at`, `every`, or both", code="bad_schedule")
        every_s = seconds_of(self.every) if self.every is not None else 0
        first_ms = milliseconds_at(self.at) if self.at is not None else now_ms + every_s * 1000
        if not -LATE_S * 1000 <= first_ms - now_ms <= MAX_AHEAD_S * 1000:
            raise BadRequest(
                f"at={self.at!r}: want a time that is not past, and at most {MAX_AHEAD_S // 86_400} days ahead",
                code="bad_schedule",
            )
        return first_ms, every_s


def seconds_of(every: float | str) -> int:
    """Returns an interval in seconds. Raises BadRequest."""
    if isinstance(every, str):
        match = DURATION.fullmatch(every)
        amounts = {unit: int(text) for unit, text in match.groupdict().items() if text} if match is not None else {}
        if not amounts:
            raise BadRequest(f"every={every[:40]!r}: want seconds, or a duration such as 'PT1H'", code="bad_schedule")
        seconds: float = sum(SECONDS[unit] * amount for unit, amount in amounts.items())
    else:
        seconds = every
    if not MIN_EVERY_S <= seconds <= MAX_AHEAD_S or seconds != int(seconds):
        raise BadRequest(
            f"every={every!r}: want whole seconds, from {MIN_EVERY_S} to {MAX_AHEAD_S}", code="bad_schedule"
        )
    return int(seconds)


def milliseconds_at(text: str) -> int:
    """Returns a time in milliseconds since 1970. Raises BadRequest."""
    try:
        time = datetime.fromisoformat(text)
        if time.tzinfo is not None:
            return int(time.timestamp() * 1000)
    except (ValueError, OverflowError):
        pass
    raise BadRequest(f"at={text[:40]!r}: want a time such as '2026-12-01T09:00:00Z'", code="bad_schedule")


class Occurrence(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What became of one occurrence."""

    at: str
    """When it was due."""
    outcome: Literal["started", "skipped"]
    run_id: str = ""
    code: str = ""
    """Why it was skipped, as errors name it."""


class Schedule(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A schedule as it stands."""

    id: str
    sub: str
    chat_id: str
    message: UIMessage
    model: str = ""
    every_s: int = 0
    """Seconds between two occurrences; 0 when there is one alone."""
    next_ms: int
    """When it is due next, in milliseconds since 1970."""
    started: int = 0
    """Number of occurrences that were started."""
    chat_epoch: str = ""
    """The epoch of its chat; empty while there was none."""
    key: str = ""
    """The id of the API key that it was made with; empty for any other credential."""
    expires_ms: int = 0
    """When that key expires, in milliseconds since 1970; 0 for one that does not."""
    limits: GrantedLimits = GrantedLimits()
    """The limits of the credential that it was made with."""
    last: Occurrence | None = None

    @property
    def slot(self) -> str:
        """Returns the end of its topic's name: of each user there are so many names, and no more schedules."""
        return self.id.partition("-")[0]

    def after(self, now_ms: int, last: Occurrence, chat_epoch: str = "") -> "Schedule":
        """Returns it after an occurrence; those that were missed until now are none."""
        step_ms = max(1, self.every_s * 1000)
        steps = max(1, (now_ms - self.next_ms) // step_ms + 1)
        return msgspec.structs.replace(
            self,
            next_ms=self.next_ms + steps * step_ms if self.every_s else self.next_ms,
            started=self.started + (last.outcome == "started"),
            chat_epoch=self.chat_epoch or chat_epoch,
            last=last,
        )

    def occurrence_message(self) -> UIMessage:
        """Returns the message of the next occurrence."""
        metadata = b"" if isinstance(self.message.metadata, UnsetType) else bytes(self.message.metadata)
        known = _fields(metadata) if metadata.startswith(b"{") else {}
        mark = {"schedule": {"id": self.id, "at": text_of(self.next_ms)}}
        return UIMessage(
            id=f"{self.id}-{self.next_ms}", role="user", parts=self.message.parts, metadata=Raw(_json(known | mark))
        )


class ScheduleView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A schedule as its user sees it."""

    id: str
    message: UIMessage
    next_at: str
    every_s: int | UnsetType = UNSET
    model: str | UnsetType = UNSET
    last: Occurrence | UnsetType = UNSET

    @classmethod
    def of(cls, schedule: Schedule) -> "ScheduleView":
        return cls(
            id=schedule.id,
            message=schedule.message,
            next_at=text_of(schedule.next_ms),
            every_s=schedule.every_s or UNSET,
            model=schedule.model or UNSET,
            last=schedule.last or UNSET,
        )


class DueEntry(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One line of the index: a schedule, and the occurrence that is due."""

    topic: str
    id: str
    due_ms: int
    tries: int = 0
    """How often it could not be started."""


def text_of(at_ms: int) -> str:
    """Returns a time as in RFC 3339, to the second."""
    return datetime.fromtimestamp(at_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
