"""What people publish: checked, then appended as one."""

from collections.abc import Callable, Iterator, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta, Raw

from events.feed.frames import DEFAULT, stored_name
from events.log.port import Append, Appended, EventLog, Position
from events.log.topics import PRESENCE, STORED, check_event, check_topic, stored
from events.log.vector import topic_cursor
from gateway.access.auth import Principal
from gateway.errors import BadRequest, Forbidden, LogConflict, TooLarge

MAX_DATA_BYTES = 65_536
MAX_BATCH = 1000
"""Events of one request, counted by topic."""

Key = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[\x21-\x7e]+\Z")]


class Publication(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """One event, for one topic or several."""

    data: Raw
    topic: str | None = None
    topics: Annotated[list[str], Meta(min_length=1)] | None = None
    event: str = DEFAULT
    id: Key | None = None
    """The publisher's own name for it: the same as an idempotency key."""
    idempotency_key: Key | None = None
    expected_offset: Annotated[int, Meta(ge=1)] | None = None
    """The offset it must get, one more than the topic's head."""
    ttl: Annotated[float, Meta(ge=1, le=31_536_000)] | None = None
    """Seconds after which no reader who comes back is shown it."""


class Published(msgspec.Struct, frozen=True):
    topic: str
    offset: int
    cursor: str
    """For a stream of this topic alone."""
    duplicate: bool


class Receipt(msgspec.Struct, frozen=True):
    events: list[Published]


async def publish(
    log: EventLog, who: Principal, publications: Sequence[Publication], now_ms: Callable[[], int]
) -> Receipt:
    """Appends all of them, or none. Raises BadRequest, Forbidden, TooLarge, LogConflict, LogUnavailable."""
    for number, publication in enumerate(publications, 1):
        with_place(publication, number, len(publications), who)
    entries = [(topic, one) for one in publications for topic in _topics(one)]
    if not entries:
        raise BadRequest("no event in this list", code="bad_event")
    if len(entries) > MAX_BATCH:
        raise TooLarge(f"{len(entries)} events: at most {MAX_BATCH} go into one request")
    groups = list(_groups(entries))
    now = now_ms()
    try:
        results = await log.append(*[_append(group, now, who.sub) for group in groups])
    except LogConflict as err:
        raise LogConflict(err.topic.removeprefix(STORED), err.expected, err.actual, closed=err.closed) from err
    return Receipt([event for group, done in zip(groups, results, strict=True) for event in _published(group, done)])


def with_place(publication: Publication, number: int, count: int, who: Principal) -> None:
    """Checks one; an error says which of several."""
    try:
        _check(publication, who)
    except (BadRequest, Forbidden, TooLarge) as err:
        if count == 1:
            raise
        raise type(err)(f"event {number} of {count}: {err.detail}", code=err.code) from err


def _check(publication: Publication, who: Principal) -> None:
    if (publication.topic is None) == (publication.topics is None):
        raise BadRequest("name either `topic` or `topics`", code="bad_topic")
    for topic in _topics(publication):
        check_topic(topic)
        if topic.startswith(PRESENCE):
            raise Forbidden(f"topics that begin with {PRESENCE!r} are written by the gateway alone")
        if not who.may_publish(topic):
            raise Forbidden(f"this token does not allow to publish to {topic!r}", code="topic_forbidden")
    check_event(publication.event)
    size = len(bytes(publication.data))
    if size > MAX_DATA_BYTES:
        raise TooLarge(f"the data is {size} bytes: at most {MAX_DATA_BYTES} are allowed")


def _topics(publication: Publication) -> list[str]:
    return publication.topics if publication.topics is not None else [publication.topic or ""]


Entry = tuple[str, Publication]


def _groups(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """Events that follow one another in one topic and need no check of their own are one append."""
    group: list[Entry] = []
    for topic, one in entries:
        if group and not _joins(group[-1], topic, one):
            yield group
            group = []
        group.append((topic, one))
    yield group


def _joins(before: Entry, topic: str, one: Publication) -> bool:
    last = before[1]
    is_plain = one.id is None and one.idempotency_key is None and one.expected_offset is None
    is_open = last.id is None and last.idempotency_key is None
    return is_plain and is_open and (before[0], last.event, last.ttl) == (topic, one.event, one.ttl)


def _append(group: Sequence[Entry], now_ms: int, sub: str) -> Append:
    topic, first = group[0]
    key = first.idempotency_key or first.id
    return Append(
        topic=stored(topic),
        data=[bytes(one.data) for _, one in group],
        name=stored_name(first.event, first.ttl, now_ms),
        expect=first.expected_offset,
        key=f"{key} {sub}" if key is not None else None,  # nobody can use up the keys of another
    )


def _published(group: Sequence[Entry], done: Appended) -> Iterator[Published]:
    topic = group[0][0]
    for offset in range(done.first, done.last + 1):
        cursor = topic_cursor(topic, Position(done.epoch, offset))
        yield Published(topic, offset, cursor, done.duplicate)
