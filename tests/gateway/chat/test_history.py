"""A chat as its topic tells it, and what a request makes of it: nothing is lost that nobody took back."""

import json
from typing import Any

import msgspec
import pytest

from events.log.port import Block
from gateway.chat.history import Change, History, reconcile, request_key
from gateway.chat.records.chat_record import RunFinished, RunStarted, Trigger, encode_event
from gateway.chat.records.messages import UIMessage
from gateway.core.usage import Usage
from gateway.errors import BadRequest
from tests.support.chats import after, answer, brief, fold, history, message, tool, user

SUBMIT: Trigger = "submit-message"
REGENERATE: Trigger = "regenerate-message"


# Folding


def started(run_id: str, key: str = "", message_id: str = "a") -> RunStarted:
    return RunStarted(run_id=run_id, message_id=message_id, key=key)


def ended(run_id: str, outcome: Any = "finish", answer: UIMessage | None = None) -> RunFinished:
    usage = Usage(input_tokens=1, output_tokens=1, total_tokens=2)
    return RunFinished(run_id=run_id, outcome=outcome, usage=usage, message=answer)


def test_a_run_is_active_from_its_start_to_its_end() -> None:
    chat = fold(history(user("u", "hi")), [started("r1")])
    assert chat.active is not None
    fold(chat, [ended("r1", answer=answer("a", "hello"))])
    assert (chat.active, brief(chat.messages)) == (None, ["u:hi", "a:hello"])


def test_the_late_end_of_an_earlier_run_does_not_end_the_active_one() -> None:
    chat = fold(history(), [started("r1"), started("r2"), ended("r1", "abort")])
    assert chat.active is not None
    assert chat.active.run_id == "r2"


def test_an_answer_that_is_continued_replaces_itself() -> None:
    chat = fold(
        history(user("u", "hi"), answer("a", "one")), [started("r2"), ended("r2", answer=answer("a", "one two"))]
    )
    assert brief(chat.messages) == ["u:hi", "a:one two"]


def test_a_run_that_said_nothing_leaves_no_message() -> None:
    assert fold(history(), [started("r"), ended("r", "error")]).messages == []


def test_events_of_a_newer_version_are_passed_over() -> None:
    chat = history(user("u", "hi"))
    chat.apply(Block(first=2, data=[b"1", b"{}"], name="pinned", time_ms=0))
    assert (chat.head, len(chat.messages)) == (3, 1)


def test_a_run_is_found_by_its_key() -> None:
    chat = fold(history(), [started("r1", "k1"), started("r2")])
    earlier_run = chat.run_of("k1")
    assert earlier_run is not None
    assert earlier_run.run_id == "r1"
    assert chat.run_of("k2") is None
    assert chat.run_of("") is None


def test_a_run_that_was_refused_before_a_word_may_be_asked_for_again() -> None:
    assert fold(history(), [started("r", "k"), ended("r", "error")]).run_of("k") is None


@pytest.mark.parametrize("outcome", ["finish", "error", "abort"])
def test_a_run_that_said_something_is_the_result_of_its_key(outcome: str) -> None:
    assert fold(history(), [started("r", "k"), ended("r", outcome, answer("a", "x"))]).run_of("k") is not None


def test_a_run_whose_answer_was_edited_away_is_no_result_any_more() -> None:
    first, second = user("u", "one"), user("u", "two")
    chat = fold(history(first), [started("r1", request_key([first], SUBMIT, "")), ended("r1", answer=answer("a", "1"))])
    fold(chat, reconcile(chat, [second], SUBMIT, "u").events)
    fold(chat, [started("r2", request_key([second], SUBMIT, "u"), "b"), ended("r2", answer=answer("b", "2"))])
    assert chat.run_of(request_key([first], SUBMIT, "u")) is None


def test_an_answer_is_found_by_its_id() -> None:
    chat = history(user("u", "hi"), answer("a", "hello"))
    assert chat.answer("a") is chat.messages[1]
    assert chat.answer("u") is None


# Reconciling: (stored, posted, trigger, message id) → (conversation, names of the events)

U1, A1, U2, A2, U3 = user("u1", "1"), answer("a1", "one"), user("u2", "2"), answer("a2", "two"), user("u3", "3")
PARTIAL = answer("a1", "on")

Case = tuple[list[UIMessage], list[UIMessage], Trigger, str, list[str], list[str]]
CASES: dict[str, Case] = {
    "a new chat": ([], [U1], SUBMIT, "", ["u1:1"], ["message"]),
    "a new chat with a system message": (
        [],
        [message("s", "system", "be brief"), U1],
        SUBMIT,
        "",
        ["s:be brief", "u1:1"],
        ["message", "message"],
    ),
    "a second turn": ([U1, A1], [U1, A1, U2], SUBMIT, "", ["u1:1", "a1:one", "u2:2"], ["message"]),
    "a second turn that posts its last message alone": (
        [U1, A1],
        [U2],
        SUBMIT,
        "",
        ["u1:1", "a1:one", "u2:2"],
        ["message"],
    ),
    "a conversation from elsewhere": ([], [U1, A1, U2], SUBMIT, "", ["u1:1", "a1:one", "u2:2"], ["message"] * 3),
    "the same again": ([U1], [U1], SUBMIT, "", ["u1:1"], []),
    "a device that does not know the newest messages": (
        [U1, A1, U2, A2],
        [U1, A1, U3],
        SUBMIT,
        "",
        ["u1:1", "a1:one", "u2:2", "a2:two", "u3:3"],
        ["message"],
    ),
    "a device that knows nothing": ([U1, A1], [U3], SUBMIT, "", ["u1:1", "a1:one", "u3:3"], ["message"]),
    "a part of an answer": ([U1, A1], [U1, PARTIAL, U2], SUBMIT, "", ["u1:1", "a1:one", "u2:2"], ["message"]),
    "a longer answer than ours": (
        [U1, A1],
        [U1, answer("a1", "one and evil"), U2],
        SUBMIT,
        "",
        ["u1:1", "a1:one", "u2:2"],
        ["message"],
    ),
    "an edit by its id": (
        [U1, A1, U2, A2],
        [user("u1", "edited")],
        SUBMIT,
        "u1",
        ["u1:edited"],
        ["truncate", "message"],
    ),
    "an edit of a later message": (
        [U1, A1, U2, A2],
        [U1, A1, user("u2", "edited")],
        SUBMIT,
        "u2",
        ["u1:1", "a1:one", "u2:edited"],
        ["truncate", "message"],
    ),
    "an edit without its id": (
        [U1, A1, U2, A2],
        [user("u1", "edited")],
        SUBMIT,
        "",
        ["u1:edited"],
        ["truncate", "message"],
    ),
    "an edit that changes nothing": ([U1, A1], [U1], SUBMIT, "u1", ["u1:1"], ["truncate", "message"]),
    "an edit of a message that is not known": (
        [U1, A1],
        [U1, A1, U2],
        SUBMIT,
        "u2",
        ["u1:1", "a1:one", "u2:2"],
        ["message"],
    ),
    "a regeneration of the last answer": ([U1, A1], [U1], REGENERATE, "a1", ["u1:1"], ["truncate"]),
    "a regeneration without an id": ([U1, A1], [U1], REGENERATE, "", ["u1:1"], ["truncate"]),
    "a regeneration of an earlier answer": ([U1, A1, U2, A2], [U1], REGENERATE, "a1", ["u1:1"], ["truncate"]),
    "a regeneration named by its question": ([U1, A1, U2, A2], [U1], REGENERATE, "u1", ["u1:1"], ["truncate"]),
    "a regeneration that posts the answer as well": ([U1, A1], [U1, A1], REGENERATE, "a1", ["u1:1"], ["truncate"]),
    "a regeneration of what is not known": ([U1, A1], [U1], REGENERATE, "a9", ["u1:1"], ["truncate"]),
    "a regeneration after an answer that never came": ([U1], [U1], REGENERATE, "", ["u1:1"], []),
    "a regeneration by a device that is behind": (
        [U1, A1, U2, A2],
        [U1, A1, U2],
        REGENERATE,
        "",
        ["u1:1", "a1:one", "u2:2"],
        ["truncate"],
    ),
}


@pytest.mark.parametrize(
    ("stored", "posted", "trigger", "message_id", "conversation", "events"), CASES.values(), ids=CASES.keys()
)
def test_a_request_makes_this_of_a_chat(
    stored: list[UIMessage],
    posted: list[UIMessage],
    trigger: Trigger,
    message_id: str,
    conversation: list[str],
    events: list[str],
) -> None:
    chat = history(*stored)
    change = reconcile(chat, posted, trigger, message_id)
    assert brief(change.conversation) == conversation
    assert names(change) == events
    assert brief(after(chat, change).messages) == conversation
    assert change.answer is None


@pytest.mark.parametrize(
    ("stored", "posted", "trigger"),
    [([], [], SUBMIT), ([], [], REGENERATE), ([A1], [], REGENERATE)],
    ids=["nothing", "nothing to regenerate", "an answer to nothing"],
)
def test_a_request_without_a_message_to_answer_is_refused(
    stored: list[UIMessage], posted: list[UIMessage], trigger: Trigger
) -> None:
    with pytest.raises(BadRequest, match="no message to answer"):
        reconcile(history(*stored), posted, trigger, "")


def test_a_request_changes_nothing_of_the_history_that_it_is_given() -> None:
    chat = history(U1, A1, U2, A2)
    reconcile(chat, [user("u1", "edited")], SUBMIT, "u1")
    reconcile(chat, [U1], REGENERATE, "a1")
    assert brief(chat.messages) == ["u1:1", "a1:one", "u2:2", "a2:two"]


# Tool results

CALLING = message("a1", "assistant", "pay?", tool("c", "pay", "input-available", input={}))
PAID = message("a1", "assistant", "pay?", tool("c", "pay", "output-available", input={}, output="ok"))


def test_a_tool_result_continues_its_answer() -> None:
    chat = history(U1, CALLING)
    change = reconcile(chat, [U1, PAID], SUBMIT, "a1")
    assert change.answer is not None
    assert (change.answer.id, names(change)) == ("a1", ["message"])
    assert outputs(change) == ["ok"]
    assert [bytes(p) for p in after(chat, change).messages[1].parts] == [bytes(p) for p in PAID.parts]


def names(change: Change) -> list[str]:
    """Returns the names of the events that a change appends."""
    return [encode_event(event)[0] for event in change.events]


def outputs(change: Change) -> list[Any]:
    parts = [json.loads(bytes(part)) for shown in change.conversation for part in shown.parts]
    return [part["output"] for part in parts if "output" in part]


def test_a_tool_result_and_a_new_message_come_together() -> None:
    change = reconcile(history(U1, CALLING), [U1, PAID, U2], SUBMIT, "")
    assert change.answer is None
    assert names(change) == ["message", "message"]
    assert outputs(change) == ["ok"]


def test_a_tool_result_of_a_device_that_is_behind_takes_nothing_away() -> None:
    chat = history(U1, CALLING, U2, A2)
    change = reconcile(chat, [U1, PAID], SUBMIT, "a1")
    assert brief(after(chat, change).messages) == ["u1:1", "a1:pay?", "u2:2", "a2:two"]
    assert outputs(change) == ["ok"]


def test_the_same_tool_result_again_changes_nothing() -> None:
    chat = history(U1, PAID)
    assert reconcile(chat, [U1, PAID], SUBMIT, "a1").events == []


# Keys


def test_the_same_message_is_the_same_request() -> None:
    key = request_key([U1, A1, U2], SUBMIT, "")
    assert key == request_key([U2], SUBMIT, "") != ""


@pytest.mark.parametrize(
    "other",
    [[user("u2", "2 ")], [user("u9", "2")], [message("u2", "user", "2", "")], [U2, U3]],
    ids=["another text", "another id", "another part", "a later message"],
)
def test_another_last_message_is_another_request(other: list[UIMessage]) -> None:
    assert request_key(other, SUBMIT, "") != request_key([U2], SUBMIT, "")


def test_the_order_of_fields_and_the_spaces_of_a_part_do_not_matter() -> None:
    one = UIMessage(id="u", role="user", parts=[msgspec.Raw(b'{"type":"text","text":"a"}')])
    two = UIMessage(id="u", role="user", parts=[msgspec.Raw(b'{ "text" : "a", "type": "text" }')])
    assert request_key([one], SUBMIT, "") == request_key([two], SUBMIT, "")


def test_an_answer_with_tool_results_is_a_new_request() -> None:
    assert request_key([U1, PAID], SUBMIT, "a1") != request_key([U1, CALLING], SUBMIT, "a1")


def test_a_regeneration_is_the_same_only_when_it_names_the_same_answer() -> None:
    assert request_key([U1], REGENERATE, "a1") == request_key([U1, A1], REGENERATE, "a1")
    assert request_key([U1], REGENERATE, "a1") != request_key([U1], REGENERATE, "a2")
    assert request_key([U1], REGENERATE, "") == ""
    assert request_key([U1], REGENERATE, "a1") != request_key([U1], SUBMIT, "a1")


def test_a_request_without_messages_has_no_key() -> None:
    assert request_key([], SUBMIT, "") == ""


@pytest.mark.parametrize("data", [b"1e400", b'"\xff"'], ids=["a number out of range", "bytes that are no text"])
def test_a_part_that_cannot_be_read_is_refused(data: bytes) -> None:
    part = msgspec.Raw(b'{"type":"data-x","data":%b}' % data)
    with pytest.raises(BadRequest):
        request_key([UIMessage(id="u", role="user", parts=[part])], SUBMIT, "")


def test_a_chat_without_a_topic_is_empty() -> None:
    assert (History(chat_id="c").messages, History(chat_id="c").head) == ([], 0)
