"""The route of file transcription answers, refuses, and ends with its client; its model hears exactly what was
spoken.
"""

import asyncio
import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import numpy as np
import psutil
import pytest
import soundfile

from audio.model.fake import FakeTranscriber, speech_of
from audio.model.transcriber import SAMPLE_RATE
from gateway.access.grants import Grants, Principal
from gateway.errors import Forbidden
from routes import transcriptions
from routes.transcriptions import UploadAnswer
from tests.audio.lanes import ME, Place

DEADLINE_S = 10.0


def wav(words: int, pause_s: float = 3.0) -> bytes:
    file = io.BytesIO()
    audio = speech_of([(number + 1, 0.5, pause_s) for number in range(words)])
    soundfile.write(file, audio, SAMPLE_RATE, format="WAV", subtype="FLOAT")
    return file.getvalue()


class Server:
    """Serves the handler's answer alone, as an ASGI application with one place for a file."""

    def __init__(self, model: FakeTranscriber, **limits: int) -> None:
        self.model = model
        self.place = Place(uploads=1, **limits)
        self.place.model = model

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        lane = self.place.lane
        await self.place.core.log.open()
        await UploadAnswer(lane, await lane.load(), ME)(scope, receive, send)

    def post(self, data: bytes, **fields: str) -> httpx2.Response:
        async def run() -> httpx2.Response:
            async with asyncio.timeout(DEADLINE_S), self.client() as client:
                return await client.post("/v1/audio/transcriptions", data=fields, files={"file": ("a.wav", data)})

        return asyncio.run(run())

    def client(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(transport=httpx2.ASGITransport(self.app), base_url="http://test")


@contextmanager
def serving(model: Callable[[], FakeTranscriber] = FakeTranscriber, **limits: int) -> Iterator[Server]:
    """Fails when a descriptor is left open."""
    before = psutil.Process().num_fds()
    yield Server(model(), **limits)
    assert psutil.Process().num_fds() == before


def test_what_was_left_out_is_said_in_every_format() -> None:
    said = np.repeat(speech_of([(1, 0.5, 0.5)])[:, None], 2, axis=1) * np.array([1, -1], np.float32)
    file = io.BytesIO()
    soundfile.write(file, said, SAMPLE_RATE, format="WAV", subtype="FLOAT")
    with serving() as server:
        for format_ in ("json", "verbose_json", "text", "srt", "vtt"):
            answer = server.post(file.getvalue(), response_format=format_)
            assert "w1" in answer.text
            assert answer.headers["x-trilane-warning"].startswith("channels of opposite polarity")
            if format_.endswith("json"):
                assert answer.json()["warnings"] == [answer.headers["x-trilane-warning"]]
        done = json.loads(server.post(file.getvalue(), stream="true").text.split("data: ")[-1])
        assert done["warnings"][0].startswith("channels of opposite polarity")
        plain = server.post(wav(1))
        assert "x-trilane-warning" not in plain.headers
        assert plain.json().keys() == {"text", "usage"}


def test_a_stream_begins_with_a_comment_and_its_deltas_joined_are_the_text() -> None:
    with serving() as server:
        answer = server.post(wav(3), stream="true")
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store, no-transform"
    assert answer.text.startswith(": ok\n")
    lines = [line for line in answer.text.splitlines() if line and not line.startswith(":")]
    assert all(line.startswith("data: ") for line in lines)
    events = [json.loads(line.removeprefix("data: ")) for line in lines]
    deltas = [event["delta"] for event in events if event["type"] == "transcript.text.delta"]
    assert deltas == ["w1", " w2", " w3"]
    assert events[-1]["type"] == "transcript.text.done"
    assert events[-1]["text"] == "".join(deltas)
    assert events[-1]["usage"] == {"type": "duration", "seconds": 11}


@pytest.mark.parametrize("stream", ["true", "false"])
def test_no_audio_is_a_400_even_of_a_stream(stream: str) -> None:
    with serving() as server:
        answer = server.post(b"not audio at all", stream=stream)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_audio")
    assert "b'not audio at all'" in answer.json()["message"]


def test_a_failure_within_a_stream_is_an_error_event() -> None:
    with serving() as server:
        server.model.failing = 2
        answer = server.post(wav(3), stream="true")
    assert answer.status_code == 200
    last = json.loads(answer.text.strip().splitlines()[-1].removeprefix("data: "))
    assert last["error"]["code"] == "transcription_failed"


def test_a_failure_of_a_whole_answer_is_a_500_that_may_be_tried_again() -> None:
    with serving() as server:
        server.model.failing = 2
        answer = server.post(wav(3))
    assert (answer.status_code, answer.headers["x-should-retry"]) == (500, "true")


def test_a_file_of_silence_is_an_empty_text() -> None:
    file = io.BytesIO()
    soundfile.write(file, speech_of([(1, 0.0, 5.0)]), SAMPLE_RATE, format="WAV")
    with serving() as server:
        assert server.post(file.getvalue()).json()["text"] == ""
        assert server.post(file.getvalue(), response_format="text").text == "\n"
        assert server.post(file.getvalue(), response_format="srt").text == ""
        assert server.post(file.getvalue(), response_format="vtt").text == "WEBVTT\n\n"
        assert server.post(file.getvalue(), response_format="verbose_json").json()["segments"] == []


def test_a_caller_that_may_not_use_the_lane_is_refused_before_anything_is_read() -> None:
    class Request:
        user = Principal(sub="ann", grants=Grants(audio=False))

    with pytest.raises(Forbidden, match="does not allow the audio lane"):
        asyncio.run(transcriptions.transcriptions.fn(Request(), None))  # type: ignore[arg-type]


def test_a_form_without_a_file_is_refused() -> None:
    async def run(server: Server) -> httpx2.Response:
        async with asyncio.timeout(DEADLINE_S), server.client() as client:
            return await client.post("/v1/audio/transcriptions", files={"model": (None, "whisper-1")})

    with serving() as server:
        answer = asyncio.run(run(server))
    assert (answer.status_code, answer.json()["code"], answer.json()["param"]) == (400, "missing_file", "file")


def test_an_upload_that_is_too_large_is_413_with_its_setting() -> None:
    with serving(upload_bytes=1000) as server:
        answer = server.post(wav(1))
    assert answer.status_code == 413
    assert "TRILANE_LIMIT_UPLOAD_BYTES" in answer.json()["message"]


async def leave_early(server: Server, **fields: str) -> list[dict[str, Any]]:
    """Sends a file, leaves when the model has its first task, and returns what was answered."""
    body = httpx2.Request("POST", "http://test", data=fields, files={"file": ("a.wav", wav(3))})
    messages = [{"type": "http.request", "body": body.read(), "more_body": False}]
    answer: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop()
        while not server.model.calls:  # noqa: ASYNC110 - the fake says nothing
            await asyncio.sleep(0.001)
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        answer.append(message)

    headers = [(name.lower().encode(), value.encode()) for name, value in body.headers.items()]
    async with asyncio.timeout(DEADLINE_S):
        await server.app({"type": "http", "headers": headers}, receive, send)
    with server.place.lane.uploads.admitted():
        return answer


def test_a_client_that_leaves_frees_everything_at_once() -> None:
    """The model holds its answer back for ever: only the leaving can end the request."""
    with serving(lambda: FakeTranscriber(holds=True)) as server:
        assert asyncio.run(leave_early(server)) == []


def test_a_client_that_leaves_a_stream_frees_everything_at_once() -> None:
    with serving(lambda: FakeTranscriber(holds=True)) as server:
        start, *rest = asyncio.run(leave_early(server, stream="true"))
        assert start["status"] == 200
        assert b"data:" not in b"".join(message["body"] for message in rest)
        assert not len(server.place.core.streams)
