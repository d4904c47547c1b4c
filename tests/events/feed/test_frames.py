"""Every reader of the standard gets each published event unchanged from its frame, and nothing else."""

import base64
import json
import subprocess
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from events.feed import frames
from events.log.port import Block
from events.log.topics import RESERVED, check_event, stored_name
from events.log.vector import MAX_OFFSET_DIGITS, base36
from events.publish import Publication
from gateway.errors import BadRequest
from routes.requests import decode
from tests.clients.node import install, tool
from tests.support.sse_decoder import Event, SseDecoder

AROUND = ("e0123abcd.abcdefgh.", "")
SEPARATORS = "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e\ufeff\x7f"
"""Characters that some readers take for a line end, or skip."""
characters = st.characters(exclude_categories=["Cs"])
texts = st.text(characters) | st.text(f'{SEPARATORS}\r\n\0:\\" dateievntyr0', max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=8,
)
names = st.from_regex(r"[A-Za-z0-9._:-]{1,64}", fullmatch=True).filter(lambda name: name not in RESERVED)
arounds = st.sampled_from([AROUND, ("e0123abcd.abcd.1.efgh.", ".ijkl.zz"), ("s0123abcd.abcd.1.0.5.a.", "")])
firsts = st.integers(1, 100) | st.integers(1, 36**MAX_OFFSET_DIGITS - 100)


@st.composite
def blocks(draw: st.DrawFn) -> tuple[Block, list[Any]]:
    """Draws a block as the publisher's requests make it, and the bodies in it."""
    name = draw(names)
    bodies = draw(st.lists(values, min_size=1, max_size=4))
    is_ascii = draw(st.booleans())
    lines: list[bytes] = []
    for value in bodies:
        body = json.dumps(
            {"topic": "a", "event": name, "data": value}, ensure_ascii=is_ascii, indent=draw(st.sampled_from([None, 2]))
        )
        publication = decode(body.encode(), Publication)
        check_event(publication.event)
        lines.append(bytes(publication.data))
    log_name = stored_name(name, draw(st.none() | st.integers(1, 10**7)), 1_700_000_000_000)
    return Block(first=draw(firsts), data=lines, name=log_name, time_ms=0), bodies


def split(data: bytes, at: Sequence[int]) -> list[bytes]:
    ends = sorted({number % (len(data) + 1) for number in at})
    return [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]


def expected(block: Block, around: tuple[str, str], values: Sequence[Any]) -> list[tuple[str, str, str]]:
    """Returns (name, id, data) of each event, with the data as canonical JSON."""
    name = block.name.split(" ")[0]
    return [
        (name, f"{around[0]}{base36(block.first + at)}{around[1]}", canonical(value)) for at, value in enumerate(values)
    ]


def canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def triples(events: Sequence[Event]) -> list[tuple[str, str, str]]:
    return [(event.event, event.id, canonical(json.loads(event.data))) for event in events]


splits = st.lists(st.integers(0, 10_000), max_size=12)


@given(blocks(), arounds, splits)
def test_whatever_is_published_is_read_as_it_is(
    publication: tuple[Block, list[Any]], around: Any, at: list[int]
) -> None:
    block, bodies = publication
    encoding = frames.encode(block, around)
    decoder = SseDecoder()
    events = [event for piece in split(b": ok\n" + b"".join(encoding), at) for event in decoder.feed(piece)]
    assert triples(events) == expected(block, around, bodies)
    assert decoder.comments == ["ok"]
    for frame, event in zip(encoding, events, strict=True):
        assert frames.cursor_in(frame) == event.id
        assert frame.endswith(b"\n\n")
        assert frame.count(b"\n") == frame.count(b"\nid: ") + frame.startswith((b"id: ", b"event: ")) + 2
        assert b"\r" not in frame


@given(blocks(), arounds)
def test_a_block_in_parts_is_the_same_frames(publication: tuple[Block, list[Any]], around: Any) -> None:
    block, _ = publication
    single = [
        Block(first=block.first + at, data=[line], name=block.name, time_ms=0) for at, line in enumerate(block.data)
    ]
    assert [frame for one in single for frame in frames.encode(one, around)] == frames.encode(block, around)


FORGED = [
    b"1\nid: x",
    b"1\r\nevent: hello",
    b'"\n\ndata: 2"',
    b"1\r",
    b'"\r"',
    b'"\n"',
    b"1\0",
    b'"\0"',
    b'{"a":1}\n{}',
    b"",
]


@pytest.mark.parametrize("data", FORGED)
def test_characters_that_would_end_a_line_are_refused_or_removed(data: bytes) -> None:
    try:
        stored_data = bytes(decode(b'{"topic":"a","data":%b}' % data, Publication).data)
    except BadRequest:
        return
    assert stored_data in (b"1",)


# Names with an end


def block_named(name: str) -> Block:
    return Block(first=1, data=[b"1"], name=name, time_ms=0)


OVER = [("a", 10**15, False), ("a 1000", 999, False), ("a 1000", 1000, True), ("a 1000", 1001, True)]


@pytest.mark.parametrize(("name", "now_ms", "over"), OVER)
def test_an_event_is_over_from_its_time_on(name: str, now_ms: int, over: bool) -> None:
    assert frames.is_expired(block_named(name), now_ms) == over
    assert frames.name_of(block_named(name)) == "a"


@given(names, st.none() | st.floats(1, 31_536_000), st.integers(0, 10**13))
def test_a_name_and_its_end_are_told_apart(name: str, ttl_s: float | None, now_ms: int) -> None:
    block = block_named(stored_name(name, ttl_s, now_ms))
    assert frames.name_of(block) == name
    assert not frames.is_expired(block, now_ms)
    if ttl_s is not None:
        assert not frames.is_expired(block, now_ms + int(ttl_s * 1000) - 1)
        assert frames.is_expired(block, now_ms + int(ttl_s * 1000))


def test_an_event_of_the_default_name_says_none() -> None:
    block = Block(first=1, data=[b"1", b"2"], name="message", time_ms=0)
    assert frames.encode(block, AROUND) == [
        b"data: 1\nid: e0123abcd.abcdefgh.1\n\n",
        b"data: 2\nid: e0123abcd.abcdefgh.2\n\n",
    ]


# What the gateway says itself


@given(st.sampled_from(sorted(RESERVED)), values, st.none() | st.integers(0, 15_000), st.sampled_from(["", "e0.a.1"]))
def test_what_the_gateway_says_is_one_event(name: str, data: Any, retry_ms: int | None, cursor: str) -> None:
    frame = frames.control(name, data, cursor=cursor, retry_ms=retry_ms)
    decoder = SseDecoder("before")
    [event] = decoder.feed(frame)
    assert (event.event, event.id) == (name, cursor or "before")
    assert decoder.retry_ms == retry_ms
    assert canonical(json.loads(event.data)) == canonical(data)
    if cursor:
        assert frames.cursor_in(frame) == cursor


SAID: dict[str, tuple[Callable[[], bytes], str, range | None]] = {
    "busy": (lambda: frames.busy("overloaded"), "busy", range(5000, 15_001)),
    "drain": (frames.drain, "drain", range(1000, 4001)),
    "bye": (lambda: frames.bye("complete"), "bye", None),
}


@pytest.mark.parametrize(("make", "name", "retry_ms"), SAID.values(), ids=SAID)
def test_a_client_that_is_sent_away_is_told_when_to_come_back(
    make: Callable[[], bytes], name: str, retry_ms: range | None
) -> None:
    delays: set[int | None] = set()
    for _ in range(100):
        decoder = SseDecoder()
        [event] = decoder.feed(make())
        assert (event.event, event.id) == (name, "")
        delays.add(decoder.retry_ms)
    if retry_ms is None:
        assert delays == {None}
        assert json.loads(event.data) == {"code": "complete", "retry": False}
    else:
        assert len(delays) > 50
        assert all(delay in retry_ms for delay in delays)


# A reader of others

PARSER = """
import { createInterface } from "node:readline";
import { createParser } from "eventsource-parser";
for await (const line of createInterface({ input: process.stdin })) {
  const events = [], comments = [], errors = [];
  const parser = createParser({
    onEvent: (event) => events.push([event.event ?? "message", event.id, event.data]),
    onComment: (comment) => comments.push(comment), onError: (error) => errors.push(String(error)) });
  const text = new TextDecoder();
  for (const piece of JSON.parse(line)) parser.feed(text.decode(Buffer.from(piece, "base64"), { stream: true }));
  console.log(JSON.stringify({ events, comments, errors }));
}
"""
Parse = Callable[[list[bytes]], dict[str, Any]]


@pytest.fixture(scope="module")
def parse() -> Iterator[Parse]:
    """Runs npm's `eventsource-parser`, which the AI SDK and most JavaScript clients build on."""
    command = [tool("node"), "--input-type=module", "-e", PARSER]
    with subprocess.Popen(command, cwd=install(), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def parse_pieces(pieces: list[bytes]) -> dict[str, Any]:
            stdin.write(json.dumps([base64.b64encode(piece).decode() for piece in pieces]).encode() + b"\n")
            stdin.flush()
            return json.loads(stdout.readline())

        yield parse_pieces
        stdin.close()
        assert process.wait(10) == 0


@settings(max_examples=300, deadline=None)
@given(blocks(), arounds, splits)
@example((Block(first=1, data=['"\u2028id: x"'.encode()], name="a", time_ms=0), ["\u2028id: x"]), AROUND, [19, 20, 21])
def test_a_parser_from_npm_reads_the_same(
    parse: Parse, publication: tuple[Block, list[Any]], around: Any, at: list[int]
) -> None:
    block, bodies = publication
    result = parse(split(b": ok\n" + b"".join(frames.encode(block, around)), at))
    events = [Event(*event[:1], event[2], event[1]) for event in result["events"]]
    assert triples(events) == expected(block, around, bodies)
    assert (result["comments"], result["errors"]) == (["ok"], [])
