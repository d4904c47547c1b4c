"""Upstreams say in many ways that something failed, inside a stream and instead of one."""

import json

import pytest

from gateway.chat.upstreams.refusals import SHOWN_CHARS, error_body, refusal
from gateway.errors import UpstreamRefused
from tests.support.completions import HELLO, Read, chunk, frames

IN_BAND: dict[str, tuple[bytes, int, str, bool, str]] = {
    "OpenAI: a server error": (
        b'data: {"error":{"message":"boom","type":"server_error","param":null,"code":null}}\n\n',
        502,
        "upstream_error",
        True,
        "boom",
    ),
    "OpenRouter: a code and choices beside it": (
        b'data: {"id":"g","object":"chat.completion.chunk","error":{"code":502,"message":"provider gone"},'
        b'"choices":[{"index":0,"delta":{"content":""},"finish_reason":"error"}]}\n\n',
        502,
        "upstream_unavailable",
        True,
        "provider gone",
    ),
    "a code as text": (
        b'data: {"error":{"code":"429","message":"slow"}}\n\n',
        429,
        "upstream_rate_limited",
        True,
        "slow",
    ),
    "a rate limit by name": (
        b'data: {"error":{"code":"rate_limit_exceeded","message":"slow"}}\n\n',
        429,
        "upstream_rate_limited",
        True,
        "slow",
    ),
    "a rate limit by type": (
        b'data: {"error":{"type":"Rate_Limit_Error","message":"slow"}}\n\n',
        429,
        "upstream_rate_limited",
        True,
        "slow",
    ),
    "vLLM: a flat error object": (
        b'data: {"object":"error","message":"context too long","type":"BadRequestError","param":null,"code":400}\n\n',
        400,
        "upstream_bad_request",
        False,
        "context too long",
    ),
    "vLLM: wrapped": (
        b'data: {"error":{"object":"error","message":"too long","type":"BadRequestError","code":400}}\n\n',
        400,
        "upstream_bad_request",
        False,
        "too long",
    ),
    "a bare string": (b'data: {"error":"out of memory"}\n\n', 502, "upstream_error", True, "out of memory"),
    "an invalid request by its type": (
        b'data: {"error":{"message":"no","type":"invalid_request_error","param":"messages","code":null}}\n\n',
        400,
        "upstream_bad_request",
        False,
        "no",
    ),
    "an overflow by its code": (
        b'data: {"error":{"message":"no","type":"invalid_request_error","code":"context_length_exceeded"}}\n\n',
        400,
        "context_length_exceeded",
        False,
        "no",
    ),
    "a quota by its code": (
        b'data: {"error":{"message":"no","type":"insufficient_quota","code":"insufficient_quota"}}\n\n',
        429,
        "insufficient_quota",
        False,
        "no",
    ),
    "event: error with an object": (
        b'event: error\ndata: {"error":{"message":"overloaded","type":"overloaded_error"}}\n\n',
        502,
        "upstream_error",
        True,
        "overloaded",
    ),
    "event: error after its data": (b'data: {"message":"late"}\nevent: error\n\n', 502, "upstream_error", True, "late"),
    "event: error with text": (b"event: error\ndata: it broke\n\n", 502, "upstream_error", True, "it broke"),
    "event: error with nothing": (b"event: error\n\n", 502, "upstream_error", True, "the upstream reported an error"),
    "event: error with bytes that are no text": (
        b"event: error\ndata: \xff\xfe\n\n",
        502,
        "upstream_error",
        True,
        "\ufffd",
    ),
    "unauthorized": (
        b'data: {"error":{"code":401,"message":"bad key sk-secret"}}\n\n',
        502,
        "upstream_auth",
        False,
        "the upstream does not accept the gateway's key",
    ),
    "broken JSON": (b'data: {"choices":[{"delta":{"content":"x"\n\n', 502, "upstream_invalid", True, "not valid"),
}


@pytest.mark.parametrize(("frame", "status", "code", "retryable", "detail"), IN_BAND.values(), ids=IN_BAND.keys())
def test_an_error_inside_a_stream_is_one(frame: bytes, status: int, code: str, retryable: bool, detail: str) -> None:
    read = Read(HELLO + frame)
    assert (read.error.status, read.error.code, read.error.retryable) == (status, code, retryable)
    assert detail in read.error.detail
    assert read.text == "Hello"


INSTEAD: dict[str, tuple[bytes, int, str]] = {
    "OpenAI": (b'{"error":{"message":"no","code":429}}', 429, "upstream_rate_limited"),
    "on lines": (b'{\n  "error": {\n    "message": "no",\n    "code": 503\n  }\n}\n', 502, "upstream_unavailable"),
    "Gemini: in a list": (b'[{"error":{"code":400,"message":"no","status":"X"}}]', 400, "upstream_bad_request"),
    "vLLM: flat": (b'{"object":"error","message":"no","type":"NotFoundError","code":404}', 404, "upstream_not_found"),
    "Anthropic": (b'{"type":"error","error":{"type":"overloaded_error","message":"no"}}', 502, "upstream_error"),
    "a status beside it": (b'{"error":"no","status":422}', 422, "upstream_bad_request"),
    "a quota": (b'{"error":{"message":"no","type":"insufficient_quota"}}', 429, "insufficient_quota"),
    "a detail": (b'{"detail":"no","status":404}', 404, "upstream_not_found"),
    "a msg": (b'{"success":false,"code":429,"msg":"no"}', 429, "upstream_rate_limited"),
}


@pytest.mark.parametrize(("body", "status", "code"), INSTEAD.values(), ids=INSTEAD)
def test_an_error_that_stands_in_place_of_a_stream_has_its_own_status(body: bytes, status: int, code: str) -> None:
    for pieces in ((body,), tuple(body[at : at + 1] for at in range(len(body)))):
        error = Read(*pieces).error
        assert (error.status, error.code, error.detail) == (status, code, "no")


def test_nothing_after_an_error_is_read() -> None:
    read = Read(HELLO + b'data: {"error":"x"}\n\n' + frames(chunk({"content": "more"})))
    assert read.text == "Hello"


def test_no_key_of_an_upstream_is_passed_on() -> None:
    for status in (401, 403):
        assert "sk-secret" not in refusal(status, "Incorrect API key provided: sk-secret").detail


def test_a_chunk_that_is_nested_too_deeply_is_not_valid() -> None:
    read = Read(HELLO, b'data: {"choices":[],"x":' + b"[" * 5000 + b"]" * 5000 + b"}\n\n")
    assert read.error.code == "upstream_invalid"


def test_a_long_error_text_is_shortened() -> None:
    read = Read(frames(json.dumps({"error": {"message": "x" * 10_000}}).encode()))
    assert len(read.error.detail) == SHOWN_CHARS


# Refusals

REFUSALS = [
    (400, "upstream_bad_request", 400, False),
    (401, "upstream_auth", 502, False),
    (403, "upstream_auth", 502, False),
    (402, "insufficient_quota", 402, False),
    (404, "upstream_not_found", 404, False),
    (405, "upstream_bad_request", 502, False),
    (408, "upstream_timeout", 504, True),
    (409, "upstream_bad_request", 409, False),
    (413, "upstream_bad_request", 413, False),
    (415, "upstream_bad_request", 415, False),
    (418, "upstream_bad_request", 502, False),
    (422, "upstream_bad_request", 422, False),
    (425, "upstream_unavailable", 502, True),
    (429, "upstream_rate_limited", 429, True),
    (498, "upstream_unavailable", 502, True),
    (500, "upstream_unavailable", 502, True),
    (503, "upstream_unavailable", 502, True),
    (529, "upstream_unavailable", 502, True),
]


@pytest.mark.parametrize(("status", "code", "ours", "retryable"), REFUSALS)
def test_a_status_of_an_upstream_has_one_meaning(status: int, code: str, ours: int, retryable: bool) -> None:
    error = refusal(status, "")
    assert isinstance(error, UpstreamRefused)
    assert (error.code, error.status, error.retryable) == (code, ours, retryable)
    assert error.detail


def test_a_rate_limit_says_when_to_come_back() -> None:
    for value in ("7", "0.25", "Fri, 31 Dec 1999 23:59:59 GMT"):
        assert refusal(429, "slow", value).retry_after == value


@pytest.mark.parametrize(
    "value", ["", "-1", "nan", "1e9", "9" * 60_000, "7\r\nx: y", "\xe9", "7\x0b", "Fri, <script> GMT", "soon", "7\n"]
)
def test_what_is_no_time_to_come_back_is_not_passed_on(value: str) -> None:
    assert refusal(429, "slow", value).retry_after is None
    assert refusal(429, "insufficient_quota", value).retry_after is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'{"error":{"message":"m","code":1}}', "m"),
        (b'{"message":"m"}', "m"),
        (b'{"error":"m"}', "m"),
        (b'"m"', "m"),
        (b"m", "m"),
        (b'{"detail":"m"}', "m"),
        (b'[{"error":{"code":400,"message":"m","status":"INVALID_ARGUMENT"}}]', "m"),
        (b'{"type":"error","error":{"type":"x","message":"m"}}', "m"),
        (b'{"object":"error","message":{"detail":["m"]},"type":"x","code":null}', '{"detail":["m"]}'),
        (b'{"error":{"message":"m\\ud83d"}}', "m\ufffd"),
        (b'{"error":{"message":"m","figure":NaN}}', "m"),
        (b"{}", ""),
        (b"[]", ""),
        (b"null", ""),
        (b"", ""),
        (b'{"error":{"message":["m"]}}', '["m"]'),
        (b"<html>502</html>", "<html>502</html>"),
    ],
)
def test_an_error_body_is_read_in_any_of_its_shapes(text: bytes, message: str) -> None:
    assert error_body(text)["message"] == message
