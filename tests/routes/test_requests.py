"""Handlers read bodies and cursors of requests, and refuse those that they cannot."""

import asyncio
import json
from urllib.parse import urlencode

import msgspec
import pytest
from litestar import Request

from gateway.chat.submission import SendRequest
from gateway.core.json_shape import SMALL_BYTES, check_shape
from gateway.errors import BadRequest
from routes.requests import QUERY_NAMES, AnyRequest, cursor, decode

BODY = {
    "id": "c",
    "messages": [
        {"id": "m", "role": "user", "parts": [{"type": "data-x", "data": {"a": [1, "\n"]}}], "metadata": {"k": 1}}
    ],
    "mine": {"a": [1, 2]},
}


def test_a_byte_order_mark_is_no_part_of_a_body() -> None:
    assert decode(b'\xef\xbb\xbf{"a": 1}', dict[str, int]) == {"a": 1}


def test_an_empty_body_is_an_empty_object() -> None:
    assert decode(b"", dict[str, int]) == {}


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_what_is_kept_of_a_body_is_on_one_line(ends: str) -> None:
    """The log's events are lines: a raw line end in one would tear it apart."""
    body = json.dumps(BODY, indent=2).replace("\n", ends).encode()
    message = decode(body, SendRequest).posting().messages[0]
    encodings = [
        bytes(message.parts[0]),
        msgspec.json.encode(message),
        bytes(decode(body, dict[str, msgspec.Raw])["mine"]),
    ]
    assert not [text for text in encodings if b"\n" in text or b"\r" in text]
    assert json.loads(encodings[0]) == BODY["messages"][0]["parts"][0]


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"null",
        b"hello",
        b"\xff",
        b'{"id":1}',
        b'{"id":"c","trigger":"evil"}',
        b'{"id":"c","messages":[1]}',
        b'{"id":"c","messages":[{"id":"m","role":"root","parts":[]}]}',
        b'{"id":"c","x":' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"id":"c","x":"' + b"\xff" * SMALL_BYTES + b'"}',
        b'{"id":"c","x":"' + b"x" * SMALL_BYTES + b'","y":1e999}',
        b'{"id":"c","x":"' + b"x" * SMALL_BYTES + b'\\q"}',
    ],
)
def test_a_body_that_is_not_valid_is_a_bad_request(body: bytes) -> None:
    async def read() -> SendRequest:
        await check_shape(body)
        return decode(body, SendRequest)

    with pytest.raises(BadRequest) as error:
        asyncio.run(read())
    assert (error.value.status, error.value.code) == (400, "bad_body")


def test_a_refusal_names_the_field() -> None:
    with pytest.raises(BadRequest, match=r"\$\.messages\[0\]\.role"):
        decode(b'{"id":"c","messages":[{"id":"m","role":"root","parts":[]}]}', SendRequest)


def test_bytes_that_are_not_utf8_are_refused_wherever_they_are() -> None:
    with pytest.raises(BadRequest):
        decode(
            b'{"id":"c","messages":[{"id":"m","role":"user","parts":[{"type":"data-x","data":"\xff"}]}]}', SendRequest
        )


SOURCES = [
    (None, {}, None),
    ("", {}, None),
    ("h", {}, "h"),
    ("h", {"last_event_id": "q"}, "h"),
    ("", {"last_event_id": "q"}, "q"),
    (None, {"last_event_id": "a", "lastEventId": "b", "lastEventID": "c", "after": "d"}, "a"),
    (None, {"last_event_id": "", "lastEventId": "b", "lastEventID": "c", "after": "d"}, "b"),
    (None, {"lastEventID": "c", "after": "d"}, "c"),
    (None, {"after": "d"}, "d"),
    (None, {"after": ""}, None),
    (None, {"cursor": "x", "Last-Event-ID": "y"}, None),
]


def request_with(header: str | None, query: dict[str, str]) -> AnyRequest:
    headers = [(b"accept", b"*/*"), *([(b"last-event-id", header.encode())] if header is not None else [])]
    return Request({"type": "http", "headers": headers, "query_string": urlencode(query).encode(), "path": "/"})  # type: ignore[typeddict-item]


@pytest.mark.parametrize(("header", "query", "expected"), SOURCES)
def test_the_first_source_that_is_not_empty_wins(
    header: str | None, query: dict[str, str], expected: str | None
) -> None:
    assert cursor(request_with(header, query)) == expected


def test_the_order_of_the_query_names_does_not_depend_on_the_request() -> None:
    backwards = {name: name for name in reversed(QUERY_NAMES)}
    assert cursor(request_with(None, backwards)) == "last_event_id"
