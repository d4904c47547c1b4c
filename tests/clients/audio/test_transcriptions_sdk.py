"""OpenAI's Python SDK, unmodified, sends files of real speech to a real server with the real model."""

import io
import re
from pathlib import Path

import httpx2
import numpy as np
import openai
import pytest
import soundfile

from tests.conftest import Gateway

SPEECH = Path(__file__).parents[2] / "audio" / "data" / "jfk.flac"
SAID = "and so my fellow americans ask not what your country can do for you ask what you can do for your country"
MODEL = "whisper-1"


def words(text: str) -> str:
    return " ".join(re.findall(r"[a-z']+", text.lower()))


def test_a_file_is_transcribed_as_json(client: openai.OpenAI) -> None:
    answer = client.audio.transcriptions.create(model=MODEL, file=SPEECH)
    assert words(answer.text) == SAID
    assert answer.usage is not None
    assert (answer.usage.type, answer.usage.seconds) == ("duration", 11)


def test_verbose_json_has_words_and_segments(client: openai.OpenAI) -> None:
    answer = client.audio.transcriptions.create(
        model=MODEL,
        file=SPEECH,
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
        language="en",
        prompt="A speech.",
        temperature=0.2,
    )
    assert (answer.language, answer.duration) == ("english", 11.0)
    answer_words = answer.words or []
    assert words(" ".join(word.word for word in answer_words)) == words(answer.text) == SAID
    assert all(0 <= word.start <= word.end <= 11 for word in answer_words)
    assert [word.start for word in answer_words] == sorted(word.start for word in answer_words)
    segments = answer.segments or []
    assert words("".join(segment.text for segment in segments)) == SAID
    assert all(segment.avg_logprob < 0 for segment in segments)


def test_words_may_be_requested_without_segments(client: openai.OpenAI) -> None:
    answer = client.audio.transcriptions.create(
        model=MODEL, file=SPEECH, response_format="verbose_json", timestamp_granularities=["word"]
    )
    assert answer.words
    assert answer.segments is None


def test_a_file_is_transcribed_as_text(client: openai.OpenAI) -> None:
    answer = client.audio.transcriptions.create(model=MODEL, file=SPEECH, response_format="text")
    assert isinstance(answer, str)
    assert words(answer) == SAID


def test_a_file_is_transcribed_as_subrip(client: openai.OpenAI) -> None:
    answer = client.audio.transcriptions.create(model=MODEL, file=SPEECH, response_format="srt")
    blocks = answer.strip().split("\n\n")
    assert [block.splitlines()[0] for block in blocks] == [str(1 + at) for at in range(len(blocks))]
    assert all(re.fullmatch(r"00:00:\d\d,\d{3} --> 00:00:\d\d,\d{3}", block.splitlines()[1]) for block in blocks)
    assert words(" ".join(" ".join(block.splitlines()[2:]) for block in blocks)) == SAID


def test_a_file_is_transcribed_as_webvtt(client: openai.OpenAI) -> None:
    answer = client.audio.transcriptions.create(model=MODEL, file=SPEECH, response_format="vtt")
    head, *blocks = answer.strip().split("\n\n")
    assert head == "WEBVTT"
    assert words(" ".join(" ".join(block.splitlines()[1:]) for block in blocks)) == SAID


def test_a_transcription_is_streamed(client: openai.OpenAI) -> None:
    samples, rate = soundfile.read(SPEECH, dtype="float32")
    file = io.BytesIO()
    soundfile.write(file, np.concatenate([samples, np.zeros(3 * rate, np.float32), samples]), rate, format="FLAC")
    deltas: list[str] = []
    text = ""
    with client.audio.transcriptions.create(
        model=MODEL, file=("talk.flac", file.getvalue()), response_format="json", stream=True
    ) as stream:
        for event in stream:
            if event.type == "transcript.text.delta":
                deltas.append(event.delta)
            elif event.type == "transcript.text.done":
                text = event.text
    assert len(deltas) > 1
    assert "".join(deltas) == text
    assert words(text) == f"{SAID} {SAID}"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_file_that_is_no_audio_is_a_bad_request(stream: bool, client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match=r"talk\.mp3 is no audio that is known here") as error:
        client.audio.transcriptions.create(model=MODEL, file=("talk.mp3", b"hello " * 1000), stream=stream)
    assert error.value.code == "bad_audio"


def test_a_field_that_cannot_be_names_itself(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="language='tlh'") as error:
        client.audio.transcriptions.create(model=MODEL, file=SPEECH, language="tlh")
    assert (error.value.code, error.value.param) == ("invalid_value", "language")


def test_our_own_path_answers_the_same(gateway: Gateway) -> None:
    answer = httpx2.post(f"{gateway.url}/api/audio/transcriptions", files={"file": SPEECH.read_bytes()}, timeout=30)
    assert words(answer.json()["text"]) == SAID
    problem = httpx2.post(f"{gateway.url}/api/audio/transcriptions", data={"file": "x"})
    assert problem.headers["content-type"] == "application/problem+json"
