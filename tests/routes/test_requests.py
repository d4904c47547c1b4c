"""Bodies of requests: what is taken, and what is said of the rest."""

import json

import msgspec
import pytest

from gateway.chat.chats import SendRequest
from gateway.errors import BadRequest
from routes.requests import decode

BODY = {
    "id": "c",
    "messages": [
        {"id": "m", "role": "user", "parts": [{"type": "data-x", "data": {"a": [1, "\n"]}}], "metadata": {"k": 1}}
    ],
    "mine": {"a": [1, 2]},
}


def test_an_empty_body_is_an_empty_object() -> None:
    assert decode(b"", dict[str, int]) == {}


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_what_is_kept_of_a_body_is_on_one_line(ends: str) -> None:
    """The log's events are lines: a raw line end in one would tear it apart."""
    body = json.dumps(BODY, indent=2).replace("\n", ends).encode()
    posted = decode(body, SendRequest).posted()[0]
    kept = [bytes(posted.parts[0]), msgspec.json.encode(posted), bytes(decode(body, dict[str, msgspec.Raw])["mine"])]
    assert not [text for text in kept if b"\n" in text or b"\r" in text]
    assert json.loads(kept[0]) == BODY["messages"][0]["parts"][0]


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
    ],
)
def test_a_body_that_is_not_valid_is_a_bad_request(body: bytes) -> None:
    with pytest.raises(BadRequest) as refused:
        decode(body, SendRequest)
    assert (refused.value.status, refused.value.code) == (400, "bad_body")


def test_a_refusal_names_the_field() -> None:
    with pytest.raises(BadRequest, match=r"\$\.messages\[0\]\.role"):
        decode(b'{"id":"c","messages":[{"id":"m","role":"root","parts":[]}]}', SendRequest)


def test_bytes_that_are_no_text_are_refused_wherever_they_are() -> None:
    with pytest.raises(BadRequest):
        decode(
            b'{"id":"c","messages":[{"id":"m","role":"user","parts":[{"type":"data-x","data":"\xff"}]}]}', SendRequest
        )
