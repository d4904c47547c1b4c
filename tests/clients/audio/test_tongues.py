"""Other languages, other models and other encodings, over real sockets and with the real models.

The foreign speech is that of espeak-ng 1.52, two sentences of ours in each language; the English is a recording.
"""

import asyncio
import contextlib
import io
import json
from pathlib import Path
from typing import Any

import openai
import pytest
import soundfile
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError

from audio.model.transcriber import SAMPLE_RATE
from audio.model.weights import BASE, TINY
from loadtests.bench.audio.words import edits, normalise
from tests.audio.decoders.test_opus_packets import packets_of
from tests.audio.speaker import SUBPROTOCOL, speech
from tests.conftest import Gateway

DATA = Path(__file__).parents[2] / "audio" / "data"
TONGUES = DATA / "tongues"
JFK = DATA / "jfk.flac"
SAID = "and so my fellow americans ask not what your country can do for you ask what you can do for your country"
FOREIGN = ("ar", "de", "es", "fr", "ru")
SAID_ABROAD = {
    "de": "Guten Morgen, ich möchte gerne einen Termin für nächste Woche vereinbaren. Der Zug nach Berlin fährt heute "
    "leider nicht von Gleis sieben ab.",
    "es": "Buenos días, quisiera reservar una mesa para cuatro personas esta noche. El tren de Madrid llega con veinte "
    "minutos de retraso por la lluvia.",
}
FRAME_BYTES = 32_000


def say(gateway: Gateway, pieces: list[bytes], *, last: tuple[str, ...] = ("stop",), **start: Any) -> "Heard":
    """Sends `start`, audio faster than real time, and the last messages; returns what the server said to that."""

    async def run() -> Heard:
        url = f"ws://127.0.0.1:{gateway.port}/api/audio"
        async with asyncio.timeout(90), connect(url, subprotocols=[SUBPROTOCOL], compression=None) as socket:
            await socket.send(json.dumps({"type": "start", **start}))
            for piece in pieces:
                await socket.send(piece)
            for kind in last:
                await socket.send(json.dumps({"type": kind}))
            messages: list[dict[str, Any]] = []
            with contextlib.suppress(ConnectionClosedError):  # 4500
                async for text in socket:
                    messages.append(json.loads(text))
            return Heard(messages)

    return asyncio.run(run())


class Heard:
    """The messages of one session."""

    def __init__(self, messages: list[dict[str, Any]]) -> None:
        self.messages = messages

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [message for message in self.messages if message["type"] == kind]

    @property
    def text(self) -> str:
        return " ".join(final["text"] for final in self.of("final"))

    @property
    def wrong(self) -> float:
        """Returns the share of the recording's words that are wrong."""
        return edits(normalise(SAID), normalise(self.text)) / len(SAID.split())


def cut(data: bytes) -> list[bytes]:
    return [data[at : at + FRAME_BYTES] for at in range(0, len(data), FRAME_BYTES)]


def abroad(language: str) -> list[bytes]:
    return cut((TONGUES / f"{language}.ogg").read_bytes())


# An English-only model


@pytest.mark.parametrize("language", FOREIGN)
def test_foreign_speech_is_not_told_as_confident_english(gateway: Gateway, language: str) -> None:
    heard = say(gateway, abroad(language), encoding="ogg_opus", sampleRate=48_000, interimResults=False)
    assert heard.of("ready")[0]["language"] == "en", "what it can hear is told before anybody speaks"
    assert any(final.get("unsure") for final in heard.of("final")), heard.text


def test_english_is_told_as_such(gateway: Gateway) -> None:
    heard = say(gateway, cut(speech()))
    assert heard.wrong <= 0.1
    assert not any("unsure" in final for final in heard.of("final"))


def test_a_file_says_so_in_a_warning(client: openai.OpenAI) -> None:
    answer = client.audio.transcriptions.with_raw_response.create(model="whisper-1", file=TONGUES / "ar.ogg")
    assert "probably not in the language that the model took them for (en)" in answer.headers["x-trilane-warning"]


@pytest.mark.parametrize("language", ["en-US", "EN", "english", "en_GB"])
def test_a_language_is_understood_as_a_tag_and_as_a_name(gateway: Gateway, language: str) -> None:
    [ready] = say(gateway, [], language=language).of("ready")
    assert (ready["language"], ready["model"]) == ("en", TINY)


def test_a_language_and_a_model_that_are_unknown_are_refused_with_those_there_are(gateway: Gateway) -> None:
    [error] = say(gateway, [], last=(), language="de-DE").of("error")
    assert (error["code"], error["retryable"]) == ("bad_language", False)
    assert (
        f"'de': the model {TINY} does not know it; it hears English only, or another model: {BASE}" in error["message"]
    )
    [error] = say(gateway, [], last=(), model="whisper-large").of("error")
    assert error["message"] == f"there is no speech model 'whisper-large' here; there are {TINY}, {BASE}"


# A model of many languages beside it


def test_both_models_are_listed_and_each_answers_by_its_name(gateway: Gateway, client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list() if model.owned_by == "speech"] == [TINY, BASE]
    for model in (TINY, BASE):
        assert edits(normalise(SAID), normalise(client.audio.transcriptions.create(model=model, file=JFK).text)) <= 1
    with pytest.raises(openai.BadRequestError, match="no speech model 'nova-3' here"):
        client.audio.transcriptions.create(model="nova-3", file=JFK)


@pytest.mark.parametrize("language", SAID_ABROAD)
def test_the_language_is_detected_and_told_and_a_final_is_in_it(gateway: Gateway, language: str) -> None:
    heard = say(gateway, abroad(language), encoding="ogg_opus", sampleRate=48_000, model=BASE)
    [ready] = heard.of("ready")
    assert "language" not in ready, "nobody has spoken yet"
    assert ready["model"] == BASE
    finals = heard.of("final")
    assert [final["language"] for final in finals] == [language] * len(finals)
    said = normalise(SAID_ABROAD[language])
    print(language, "wrong:", edits(said, normalise(heard.text)) / len(said), heard.text)
    assert edits(said, normalise(heard.text)) / len(said) < 0.5
    assert not any("unsure" in final for final in finals)


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # the SDK's, as OpenAI retires Whisper
def test_a_file_in_another_language_is_put_into_english(client: openai.OpenAI) -> None:
    answer = client.audio.translations.create(
        model="whisper-1", file=TONGUES / "es.ogg", response_format="verbose_json"
    )
    assert (answer.language, answer.task) == ("english", "translate")  # type: ignore[attr-defined]
    assert {"table", "four", "train", "madrid", "rain"} & set(normalise(answer.text))
    assert client.audio.translations.create(model=BASE, file=JFK, response_format="text")
    with pytest.raises(openai.BadRequestError, match=f"no translation by {TINY}, which hears English only"):
        client.audio.translations.create(model=TINY, file=JFK)


def test_a_realtime_session_changes_its_model_by_an_update(gateway: Gateway) -> None:
    async def run() -> dict[str, Any]:
        url = f"ws://127.0.0.1:{gateway.port}/v1/realtime?intent=transcription"
        change = {"audio": {"input": {"transcription": {"model": BASE, "language": "de-DE"}}}}
        async with asyncio.timeout(60), connect(url, subprotocols=["realtime"]) as socket:  # type: ignore[list-item]
            await socket.send(json.dumps({"type": "session.update", "session": {"type": "transcription", **change}}))
            async for text in socket:
                event = json.loads(text)
                if event["type"] in ("session.updated", "error"):
                    return event
        raise AssertionError("the connection ended")

    updated = asyncio.run(run())
    assert updated["type"] == "session.updated", updated
    assert updated["session"]["audio"]["input"]["transcription"]["model"] == BASE


# Encodings and endpointing


def test_packets_of_opus_and_a_law_are_heard_as_well_as_pcm(gateway: Gateway) -> None:
    samples, _ = soundfile.read(JFK, dtype="float32")
    assert say(gateway, packets_of(samples, SAMPLE_RATE), encoding="opus").wrong <= 0.1
    narrow = io.BytesIO()
    soundfile.write(narrow, samples[::2], SAMPLE_RATE // 2, format="RAW", subtype="ALAW")
    assert say(gateway, cut(narrow.getvalue()), encoding="alaw", sampleRate=8000).wrong <= 0.2


def test_without_endpointing_all_is_one_segment_until_the_client_flushes(gateway: Gateway) -> None:
    twice = speech(2)
    heard = say(gateway, cut(twice), endpointingMs=0, last=("flush", "stop"), interimResults=False)
    spoken_s = [(final["start"], final["end"]) for final in heard.of("final")]
    assert len(spoken_s) == 1, "24 s, with a second of silence in them"
    shorter = say(gateway, cut(twice), endpointingMs=0, maxSegmentMs=5000, last=("flush", "stop"), interimResults=False)
    assert all(final["end"] - final["start"] <= 5.1 for final in shorter.of("final"))
    assert len(shorter.of("final")) >= 4


def test_the_end_of_an_utterance_is_told_after_its_finals(gateway: Gateway) -> None:
    heard = say(gateway, cut(speech() + bytes(2 * SAMPLE_RATE)), utteranceEndMs=1500)
    kinds = [message["type"] for message in heard.messages]
    [end] = heard.of("utterance_end")
    assert end["at"] == pytest.approx(heard.of("speech_stopped")[-1]["at"], abs=0.1)
    assert kinds.index("utterance_end") > max(at for at, kind in enumerate(kinds) if kind == "final")
