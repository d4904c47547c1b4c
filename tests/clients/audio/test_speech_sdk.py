"""OpenAI's Python SDK, unmodified, has texts spoken by a real server with the embedded voice, which are then heard."""

import base64
import io
import json
import wave

import openai
import pytest

from loadtests.bench.audio.words import edits, normalise
from tests.conftest import Gateway, eventually

TEXT = (
    "Thank you for calling, this is the help desk. Your order was sent on Monday, and it should arrive within three "
    "days. If it does **not**, please call us again, or read [the page](https://help.example.com/a?b=c) about late "
    "parcels."
)
SPOKEN = TEXT.replace("**", "").replace("[the page](https://help.example.com/a?b=c)", "the page")
LONG = "The quick brown fox jumps over the lazy dog. " * 90
MODEL = "tts-1"
MAX_WRONG = 0.06
"""Share of words that may be heard wrong: 2 of 41."""


def wav_of(pcm: bytes) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(24_000)
        out.writeframes(pcm)
    return file.getvalue()


@pytest.mark.parametrize("format_", ["mp3", "opus", "aac", "flac", "wav", "pcm"])
def test_a_text_is_spoken_in_every_format_and_heard_again(client: openai.OpenAI, format_: str) -> None:
    sound = client.audio.speech.create(model=MODEL, voice="alloy", input=TEXT, response_format=format_)  # type: ignore[arg-type]
    content = wav_of(sound.content) if format_ == "pcm" else sound.content
    name = "a.wav" if format_ == "pcm" else f"a.{format_}"
    heard = client.audio.transcriptions.create(model="whisper-1", file=(name, content))
    expected, words = normalise(SPOKEN), normalise(heard.text)
    assert edits(expected, words) <= MAX_WRONG * len(expected), heard.text


def test_the_sound_comes_while_it_is_made(client: openai.OpenAI) -> None:
    with client.audio.speech.with_streaming_response.create(
        model="gpt-4o-mini-tts", voice="marin", input=LONG, response_format="pcm", instructions="Speak calmly."
    ) as sound:
        assert sound.headers["content-type"] == "audio/pcm"
        pieces = [len(piece) for piece in sound.iter_bytes()]
    assert len(pieces) > 10
    assert sum(pieces) / 48_000 > 150


def test_events_carry_the_same_bytes_as_the_whole(client: openai.OpenAI) -> None:
    whole = client.audio.speech.create(model=MODEL, voice="alloy", input=TEXT, response_format="pcm").content
    with client.audio.speech.with_streaming_response.create(
        model=MODEL, voice="alloy", input=TEXT, response_format="pcm", stream_format="sse"
    ) as sound:
        lines = [line.removeprefix("data: ") for line in sound.iter_lines() if line.startswith("data: ")]
    *deltas, done = map(json.loads, lines)
    assert b"".join(base64.b64decode(event["audio"]) for event in deltas) == whole
    assert (done["type"], set(done["usage"])) == (
        "speech.audio.done",
        {"input_tokens", "output_tokens", "total_tokens"},
    )


def test_a_voice_that_would_have_to_be_fetched_is_refused_by_name(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as error:
        client.audio.speech.create(model=MODEL, voice="emma", input=TEXT)
    assert (error.value.code, error.value.param) == ("voice_unknown", "voice")
    assert "there is heart" in error.value.message


def test_a_language_that_the_voice_lacks_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as error:
        client.audio.speech.create(model=MODEL, voice="alloy", input="会议在九点半开始。")
    assert error.value.param == "input"
    assert "unspeakable" in error.value.message


def test_the_voice_is_among_the_models(client: openai.OpenAI) -> None:
    assert {model.id: model.owned_by for model in client.models.list()}["hibari"] == "voice"


def test_a_client_that_leaves_ends_the_speech_and_its_row_says_so(gateway: Gateway, client: openai.OpenAI) -> None:
    def row() -> dict[str, int]:
        report = client.get("/../api/usage?by=model", cast_to=dict[str, object])
        groups = {group["key"]: group for group in report["groups"]}  # type: ignore[index]
        return groups.get("hibari", {}).get("outcomes", {})

    before = row().get("abort", 0)
    with client.audio.speech.with_streaming_response.create(
        model=MODEL, voice="alloy", input=LONG, response_format="pcm"
    ) as sound:
        next(sound.iter_bytes())
    eventually(lambda: row().get("abort", 0) == before + 1, what="the row of a speech that was left")
    eventually(lambda: gateway.gauge("trilane_audio_open_speeches") == 0, what="no speech is open")
