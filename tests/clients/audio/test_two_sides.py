"""The two sides of a call, over real sockets and uploads, with the real model.

The caller is a president's recording and the agent the same voice at other times, 20 dB softer on the other's side, as
telephones let it through.
"""

import io
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
import soundfile

from audio.model.transcriber import SAMPLE_RATE, Samples
from loadtests.bench.audio.words import edits, normalise
from tests.clients.audio.test_tongues import JFK, cut, say
from tests.conftest import Gateway

FIRST = "and so my fellow americans ask not what your country can do for you"
SECOND = "ask what you can do for your country"
CUT_S = 7.85
"""Seconds between the two parts of the recording."""
CROSSTALK = 0.1
DELAY = SAMPLE_RATE // 50


def call() -> Samples:
    """Returns both sides: one says the first part, the other the second, a second later; each is faint on the other."""
    samples, _ = soundfile.read(JFK, dtype="float32")
    at = int(CUT_S * SAMPLE_RATE)
    first, second = samples[:at], samples[at:]
    sides = np.zeros((len(samples) + 3 * SAMPLE_RATE, 2), np.float32)
    sides[: len(first), 0] = first
    begin = len(first) + SAMPLE_RATE
    sides[begin : begin + len(second), 1] = second
    delayed = np.concatenate([np.zeros((DELAY, 2), np.float32), sides[:-DELAY, ::-1]])
    line = np.random.default_rng(0).standard_normal(sides.shape).astype(np.float32) * 3e-4
    return sides + CROSSTALK * delayed + line


def pcm(sides: Samples) -> bytes:
    return np.rint(np.clip(sides, -1, 1) * 32_767).astype("<i2").tobytes()


def check(finals: list[dict[str, Any]]) -> None:
    """Checks that each side said its words and no other's."""
    for channel, words in enumerate((FIRST, SECOND)):
        heard = " ".join(final["text"] for final in finals if final["channel"] == channel)
        assert edits(normalise(words), normalise(heard)) <= 2, heard


def test_a_live_call_has_each_final_on_its_side(gateway: Gateway) -> None:
    heard = say(gateway, cut(pcm(call())), channels=2, split=True, endpointingMs=1500)
    check(heard.of("final"))
    ends = [final["end"] for final in heard.of("final")]
    assert ends == sorted(ends)
    assert heard.of("done")[0]["segments"] == len(ends)


def test_a_call_of_telephones_and_of_browsers_is_heard_too(gateway: Gateway) -> None:
    narrow = io.BytesIO()
    soundfile.write(narrow, call()[::2], SAMPLE_RATE // 2, format="RAW", subtype="ULAW")
    start: dict[str, Any] = {
        "encoding": "mulaw",
        "sampleRate": 8000,
        "channels": 2,
        "split": True,
        "endpointingMs": 1500,
    }
    finals = say(gateway, cut(narrow.getvalue()), **start).of("final")
    for channel, words in enumerate((FIRST, SECOND)):
        heard = " ".join(final["text"] for final in finals if final["channel"] == channel)
        assert edits(normalise(words), normalise(heard)) <= 3, heard


def test_a_file_is_a_dialogue_in_every_format(gateway: Gateway, tmp_path: Path) -> None:
    file = tmp_path / "call.wav"
    soundfile.write(file, call(), SAMPLE_RATE)
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0, timeout=60) as client:
        create = client.audio.transcriptions.create
        diarized = create(model="whisper-1", file=file, response_format="diarized_json")
        finals = [{"channel": "AB".index(one.speaker), "text": one.text} for one in diarized.segments]
        check(finals)
        starts = [one.start for one in diarized.segments]
        assert starts == sorted(starts)
        text = create(model="whisper-1", file=file, response_format="text", extra_body={"channels": "split"})
        assert [line[:3] for line in text.strip().splitlines()][-1] == "B: "
        vtt = create(model="whisper-1", file=file, response_format="vtt", extra_body={"channels": "split"})
        assert "\nA: " in vtt
        events = create(model="whisper-1", file=file, response_format="diarized_json", stream=True)
        spoken = [event for event in events if event.type == "transcript.text.segment"]
        assert [one.speaker for one in spoken] == [one.speaker for one in diarized.segments]
        with pytest.raises(openai.BadRequestError, match=r"channels=split: jfk.flac has 1 channel\(s\); 2 are heard"):
            create(model="whisper-1", file=JFK, response_format="diarized_json")
        with pytest.raises(openai.BadRequestError, match="diarized_json tells who spoke by the channels: want split"):
            create(model="whisper-1", file=file, response_format="diarized_json", extra_body={"channels": "mixed"})
