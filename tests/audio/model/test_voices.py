"""Each voice speaks: the embedded one with the same bits everywhere, a server's, and a program's."""

import asyncio
import contextlib
import functools
import json
import os
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from audio.model.booth import Booth
from audio.model.espeak_voice import EspeakVoice
from audio.model.fake_voice import FakeVoice, samples_of
from audio.model.hibari_voice import HibariVoice
from audio.model.remote_voice import RemoteVoice
from audio.model.voice import VOICE_RATE, SpeechTask, Voice, fingerprint
from audio.model.voices import voice_of
from gateway.errors import ConfigurationError, TrilaneError
from gateway.settings import Settings
from gateway.speech_settings import SpeechSettings

SENTENCE = "The meeting begins at half past nine."
ELSEWHERE = """
import asyncio, sys
from audio.model.hibari_voice import HibariVoice
from audio.model.voice import fingerprint

async def main():
    voice = HibariVoice()
    await voice.open()
    print(await fingerprint(voice))

asyncio.run(main())
"""


def in_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Runs a test in a loop of its own: threads and processes know no virtual time."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


@contextlib.asynccontextmanager
async def opened(voice: Voice) -> AsyncGenerator[Voice]:
    await voice.open()
    try:
        yield voice
    finally:
        await voice.close()


# The embedded voice


@in_a_loop
async def test_the_embedded_voice_has_the_same_bits_in_every_process_whatever_it_said_before() -> None:
    async with opened(HibariVoice()) as voice:
        alone = await voice.speak(SpeechTask(text=SENTENCE))
        await voice.speak(SpeechTask(text="Something else, with another seed.", seed=7))
        again = await voice.speak(SpeechTask(text=SENTENCE))
        assert np.array_equal(alone, again)
        assert not np.array_equal(alone, await voice.speak(SpeechTask(text=SENTENCE, seed=1)))
        ours = await fingerprint(voice)
    command = [sys.executable, "-c", ELSEWHERE]
    theirs = await asyncio.to_thread(subprocess.check_output, command, text=True, timeout=60)
    assert theirs.strip() == ours


@in_a_loop
async def test_the_embedded_voice_speaks_faster_and_slower() -> None:
    async with opened(HibariVoice()) as voice:
        lengths = [len(await voice.speak(SpeechTask(text=SENTENCE, speed=speed))) for speed in (0.5, 1.0, 2.0)]
    assert 1.5 < lengths[0] / lengths[1] < 2.5
    assert 1.5 < lengths[1] / lengths[2] < 2.5
    assert 1.0 < lengths[1] / VOICE_RATE < 4.0


@pytest.mark.parametrize(
    ("text", "can_say"),
    [
        (SENTENCE, True),
        ("Café, naïve, 1,000 and 50 %.", True),
        ("42", True),
        ("The word 猫 means cat, as everyone knows.", True),
        ("会议在九点半开始。", False),
        ("Совещание начинается.", False),
        ("…!?", False),
        ("", False),
        ("🙂", False),
    ],
)
def test_the_embedded_voice_knows_what_it_can_say(text: str, can_say: bool) -> None:
    assert HibariVoice().can_say(text) is can_say


@in_a_loop
async def test_what_comes_to_no_sound_is_an_error() -> None:
    async with opened(HibariVoice()) as voice:
        with pytest.raises(TrilaneError) as error:
            await voice.speak(SpeechTask(text="会议"))
    assert error.value.code == "voice_failed"


# A server's voice


class SpeechServer(BaseHTTPRequestHandler):
    """Answers with a second of a ramp, or as `script` says."""

    requests: ClassVar[list[tuple[str, str, dict[str, Any]]]] = []
    script: ClassVar[list[tuple[int, bytes]]] = []
    RAMP = np.arange(VOICE_RATE, dtype="<i2").tobytes()

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.requests.append((self.path, self.headers["authorization"], body))
        status, answer = self.script.pop(0) if self.script else (200, self.RAMP)
        self.send_response(status)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def speech_server() -> Iterator[str]:
    SpeechServer.requests.clear()
    SpeechServer.script.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), SpeechServer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1/"
        server.shutdown()
        thread.join()


@in_a_loop
async def test_a_server_is_asked_for_pcm_with_the_voice_and_how_it_is_to_be_said(speech_server: str) -> None:
    async with opened(RemoteVoice(speech_server, "sk-1", "tts", [], "alloy")) as voice:
        samples = await voice.speak(SpeechTask(text="Hi.", voice="nova", speed=1.5, instructions="Whisper."))
        await voice.speak(SpeechTask(text="Ho."))
    assert np.array_equal(samples, np.arange(VOICE_RATE, dtype=np.float32) / 32768)
    path, key, body = SpeechServer.requests[0]
    assert (path, key) == ("/v1/audio/speech", "Bearer sk-1")
    assert body == {
        "model": "tts",
        "voice": "nova",
        "input": "Hi.",
        "response_format": "pcm",
        "speed": 1.5,
        "instructions": "Whisper.",
    }
    assert SpeechServer.requests[1][2]["voice"] == "alloy"
    assert "instructions" not in SpeechServer.requests[1][2]


@pytest.mark.parametrize(
    ("status", "answer", "told"),
    [(401, b"bad key sk-1", 502), (429, b"later", 503), (500, b"", 502), (200, b"", 502), (200, b"x", 502)],
)
@in_a_loop
async def test_a_server_that_refuses_is_told_without_its_words(
    speech_server: str, status: int, answer: bytes, told: int
) -> None:
    SpeechServer.script.append((status, answer))
    async with opened(RemoteVoice(speech_server, "sk-1", "tts", ["alloy"])) as voice:
        with pytest.raises(TrilaneError) as error:
            await voice.speak(SpeechTask(text="Hi."))
    assert (error.value.code, error.value.status) == ("voice_failed", told)
    assert "sk-1" not in error.value.detail


@in_a_loop
async def test_a_server_that_is_not_there_is_told() -> None:
    async with opened(RemoteVoice("http://127.0.0.1:9/v1", "", "tts", ["alloy"])) as voice:
        with pytest.raises(TrilaneError, match="cannot be reached"):
            await voice.speak(SpeechTask(text="Hi."))


def test_a_server_whose_voices_are_not_named_gets_any_name_and_the_named_ones_only_theirs() -> None:
    assert Booth(RemoteVoice("http://a/v1", "", "tts")).name_of("nova") == "nova"
    assert Booth(RemoteVoice("http://a/v1", "", "tts", ["anna", "bert"])).name_of("nova") == "anna"
    assert Booth(RemoteVoice("http://a/v1", "", "tts", ["anna", "nova"])).name_of("nova") == "nova"


# A program's voice

PROGRAM = """#!/bin/sh
echo "$@" > {folder}/arguments
cat > {folder}/text
{end}
exec {python} -c '
import sys, struct, math
pcm = b"".join(struct.pack("<h", int(9000 * math.sin(i / 20))) for i in range(22050))
head = b"RIFF" + b"\\xff" * 4 + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 22050, 44100, 2, 16)
sys.stdout.buffer.write(head + b"data" + b"\\xff" * 4 + pcm)'
"""


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, end: str = "") -> None:
    program = folder / "espeak-ng"
    program.write_text(PROGRAM.format(folder=folder, python=sys.executable, end=end))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


@in_a_loop
async def test_a_program_gets_its_text_as_input_and_speaks_at_our_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch)
    async with opened(EspeakVoice(["de", ""])) as voice:
        samples = await voice.speak(SpeechTask(text="--help $(x) Grüß Gott", speed=2.0))
    assert abs(len(samples) - VOICE_RATE) < 100
    assert 0.2 < np.abs(samples).max() < 0.4
    assert (tmp_path / "text").read_text() == "--help $(x) Grüß Gott"
    assert (tmp_path / "arguments").read_text().split() == ["--stdin", "--stdout", "-b", "1", "-v", "de", "-s", "330"]
    assert voice.names == ["espeak-ng:de", "espeak-ng:en-us"]


@in_a_loop
async def test_a_program_that_fails_or_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, end="exit 3")
    async with opened(EspeakVoice()) as voice:
        with pytest.raises(TrilaneError, match="ends with 3"):
            await voice.speak(SpeechTask(text="Hi."))
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(ConfigurationError, match="no such program"):
        await EspeakVoice().open()


# Which it is


@pytest.mark.parametrize(
    ("settings", "kind", "names"),
    [
        (SpeechSettings(), HibariVoice, ["heart"]),
        (SpeechSettings(voice=" heart "), HibariVoice, ["heart"]),
        (SpeechSettings(voice="espeak-ng"), EspeakVoice, ["espeak-ng:en-us"]),
        (SpeechSettings(voice="espeak-ng:de,espeak-ng:fr"), EspeakVoice, ["espeak-ng:de", "espeak-ng:fr"]),
        (SpeechSettings(voice="anna,bert", voice_url="http://tts/v1"), RemoteVoice, ["anna", "bert"]),
        (SpeechSettings(voice_url="http://tts/v1"), RemoteVoice, []),
    ],
)
def test_the_settings_choose_the_voice(settings: SpeechSettings, kind: type, names: list[str]) -> None:
    voice = voice_of(Settings(speech=settings))
    assert (type(voice), list(voice.names)) == (kind, names)


@pytest.mark.parametrize(
    "settings",
    [
        SpeechSettings(voice="emma"),
        SpeechSettings(voice="heart,emma"),
        SpeechSettings(voice="heart,espeak-ng"),
        SpeechSettings(voice_key="sk-1"),
        SpeechSettings(voice_model="tts-1"),
    ],
)
def test_a_voice_that_is_none_is_refused_at_the_start(settings: SpeechSettings) -> None:
    with pytest.raises(ConfigurationError, match="TRILANE_VOICE"):
        voice_of(Settings(speech=settings))


@in_a_loop
async def test_the_fake_voice_lasts_as_long_as_its_text_has_letters() -> None:
    async with opened(FakeVoice(unspeakable="猫")) as voice:
        samples = await voice.speak(SpeechTask(text="abc", speed=2.0))
        assert len(samples) == samples_of("abc", 2.0) == 3 * round(0.03 * VOICE_RATE)
        assert not np.array_equal(samples[:720], samples[720:1440])
        assert voice.can_say("cat")
        assert not voice.can_say("猫 is cat")
