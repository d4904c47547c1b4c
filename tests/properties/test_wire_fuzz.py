"""What no document describes meets no fault either: cursors, tokens, sockets, an upstream's bytes.

Each test begins with something good and breaks it, or makes it up. A fixed few by default; `FUZZ_EXAMPLES=170` takes
a quarter of an hour, with `test_sound_fuzz.py`. Afterwards no run, stream, session, task or descriptor is left, and the
log holds no traceback.
"""

import base64
import json
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.chat.upstreams.completion_parser import CompletionParser
from tests.audio.feeding import cut, cuts
from tests.conftest import Gateway
from tests.properties.breaking import EXAMPLES, LATER, auth, broken, fuzz, send, signed, talk
from tests.support.sse_client import chat_body

pytestmark = pytest.mark.timeout(max(120, 5 * EXAMPLES))
LEAVES_NOTHING = pytest.mark.usefixtures("nothing_is_left")


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from([0, -1, 1e308, 2**63, 10**40, "", "ann", "\0", "\ud800", "x" * 3000])
    | st.text(max_size=20),
    lambda value: st.lists(value, max_size=3) | st.dictionaries(st.text(max_size=8), value, max_size=3),
    max_leaves=6,
)


def objects(names: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(names), VALUES, max_size=4)


# Cursors


@pytest.fixture(scope="module")
def cursors(place: Gateway) -> list[bytes]:
    """Returns a cursor of each kind, as the gateway has given them."""
    answer = httpx2.post(f"{place.url}/api/chat", json=chat_body("fuzzed", "hi I=0"), headers=auth())
    ids = [line[4:] for line in answer.text.splitlines() if line.startswith("id: ")]
    for query in ("topic=a", "topic=a&topic=b", "topic=a/*", "from=earliest", "topic=a&envelope=1"):
        text = httpx2.get(f"{place.url}/api/events?{query}", headers=auth()).text
        ids += [line[4:] for line in text.splitlines() if line.startswith("id: ")]
    return [cursor.encode() for cursor in dict.fromkeys(ids)]


NAMES = ("last-event-id", "last_event_id", "lastEventId", "lastEventID", "after", "cursor")
PATHS = (
    *("/api/events", "/api/events?topic=a", "/api/events?topic=a&topic=b&partial=1", "/api/events?topic=a/*"),
    *("/api/chat/fuzzed/stream", "/api/chat/other/stream", "/api/chats", "/api/usage"),
)


@LEAVES_NOTHING
def test_no_broken_cursor_meets_a_fault(place: Gateway, cursors: list[bytes]) -> None:
    with httpx2.Client(base_url=place.url, timeout=30, verify=False) as client:

        @fuzz(12)
        @given(broken(cursors), st.sampled_from(NAMES), st.sampled_from(PATHS))
        def run(cursor: bytes, name: str, path: str) -> None:
            if name == "last-event-id":
                send(client, "GET", path, headers={**auth(), name: cursor.decode("latin-1")})
            else:
                send(client, "GET", path, headers=auth(), params={name: cursor})

        run()


# Tokens

HEADERS = objects(["alg", "typ", "kid", "jku", "x5u", "jwk", "crit", "b64", "cty", "zip"])
CLAIMS = objects(["sub", "exp", "nbf", "iat", "iss", "aud", "jti", "trilane", "scope"])
GRANTS = objects(["subscribe", "publish", "chat", "audio", "operator", "limits", "x"])
LIMITS = objects(["requests_per_minute", "runs", "streams", "monthly_cost", "daily_tokens", "misspelt"])


@st.composite
def tokens(draw: st.DrawFn) -> str:
    """Draws a token that is well signed, whatever it says, or is no token at all."""
    header: Any = {"alg": "HS256", **draw(st.just({}) | HEADERS)}
    claims: Any = {"sub": "ann", "exp": LATER, **draw(CLAIMS)}
    grants = draw(st.just({}) | GRANTS)
    if grants and draw(st.booleans()):
        grants = {**grants, "limits": draw(LIMITS)}
    claims = {**claims, "trilane": grants} if grants else claims
    if draw(st.booleans()):
        header, claims = draw(st.just(header) | VALUES), draw(st.just(claims) | VALUES | st.binary(max_size=40))
    made = signed(header, claims)
    return draw(st.just(made) | broken([made.encode()]).map(lambda text: text.decode("latin-1")))


@LEAVES_NOTHING
def test_no_token_meets_a_fault(place: Gateway) -> None:
    with httpx2.Client(base_url=place.url, timeout=30, verify=False) as client:

        @fuzz(12)
        @given(tokens(), st.sampled_from(["/api/chats", "/api/events", "/api/usage", "/v1/models", "/metrics"]))
        def run(made: str, path: str) -> None:
            send(client, "GET", path, headers={"authorization": f"Bearer {made}"})
            send(client, "GET", path, headers={"cookie": f"__Secure-trilane={made}", "sec-fetch-site": "none"})

        run()


# Sockets

CONTROL = {
    "/api/audio": [
        *("start", "flush", "stop", "marker", "keepalive", "session", "cursor", "sampleRate", "encoding", "channels"),
        *("language", "prompt", "topic", "interimResults", "words", "endpointingMs", "id", "type"),
    ],
    "/v1/realtime?intent=transcription": [
        *("session.update", "transcription_session.update", "input_audio_buffer.append", "input_audio_buffer.commit"),
        *("input_audio_buffer.clear", "session", "audio", "input", "format", "transcription", "turn_detection", "type"),
        *("event_id", "include", "rate", "language", "prompt", "model", "input_audio_format", "threshold"),
    ],
}
GOOD = {
    "/api/audio": [{"type": "start"}, {"type": "flush"}, {"type": "marker", "id": 1}, {"type": "stop"}],
    "/v1/realtime?intent=transcription": [
        {"type": "session.update", "session": {"type": "transcription", "audio": {"input": {}}}},
        {"type": "input_audio_buffer.append", "audio": base64.b64encode(bytes(960)).decode()},
        {"type": "input_audio_buffer.commit"},
        {"type": "input_audio_buffer.clear"},
    ],
}
FAULTS = (1002, 1003, 1006, 1007, 1011)
"""Codes with which a socket is closed that nobody meant to close, or that says that we do not speak WebSocket."""


@st.composite
def messages(draw: st.DrawFn, path: str) -> str | bytes:
    """Draws a message of a client, often a good one with some fields that are not."""
    names = CONTROL[path]
    match draw(st.sampled_from(["fields", "fields", "good", "nested", "bytes", "text", "json"])):
        case "good":
            return json.dumps(draw(st.sampled_from(GOOD[path])))
        case "fields":
            return json.dumps({**draw(st.sampled_from(GOOD[path])), **draw(objects(names))})
        case "nested":
            inner = {**draw(objects(names)), "audio": {"input": draw(objects(names))}}
            return json.dumps({"type": draw(st.sampled_from(names)), "session": inner})
        case "bytes":
            return draw(st.binary(max_size=200))
        case "text":
            return draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
        case _:
            return json.dumps(draw(VALUES))


@LEAVES_NOTHING
@pytest.mark.parametrize("path", CONTROL)
def test_no_message_on_a_socket_meets_a_fault(place: Gateway, path: str) -> None:
    first = [json.dumps(GOOD[path][0])]

    @fuzz(6)
    @given(st.booleans(), st.lists(messages(path), min_size=1, max_size=6))
    def run(is_good_first: bool, sent: list[str | bytes]) -> None:
        code = talk(place, path, (first if is_good_first else []) + sent)
        assert code not in FAULTS, (sent, code)

    run()


# An upstream's bytes

EVENTS = [
    b'data: {"choices":[{"delta":{"content":"a"}}]}\n\ndata: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n',
    b"event: x\r\nid: 1\r\nretry: 5\r\ndata: {}\r\n\r\n: comment\r\ndata: [DONE]\r\n\r\n",
    b'data:{"choices":[\rdata:{"delta":{"content":"b"}}]}\r\rdata: [DONE]\r\r',
    b'\xef\xbb\xbf{"choices":[{"message":{"content":"whole"},"finish_reason":"stop"}]}',
]


def read(pieces: list[bytes]) -> tuple[list[object], bool, str]:
    parser = CompletionParser()
    chunks: list[object] = [chunk for piece in pieces for chunk in parser.feed(piece)]
    chunks += parser.end()
    return chunks, parser.complete, str(parser.error)


@fuzz(40)
@given(broken(EVENTS) | st.binary(max_size=300), cuts)
def test_no_bytes_of_an_upstream_meet_a_fault_and_no_cut_changes_what_they_say(data: bytes, places: list[int]) -> None:
    assert read(cut(data, places)) == read([data])
