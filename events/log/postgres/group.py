"""Turns a group of calls into the arrays of one statement, and its rows into outcomes and commits. Pure.

What may go in is decided by the server, in `trilane.append`: only there are the topics locked.
"""

import asyncio
import secrets
from collections.abc import Sequence
from hashlib import sha256

import msgspec

from events.log.port import Append, Appended, Block, Commit, Retention
from events.log.rules import Result
from gateway.errors import LogConflict, LogError, WrongOwner

DAY_MS = 86_400_000
DAY_S = 86_400
FIRST_DAY = 2
"""The first bucket that stands for a day: 0 is kept, and 1 holds what outlived its day."""
KEPT, LATE = 0, 1
MAX_OFFSET = 1 << 60
"""Offset that no topic reaches: a larger one is compared as this."""
MAX_NAME_BYTES = 2000
"""Maximum bytes of the name of a topic and of its owner: an index holds them."""
LONGEST_KEY = 200
"""Bytes of an idempotency key past which its digest stands in for it."""
DONE, DUPLICATE, WRONG_OWNER, CONFLICT, CLOSED = range(5)

MAKE_BUCKET = "SELECT trilane.make_bucket(%s::integer)"
APPEND = """
SELECT * FROM trilane.append(%s::bigint, %s::bigint, %s::boolean, %s::bigint, %b::text[], %b::text[],
    %b::integer[], %b::integer[], %b::text[], %b::text[], %b::bigint[], %b::text[], %b::boolean[],
    %b::integer[], %b::bigint[], %b::bytea[], %b::integer[])
"""

Counts = list[int] | None


class GroupCall(msgspec.Struct):
    """One call of `append` that waits for its result, at the latest until `deadline` by the event loop's clock."""

    future: "asyncio.Future[list[Appended]]"
    appends: tuple[Append, ...]
    size: int
    deadline: float


class TopicSize(msgspec.Struct, frozen=True):
    """What a topic holds after an append, for its limits."""

    name: str
    events: int
    size: int


class GroupResult(msgspec.Struct, frozen=True):
    """What became of a group."""

    results: list[Result]
    commits: list[Commit]
    sizes: list[TopicSize]
    news_id: int | None
    """Id of the group's row in the news; None when nothing was written."""
    xid: str
    generation: str


def refuse_text(appends: Sequence[Append]) -> LogError | None:
    """Returns the error of texts that PostgreSQL cannot keep, so that they do not fail the rest of their group."""
    for append in appends:
        for text in (append.topic, append.name, append.owner, append.key or ""):
            if "\0" in text:
                return LogError(f"{text[:80]!r} cannot be kept: it holds a NUL")
        for text in (append.topic, append.owner):
            if len(text) > MAX_NAME_BYTES // 4 and len(text.encode()) > MAX_NAME_BYTES:
                return LogError(f"{text[:80]!r}... has more than {MAX_NAME_BYTES} bytes, which is the limit of a name")
    return None


def is_storable(text: str) -> bool:
    """Returns whether PostgreSQL has such a text: Unicode without NUL."""
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


def bucket_of(retention: Retention, now_ms: int) -> int:
    """Returns the day after which a block of now is not needed; KEPT when its topic forgets nothing by age.

    A topic that goes a while after it was closed is given a day to be closed.
    """
    if retention.age_s is not None:
        lifetime_s = retention.age_s
    elif retention.closed_age_s is not None:
        lifetime_s = retention.closed_age_s + DAY_S
    else:
        return KEPT
    return max(FIRST_DAY, (now_ms + int(lifetime_s * 1000)) // DAY_MS + 1)


def stored_key(key: str | None) -> str | None:
    """Returns what stands for an idempotency key in the table, whose index takes no long ones."""
    if key is None or len(key.encode()) <= LONGEST_KEY:
        return key
    return f"sha256 {sha256(key.encode()).hexdigest()}"


class Group:
    """The calls of one statement; `number` tells it from the others of its process."""

    def __init__(self, calls: Sequence[GroupCall], number: int, now_ms: int) -> None:
        self.calls = calls
        self.number = number
        self._now_ms = now_ms
        self._appends = [append for call in calls for append in call.appends]
        self._names = sorted({append.topic for append in self._appends})
        self._places = {name: place for place, name in enumerate(self._names, 1)}
        self._epochs = [secrets.token_hex(4) for _ in self._names]

    def values(self, process: int, buckets: Sequence[int], is_retry: bool) -> Sequence[object]:
        """Returns the values of APPEND; `buckets` has the one of each append, in order."""
        appends = self._appends
        return (
            process,
            self.number,
            is_retry,
            self._now_ms,
            self._names,
            self._epochs,
            [number for number, call in enumerate(self.calls) for _ in call.appends],
            [self._places[append.topic] for append in appends],
            [append.name for append in appends],
            [append.owner for append in appends],
            [None if append.expect is None else max(-1, min(append.expect, MAX_OFFSET)) for append in appends],
            [stored_key(append.key) for append in appends],
            [append.close for append in appends],
            [len(append.data) for append in appends],
            [sum(map(len, append.data)) for append in appends],
            [b"\n".join(append.data) for append in appends],
            buckets,
        )

    @property
    def topics(self) -> list[str]:
        """Returns the topic of each append, in order."""
        return [append.topic for append in self._appends]

    def result(self, row: Sequence[object]) -> GroupResult:
        """Returns what the row of APPEND says."""
        generation, news_id, xid, status, first, last, epochs, events, sizes = msgspec.convert(
            row, tuple[str, int | None, str | None, list[int], list[int], list[int], list[str], Counts, Counts]
        )
        results: list[Result] = []
        commits: list[Commit] = []
        at = 0
        for call in self.calls:
            end = at + len(call.appends)
            outcome = self._outcome(call, status[at:end], first[at:end], last[at:end], epochs)
            results.append((call.future, outcome))
            if not isinstance(outcome, LogError):
                commits += [
                    self._commit(append, result)
                    for append, result in zip(call.appends, outcome, strict=True)
                    if not result.duplicate and (append.data or append.close)
                ]
            at = end
        held = [
            TopicSize(name, count, size)
            for name, count, size in zip(self._names, events or (), sizes or (), strict=False)
        ]
        return GroupResult(results, commits, held, news_id, xid or "", generation)

    def _outcome(
        self, call: GroupCall, status: list[int], first: list[int], last: list[int], epochs: list[str]
    ) -> list[Appended] | LogError:
        results: list[Appended] = []
        for append, code, start, end in zip(call.appends, status, first, last, strict=True):
            if code == WRONG_OWNER:
                return WrongOwner(f"topic {append.topic!r} belongs to someone else")
            if code in (CONFLICT, CLOSED):
                return LogConflict(append.topic, append.expect, start, closed=code == CLOSED)
            results.append(Appended(epochs[self._places[append.topic] - 1], start, end, code == DUPLICATE))
        return results

    def _commit(self, append: Append, result: Appended) -> Commit:
        block = Block(result.first, append.data[:], append.name, self._now_ms)
        return Commit(topic=append.topic, epoch=result.epoch, block=block, closed=append.close)
