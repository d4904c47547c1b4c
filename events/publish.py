"""Publishes the events of a request: checks all of them, then appends all of them or none."""

from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta, Raw

from events.feed.frames import DEFAULT
from events.log.port import Append, Appended, EventLog, Position
from events.log.topics import STORED, check_event, check_topic, is_gateways, stored, stored_name
from events.log.vector import topic_cursor
from gateway.access.grants import Principal
from gateway.core.holdings import maker_of
from gateway.errors import BadRequest, Forbidden, LogConflict, TooLarge, WrongOwner

MAX_DATA_BYTES = 65_536
"""Maximum bytes of the data of one event."""
MAX_BATCH = 1000
"""Maximum events of one request; an event for several topics counts once for each."""
MAX_FANOUT_BYTES = 4 << 20
"""Maximum bytes that a request writes, its data once for each topic; as much as it posts is always taken."""
MAX_KEY = 128
"""Maximum characters of an idempotency key."""

Key = Annotated[str, Meta(min_length=1, max_length=MAX_KEY, pattern=r"^[\x21-\x7e]+\Z")]


class Publication(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """One event to publish, to one topic or several."""

    data: Raw
    topic: str | None = None
    topics: Annotated[list[str], Meta(min_length=1)] | None = None
    event: str = DEFAULT
    id: Key | None = None
    """The publisher's own name for the event: its idempotency key by another name, so two that differ are refused."""
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


Admit = Callable[[Principal, Sequence[str], int], Awaitable[Collection[str]]]
"""Admits so many bytes to these topics; returns those of them that this request makes, for its user to answer for."""


async def publish(
    log: EventLog,
    who: Principal,
    publications: Sequence[Publication],
    now_ms: Callable[[], int],
    *,
    request_key: str | None = None,
    admit: Admit | None = None,
) -> Receipt:
    """Appends all publications, or none; `request_key` is the idempotency key of the request as a whole.

    `admit` is asked before anything is written, and may refuse.

    Raises BadRequest, Forbidden, TooLarge, LogConflict, LogUnavailable. An error about one of several publications has
    its place in `extra`, as `index`, counted from 0.
    """
    publications = [
        _checked_one_of(publication, index, len(publications), who, request_key)
        for index, publication in enumerate(publications)
    ]
    entries = [(topic, publication) for publication in publications for topic in _topics(publication)]
    if not entries:
        raise BadRequest("no event in this list", code="bad_event")
    if len(entries) > MAX_BATCH:
        raise TooLarge(f"{len(entries)} events: at most {MAX_BATCH} go into one request")
    size = _check_fanout(entries)
    groups = list(_groups(entries))
    made: Collection[str] = ()
    if admit is not None:
        made = await admit(who, [topic for topic, _ in entries], size)
    try:
        results = await _written(log, groups, now_ms(), who.sub, made)
    except LogConflict as err:
        topic = err.topic.removeprefix(STORED)
        conflict = LogConflict(topic, err.expected, err.actual, closed=err.closed)
        if len(publications) > 1:
            conflict.extra["index"] = _index_of(publications, topic, err.expected)
        raise conflict from err
    pairs = zip(groups, results, strict=True)
    return Receipt([event for group, result in pairs for event in _published(group[0][0], result)])


async def _written(
    log: EventLog, groups: "Sequence[Sequence[Entry]]", now_ms: int, sub: str, made: Collection[str]
) -> list[Appended]:
    """Appends the groups; the topics in `made` count for the user, unless somebody else makes one of them meanwhile."""
    if made:
        try:
            return await log.append(*[_append(group, now_ms, sub, made) for group in groups])
        except WrongOwner:
            pass
    return await log.append(*[_append(group, now_ms, sub) for group in groups])


def _check_fanout(entries: "Sequence[Entry]") -> int:
    """Returns the bytes to be written; raises TooLarge where a small request would have the log write a great deal."""
    sizes = {id(publication): len(memoryview(publication.data)) for _, publication in entries}
    written = sum(sizes[id(publication)] for _, publication in entries)
    allowed = max(MAX_FANOUT_BYTES, sum(sizes.values()))
    if written > allowed:
        raise TooLarge(
            f"the request writes {written} bytes, its data once for each topic: at most {allowed} are "
            "allowed; publish a reference to large data, or send several requests",
            code="too_much_fanout",
        )
    return written


def _index_of(publications: Sequence[Publication], topic: str, expected: int | None) -> int | None:
    """Returns the place of the first publication to a topic with that expectation."""
    places = [
        index
        for index, publication in enumerate(publications)
        if topic in _topics(publication) and publication.expected_offset == expected
    ]
    return places[0] if places else None


def _checked_one_of(
    publication: Publication, index: int, count: int, who: Principal, request_key: str | None
) -> Publication:
    """Checks a publication, and returns it with its key; the error names its place when there are several."""
    try:
        _check(publication, who)
        return _keyed(publication, index if count > 1 else None, request_key)
    except (BadRequest, Forbidden, TooLarge) as err:
        if count == 1:
            raise
        detail = f"event {index + 1} of {count}: {err.detail}"
        raise type(err)(detail, code=err.code, extra={**err.extra, "index": index}) from err


def _keyed(publication: Publication, index: int | None, request_key: str | None) -> Publication:
    """Returns a publication with its idempotency key: its own, or that of its request and its place in the list.

    The two are joined by a tab, which no key has.
    """
    own_keys = {publication.id, publication.idempotency_key} - {None}
    if index is None and request_key is not None:
        own_keys.add(request_key)
    if len(own_keys) > 1:
        names = " and ".join(sorted(repr(key) for key in own_keys))
        raise BadRequest(
            f"{names} are two keys for one event: send `id`, `idempotencyKey` or the header `Idempotency-Key`",
            code="two_keys",
        )
    own_key = next(iter(own_keys), None)
    if own_key is None and request_key is not None:
        own_key = f"{request_key}\t{index}"
    return msgspec.structs.replace(publication, id=None, idempotency_key=own_key)


def check_key(key: str) -> str:
    """Returns the idempotency key of a request unchanged; raises BadRequest when it is not valid."""
    try:
        return msgspec.convert(key, Key)
    except msgspec.ValidationError as err:
        excerpt = key[:40].encode("ascii", "backslashreplace").decode()
        raise BadRequest(
            f"the Idempotency-Key {excerpt!r} is not valid: 1 to {MAX_KEY} visible ASCII characters", code="bad_key"
        ) from err


def _check(publication: Publication, who: Principal) -> None:
    if (publication.topic is None) == (publication.topics is None):
        raise BadRequest("name either `topic` or `topics`", code="bad_topic")
    for topic in _topics(publication):
        check_topic(topic)
        if is_gateways(topic):
            prefix = topic.partition("/")[0] + "/"
            raise Forbidden(
                f"topics that begin with {prefix!r} are written by the gateway alone", code="topic_forbidden"
            )
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
    has_no_check = event.idempotency_key is None and event.expected_offset is None
    follows_a_key = last.idempotency_key is not None
    is_alike = (last_topic, last.event, last.ttl) == (topic, event.event, event.ttl)
    return has_no_check and not follows_a_key and is_alike


def _append(group: Sequence[Entry], now_ms: int, sub: str, made: Collection[str] = ()) -> Append:
    topic, first = group[0]
    key = first.idempotency_key
    return Append(
        topic=stored(topic),
        owner=maker_of(sub) if topic in made else "",
        data=[bytes(publication.data) for _, publication in group],
        name=stored_name(first.event, first.ttl, now_ms),
        expect=first.expected_offset,
        key=f"{key} {sub}" if key is not None else None,  # no user can use up the keys of another
    )


def _published(topic: str, result: Appended) -> Iterator[Published]:
    for offset in range(result.first, result.last + 1):
        cursor = topic_cursor(topic, Position(result.epoch, offset))
        yield Published(topic, offset, cursor, result.duplicate)
