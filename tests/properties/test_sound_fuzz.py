"""No broken file, nor a broken stream of sound, meets a fault; `FUZZ_EXAMPLES` draws as many as one likes."""

import io
import json
import time
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given

from tests.audio.feeding import cut, cuts, encode_file, mux
from tests.conftest import Gateway
from tests.properties.breaking import EXAMPLES, broken, fuzz, talk, upload

pytestmark = [pytest.mark.timeout(max(120, 5 * EXAMPLES)), pytest.mark.usefixtures("nothing_is_left")]


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
