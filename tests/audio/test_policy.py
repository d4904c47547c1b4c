"""Which words become stable, and when."""

import pytest

from audio.policy import NARROWEST_S, WIDER, WIDEST_S, Agreement, key_of, step_s


def stable_after(*hypotheses: str) -> tuple[str, str]:
    agreement = Agreement()
    for hypothesis in hypotheses:
        agreement.hear(hypothesis.split())
    return " ".join(agreement.stable), " ".join(agreement.tail)


@pytest.mark.parametrize(
    ("hypotheses", "stable", "tail"),
    [
        (["and so"], "", "and so"),
        (["and so", "and so my"], "and so", "my"),
        (["And so,", "and so my"], "and so", "my"),
        (["and so my", "and sew my"], "and", "sew my"),
        (["and so", "and so my", "and so my fellow"], "and so my", "fellow"),
        (["one two", "one two", "won two three"], "one two", "three"),
        (["one two", "one two three", "one"], "one two", ""),
        (["", "one"], "", "one"),
        (["i am going", "i am going to", "i'm going to go"], "i am going to", "go"),
        (["gonna go now", "gonna go now", "going to go now then", "going to go now then"], "gonna go now then", ""),
    ],
)
def test_words_are_stable_when_two_hypotheses_agree(hypotheses: list[str], stable: str, tail: str) -> None:
    assert stable_after(*hypotheses) == (stable, tail)


def test_what_is_stable_never_changes() -> None:
    agreement = Agreement()
    before: list[str] = []
    for hypothesis in ("a b", "a b c", "x b c d", "a b c d e", "", "q", "a b c d e f", "a b c d e f g"):
        agreement.hear(hypothesis.split())
        assert agreement.stable[: len(before)] == before
        before = list(agreement.stable)
    assert before == ["a", "b", "c", "d", "e", "f"]


def test_text_is_stable_words_then_the_others() -> None:
    agreement = Agreement()
    agreement.hear(["Ask", "what"])
    agreement.hear(["Ask", "what", "you"])
    assert agreement.text == "Ask what you"


def test_case_and_punctuation_do_not_count() -> None:
    assert key_of("Country,") == key_of("country") == "country"
    assert key_of("don't") == "don't"
    assert key_of("--") == ""


def test_the_step_widens_under_load_and_narrows_after() -> None:
    assert step_s(1.0, busy=0.95) == 1.0 * WIDER
    assert step_s(1.0, busy=0.8) == 1.0
    assert step_s(1.0, busy=0.6) == 1.0 / WIDER
    assert step_s(WIDEST_S, busy=1.0) == WIDEST_S
    assert step_s(NARROWEST_S, busy=0.0) == NARROWEST_S


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 1.5, 3.0])
def test_the_step_comes_to_rest_where_the_workers_are_busy_but_not_too_busy(share: float) -> None:
    """`share` of the workers' time is used by partials a second apart: half as often costs half as much."""
    step, seen = WIDEST_S, []
    for _ in range(40):
        step = step_s(step, busy=min(1.0, share / step))
        seen.append(step)
    assert len(set(seen[-10:])) == 1
    assert share / step <= 0.9 or step == WIDEST_S
    assert share / step >= 0.7 or step == NARROWEST_S
