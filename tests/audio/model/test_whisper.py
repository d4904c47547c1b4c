"""The real models transcribe speech, and return nothing for anything else."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audio.messages import Final, Partial, SpeechStarted
from audio.model.desk import NARROWEST_S
from audio.model.guess import Guess
from audio.model.transcriber import SAMPLE_RATE, Samples, Transcription, TranscriptionTask, key_of
from audio.model.vad import Ear, Silero
from audio.model.weights import ModelFiles, whisper_models
from audio.model.whisper import FULL, QUICK_WINDOW, WINDOW, Whisper, window
from audio.options import SessionOptions
from audio.session import Session
from audio.upload import file_options
from gateway.errors import ConfigurationError
from loadtests.bench.audio.direct import listen
from tests.audio.speaker import JFK

SAID = "and so my fellow americans ask not what your country can do for you ask what you can do for your country"


@pytest.fixture(scope="module")
def whisper() -> Iterator[Whisper]:
    model = Whisper(whisper_models("")[0], batch=4)
    asyncio.run(model.open())
    yield model
    asyncio.run(model.close())


@pytest.fixture(scope="module")
def silero() -> Silero:
    return Silero()


@pytest.fixture(scope="module")
def speech() -> Samples:
    samples, rate = soundfile.read(JFK, dtype="float32")
    assert rate == SAMPLE_RATE
    return samples


def answers(whisper: Whisper, *tasks: TranscriptionTask) -> list[Transcription]:
    async def run() -> list[Transcription]:
        return await whisper.transcribe(tasks)

    return asyncio.run(run())


def keys(text: str) -> str:
    return " ".join(key_of(word) for word in text.split())


def test_speech_is_put_into_words(whisper: Whisper, speech: Samples) -> None:
    [answer] = answers(whisper, TranscriptionTask(audio=speech, words=True))
    assert keys(answer.text) == SAID
    assert answer.language == "en"
    assert 0.5 < answer.confidence <= 1
    assert " ".join(word.text for word in answer.words) == answer.text
    starts = [word.start for word in answer.words]
    assert starts == sorted(starts)
    assert answer.words[-1].end <= len(speech) / SAMPLE_RATE + 0.1
    assert all(0 <= word.probability <= 1 for word in answer.words)


def test_silence_behind_speech_costs_no_spectrum_and_changes_none(whisper: Whisper, speech: Samples) -> None:
    extractor = whisper._whisper.feature_extractor  # pyright: ignore[reportPrivateUsage]
    for samples in (0, 1, 159, 160, 8_000, 31_999, 9 * SAMPLE_RATE, 10 * SAMPLE_RATE):
        audio = speech[:samples]
        padded = np.pad(audio, (0, WINDOW * 160 - samples))
        whole = extractor(padded, padding=0)[:, :WINDOW]
        assert np.allclose(whisper._spectrogram(audio, WINDOW), whole, atol=1e-6)  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize(("name", "word", "times"), [("one-12", "one", 12), ("hello-8", "hello", 8)])
def test_a_word_that_is_said_again_and_again_is_kept(
    whisper: Whisper, silero: Silero, name: str, word: str, times: int
) -> None:
    """The speech is that of espeak-ng 1.52. The model counts wrong by one or two; there were half of them once."""
    samples, _ = soundfile.read(JFK.with_name(f"{name}.ogg"), dtype="float32")
    heard = asyncio.run(listen(whisper, silero, samples, file_options(words=True)))
    words = [said for _, final in heard.finals for said in final.words or []]
    assert {key_of(said.text).replace("1", "one") for said in words} == {word}
    assert abs(len(words) - times) <= 2, heard.text
    assert all(said.end > said.start for said in words)


def test_a_phrase_that_is_said_twice_is_kept(whisper: Whisper, speech: Samples) -> None:
    phrase = speech[8 * SAMPLE_RATE :]
    twice = np.concatenate([phrase, np.zeros(SAMPLE_RATE // 5, np.float32), phrase])
    [answer] = answers(whisper, TranscriptionTask(audio=twice, is_final=True, words=True))
    assert keys(answer.text) == " ".join(["ask what you can do for your country"] * 2)


def test_the_same_audio_is_always_the_same_text(whisper: Whisper, speech: Samples) -> None:
    pieces = [speech[at : at + 2 * SAMPLE_RATE] for at in range(0, len(speech), 3 * SAMPLE_RATE)]
    first, second = ([answers(whisper, TranscriptionTask(audio=piece))[0].text for piece in pieces] for _ in range(2))
    assert first == second


def test_tasks_of_one_call_do_not_touch_each_other(whisper: Whisper, speech: Samples) -> None:
    """One client's prompt, or its noise, changes nothing for the others, whatever shares a call with whom."""
    noise = np.random.default_rng(1).standard_normal(3 * SAMPLE_RATE, np.float32)
    tasks = [
        TranscriptionTask(audio=speech),
        TranscriptionTask(audio=speech[: 5 * SAMPLE_RATE], prompt="A speech about Kubernetes and Postgres."),
        TranscriptionTask(audio=noise),
        TranscriptionTask(audio=speech[6 * SAMPLE_RATE :]),
    ]
    together = answers(whisper, *tasks)
    assert keys(together[0].text) == SAID
    assert "fellow americans" in keys(together[1].text)
    assert "ask what you can do" in keys(together[3].text)
    assert together[2].text == ""


def test_partials_of_a_batch_are_answered_too(whisper: Whisper, speech: Samples) -> None:
    tasks = [TranscriptionTask(audio=speech[: seconds * SAMPLE_RATE], is_final=False) for seconds in (2, 8, 11)]
    for answer in answers(whisper, *tasks):
        assert keys(answer.text).startswith("and so")


def test_noise_is_no_words_even_without_a_voice_detector(whisper: Whisper) -> None:
    seconds = np.arange(5 * SAMPLE_RATE) / SAMPLE_RATE
    hum = (0.3 * np.sin(2 * np.pi * 50 * seconds)).astype(np.float32)
    for sound in (np.zeros(5 * SAMPLE_RATE, np.float32), hum):
        [answer] = answers(whisper, TranscriptionTask(audio=sound))
        assert answer.text == ""


def sounds() -> dict[str, Samples]:
    """Returns a minute of each of several sounds that are not speech."""
    rng = np.random.default_rng(7)
    at = np.arange(60 * SAMPLE_RATE) / SAMPLE_RATE
    clicks = np.zeros(len(at), np.float32)
    clicks[rng.integers(0, len(at), 300)] = 0.9
    notes = [220.0 * 2 ** (step / 12) for step in rng.integers(0, 24, 240)]
    tune = np.concatenate([np.sin(2 * np.pi * note * at[: SAMPLE_RATE // 4]) for note in notes]) * 0.3
    return {
        "silence": np.zeros(len(at), np.float32),
        "noise": (rng.standard_normal(len(at)) * 0.1).astype(np.float32),
        "hum": (0.3 * np.sin(2 * np.pi * 50 * at)).astype(np.float32),
        "clicks": clicks,
        "tune": tune.astype(np.float32),
    }


@pytest.mark.parametrize("name", ["silence", "noise", "hum", "clicks", "tune"])
def test_a_minute_of_anything_but_speech_is_no_words(whisper: Whisper, silero: Silero, name: str) -> None:
    ear, session = Ear(silero), Session(SessionOptions())
    sound = sounds()[name]
    for at in range(0, len(sound), 1600):
        session.feed(*ear.feed(sound[at : at + 1600]))
        while session.urgency(0.5) is not None:
            task = session.take_task()
            session.complete(task, answers(whisper, task)[0])
    output = session.take_output()
    assert not [message for message in output if isinstance(message, Final) and message.text]
    assert len([message for message in output if isinstance(message, SpeechStarted)]) <= 2


@pytest.mark.parametrize(("start_s", "end_s"), [(3.3, 4.4), (1.5, 2.3), (7.9, 8.7), (9.6, 10.4)])
def test_a_second_of_speech_is_shown_before_it_is_final(
    whisper: Whisper, silero: Silero, speech: Samples, start_s: float, end_s: float
) -> None:
    session, ear = Session(SessionOptions()), Ear(silero)
    said = speech[int(start_s * SAMPLE_RATE) : int(end_s * SAMPLE_RATE)]
    audio = np.concatenate([np.zeros(SAMPLE_RATE // 2, np.float32), said, np.zeros(SAMPLE_RATE, np.float32)])
    output: list[object] = []
    onset_s = 0.0
    for at in range(0, len(audio), 1600):
        session.feed(*ear.feed(audio[at : at + 1600]))
        while session.urgency(NARROWEST_S) is not None:  # the machine is idle
            task = session.take_task()
            session.complete(task, *answers(whisper, task))
        output += session.take_output()
        if not onset_s and any(isinstance(message, SpeechStarted) for message in output):
            onset_s = session.position / SAMPLE_RATE  # it is certain now, and looked back for
        if any(isinstance(message, Partial) for message in output):
            assert session.position / SAMPLE_RATE - onset_s < 0.9  # a soft beginning is speech before it is words
            assert not any(isinstance(message, Final) for message in output)
            return
    raise AssertionError("no partial at all")


def test_single_frames_give_the_same_as_the_whole_file(silero: Silero, speech: Samples) -> None:
    whole, pieces = Ear(silero), Ear(silero)
    _, expected = whole.feed(speech)
    answer: list[float] = []
    for at in range(0, len(speech), 777):
        answer += pieces.feed(speech[at : at + 777])[1]
    assert answer == expected
    assert max(expected) > 0.9


@pytest.mark.parametrize(
    ("seconds", "quick_frames", "frames"),
    [
        (0.1, QUICK_WINDOW, WINDOW),
        (6.0, QUICK_WINDOW, WINDOW),
        (6.01, WINDOW, WINDOW),
        (9.0, WINDOW, WINDOW),
        (9.01, 1500, 2000),
        (19.0, 2000, 2000),
        (19.5, 2500, FULL),
        (28.9, FULL, FULL),
        (30, FULL, FULL),
    ],
)
def test_a_window_has_a_second_of_silence_behind_the_speech(seconds: float, quick_frames: int, frames: int) -> None:
    audio = np.zeros(int(seconds * SAMPLE_RATE), np.float32)
    assert window(TranscriptionTask(audio=audio, is_final=False)) == quick_frames
    assert window(TranscriptionTask(audio=audio)) == frames


def guess(text: str, log_probability: float = -0.3, no_speech: float = 0.0) -> Guess:
    return Guess(text, [], log_probability, no_speech)


def test_only_plausible_guesses_are_believed() -> None:
    assert guess("ask what you can do").is_credible(2)
    assert not guess("").is_credible(2)
    assert not guess("ask", -1.2).is_credible(2)
    assert not guess("so so " * 40).is_credible(30)
    assert not guess("a long sentence in a very short time, far too fast to be said by anyone").is_credible(0.5)
    assert guess("ask not", -1.2).is_presentable(1)
    assert not guess("ask not", -1.2).is_presentable(5)
    assert not guess("ask not", -1.6).is_presentable(1)
    assert not guess("ask not", -1.2, 0.7).is_presentable(1), "it may be noise"
    assert not guess("", -0.1).is_presentable(1)
    assert not guess("so so " * 40, -1.2).is_presentable(1)
    assert guess("and so my fellow americans and so my fellow americans").repeats
    assert not guess("ask not what you can do ask what you can").repeats
    assert not guess("no no no no").repeats


def test_a_confident_guess_of_words_is_speech() -> None:
    assert guess("you").is_speech
    assert not guess("you", -1.1, 0.7).is_speech
    assert not guess("you", -0.1, 0.97).is_speech
    assert not guess("... - ...").is_speech


def test_a_model_that_cannot_be_loaded_is_a_setting_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"nonsense")
    with pytest.raises(ConfigurationError, match=r"cannot be loaded.*TRILANE_WHISPER_MODEL"):
        asyncio.run(Whisper(ModelFiles("nonsense", tmp_path)).open())


def test_a_language_that_the_model_does_not_know_is_not_supported(whisper: Whisper) -> None:
    assert whisper.supports("en")
    assert not whisper.supports("de")
