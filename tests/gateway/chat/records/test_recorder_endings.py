"""An answer finishes, fails or is aborted, by the process that began it or by another that takes it over."""

from typing import Any

import pytest
from msgspec import Raw

from gateway.chat.records.recorder import Recorder
from tests.support.answers import call, completion, deltas, message_parts, recorded, replayed, types
from tests.support.shown import Shown

# The ends


@pytest.mark.parametrize("reason", ["stop", "length", "content-filter", "tool-calls", "error", "other"])
def test_a_finish_says_why(reason: Any) -> None:
    recorder, records = recorded({"content": "a"})
    shown = Shown(records + recorder.finish(reason, {"usage": {"inputTokens": 1}}))
    assert shown.ending is not None
    assert (shown.ending["finishReason"], shown.metadata) == (reason, {"model": "gpt", "usage": {"inputTokens": 1}})


def test_an_error_closes_the_text_and_says_what_happened_before_it_ends() -> None:
    recorder, records = recorded({"content": "half"})
    last = recorder.error("the upstream was cut", {"code": "upstream_cut", "retryable": True, "emitted": 1})
    assert types(last) == ["text-end", "message-metadata", "error"]
    shown = Shown(records + last)
    assert shown.ending == {"type": "error", "errorText": "the upstream was cut"}
    assert shown.metadata["code"] == "upstream_cut"
    assert shown.parts == message_parts(recorder) == [{"type": "text", "text": "half", "state": "done"}]


def test_an_abort_closes_the_text_and_says_why() -> None:
    recorder, records = recorded({"reasoning": "hm"})
    last = recorder.abort("stopped", {})
    assert types(last) == ["reasoning-end", "message-metadata", "abort"]
    assert Shown(records + last).ending == {"type": "abort", "reason": "stopped"}


@pytest.mark.parametrize("end", ["error", "abort"])
def test_a_tool_call_that_was_cut_never_becomes_available(end: str) -> None:
    """A client must not run a tool with half of its arguments, nor with the whole of an answer that failed."""
    recorder, records = recorded(call(0, '{"amount": 1', id="c", name="pay"), call(1, "{}", id="d", name="pay"))
    records += recorder.error("cut", {}) if end == "error" else recorder.abort("stopped", {})
    assert [part["state"] for part in Shown(records).parts] == ["input-streaming"] * 2
    assert [part["state"] for part in message_parts(recorder)] == ["input-streaming"] * 2


def test_an_end_without_anything_before_it_is_complete() -> None:
    for end in ("finish", "error", "abort"):
        recorder, records = recorded()
        records += getattr(recorder, end)("other", {})
        shown = Shown(records)
        assert shown.ending is not None
        assert (shown.ending["type"], shown.parts, message_parts(recorder)) == (end, [], [])


def test_an_answer_that_is_continued_keeps_its_earlier_parts() -> None:
    earlier = Raw(b'{"type":"tool-f","toolCallId":"c","state":"output-available","input":{},"output":1}')
    recorder = Recorder([earlier])
    completion(recorder).write(deltas({"content": "so: 1"}))
    assert [part["type"] for part in message_parts(recorder)] == ["tool-f", "step-start", "text"]
    assert bytes(recorder.parts.encoded()[0]) == bytes(earlier)


# Taking over


RESUMED: dict[str, list[dict[str, Any]]] = {
    "nothing": [],
    "text": [{"content": "a"}, {"content": "b"}],
    "turns": [{"reasoning": "a"}, {"content": "b"}, {"reasoning": "c"}],
    "a tool": [{"content": "a"}, call(0, "", id="c", name="f"), call(0, '{"x":'), call(0, "1}")],
    "two tools": [call(0, "{", id="c", name="f"), call(1, "[", id="d", name="g"), call(0, "}"), call(1, "]")],
    "a tool without an id": [call(0, "{}", name="f")],
    "text during a tool": [call(0, "{", id="c", name="f"), {"content": "a"}, call(0, "}")],
}


@pytest.mark.parametrize("found", RESUMED.values(), ids=RESUMED.keys())
@pytest.mark.parametrize("end", ["error", "abort", "finish"])
def test_another_process_ends_a_run_as_its_own_would(found: list[dict[str, Any]], end: str) -> None:
    recorder, records = recorded(*found)
    resumed = replayed(records)
    assert message_parts(resumed) == message_parts(recorder)
    assert resumed.emitted == recorder.emitted
    assert getattr(resumed, end)("other", {}) == getattr(recorder, end)("other", {})
    assert message_parts(resumed) == message_parts(recorder)


def test_taking_over_a_continued_answer_keeps_its_earlier_parts() -> None:
    earlier = [Raw(b'{"type":"text","text":"before"}')]
    records = completion(Recorder(earlier)).write(deltas({"content": "after"}))
    assert [part.get("text") for part in message_parts(replayed(records, earlier))] == ["before", None, "after"]


def test_chunks_of_a_newer_version_do_not_stop_it() -> None:
    records = [
        b'{"type":"reset-step"}',
        b'{"type":"data-x","data":[1],"id":"i"}',
        b'{"type":"text-delta","id":"t0","delta":"a"}',
    ]
    assert message_parts(replayed(records)) == [
        {"type": "data-x", "id": "i", "data": [1]},
        {"type": "text", "text": "a", "state": "done"},
    ]
