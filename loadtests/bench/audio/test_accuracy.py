"""The accuracy case makes its conditions from recordings, and counts what a client may rely on."""

import numpy as np
import pytest

from audio.messages import Final, Gap, Partial
from audio.model.transcriber import Word
from loadtests.bench.audio.accuracy import TrustTally, alone_s, compared
from loadtests.bench.audio.conditions import faster, loud, noisy, reverberant, rows, telephone
from loadtests.bench.audio.direct import Heard
from loadtests.bench.audio.reference import Reference, spoken_from
from loadtests.bench.audio.speech import RATE, Recording, Samples
from loadtests.bench.audio.words import TimedWord


def sound(seconds: float = 1.0) -> Samples:
    return np.random.default_rng(1).normal(0, 0.1, int(seconds * RATE)).astype(np.float32)


def share_above(samples: Samples, hertz: float) -> float:
    power = np.abs(np.fft.rfft(samples)) ** 2
    return float(power[np.fft.rfftfreq(len(samples), 1 / RATE) > hertz].sum() / power.sum())


def test_a_telephone_carries_nothing_above_its_band() -> None:
    assert share_above(sound(), 4000) > 0.4
    assert share_above(telephone(sound()), 4000) < 1e-4


def test_conditions_change_what_they_say_and_keep_the_length() -> None:
    assert len(faster(sound(2.0), 2.0)) == pytest.approx(RATE, rel=0.05)
    assert np.sqrt(np.mean(loud(sound(), -45.0) ** 2)) == pytest.approx(10 ** (-45 / 20), rel=0.2)
    assert np.std(noisy(sound(), 0.0) - sound()) == pytest.approx(0.1, rel=0.2)
    assert len(reverberant(sound())) > RATE


def test_a_number_is_right_in_digits_and_in_words() -> None:
    assert compared("clean", "the forty-two-line Bible of fourteen fifty five")[-1] == "1455"
    assert compared("clean", "the 42-line Bible of 1,455") == compared("clean", "the forty two line Bible of 1455")
    assert compared("digits", "12, three") == ["one", "two", "three"]


def test_every_condition_has_its_words() -> None:
    speech = [Recording(f"lj_{at}", "one two three four five", sound()) for at in range(4)]
    made = rows(speech, 10)
    assert {"clean", "telephone", "long-form", "two speakers", "noisy 5 dB"} <= made.keys()
    assert [len(made[name]) for name in ("clean", "telephone", "two speakers")] == [2, 2, 1]
    assert rows(speech, 10)["noisy 5 dB"][0].samples.tolist() == made["noisy 5 dB"][0].samples.tolist()


def test_speech_without_a_word_or_a_gap_stands_alone() -> None:
    reference = Reference("", [], [], [(0.0, 1.0), (2.0, 4.0), (5.0, 5.2)])
    words = [Word("one", 0.1, 0.9, 1.0), Word("two", 2.0, 2.5, 1.0)]
    assert alone_s(words, [], reference) == pytest.approx(1.5, abs=0.05)
    assert alone_s(words, [Gap(start=2.5, end=4.0, reason="unintelligible")], reference) == 0.0


def test_stable_words_that_the_final_changed_are_counted_and_how_late_each_was() -> None:
    words = [Word("one", 0.0, 0.5, 1.0), Word("two", 0.5, 1.0, 1.0)]
    final = Final(segment=0, text="one two", start=0.0, end=1.2, confidence=1.0, language="en", words=words)
    shown = [
        (0.8, Partial(segment=0, text="one do", stable="one", start=0.0, end=0.7)),
        (1.3, Partial(segment=0, text="one do", stable="one do", start=0.0, end=1.1)),
    ]
    tally = TrustTally()
    tally.count(
        Heard(2.0, partials=shown, finals=[(1.8, final)]),
        Reference("", [TimedWord("two", 1.2)], [TimedWord("one", 0.1)], [(0.0, 1.0)]),
    )
    assert (tally.stable, tally.changed) == (2, 1)
    assert tally.stable_s == pytest.approx([0.3, 0.3])
    assert (tally.starts_s, tally.ends_s) == (pytest.approx([0.1]), pytest.approx([0.2]))
    assert tally.figures()["alone_s"] == 0.0


@pytest.mark.parametrize(
    ("start_s", "end_s", "began_s"),
    [(2.26, 3.88, 3.33), (4.52, 5.7, 5.44), (3.4, 3.6, 3.4), (0.0, 0.74, 0.32), (7.0, 7.1, 7.0)],
)
def test_no_word_of_a_reference_begins_in_silence(start_s: float, end_s: float, began_s: float) -> None:
    spans = [(0.32, 2.24), (3.33, 3.74), (5.44, 6.5)]
    assert spoken_from(start_s, end_s, spans) == began_s
