"""A streamed transcription survives a drain, and frees its place when its client leaves, on a real server."""

import io
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx2
import numpy as np
import pytest
import soundfile

from tests.audio.speaker import RATE, speech
from tests.conftest import Gateway, eventually


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    """Runs a gateway that takes one file at a time."""
    gateway = Gateway(tmp_path, {"TRILANE_LIMIT_UPLOADS": "1", "TRILANE_DRAIN_WINDOW_S": "0.3"}, unit="audio")
    try:
        yield gateway.start()
    finally:
        gateway.stop()


def flac(samples: "np.ndarray") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, format="FLAC")
    return file.getvalue()


def spoken_file(times: int) -> bytes:
    return flac(np.frombuffer(speech(times), "<i2"))


def long_silence() -> bytes:
    """Returns ten minutes in a few KiB: seconds of work for the speech detector."""
    return flac(np.zeros(600 * RATE, np.int16))


def post(gateway: Gateway, data: bytes, **fields: str) -> httpx2.Response:
    url = f"{gateway.url}/v1/audio/transcriptions"
    return httpx2.post(url, data=fields, files={"file": ("a.flac", data)}, timeout=60)


@pytest.mark.quiet
def test_a_client_that_leaves_a_stream_gives_its_place_back(gateway: Gateway) -> None:
    before, file = gateway.fds(), ("a.flac", long_silence())
    url = f"{gateway.url}/v1/audio/transcriptions"
    with httpx2.stream("POST", url, data={"stream": "true"}, files={"file": file}) as answer:
        lines = answer.iter_lines()  # held, because the end of the iterator would end the connection
        assert next(lines) == ": ok"
        assert post(gateway, b"no audio").status_code == 503
    eventually(lambda: post(gateway, b"no audio").status_code == 400, 1.0, "there is a place again")
    eventually(lambda: gateway.fds() <= before + 2, what="the file is closed")


def test_a_process_that_is_told_to_leave_finishes_the_streams_that_it_has(gateway: Gateway) -> None:
    url = f"{gateway.url}/v1/audio/transcriptions"
    events: list[dict[str, object]] = []
    with httpx2.stream(
        "POST", url, data={"stream": "true"}, files={"file": ("a.flac", spoken_file(2))}, timeout=60
    ) as answer:
        lines = answer.iter_lines()
        assert next(lines) == ": ok"
        gateway.signal(signal.SIGTERM)
        events += [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    assert events[-1]["type"] == "transcript.text.done"
    assert str(events[-1]["text"]).lower().count("country") == 4
    assert gateway.wait(20) == 0
