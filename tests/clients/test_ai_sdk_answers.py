"""The AI SDK's client sends, edits, regenerates and calls tools, and shows exactly what the upstream said."""

from collections.abc import Callable

import pytest

from loadtests.upstream.behaviours import UTF8_TAIL
from loadtests.upstream.shapes import word, words
from tests.clients.ai_sdk import AISDK
from tests.clients.conftest import Open, StoredChat, last_conversation
from tests.conftest import Gateway, UpstreamThread
from tests.support.sse_client import chat_body, send

Snapshot = Callable[[], StoredChat]


def test_a_message_gets_one_answer(device: Open, snapshot: Snapshot) -> None:
    view = device().send("T=30 I=200")
    assert (view.status, view.error, view.errors) == ("ready", None, [])
    assert view.answer.text == words(30)
    snapshot().agrees_with(view)


def test_the_answer_says_its_model_and_usage(device: Open, snapshot: Snapshot) -> None:
    metadata = device().send("T=12 I=200").answer.metadata
    assert metadata is not None
    assert metadata["model"] == "ok"
    assert (metadata["usage"]["inputTokens"], metadata["usage"]["outputTokens"]) == (7, 12)
    stored_metadata = snapshot().messages[-1].metadata
    assert stored_metadata is not None
    assert stored_metadata | metadata == stored_metadata


def test_a_second_turn_is_asked_with_the_first(device: Open, snapshot: Snapshot, upstream: UpstreamThread) -> None:
    phone = device()
    phone.send("T=5 I=200")
    view = phone.send("T=9 I=200")
    assert [message.text for message in view.messages] == ["T=5 I=200", words(5), "T=9 I=200", words(9)]
    assert last_conversation(upstream) == [("user", "T=5 I=200"), ("assistant", words(5)), ("user", "T=9 I=200")]
    snapshot().agrees_with(view)


def test_only_the_newest_message_may_be_posted(device: Open, snapshot: Snapshot, upstream: UpstreamThread) -> None:
    phone = device(lastOnly=True)
    phone.send("T=5 I=200")
    phone.send("T=9 I=200")
    assert last_conversation(upstream) == [("user", "T=5 I=200"), ("assistant", words(5)), ("user", "T=9 I=200")]
    view = phone.regenerate()
    assert [message.text for message in view.messages] == ["T=5 I=200", words(5), "T=9 I=200", words(9)]
    assert last_conversation(upstream) == [("user", "T=5 I=200"), ("assistant", words(5)), ("user", "T=9 I=200")]
    snapshot().agrees_with(view)


def test_regenerate_replaces_the_answer(device: Open, snapshot: Snapshot, upstream: UpstreamThread) -> None:
    phone = device()
    before = phone.send("T=6 I=200").answer
    view = phone.regenerate(model="reasoning")
    assert view.answer.reasoning
    assert view.answer.text == words(6)
    assert view.answer.id != before.id
    assert len(view.messages) == 2
    assert last_conversation(upstream) == [("user", "T=6 I=200")]
    snapshot().agrees_with(view)


def test_regenerate_of_an_earlier_answer_drops_what_came_after(
    device: Open, snapshot: Snapshot, upstream: UpstreamThread
) -> None:
    phone = device()
    first = phone.send("T=4 I=200").answer
    phone.send("T=5 I=200")
    view = phone.regenerate(first.id)
    assert [message.text for message in view.messages] == ["T=4 I=200", words(4)]
    assert view.answer.id != first.id
    assert last_conversation(upstream) == [("user", "T=4 I=200")]
    snapshot().agrees_with(view)


def test_the_same_answer_can_be_regenerated_again_and_again(device: Open, snapshot: Snapshot) -> None:
    phone = device()
    ids = {phone.send("T=4 I=200").answer.id}
    for _ in range(3):
        view = phone.regenerate()
        assert view.answer.text == words(4)
        ids.add(view.answer.id)
    assert len(ids) == 4
    snapshot().agrees_with(view)


def test_an_edited_message_is_answered_anew(device: Open, snapshot: Snapshot, upstream: UpstreamThread) -> None:
    phone = device()
    question = phone.send("T=4 I=200").messages[0]
    phone.send("T=5 I=200")
    view = phone.send("T=6 I=200", message_id=question.id)
    assert [message.text for message in view.messages] == ["T=6 I=200", words(6)]
    assert last_conversation(upstream) == [("user", "T=6 I=200")]
    snapshot().agrees_with(view)


def test_reasoning_is_a_part_before_the_text(device: Open, snapshot: Snapshot) -> None:
    view = device().send("T=6 I=200", model="reasoning")
    assert view.answer.reasoning == "r0 r1 r2 r3 r4 "
    assert view.answer.text == words(6)
    assert [part["type"] for part in view.answer.parts] == ["step-start", "reasoning", "text"]
    snapshot().agrees_with(view)


@pytest.mark.parametrize(
    ("model", "text"),
    [
        ("utf8-split", "".join(word(n) + UTF8_TAIL for n in range(20))),
        ("crlf", words(20)),
        ("multiline-data", words(20)),
        ("unknown-fields", words(20)),
        ("finish-length", words(20)),
        ("finish-filter", words(20)),
        ("no-done", words(20)),
        ("empty", ""),
    ],
)
def test_a_complete_answer_in_any_bytes_arrives_whole(model: str, text: str, device: Open, snapshot: Snapshot) -> None:
    view = device().send("T=20 I=200", model=model)
    assert (view.status, view.error) == ("ready", None)
    assert view.answer.text == text
    if text:
        snapshot().agrees_with(view)


def test_a_tool_call_is_a_part_with_its_whole_input(device: Open, snapshot: Snapshot) -> None:
    view = device().send("weather? I=200", model="tools-2")
    assert view.status == "ready"
    calls = [(part["type"], part["toolCallId"], part["state"], part["input"]) for part in view.answer.tools]
    assert calls == [
        ("tool-get_weather", f"call_{day}", "input-available", {"city": "Zürich", "day": day}) for day in range(2)
    ]
    snapshot().agrees_with(view)


def test_a_tools_result_continues_the_same_answer(device: Open, snapshot: Snapshot, upstream: UpstreamThread) -> None:
    phone = device(body={"model": "tools"})
    call = phone.send("weather? T=8 I=200").answer
    phone.call("toolOutput", tool="get_weather", toolCallId="call_0", output={"sun": True})
    phone.until(chars=len(words(8)))
    view = phone.until(status="ready")
    assert view.answer.id == call.id
    assert view.answer.text == words(8)
    [part] = view.answer.tools
    assert (part["state"], part["output"]) == ("output-available", {"sun": True})
    assert [role for role, _ in last_conversation(upstream)] == ["user", "assistant", "tool"]
    assert last_conversation(upstream)[-1] == ("tool", '{"sun":true}')
    snapshot().agrees_with(view)


def test_the_turn_after_a_tools_result_is_asked_in_order(device: Open, upstream: UpstreamThread) -> None:
    phone = device(body={"model": "tools"})
    phone.send("weather? T=8 I=200")
    phone.call("toolOutput", tool="get_weather", toolCallId="call_0", output={"sun": True})
    phone.until(chars=len(words(8)))
    phone.until(status="ready")
    phone.send("thanks", model="ok")
    roles = ["user", "assistant", "tool", "assistant", "user"]
    assert [role for role, _ in last_conversation(upstream)] == roles
    assert last_conversation(upstream)[3] == ("assistant", words(8))


def test_an_error_in_the_stream_keeps_the_text_and_can_be_tried_again(device: Open, snapshot: Snapshot) -> None:
    phone = device()
    view = phone.send("T=20 I=200", model="cut")
    assert view.status == "error"
    assert view.error is not None
    assert "ended without" in view.error
    assert view.answer.text == words(10)
    snapshot().agrees_with(view)
    again = phone.regenerate()
    assert (again.status, again.error) == ("ready", None)
    assert again.answer.text == words(20)
    snapshot().agrees_with(again)


def test_a_refusal_is_an_error_and_can_be_tried_again(device: Open, snapshot: Snapshot) -> None:
    phone = device()
    view = phone.send("T=20 I=200", model="e429")
    assert view.status == "error"
    assert view.answers == []
    assert view.error is not None
    assert "Rate limit reached" in view.error
    again = phone.regenerate()
    assert again.answer.text == words(20)
    snapshot().agrees_with(again)


def test_a_refused_message_can_be_sent_again(device: Open, snapshot: Snapshot, upstream: UpstreamThread) -> None:
    upstream.fake.script("passing", ["e429", "ok"])
    phone = device(body={"model": "passing"})
    assert phone.send("T=6 I=200").status == "error"
    view = phone.send_again()
    assert (view.status, view.error) == ("ready", None)
    assert view.answer.text == words(6)
    snapshot().agrees_with(view)


def test_a_new_message_after_a_refusal_is_answered(device: Open, snapshot: Snapshot, upstream: UpstreamThread) -> None:
    phone = device()
    phone.send("first", model="e500")
    view = phone.send("T=3 I=200")
    assert view.answer.text == words(3)
    assert last_conversation(upstream) == [("user", "first\n\nT=3 I=200")]
    snapshot().agrees_with(view)


@pytest.mark.parametrize(
    "model",
    ["ok", "reasoning", "tools", "tools-2", "cut", "cut-hard", "error-vllm", "badjson", "finish-filter", "empty"],
)
def test_every_chunk_is_one_that_the_version_knows(model: str, sdk: AISDK, gateway: Gateway, chat_id: str) -> None:
    _, frames = send(gateway.url, chat_body(f"{chat_id}-schema", "T=6 I=200", model=model))
    assert frames.done
    assert len(frames.chunks) >= 4
    assert sdk.schema_errors(frames.chunks) == []
    assert len(sdk.schema_errors([{"type": "no-such-chunk"}])) == 1
