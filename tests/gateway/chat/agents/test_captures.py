"""Streams of real frameworks become the parts that a client is to hold; cut anywhere, they are an error."""

import random
from pathlib import Path

import pytest

from tests.gateway.chat.agents.streams import CAPTURES, Played, capture_kind
from tests.support.answers import replayed

ALL = sorted(CAPTURES.glob("*.sse"))
CUTS = 40
WORDS = "text: w0 w1 w2 w3 w4 w5 w6 w7"
CALL = 'lookup {"text": "the thing"}'
STATE = ("data-state", "data-step", "data-activity", "data-on_interrupt")


def played(path: Path, stream: bytes | None = None) -> Played:
    """Plays a capture; one that goes on from a question has the parts of the answer that asked."""
    earlier = path.with_name(path.name.replace("_resumed", "_ask"))
    base = played(earlier).raw_parts if earlier != path else []
    return Played(capture_kind(path), [path.read_bytes() if stream is None else stream], base)


def shown(path: Path) -> list[str]:
    """Returns the parts of a capture without those that frameworks show each in its own way."""
    parts = [part.replace("tool-lookup", "lookup") for part in played(path).brief]
    parts = [part.replace("{'result': 'found the thing'}", "found the thing") for part in parts]  # as ADK wraps it
    return [part for part in parts if not part.startswith(STATE) and part != "step-start"]


@pytest.mark.parametrize("path", [path for path in ALL if path.stem.endswith("_tool")], ids=lambda path: path.stem)
def test_a_call_and_an_answer(path: Path) -> None:
    assert played(path).end == "finish stop"
    assert shown(path) == ["text: w0 w1 w2", f"{CALL} output-available found the thing", WORDS]


@pytest.mark.parametrize("path", [path for path in ALL if path.stem.endswith("_ask")], ids=lambda path: path.stem)
def test_a_question_about_a_call(path: Path) -> None:
    play = played(path)
    assert play.end == "finish tool-calls"
    [ask] = play.writer.asks
    assert ask.approval_id == "ap-r1-1"
    assert [record["type"] for record in play.records[-2:]] == ["tool-approval-request", "data-approval"]
    asked = next(part for part in play.parts if part.get("toolCallId") == ask.tool_call_id)
    assert asked["state"] == "approval-requested"
    assert asked["callProviderMetadata"]["agent"]["interruptId"] == ask.interrupt_id
    if asked["type"] != "tool-interrupt":
        assert asked["input"] == {"text": "the thing"}
    else:
        assert asked["input"]["message"] == "look the thing up?"


@pytest.mark.parametrize("path", [path for path in ALL if path.stem.endswith("_resumed")], ids=lambda path: path.stem)
def test_the_answer_goes_on_when_the_call_is_allowed(path: Path) -> None:
    assert played(path).end == "finish stop"
    parts = [part for part in shown(path) if not part.startswith(("tool-interrupt", "data-approval"))]
    assert parts == ["text: w0 w1 w2", f"{CALL} output-available found the thing", WORDS]


@pytest.mark.parametrize("path", [path for path in ALL if path.stem.endswith("_error")], ids=lambda path: path.stem)
def test_a_model_that_fails(path: Path) -> None:
    play = played(path)
    assert play.end == "error upstream_error"
    assert play.parser.error is not None
    assert ("overloaded" in play.parser.error.detail) != path.name.startswith("crewai")  # which keeps it to its log
    assert shown(path) == ["text: w0 w1 w2 w3 w4 w5 w6 w7 w8 w9"]


def end_of(stream: bytes) -> int:
    """Returns the bytes up to the end of the event that says how the run ended; after it nothing is missing."""
    place = max(stream.rfind(word) for word in (b'"RUN_FINISHED"', b'"RUN_ERROR"', b'"finish"', b'"error"'))
    return stream.index(b"\n\n", place) if place >= 0 else len(stream)


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_a_stream_that_is_cut_anywhere_is_an_error(path: Path) -> None:
    stream, chosen = path.read_bytes(), random.Random(path.stem)
    end = end_of(stream)
    for place in {0, 1, end - 1, *(chosen.randrange(end) for _ in range(CUTS))}:
        play = played(path, stream[:place])
        assert play.end.startswith("error"), f"cut after {place} of {len(stream)} bytes: {play.end}"


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_bytes_may_come_in_any_pieces(path: Path) -> None:
    stream, chosen = path.read_bytes(), random.Random(path.stem)
    places = sorted(chosen.randrange(len(stream)) for _ in range(30))
    pieces = [stream[start:stop] for start, stop in zip([0, *places], [*places, len(stream)], strict=True)]
    whole, cut = Played(capture_kind(path), [stream]), Played(capture_kind(path), pieces)
    assert (cut.raw, cut.end) == (whole.raw, whole.end)


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_another_process_makes_the_same_message_of_the_records(path: Path) -> None:
    play = Played(capture_kind(path), [path.read_bytes()])
    again = replayed(play.raw)
    again.complete_calls([])
    without_late = [part for part in play.raw_parts if b"resultId" not in bytes(part)]
    assert set(map(bytes, without_late)) <= set(map(bytes, again.parts.encoded()))
