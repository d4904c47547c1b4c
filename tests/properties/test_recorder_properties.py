"""Whatever a model says, in whatever pieces, clients get a legal stream, and the store holds what they show."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from events.log.port import Block
from gateway.chat.dialects.openai import CompletionFrames
from gateway.chat.dialects.ui_message import UIFrames
from gateway.chat.records.record import RECORD
from gateway.chat.records.recorder import Recorder
from gateway.chat.upstreams.chunks import AnswerChunk
from tests.support.answers import completion, deltas, message_parts, replayed
from tests.support.shown import Shown

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXTS,
    lambda value: st.lists(value, max_size=3) | st.dictionaries(TEXTS, value, max_size=3),
    max_leaves=6,
)
ARGUMENTS = st.one_of(
    st.just(""),
    JSON_VALUES.map(lambda value: json.dumps(value)),
    JSON_VALUES.map(lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":"))),
    TEXTS,
)
PRETTY_ARGUMENTS = JSON_VALUES.map(lambda value: json.dumps(value, indent=2))


@st.composite
def tool_calls(draw: st.DrawFn, index: int, arguments: st.SearchStrategy[str]) -> list[dict[str, Any]]:
    """Draws the pieces of one call: its head, then its arguments, cut anywhere."""
    text = draw(arguments)
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=3)))
    head: dict[str, Any] = {"index": index, "function": {"name": draw(st.sampled_from(["find", "pay"]))}}
    if draw(st.booleans()):
        head["id"] = f"c{index}"
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    return [head, *({"index": index, "function": {"arguments": piece}} for piece in pieces)]


@st.composite
def answers(draw: st.DrawFn, arguments: st.SearchStrategy[str] = ARGUMENTS) -> list[list[AnswerChunk]]:
    """Draws an answer as the pieces that come in one read each; tool calls interleave, in their own order."""
    queues = [draw(tool_calls(index, arguments)) for index in range(draw(st.integers(0, 3)))]
    pieces: list[dict[str, Any]] = []
    for _ in range(draw(st.integers(0, 12))):
        kind = draw(st.sampled_from(["content", "reasoning_content", "reasoning", "refusal", "tool"]))
        queue = draw(st.sampled_from(queues)) if queues and kind == "tool" else []
        if queue:
            pieces.append({"tool_calls": [queue.pop(0)]})
        elif kind != "tool":
            pieces.append({kind: draw(TEXTS)})
    pieces += [{"tool_calls": [piece]} for queue in queues for piece in queue]
    chunks = deltas(*pieces)
    reads: list[list[AnswerChunk]] = [[]]
    for chunk in chunks:
        reads[-1].append(chunk)
        if draw(st.booleans()):
            reads.append([])
    return reads


def written(recorder: Recorder, reads: list[list[AnswerChunk]]) -> list[bytes]:
    answer = completion(recorder)
    return [record for read in reads for record in answer.write(read)]


ENDS = st.sampled_from(["finish", "error", "abort"])


def end_records(recorder: Recorder, end: str) -> list[bytes]:
    metadata = {"usage": {"inputTokens": 1, "outputTokens": 2, "totalTokens": 3}}
    return getattr(recorder, end)("other", metadata)


def comparable(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns parts less what a stored part cannot or need not know: an input that is not there yet."""
    names = {"type", "text", "toolCallId"}
    return [{name: value for name, value in part.items() if name in names} for part in parts]


@given(answers(), ENDS)
def test_every_stream_is_legal_and_ends_once(reads: list[list[AnswerChunk]], end: str) -> None:
    recorder = Recorder()
    records = [*recorder.start("m"), *recorder.speaker("gpt"), *written(recorder, reads)]
    client = Shown(records + end_records(recorder, end))
    assert client.ending is not None
    assert (client.ending["type"], client.message_id) == (end, "m")
    assert comparable(client.parts) == comparable(message_parts(recorder))
    inputs = [part["input"] for part in client.parts if part.get("state") == "input-available"]
    assert inputs == [part["input"] for part in message_parts(recorder) if part.get("state") == "input-available"]


@given(answers(), ENDS, st.integers(0, 30))
def test_another_process_knows_of_a_run_what_its_log_holds(reads: list[list[AnswerChunk]], end: str, cut: int) -> None:
    """The process dies after some append; whoever ends the run has the records up to there, and nothing else."""
    recorder = Recorder()
    records = [*recorder.start("m"), *recorder.speaker("gpt"), *written(recorder, reads[: cut % (len(reads) + 1)])]
    resumed = replayed(records)
    assert message_parts(resumed) == message_parts(recorder)
    assert resumed.emitted == recorder.emitted
    assert end_records(resumed, end) == end_records(recorder, end)


@given(answers(), ENDS, st.integers(1, 9), st.booleans())
def test_frames_do_not_depend_on_how_events_lie_in_blocks(
    reads: list[list[AnswerChunk]], end: str, size: int, usage: bool
) -> None:
    recorder = Recorder()
    records = [*recorder.start("m"), *recorder.speaker("gpt"), *written(recorder, reads)]
    records += end_records(recorder, end)
    whole = Block(first=1, data=records, name=RECORD, time_ms=0)
    parts = [
        Block(first=1 + at, data=records[at : at + size], name=RECORD, time_ms=0) for at in range(0, len(records), size)
    ]
    one, many = [CompletionFrames("r", "m", 0, include_usage=usage) for _ in range(2)]
    assert one("e", whole) == [frame for part in parts for frame in many("e", part)]
    assert UIFrames("r")("e", whole) == [frame for part in parts for frame in UIFrames("r")("e", part)]


@given(answers(), ENDS, st.booleans())
def test_openai_clients_get_the_same_words(reads: list[list[AnswerChunk]], end: str, usage: bool) -> None:
    recorder = Recorder()
    records = [*recorder.start("m"), *recorder.speaker("gpt"), *written(recorder, reads)]
    records += end_records(recorder, end)
    frames = CompletionFrames("r", "m", 0, include_usage=usage)(
        "e", Block(first=1, data=records, name=RECORD, time_ms=0)
    )
    assert len(frames) == len(records)
    lines = [line for frame in frames for line in frame.split(b"\n\n") if line]
    assert all(line.startswith(b"data: {") and b"\n" not in line and b"\r" not in line for line in lines)
    payloads = [json.loads(line[6:]) for line in lines]
    deltas = [choice["delta"] for chunk in payloads for choice in chunk.get("choices", ())]
    client = Shown(records)
    for kind, field in (("text", "content"), ("reasoning", "reasoning_content")):
        fields = ("content", "refusal") if kind == "text" else (field,)
        assert "".join(d.get(name) or "" for d in deltas for name in fields) == "".join(
            part["text"] for part in client.parts if part["type"] == kind
        )
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert ("error" in payloads[-1]) == (end != "finish")


@given(answers(PRETTY_ARGUMENTS), ENDS)
def test_no_chunk_and_no_part_is_more_than_one_line(reads: list[list[AnswerChunk]], end: str) -> None:
    recorder = Recorder()
    records = written(recorder, reads) + end_records(recorder, end)
    assert not [line for line in [*records, *map(bytes, recorder.parts.encoded())] if b"\n" in line or b"\r" in line]
