"""A voice is loaded when somebody speaks first, and says one clause of each speaker at a time."""

import asyncio

import numpy as np
import pytest

from audio.model.booth import Booth
from audio.model.fake_voice import FakeVoice, samples_of
from audio.model.voice import PROBE, VOICE_RATE, SpeechTask, without_silence
from gateway.errors import BadRequest, ConfigurationError, Overloaded, TrilaneError
from tests.support.virtual_time import simulated


def task(text: str) -> SpeechTask:
    return SpeechTask(text=text)


async def turns() -> None:
    """Lets whatever can go on do so."""
    for _ in range(20):
        await asyncio.sleep(0)


@simulated
async def test_a_voice_is_loaded_once_when_somebody_speaks_first() -> None:
    voice = FakeVoice(workers=2)
    booth = Booth(voice)
    assert not voice.is_open
    one, other = await asyncio.gather(booth.speak(task("one")), booth.speak(task("other")))
    assert voice.is_open
    assert (len(one), len(other)) == (samples_of("one"), samples_of("other"))
    await booth.close()
    assert not voice.is_open


@simulated
async def test_no_more_is_said_at_once_than_there_are_workers_and_the_first_to_come_is_served_first() -> None:
    voice = FakeVoice(workers=2, holds=True)
    booth = Booth(voice)
    spoken = [asyncio.ensure_future(booth.speak(task(str(number)))) for number in range(5)]
    await turns()
    assert [one.text for one in voice.tasks] == ["0", "1"]
    assert booth.waiting == 3
    voice.release()
    await asyncio.gather(*spoken)
    assert [one.text for one in voice.tasks] == ["0", "1", "2", "3", "4"]
    assert booth.waiting == 0


@simulated
async def test_what_somebody_listens_to_goes_before_a_file() -> None:
    voice = FakeVoice(holds=True)
    booth = Booth(voice)
    spoken = [asyncio.ensure_future(booth.speak(task(name))) for name in ("first", "file", "file 2")]
    spoken.append(asyncio.ensure_future(booth.speak(task("call"), is_heard=True)))
    await turns()
    voice.release()
    await asyncio.gather(*spoken)
    assert [one.text for one in voice.tasks] == ["first", "call", "file", "file 2"]


@simulated
async def test_a_speaker_who_leaves_is_left_out_and_keeps_no_worker() -> None:
    voice = FakeVoice(holds=True)
    booth = Booth(voice)
    speaking, waiting, last = (asyncio.ensure_future(booth.speak(task(name))) for name in ("a", "b", "c"))
    await turns()
    waiting.cancel()
    speaking.cancel()
    await turns()
    voice.release()
    assert len(await last) == samples_of("c")
    assert [one.text for one in voice.tasks] == ["a", "c"]
    assert len(await booth.speak(task("d"))) == samples_of("d")


@simulated
async def test_a_turn_that_is_given_to_one_who_leaves_at_once_goes_to_the_next() -> None:
    voice = FakeVoice()
    booth = Booth(voice)
    await booth.open()
    voice.holds = True
    speaking, waiting, last = (asyncio.ensure_future(booth.speak(task(name))) for name in ("a", "b", "c"))
    await turns()
    speaking.cancel()
    await asyncio.sleep(0)  # the turn of b is given now, and b has not run since
    waiting.cancel()
    voice.release()
    assert len(await asyncio.wait_for(last, 5)) == samples_of("c")


@pytest.mark.parametrize(
    ("text", "pause_s"), [("An end.", 0.4), ('"An end?"', 0.4), ("a comma,", 0.18), ("none", 0.18)]
)
def test_silence_around_a_clause_is_cut_to_a_readers_pause(text: str, pause_s: float) -> None:
    silence, sound = np.full(VOICE_RATE, 0.005, np.float32), np.full(VOICE_RATE, 0.1, np.float32)
    sound[100:1000] = 0  # a silence within is of the sound
    for speed in (1.0, 2.0):
        said = without_silence(np.concatenate([silence, sound, silence]), SpeechTask(text=text, speed=speed))
        assert len(said) == round(0.06 * VOICE_RATE) + VOICE_RATE + round(pause_s / speed * VOICE_RATE)
        assert said[round(0.06 * VOICE_RATE)] == np.float32(0.1)
    for short in (sound, silence):
        assert np.array_equal(without_silence(short, SpeechTask(text=text)), short)


@simulated
async def test_a_voice_that_fails_once_speaks_to_the_next() -> None:
    voice = FakeVoice()
    voice.failing = 1
    booth = Booth(voice)
    with pytest.raises(TrilaneError, match="the fake voice failed"):
        await booth.speak(task("one"))
    assert len(await booth.speak(task("two"))) == samples_of("two")


@simulated
async def test_a_voice_that_cannot_be_loaded_is_told_without_the_operators_words() -> None:
    class Missing(FakeVoice):
        async def open(self) -> None:
            raise ConfigurationError("there is no /secret/place")

    with pytest.raises(TrilaneError) as error:
        await Booth(Missing()).speak(task("one"))
    assert (error.value.code, "secret" in error.value.detail) == ("voice_failed", False)


def test_a_process_has_room_for_so_many_speakers() -> None:
    booth = Booth(FakeVoice(), max_speakers=1)
    with booth.admitted(), pytest.raises(Overloaded, match="1 speak already") as error, booth.admitted():
        pass
    assert error.value.code == "voice_full"
    with booth.admitted():
        assert booth.speakers == 1
    assert booth.speakers == 0


@pytest.mark.parametrize("asked", ["", "alloy", "marin", "tone"])
def test_openais_names_stand_for_the_first_voice(asked: str) -> None:
    assert Booth(FakeVoice()).name_of(asked) == "tone"


@pytest.mark.parametrize("asked", ["emma", "Tone", "alloy "])
def test_a_voice_that_is_not_here_is_refused_by_name(asked: str) -> None:
    with pytest.raises(BadRequest, match="there are tone, other") as error:
        Booth(FakeVoice()).name_of(asked)
    assert (error.value.code, error.value.extra) == ("voice_unknown", {"param": "voice"})


@simulated
async def test_a_fingerprint_is_made_once_and_tells_voices_apart() -> None:
    class Other(FakeVoice):
        model = "other"

    voice = FakeVoice()
    booth = Booth(voice)
    first = await booth.fingerprint()
    assert len(first) == 16
    assert await booth.fingerprint() == first == await Booth(FakeVoice()).fingerprint()
    assert [one.text for one in voice.tasks] == [PROBE]
    assert await Booth(Other()).fingerprint() != first


@simulated
async def test_a_voice_that_never_repeats_itself_has_no_fingerprint() -> None:
    voice = FakeVoice()
    voice.is_repeatable = False
    assert await Booth(voice).fingerprint() == ""
    assert voice.tasks == []
