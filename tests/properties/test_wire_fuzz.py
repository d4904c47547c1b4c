"""What no document describes meets no fault either: cursors, tokens, sockets, sound, an upstream's bytes.

Each test begins with something good and breaks it, or makes it up. A fixed few by default; `FUZZ_EXAMPLES=3000` takes
about half an hour. Afterwards no run, stream, session, task or descriptor is left, and the log holds no traceback.
"""

import base64
import hmac
import io
import json
import os
import time
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import av
import httpx2
import numpy as np
import psutil
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from gateway.chat.upstreams.completion_parser import CompletionParser
from tests.audio.feeding import cut, cuts, encode_file, mux
from tests.conftest import Gateway, UpstreamThread, eventually, serving
from tests.properties.test_api_fuzz import EXAMPLES, check_at_rest, send
from tests.support.sse_client import chat_body

LATER = 4_000_000_000
SECRET = "f0e1d2c3b4a5968778695a4b3c2d1e0f-jwt"
MAX_GROWTH = 96 << 20
"""Bytes by which the gateway may grow: allocators keep some, and no more with more examples."""
pytestmark = pytest.mark.timeout(max(120, 5 * EXAMPLES))


def fuzz(times: int) -> settings:
    return settings(
        max_examples=times * EXAMPLES,
        derandomize="FUZZ_EXAMPLES" not in os.environ,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(scope="module")
def place(upstream: UpstreamThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    env = {"TRILANE_JWT_SECRET": SECRET, "TRILANE_MAX_AGE_S": "1", "TRILANE_SESSION_KEPT_S": "1"}
    server = serving(tmp_path_factory.mktemp("wire"), upstream.url, **env)
    server.unit = "all"
    try:
        server.start()
        upload(server, b"no sound")  # has the model loaded
        yield server
    finally:
        server.stop()


@pytest.fixture(autouse=True)
def nothing_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    if "place" not in request.fixturenames:
        yield
        return
    server: Gateway = request.getfixturevalue("place")
    gateway = psutil.Process(server.pid)
    tasks, descriptors, before = server.gauge("trilane_gateway_tasks"), server.fds(), gateway.memory_info().rss
    yield
    eventually(lambda: server.gauge("trilane_audio_open_uploads") == 0, 20, "no upload is left")
    eventually(lambda: attached(server) == 0, 20, "no session has a client")
    check_at_rest(server, tasks, descriptors)
    after = gateway.memory_info().rss
    print(f"{request.node.name}: {before >> 20} to {after >> 20} MiB, {descriptors} to {server.fds()} descriptors")
    assert after < before + MAX_GROWTH


def attached(server: Gateway) -> float:
    lines = httpx2.get(f"{server.url}/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if 'open_sessions{state="attached"}' in line)


def token(sub: str = "ann") -> str:
    return signed({"alg": "HS256"}, {"sub": sub, "exp": LATER})


def signed(header: Any, claims: Any) -> str:
    text = f"{part(header)}.{part(claims)}"
    return f"{text}.{part(hmac.digest(SECRET.encode(), text.encode(), sha256))}"


def part(value: Any) -> str:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def auth() -> dict[str, str]:
    return {"authorization": f"Bearer {token()}"}


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


@st.composite
def broken(draw: st.DrawFn, samples: list[bytes]) -> bytes:
    """Draws a sample with a few places changed, more often near its beginning."""
    data = bytearray(draw(st.sampled_from(samples)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, min(len(data), 120)) | st.integers(0, len(data)))
        size = draw(st.sampled_from([1, 2, 4, 8, 64]))
        match draw(st.sampled_from(["set", "put", "drop", "end", "extreme", "again"])):
            case "set":
                data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case "put":
                data[at:at] = draw(st.binary(max_size=64))
            case "drop":
                del data[at : at + size]
            case "end":
                del data[at:]
            case "extreme":
                data[at : at + size] = draw(st.sampled_from([b"\0", b"\xff", b"\x7f", b"\x80"])) * size
            case _:
                data[at:at] = data[max(0, at - 200) : at]
    return bytes(data)


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


def talk(place: Gateway, path: str, sent: list[str | bytes], end: str = "") -> int:
    """Sends messages and reads until the gateway closes, or has nothing more to say; returns its code."""
    url = f"ws://127.0.0.1:{place.port}{path}"
    with connect(url, additional_headers=auth(), compression=None, open_timeout=20) as client:
        try:
            for message in sent:
                client.send(message)
            if end:
                client.send(end)
            while True:
                client.recv(20 if end else 0.05)
        except TimeoutError:
            return 1000
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd is not None else 1006


@pytest.mark.parametrize("path", CONTROL)
def test_no_message_on_a_socket_meets_a_fault(place: Gateway, path: str) -> None:
    first = [json.dumps(GOOD[path][0])]

    @fuzz(6)
    @given(st.booleans(), st.lists(messages(path), min_size=1, max_size=6))
    def run(is_good_first: bool, sent: list[str | bytes]) -> None:
        code = talk(place, path, (first if is_good_first else []) + sent)
        assert code not in FAULTS, (sent, code)

    run()


# Sound


def samples(seconds: float, rate: int) -> Any:
    """Returns a noise too quiet for speech."""
    return np.random.default_rng(1).normal(0, 1e-3, round(seconds * rate)).astype(np.float32)


def mp4() -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", "mp4") as out:
        sound = out.add_stream("aac", rate=44_100, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples(0.3, 44_100)[None], "fltp", "mono")
        frame.sample_rate = 44_100
        out.mux([*sound.encode(frame), *sound.encode(None)])
    return file.getvalue()


def sounds() -> dict[str, bytes]:
    noise, wide = samples(0.3, 16_000), samples(0.3, 48_000)
    return {
        "wav": encode_file(noise, 16_000, "WAV"),
        "wav of floats": encode_file(noise, 16_000, "WAV", "FLOAT"),
        "wav of mu-law": encode_file(noise, 16_000, "WAV", "ULAW"),
        "flac": encode_file(noise, 16_000, "FLAC"),
        "ogg with vorbis": encode_file(noise, 16_000, "OGG", "VORBIS"),
        "ogg with opus": mux("ogg", "libopus", wide, 48_000),
        "webm": mux("webm", "libopus", wide, 48_000),
        "mp3": encode_file(noise, 16_000, "MP3"),
        "mp4": mp4(),
        "aiff": encode_file(noise, 16_000, "AIFF"),
    }


SOUNDS = sounds()


def upload(place: Gateway, data: bytes) -> None:
    with httpx2.Client(base_url=place.url, timeout=60, verify=False) as client:
        send(client, "POST", "/v1/audio/transcriptions", headers=auth(), files={"file": ("a", data)})


@pytest.mark.parametrize("kind", SOUNDS)
def test_no_broken_file_meets_a_fault(place: Gateway, kind: str) -> None:
    upload(place, SOUNDS[kind])

    @fuzz(2)
    @given(broken([SOUNDS[kind]]))
    def run(data: bytes) -> None:
        began = time.monotonic()
        upload(place, data)
        assert time.monotonic() - began < 20, data

    run()


STREAMS = {"wav": "wav", "flac": "flac", "ogg_opus": "ogg with opus", "webm_opus": "webm"}


@pytest.mark.parametrize("encoding", STREAMS)
def test_no_broken_stream_of_sound_meets_a_fault(place: Gateway, encoding: str) -> None:
    start = json.dumps({"type": "start", "encoding": encoding})

    @fuzz(2)
    @given(broken([SOUNDS[STREAMS[encoding]]]), cuts)
    def run(data: bytes, places: list[int]) -> None:
        code = talk(place, "/api/audio", [start, *cut(data, places)], end='{"type":"stop"}')
        assert code in (1000, 4501), (data, code)

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
