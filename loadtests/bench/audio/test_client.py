"""The audio benchmark notices a session's faults and delays, and reads what WhisperLive shows."""

from typing import Any

import pytest

from loadtests.bench.audio.client import SpokenSession
from loadtests.bench.audio.delays import of_sessions
from loadtests.bench.audio.reference import Reference
from loadtests.bench.audio.whisper_live import ShownText
from loadtests.bench.audio.words import TimedWord, timed_words


def partial(text: str, stable: str = "", segment: int = 0, start: float = 0.5) -> dict[str, Any]:
    return {"type": "partial", "segment": segment, "text": text, "stable": stable, "start": start, "end": 9.0}


def final(text: str, segment: int = 0, start: float = 0.5, end: float = 2.0) -> dict[str, Any]:
    return {"type": "final", "segment": segment, "text": text, "start": start, "end": end}


DONE = {"type": "done", "duration": 9.0, "segments": 1}


def session(*messages: tuple[float, dict[str, Any]], code: int = 1000) -> SpokenSession:
    one = SpokenSession(seconds=10.0)
    for seq, (at_s, message) in enumerate(messages, 1):
        one.hear({"seq": seq, **message}, at_s)
    one.close(code)
    return one


def test_a_session_as_it_must_be_has_no_fault() -> None:
    one = session(
        (0.0, {"type": "ready"}),
        (1.0, partial("Ask")),
        (1.5, partial("Ask now", "Ask")),
        (2.0, partial("Ask not what", "Ask not")),
        (2.5, partial("you", segment=1)),
        (3.0, final("Ask not what")),
        (4.0, final("your country", segment=1)),
        (4.1, DONE),
    )
    assert one.faults == {}
    assert one.text == "Ask not what your country"
    assert [text.word for text in one.texts][-3:] == ["Ask not what you"] * 2 + ["Ask not what your country"]


@pytest.mark.parametrize(
    ("messages", "fault"),
    [
        ([partial("Ask not", "Ask not"), partial("Ask now", "Ask"), final("x"), DONE], "stable words taken back"),
        ([partial("Ask notes", "Ask not"), final("x"), DONE], "partials without their stable prefix"),
        ([partial("Ask", "Ask not"), final("x"), DONE], "partials without their stable prefix"),
        ([partial("a no", "a no"), partial("a note", "a note"), final("x"), DONE], "stable words taken back"),
        ([final("x"), partial("x"), DONE], "partials after their final"),
        ([final("x"), final("y"), DONE], "segments with two finals"),
        ([partial("x"), DONE], "segments without a final"),
        ([final("x")], "closed with 1000 before `done`"),
        ([{"type": "gap", "start": 0, "end": 1, "reason": "overload"}, DONE], "gap overload"),
        ([{"type": "error", "code": "full", "message": "", "retryable": True}, DONE], "error full"),
        ([{"type": "ready", "seq": 2}, {"type": "ready", "seq": 3}, {**DONE, "seq": 4}], "numbers with holes"),
    ],
)
def test_a_breach_of_the_protocol_is_a_fault(messages: list[dict[str, Any]], fault: str) -> None:
    one = session(*((1.0, message) for message in messages))
    assert fault in one.faults


def test_delays_count_from_the_speech_and_from_the_ends_of_words() -> None:
    one = session(
        (1.6, partial("Ask")),
        (2.0, partial("Ask not what", "Ask")),
        (3.0, final("Ask not what", end=2.2)),
        (3.1, DONE),
    )
    words = timed_words([("Ask", 1.25), ("not", 1.5), ("what", 2.0)])
    late = of_sessions([one], [Reference("", words, [], [(1.0, 1.5), (1.6, 2.0), (5.0, 6.0)])])
    assert late.first_s == pytest.approx([0.6])
    assert late.stable_s == pytest.approx([0.75, 1.5, 1.0])
    assert late.final_s == pytest.approx([1.0])


def test_speech_that_goes_on_where_a_segment_was_cut_ended_there() -> None:
    reference = Reference("", [], [], [(1.0, 30.0)])
    assert reference.speech_ended(20.0) == 20.0
    assert reference.speech_ended(31.0) == 30.0
    assert reference.speech_began(0.5) == 1.0
    assert reference.speech_began(20.0) == 20.0


def test_whisper_lives_text_is_what_it_completed_and_what_may_change() -> None:
    def message(*segments: tuple[float, str, bool]) -> dict[str, Any]:
        return {
            "segments": [{"start": f"{at:.3f}", "text": text, "completed": is_final} for at, text, is_final in segments]
        }

    client = ShownText()
    client.hear({"message": "SERVER_READY"}, 0.1)
    client.hear(message((0, " Ask not", False)), 1.0)
    client.hear(message((0, " Ask not", False)), 2.0)
    client.hear(message((0, " Ask not", True), (2, " what", False)), 3.0)
    assert client.completed_at_s is None
    client.hear(message((0, " Ask not", True), (2, " what", True)), 4.0)
    client.hear(message((2, " what", True)), 5.0)
    assert client.texts == [TimedWord("Ask not", 1.0), TimedWord("Ask not what", 3.0)]
    assert (client.text, client.completed_at_s) == ("Ask not what", 4.0)
