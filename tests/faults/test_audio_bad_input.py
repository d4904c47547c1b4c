"""Each mistake of an audio client has its close code and a sentence, and harms nobody else."""

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from gateway.access.auth import mint
from tests.audio.speaker import RATE, SUBPROTOCOL, speech
from tests.conftest import Gateway

SECRET = "0123456789abcdef0123456789abcdef"
SECOND = b"\0" * 2 * RATE


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    server = Gateway(tmp_path_factory.mktemp("audio"), {"TRILANE_LIMIT_VOICES": "50"}, unit="audio").start()
    try:
        yield server
    finally:
        server.stop()


def dial(gateway: Gateway, **how: Any) -> ClientConnection:
    url = f"ws://127.0.0.1:{gateway.port}/api/audio"
    return connect(url, subprotocols=[SUBPROTOCOL], compression=None, legacy=True, **how)


def begin(gateway: Gateway, **start: Any) -> ClientConnection:
    socket = dial(gateway)
    socket.send(json.dumps({"type": "start", **start}))
    return socket


def ending(socket: ClientConnection) -> tuple[int, dict[str, Any]]:
    """Returns the close code, and the last message before it."""
    last: dict[str, Any] = {}
    try:
        while True:
            last = json.loads(socket.recv(timeout=20))
    except ConnectionClosed as error:
        return (error.rcvd.code if error.rcvd is not None else 1006), last


@pytest.mark.parametrize(
    ("first", "says"),
    [
        (b"\0\0", "the first message must be `start`"),
        ("", "not one of this protocol"),
        ("{", "not one of this protocol"),
        ('{"type": "flush"}', "the first message must be `start`"),
        ('{"type": "begin"}', "'begin'"),
        ('{"type": "start", "sampleRate": 7999}', "sampleRate"),
        ('{"type": "start", "sampleRate": 48001}', "sampleRate"),
        ('{"type": "start", "encoding": "mp3"}', "encoding"),
        ('{"type": "start", "channels": 3}', "channels"),
        ('{"type": "start", "endpointingMs": 50}', "endpointingMs=50: want 0 (off) or at least 100"),
        ('{"type": "start", "color": "red"}', "color"),
        ('{"type": "start", "linkChat": true}', "linkChat"),
        (json.dumps({"type": "start", "prompt": "x" * 10_000}), "prompt"),
        ('{"type": "start", "language": "tlh"}', "tlh"),
        ('{"type": "start", "model": "nova-3"}', "'nova-3' here; there are whisper-tiny.en"),
        ('{"type": "start", "utteranceEndMs": 200}', "utteranceEndMs=200: want at least endpointingMs, which is 500"),
        ('{"type": "start", "maxSegmentMs": 24001}', "maxSegmentMs"),
        ('{"type": "start", "split": true}', "split=true with channels=1"),
        ('{"type": "start", "redact": ["name"]}', "redact"),
        ('{"type": "start", "topic": "a b"}', "a b"),
    ],
)
def test_a_bad_start_is_4500_and_says_what_was_wrong(gateway: Gateway, first: bytes | str, says: str) -> None:
    with dial(gateway) as socket:
        socket.send(first)
        code, last = ending(socket)
    assert (code, last["type"], last["retryable"]) == (4500, "error", False)
    assert says in last["message"]


def test_a_session_that_is_not_known_is_4502(gateway: Gateway) -> None:
    code, last = ending(begin(gateway, session="0" * 36))
    assert (code, last["code"]) == (4502, "session_unknown")


def test_a_second_start_and_an_unknown_message_end_the_connection(gateway: Gateway) -> None:
    for text in (
        '{"type": "start"}',
        '{"type": "nonsense"}',
        "[]",
        '{"type": "marker"}',
        '{"type": "marker", "id": 1.5}',
    ):
        with begin(gateway) as socket:
            socket.send(text)
            assert ending(socket)[0] == 4500


def test_a_frame_that_is_too_large_is_1009(gateway: Gateway) -> None:
    for size in (65_537, 2_000_000):
        with begin(gateway) as socket:
            socket.recv(timeout=5)
            with contextlib.suppress(ConnectionClosed):  # the larger one is refused while it is sent
                socket.send(b"\0" * size)
            assert ending(socket)[0] == 1009


def test_a_frame_of_the_limit_is_heard(gateway: Gateway) -> None:
    with begin(gateway) as socket:
        socket.send(b"\0" * 65_536)
        socket.send('{"type": "stop"}')
        code, last = ending(socket)
    assert (code, last["type"], last["duration"]) == (1000, "done", 2.048)


def test_audio_of_another_kind_is_4501(gateway: Gateway) -> None:
    for encoding in ("ogg_opus", "webm_opus", "flac", "wav"):
        with begin(gateway, encoding=encoding) as socket:
            socket.send(b"\xff\xfb\x90\x64" * 16_000)
            for _ in range(5):
                try:
                    socket.send(b"\xff\xfb\x90\x64" * 16_000)
                except ConnectionClosed:
                    break
            code, last = ending(socket)
        assert (code, last["code"]) == (4501, "bad_audio"), encoding


def test_more_than_real_time_and_the_allowance_is_4504(gateway: Gateway) -> None:
    with begin(gateway) as socket:
        try:
            for _ in range(80):
                socket.send(SECOND)
        except ConnectionClosed:
            pass
        code, last = ending(socket)
    assert (code, last["code"]) == (4504, "too_much_audio")


@pytest.mark.parametrize(
    ("message", "code"), [(b"\0", "too_much_audio"), ('{"type": "keepalive"}', "too_many_messages")]
)
def test_a_flood_of_messages_that_say_nothing_is_4504(gateway: Gateway, message: bytes | str, code: str) -> None:
    with begin(gateway) as socket:
        with contextlib.suppress(ConnectionClosed):
            for _ in range(200_000):
                socket.send(message)
        close_code, last = ending(socket)
    assert (close_code, last["code"], last["retryable"]) == (4504, code, False)


def _frame(opcode: int, payload: bytes) -> bytes:
    """Returns a frame as a client sends it, with a mask of zeros."""
    assert len(payload) < 126
    return bytes([0x80 | opcode, 0x80 | len(payload)]) + b"\0\0\0\0" + payload


def test_many_frames_that_come_at_once_are_all_heard(gateway: Gateway) -> None:
    with begin(gateway) as socket:
        socket.recv(timeout=5)
        at_once = _frame(2, b"\0\0") * 5120 + _frame(1, b'{"type": "stop"}')
        socket.socket.sendall(at_once)
        code, last = ending(socket)
    assert (code, last["type"], last["duration"]) == (1000, "done", 0.32)


@pytest.mark.quiet
def test_a_client_that_goes_on_after_the_close_is_cut_off_soon(gateway: Gateway) -> None:
    began = time.monotonic()
    with begin(gateway, sampleRate=1) as socket, contextlib.suppress(OSError):
        while time.monotonic() - began < 10:
            socket.socket.sendall(_frame(2, b"\0\0") * 1000)
    assert time.monotonic() - began < 5


def test_bytes_that_are_no_samples_harm_nothing(gateway: Gateway) -> None:
    with (
        begin(gateway) as odd,
        begin(gateway, encoding="pcm_f32le") as garbage,
        begin(gateway, encoding="mulaw") as noise,
    ):
        for _ in range(50):
            odd.send(b"\1" * 641)
            garbage.send(np.full(320, np.nan, "<f4").tobytes() + np.full(320, np.inf, "<f4").tobytes())
            noise.send(b"\xff")
        for socket in (odd, garbage, noise):
            socket.send('{"type": "stop"}')
            code, last = ending(socket)
            assert (code, last["type"]) == (1000, "done")


def test_a_thousand_frames_of_one_byte_are_as_good_as_one(gateway: Gateway) -> None:
    pcm = speech()[: 3 * 2 * RATE]
    with begin(gateway, interimResults=False) as socket:
        for at in range(2000):
            socket.send(pcm[at : at + 1])
        for at in range(2000, len(pcm), 3200):
            socket.send(pcm[at : at + 3200])
        socket.send('{"type": "stop"}')
        finals = []
        while (last := json.loads(socket.recv(timeout=20)))["type"] != "done":
            finals += [last["text"]] if last["type"] == "final" else []
    assert "fellow Americans" in " ".join(finals)


def test_a_client_that_leaves_in_the_middle_of_anything_leaves_nothing_behind(gateway: Gateway) -> None:
    before = gateway.fds()
    for cut in range(12):
        socket = dial(gateway)
        if cut % 3:
            socket.send('{"type": "start", "encoding": "webm_opus"}' if cut % 2 else '{"type": "start"}')
        if cut % 3 > 1:
            socket.recv(timeout=5)
            socket.send(b"\x1a\x45\xdf\xa3" * 100)
        socket.socket.close()
    deadline = time.monotonic() + 10
    while gateway.fds() > before + 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert gateway.fds() <= before + 2


# Who may


@pytest.fixture(scope="module")
def signin_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder: Path = tmp_path_factory.mktemp("guarded")
    server = Gateway(folder, {"TRILANE_JWT_SECRET": SECRET, "TRILANE_LIMIT_VOICES": "2"}, unit="audio").start()
    try:
        yield server
    finally:
        server.stop()


def headers(sub: str = "alice", **grants: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {mint(SECRET, sub, time.time() + 60, grants)}"}


def test_a_client_that_is_not_signed_in_is_answered_before_the_upgrade(signin_gateway: Gateway) -> None:
    for more in ({}, {"Authorization": "Bearer nonsense.of.mine"}):
        with pytest.raises(InvalidStatus) as error:
            dial(signin_gateway, additional_headers=more)
        assert error.value.response.status_code == 401
        assert json.loads(error.value.response.body or b"")["code"]


def test_a_page_of_another_origin_opens_nothing(gateway: Gateway) -> None:
    with pytest.raises(InvalidStatus) as error:
        dial(gateway, origin="https://evil.example")
    assert error.value.response.status_code == 403


def test_a_token_without_the_lane_or_the_topic_is_1008(signin_gateway: Gateway) -> None:
    with dial(signin_gateway, additional_headers=headers(audio=False)) as socket:
        socket.send('{"type": "start"}')
        assert ending(socket)[0] == 1008
    with dial(signin_gateway, additional_headers=headers()) as socket:
        socket.send('{"type": "start", "topic": "team/a"}')
        assert ending(socket)[0] == 1008


def test_a_session_of_someone_else_is_not_known(signin_gateway: Gateway) -> None:
    with dial(signin_gateway, additional_headers=headers("alice")) as hers:
        hers.send('{"type": "start"}')
        session = json.loads(hers.recv(timeout=10))["session"]
        with dial(signin_gateway, additional_headers=headers("mallory")) as his:
            his.send(json.dumps({"type": "start", "session": session}))
            assert ending(his)[0] == 4502
        hers.send('{"type": "stop"}')
        assert ending(hers)[0] == 1000


@pytest.mark.quiet
def test_a_full_lane_says_so_at_once(signin_gateway: Gateway) -> None:
    sockets = [dial(signin_gateway, additional_headers=headers()) for _ in range(2)]
    for socket in sockets:
        socket.send('{"type": "start"}')
        assert json.loads(socket.recv(timeout=10))["type"] == "ready"
    with dial(signin_gateway, additional_headers=headers()) as socket:
        began = time.monotonic()
        socket.send('{"type": "start"}')
        code, last = ending(socket)
        assert time.monotonic() - began < 0.5
    assert (code, last["code"], last["retryable"]) == (1013, "overloaded", True)
    for socket in sockets:
        socket.send('{"type": "stop"}')
        assert ending(socket)[0] == 1000
