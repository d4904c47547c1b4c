"""A request publishes all its events or none, in order, once per key, and only where its sender may."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.log.memory import MemoryLog
from events.log.port import Append, Appended, EventLog
from events.log.vector import decode_vector, tag_of
from events.publish import MAX_BATCH, MAX_DATA_BYTES, Publication, Published, publish
from gateway.access.grants import EVERYTHING, Grants, Principal
from gateway.errors import BadRequest, Forbidden, LogConflict, TooLarge, TrilaneError
from routes.requests import decode
from tests.contract.engines import Clock, whole
from tests.support.virtual_time import simulated

LOCAL = Principal(sub="local", grants=EVERYTHING)
TEAM = Principal(sub="ann", grants=Grants(publish=["team/*", "news"], subscribe=["*"]))


def one(topic: str = "a", data: Any = 1, **more: Any) -> Publication:
    return decode(json.dumps({"topic": topic, "data": data, **more}).encode(), Publication)


async def open_log(clock: Clock | None = None) -> MemoryLog:
    log = MemoryLog(clock=clock or Clock())
    await log.open()
    return log


async def publish_all(
    log: EventLog, *publications: Publication, who: Principal = LOCAL, clock: Clock | None = None
) -> list[Published]:
    receipt = await publish(log, who, publications, lambda: int((clock or Clock())() * 1000))
    return receipt.events


async def bodies_of(log: MemoryLog, topic: str = "a") -> list[Any]:
    return [json.loads(line) for _, _, line in await whole(log, f"event/{topic}")]


def offsets(events: Sequence[Published]) -> list[tuple[str, int, bool]]:
    return [(event.topic, event.offset, event.duplicate) for event in events]


@simulated
async def test_a_receipt_names_each_event_with_a_cursor_of_its_topic_alone() -> None:
    log = await open_log()
    events = await publish_all(log, one("a", 1), one("b", 2), one("a", 3))
    assert offsets(events) == [("a", 1, False), ("b", 1, False), ("a", 2, False)]
    for event in events:
        vector = decode_vector(event.cursor)
        assert vector is not None
        assert vector.tag == tag_of((event.topic,))
        assert [position.offset for position in vector.positions] == [event.offset]
        assert vector.positions[0].epoch == (await log.read(f"event/{event.topic}", 0)).epoch


@simulated
async def test_one_event_for_several_topics_is_published_to_each() -> None:
    log = await open_log()
    publication = decode(b'{"topics":["a","b","a"],"data":{"x":1}}', Publication)
    assert offsets(await publish_all(log, publication)) == [("a", 1, False), ("b", 1, False), ("a", 2, False)]
    assert (await bodies_of(log), await bodies_of(log, "b")) == ([{"x": 1}, {"x": 1}], [{"x": 1}])


class Counting(MemoryLog):
    """Remembers every append that it was asked to make."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Append, ...]] = []

    def append(self, *appends: Append, patient: bool = False) -> "asyncio.Future[list[Appended]]":
        self.calls.append(appends)
        return super().append(*appends, patient=patient)


GROUPS: dict[str, tuple[list[Publication], list[int]]] = {
    "alike": ([one(), one(), one()], [3]),
    "two topics": ([one("a"), one("a"), one("b"), one("a")], [2, 1, 1]),
    "two names": ([one(), one(event="x"), one(event="x"), one()], [1, 2, 1]),
    "two ends": ([one(ttl=5), one(ttl=5), one(ttl=6), one()], [2, 1, 1]),
    "keys": ([one(), one(id="k"), one(id="l"), one()], [1, 1, 1, 1]),
    "expected": ([one(expectedOffset=1), one(), one(expectedOffset=3), one()], [2, 2]),
    "topics": ([decode(b'{"topics":["a","b"],"data":1}', Publication)], [1, 1]),
}


@pytest.mark.parametrize(("publications", "sizes"), GROUPS.values(), ids=GROUPS)
@simulated
async def test_consecutive_events_of_a_topic_are_one_append(publications: list[Publication], sizes: list[int]) -> None:
    log = Counting()
    await log.open()
    await publish_all(log, *publications)
    [appends] = log.calls
    assert [len(append.data) for append in appends] == sizes


topics = st.sampled_from(["a", "b"])
more = st.fixed_dictionaries(
    {}, optional={"event": st.sampled_from(["x", "y"]), "id": st.sampled_from("klmn"), "ttl": st.integers(1, 3)}
)


@settings(deadline=None)
@given(st.lists(st.lists(st.tuples(topics, more), min_size=1, max_size=8), max_size=5))
def test_order_and_names_are_kept_however_it_is_grouped(requests: list[list[tuple[str, dict[str, Any]]]]) -> None:
    """A model in a dozen lines: keys give their first result, all else is next in its topic."""

    @simulated
    async def run() -> None:
        log, model, keys = await open_log(), {"a": list[Any](), "b": list[Any]()}, dict[tuple[str, str], int]()
        for number, request in enumerate(requests):
            expected: list[tuple[str, int, bool]] = []
            for at, (topic, how) in enumerate(request):
                offset = keys.get((topic, how.get("id", "")))
                if offset is None:
                    model[topic].append((how.get("event", "message"), [number, at]))
                    keys |= {(topic, how["id"]): len(model[topic])} if "id" in how else {}
                expected.append((topic, offset or len(model[topic]), offset is not None))
            batch = [one(topic, [number, at], **how) for at, (topic, how) in enumerate(request)]
            assert offsets(await publish_all(log, *batch)) == expected
        for topic, events in model.items():
            lines = await whole(log, f"event/{topic}")
            assert [(name.split(" ")[0], json.loads(line)) for _, name, line in lines] == events

    run()


@simulated
async def test_a_key_gives_its_first_result_for_five_minutes() -> None:
    clock = Clock()
    log = await open_log(clock)
    first = await publish_all(log, one(data="first", idempotencyKey="k"))
    again = await publish_all(log, one(data="other", idempotencyKey="k"), one(data="new"))
    assert offsets(again) == [("a", 1, True), ("a", 2, False)]
    assert again[0].cursor == first[0].cursor
    clock.now_s += 299
    assert offsets(await publish_all(log, one(data="third", id="k"))) == [("a", 1, True)]
    clock.now_s += 2
    assert offsets(await publish_all(log, one(data="fourth", idempotencyKey="k"))) == [("a", 3, False)]
    assert await bodies_of(log) == ["first", "new", "fourth"]


@simulated
async def test_a_key_is_of_its_topic() -> None:
    log = await open_log()
    assert offsets(await publish_all(log, one("a", id="k"), one("b", id="k"), one("a", id="k"))) == [
        ("a", 1, False),
        ("b", 1, False),
        ("a", 1, True),
    ]


@simulated
async def test_a_repeat_with_its_key_is_no_conflict() -> None:
    log = await open_log()
    publication = one(id="k", expectedOffset=1)
    await publish_all(log, publication)
    await publish_all(log, one())
    assert offsets(await publish_all(log, publication)) == [("a", 1, True)]


@simulated
async def test_an_offset_that_is_not_next_publishes_nothing_of_the_request() -> None:
    log = await open_log()
    await publish_all(log, one(), one())
    for expected in (1, 2, 4):
        with pytest.raises(LogConflict, match=f"next offset 3, not {expected}") as error:
            await publish_all(log, one("b"), one(expectedOffset=expected), one("c"))
        assert error.value.extra == {"expected": expected, "actual": 3, "index": 1}
        assert "'a'" in error.value.detail, "the topic is named as its publisher knows it"
    assert offsets(await publish_all(log, one(expectedOffset=3), one(), one(expectedOffset=5))) == [
        ("a", 3, False),
        ("a", 4, False),
        ("a", 5, False),
    ]
    assert (await bodies_of(log, "b"), await bodies_of(log, "c")) == ([], [])


@simulated
async def test_the_offset_after_ones_own_in_a_request_can_be_expected() -> None:
    log = await open_log()
    with pytest.raises(LogConflict):
        await publish_all(log, one(), one(expectedOffset=1))
    assert await bodies_of(log) == []


BAD: dict[str, tuple[dict[str, Any], type[TrilaneError], str, str]] = {
    "no topic": ({"data": 1}, BadRequest, "either `topic` or `topics`", "bad_topic"),
    "both": ({"topic": "a", "topics": ["b"], "data": 1}, BadRequest, "either `topic` or `topics`", "bad_topic"),
    "a bad topic": ({"topic": "a b", "data": 1}, BadRequest, "'a b' is not valid: 1 to 128", "bad_topic"),
    "a bad one of several": ({"topics": ["a", ""], "data": 1}, BadRequest, "'' is not valid", "bad_topic"),
    "a pattern": ({"topic": "a/*", "data": 1}, BadRequest, "'a/*' is not valid", "bad_topic"),
    "a bad name": ({"topic": "a", "event": "a\nid: 1", "data": 1}, BadRequest, "1 to 64", "bad_event"),
    "a reserved name": ({"topic": "a", "event": "gap", "data": 1}, BadRequest, "'gap' is reserved", "reserved_event"),
    "presence": ({"topic": "presence/a", "data": 1}, Forbidden, "the gateway alone", "topic_forbidden"),
    "presence among others": ({"topics": ["a", "presence/a"], "data": 1}, Forbidden, "'presence/'", "topic_forbidden"),
    "too much data": (
        {"topic": "a", "data": "x" * MAX_DATA_BYTES},
        TooLarge,
        "65538 bytes: at most 65536",
        "too_large",
    ),
}


@pytest.mark.parametrize(("fields", "kind", "says", "code"), BAD.values(), ids=BAD)
@simulated
async def test_a_bad_event_is_named_and_nothing_of_its_request_is_published(
    fields: dict[str, Any], kind: type[TrilaneError], says: str, code: str
) -> None:
    log = await open_log()
    bad = decode(json.dumps(fields).encode(), Publication)
    with pytest.raises(kind) as error:
        await publish_all(log, bad)
    assert says in error.value.detail
    assert error.value.code == code
    with pytest.raises(kind) as error:
        await publish_all(log, one(), one("b"), bad, one("c"))
    assert error.value.detail.startswith("event 3 of 4: ")
    assert error.value.code == code
    assert await log.topics("event/") == []


MISTYPED: dict[str, tuple[bytes, str]] = {
    "no data": (b'{"topic":"a"}', "`data`"),
    "unknown field": (b'{"topic":"a","data":1,"offset":1}', "`offset`"),
    "our own names": (b'{"topic":"a","data":1,"expected_offset":1}', "`expected_offset`"),
    "no topics": (b'{"topics":[],"data":1}', "$.topics"),
    "topics of numbers": (b'{"topics":[1],"data":1}', "$.topics[0]"),
    "a number as topic": (b'{"topic":1,"data":1}', "$.topic"),
    "an empty key": (b'{"topic":"a","data":1,"id":""}', "$.id"),
    "a long key": (b'{"topic":"a","data":1,"idempotencyKey":"%b"}' % (b"k" * 129), "$.idempotencyKey"),
    "a key with a space": (b'{"topic":"a","data":1,"idempotencyKey":"a b"}', "$.idempotencyKey"),
    "a key with LF at its end": (b'{"topic":"a","data":1,"id":"k\\n"}', "$.id"),
    "a key with NUL": (b'{"topic":"a","data":1,"id":"k\\u0000"}', "$.id"),
    "offset 0": (b'{"topic":"a","data":1,"expectedOffset":0}', "$.expectedOffset"),
    "a negative offset": (b'{"topic":"a","data":1,"expectedOffset":-1}', "$.expectedOffset"),
    "half an offset": (b'{"topic":"a","data":1,"expectedOffset":1.5}', "$.expectedOffset"),
    "no time": (b'{"topic":"a","data":1,"ttl":0}', "$.ttl"),
    "negative time": (b'{"topic":"a","data":1,"ttl":-5}', "$.ttl"),
    "more than a year": (b'{"topic":"a","data":1,"ttl":31536001}', "$.ttl"),
    "a time as text": (b'{"topic":"a","data":1,"ttl":"5"}', "$.ttl"),
}


@pytest.mark.parametrize(("body", "where"), MISTYPED.values(), ids=MISTYPED)
def test_a_field_of_the_wrong_kind_is_named(body: bytes, where: str) -> None:
    with pytest.raises(BadRequest) as error:
        decode(body, Publication)
    assert where in error.value.detail
    with pytest.raises(BadRequest) as error:
        decode(b'[{"topic":"a","data":1},%b]' % body, list[Publication])
    assert where.replace("$", "$[1]") in error.value.detail
    assert "$[1]" in error.value.detail


@pytest.mark.parametrize("data", ["x" * (MAX_DATA_BYTES - 2), "é" * (MAX_DATA_BYTES // 2 - 1), [0] * 32_766 + [10]])
@simulated
async def test_exactly_64_KiB_are_taken(data: Any) -> None:
    log = await open_log()
    body = json.dumps({"topic": "a", "data": data}, ensure_ascii=False, indent=1).encode()
    await publish_all(log, decode(body, Publication))
    [(_, _, line)] = await whole(log, "event/a")
    assert (len(line), json.loads(line)) == (MAX_DATA_BYTES, data)


@simulated
async def test_a_request_takes_1000_events_counted_by_topic() -> None:
    log = await open_log()
    both = decode(b'{"topics":["a","b"],"data":1}', Publication)
    assert len(await publish_all(log, *[both] * (MAX_BATCH // 2))) == MAX_BATCH
    with pytest.raises(TooLarge, match="1001 events: at most 1000"):
        await publish_all(log, *[both] * (MAX_BATCH // 2), one())
    with pytest.raises(BadRequest, match="no event in this list"):
        await publish_all(log)
    assert len(await bodies_of(log)) == MAX_BATCH // 2


RIGHTS = {"team/x": True, "team/x/y": True, "news": True, "team": False, "news/x": False, "users/ann": False}


@pytest.mark.parametrize(("topic", "is_allowed"), RIGHTS.items())
@simulated
async def test_one_publishes_where_the_token_says_so_and_nowhere_else(topic: str, is_allowed: bool) -> None:
    log = await open_log()
    if is_allowed:
        assert offsets(await publish_all(log, one(topic), who=TEAM)) == [(topic, 1, False)]
        return
    with pytest.raises(Forbidden, match=f"event 2 of 2: .*publish to '{topic}'") as error:
        await publish_all(log, one("news"), one(topic), who=TEAM)
    assert error.value.code == "topic_forbidden"
    assert await log.topics("event/") == []


@simulated
async def test_an_event_with_an_end_is_kept_with_the_time_of_its_end() -> None:
    clock = Clock()
    log = await open_log(clock)
    await publish_all(log, one(ttl=1.5), one(event="x", ttl=60), clock=clock)
    names = [name for _, name, _ in await whole(log, "event/a")]
    now_ms = int(clock() * 1000)
    assert names == [f"message {now_ms + 1500}", f"x {now_ms + 60_000}"]


@simulated
async def test_only_one_of_many_that_expect_the_same_offset_publishes() -> None:
    log = await open_log()
    results = await asyncio.gather(
        *[publish_all(log, one(data=number, expectedOffset=1)) for number in range(20)], return_exceptions=True
    )
    assert sum(isinstance(result, LogConflict) for result in results) == 19
    assert len(await bodies_of(log)) == 1


def test_a_receipt_is_what_the_contract_shows() -> None:
    event = Published("a", 7, "e0.a.7", False)
    assert msgspec.json.encode(event) == b'{"topic":"a","offset":7,"cursor":"e0.a.7","duplicate":false}'
