"""Publishes the events of a request: checks all of them, then appends all of them or none."""

from collections.abc import Callable, Iterator, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta, Raw

from events.feed.frames import DEFAULT, stored_name
from events.log.port import Append, Appended, EventLog, Position
from events.log.topics import PRESENCE, STORED, check_event, check_topic, stored
from events.log.vector import topic_cursor
from gateway.access.grants import Principal
from gateway.errors import BadRequest, Forbidden, LogConflict, TooLarge

MAX_DATA_BYTES = 65_536
"""Maximum bytes of the data of one event."""
MAX_BATCH = 1000
"""Maximum events of one request; an event for several topics counts once for each."""

Key = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[\x21-\x7e]+\Z")]


class Publication(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """One event to publish, to one topic or several."""

    data: Raw
    topic: str | None = None
    topics: Annotated[list[str], Meta(min_length=1)] | None = None
    event: str = DEFAULT
    id: Key | None = None
    """The publisher's own name for the event, which serves as its idempotency key."""
    idempotency_key: Key | None = None
    expected_offset: Annotated[int, Meta(ge=1)] | None = None
    """Offset that the event must get: one more than the topic's head."""
    ttl: Annotated[float, Meta(ge=1, le=31_536_000)] | None = None
    """Seconds after which the event is not sent any more to readers that come back."""


class Published(msgspec.Struct, frozen=True):
    """The place of a published event."""

    topic: str
    offset: int
    cursor: str
    """The cursor after the event, for a stream of this topic alone."""
    duplicate: bool
    """Whether its key was used before; the other fields are then those of the first event."""


class Receipt(msgspec.Struct, frozen=True):
    """The answer to a request that published."""

    events: list[Published]


async def publish(
    log: EventLog, who: Principal, publications: Sequence[Publication], now_ms: Callable[[], int]
) -> Receipt:
    """Appends all publications, or none. Raises BadRequest, Forbidden, TooLarge, LogConflict, LogUnavailable."""
    for number, publication in enumerate(publications, 1):
        _check_one_of(publication, number, len(publications), who)
    entries = [(topic, publication) for publication in publications for topic in _topics(publication)]
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
    pairs = zip(groups, results, strict=True)
    return Receipt([event for group, result in pairs for event in _published(group[0][0], result)])


def _check_one_of(publication: Publication, number: int, count: int, who: Principal) -> None:
    """Checks a publication; the error names its place when there are several."""
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
"""A topic, and the event that is published to it."""


def _groups(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """Yields runs of events that follow one another in one topic and need no check of their own: each is one append."""
    group: list[Entry] = []
    for entry in entries:
        if group and not _may_share(group[-1], entry):
            yield group
            group = []
        group.append(entry)
    yield group


def _may_share(previous: Entry, entry: Entry) -> bool:
    """Returns whether an event may share the append of the event before it."""
    (last_topic, last), (topic, event) = previous, entry
    has_no_check = event.id is None and event.idempotency_key is None and event.expected_offset is None
    follows_a_key = last.id is not None or last.idempotency_key is not None
    is_alike = (last_topic, last.event, last.ttl) == (topic, event.event, event.ttl)
    return has_no_check and not follows_a_key and is_alike


def _append(group: Sequence[Entry], now_ms: int, sub: str) -> Append:
    topic, first = group[0]
    key = first.idempotency_key or first.id
    return Append(
        topic=stored(topic),
        data=[bytes(publication.data) for _, publication in group],
        name=stored_name(first.event, first.ttl, now_ms),
        expect=first.expected_offset,
        key=f"{key} {sub}" if key is not None else None,  # no user can use up the keys of another
    )


def _published(topic: str, result: Appended) -> Iterator[Published]:
    for offset in range(result.first, result.last + 1):
        cursor = topic_cursor(topic, Position(result.epoch, offset))
        yield Published(topic, offset, cursor, result.duplicate)
