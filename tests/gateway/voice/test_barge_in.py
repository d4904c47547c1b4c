"""Speech pauses an answer; words, or speech that lasts, interrupt it; an echo and a murmur do neither for long."""

import pytest

from audio.model.transcriber import SAMPLE_RATE
from audio.model.vad import FRAME
from gateway.voice.barge_in import (
    CONFIRM_S,
    PAUSE_S,
    RESUME_S,
    BargeIn,
    BargeInMode,
    is_back_channel,
    is_echo,
    words_of,
)

FRAME_S = FRAME / SAMPLE_RATE
ANSWER = words_of("The cat sat on the mat, and looked at the moon.")


def frames(seconds: float, probability: float = 0.9) -> list[float]:
    return [probability] * (round(seconds / FRAME_S) + 1)


@pytest.mark.parametrize(
    ("heard", "expected"),
    [
        ("the cat sat on the mat", True),
        ("cat sat on a mat", True),
        ("looked at the moon", True),
        ("moon the at looked", False),
        ("2,000 cats, the cat sat on", True),
        ("no wait, what about the dog", False),
        ("", False),
    ],
)
def test_an_echo_has_the_answers_own_words_in_their_order(heard: str, expected: bool) -> None:
    assert is_echo(words_of(heard), ANSWER) is expected


@pytest.mark.parametrize("heard", ["Uh-huh.", "Mm-hmm", "yeah, right", "OK!", "Okay, okay."])
def test_a_murmur_is_no_interruption(heard: str) -> None:
    assert is_back_channel(words_of(heard))
    barge_in = BargeIn("words")
    barge_in.hear(heard, ANSWER)
    assert barge_in.judge(1.0, is_paused=True, is_decoding=True) is None


@pytest.mark.parametrize("heard", ["stop", "yeah but no", "Right, and then?"])
@pytest.mark.parametrize("mode", ["words", "speech"])
def test_words_interrupt(heard: str, mode: BargeInMode) -> None:
    barge_in = BargeIn(mode)
    barge_in.hear(heard, ANSWER)
    assert barge_in.judge(1.0, is_paused=False, is_decoding=True) == "interrupt"


def test_a_fifth_of_a_second_of_speech_pauses_and_silence_goes_on() -> None:
    barge_in = BargeIn("words")
    barge_in.listen(frames(PAUSE_S - 0.1), 1.0)
    assert barge_in.judge(1.0, is_paused=False, is_decoding=False) is None
    barge_in.listen(frames(0.1), 1.1)
    assert barge_in.judge(1.1, is_paused=False, is_decoding=False) == "pause"
    assert barge_in.resume_at == pytest.approx(1.1 + RESUME_S)
    assert barge_in.judge(1.1 + RESUME_S - 0.01, is_paused=True, is_decoding=False) is None
    assert barge_in.judge(1.1 + RESUME_S, is_paused=True, is_decoding=True) is None, "words may still come"
    assert barge_in.judge(1.1 + RESUME_S, is_paused=True, is_decoding=False) == "resume"


def test_short_noises_with_silence_between_do_not_add_up() -> None:
    barge_in = BargeIn("words")
    for at in range(20):
        barge_in.listen([*frames(0.1), *frames(0.3, 0.1)], float(at))
        assert barge_in.judge(float(at), is_paused=False, is_decoding=False) is None


@pytest.mark.parametrize("mode", ["words", "speech"])
def test_speech_that_lasts_interrupts_before_its_words_are_known(mode: BargeInMode) -> None:
    barge_in = BargeIn(mode)
    barge_in.listen(frames(CONFIRM_S), 1.0)
    assert barge_in.judge(1.0, is_paused=True, is_decoding=True) == "interrupt"


def test_an_echo_that_lasts_interrupts_only_where_speech_alone_does() -> None:
    verdicts: dict[BargeInMode, str | None] = {"words": None, "speech": "interrupt"}
    for mode, verdict in verdicts.items():
        barge_in = BargeIn(mode)
        barge_in.hear("the cat sat on", ANSWER)
        barge_in.listen(frames(CONFIRM_S), 1.0)
        assert barge_in.judge(1.0, is_paused=True, is_decoding=True) == verdict


def test_nothing_interrupts_where_that_is_off() -> None:
    barge_in = BargeIn("off")
    barge_in.listen(frames(3.0), 1.0)
    barge_in.hear("stop right now", ANSWER)
    assert barge_in.judge(1.0, is_paused=False, is_decoding=False) is None


def test_a_microphone_that_picks_the_answer_up_pauses_it_once() -> None:
    barge_in = BargeIn("words")
    barge_in.hear("the cat sat on", ANSWER)
    assert barge_in.has_echo
    for at in range(3):
        barge_in.listen([*frames(0.2, 0.1), *frames(2.0)], float(at))
        assert barge_in.judge(float(at), is_paused=False, is_decoding=True) is None
    barge_in.hear("the cat sat on the mat and wait a moment please stop that", ANSWER)
    assert barge_in.judge(9.0, is_paused=False, is_decoding=True) == "interrupt"


def test_only_the_newest_words_tell_an_echo() -> None:
    assert is_echo(words_of("long ago there was a dog of which the cat sat on the mat and looked"), ANSWER)
    assert not is_echo(words_of("the cat sat on the mat and looked at the moon no stop I want to know"), ANSWER)


@pytest.mark.parametrize(("heard", "verdict"), [("it's hat", None), ("no please stop talking", "interrupt")])
def test_a_word_that_is_misheard_of_a_known_echo_does_not_interrupt(heard: str, verdict: str | None) -> None:
    barge_in = BargeIn("words", has_echo=True)
    barge_in.hear(heard, ANSWER)
    assert barge_in.judge(1.0, is_paused=False, is_decoding=True) == verdict


@pytest.mark.parametrize("heard", ["almost 2,000 years ago, today 9 million people", "almost two thousand years ago"])
def test_numbers_are_an_echo_however_they_are_written(heard: str) -> None:
    spoken = words_of("It was founded almost two thousand years ago. Today nine million people live there.")
    assert is_echo(words_of(heard), spoken)
