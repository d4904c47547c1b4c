"""Devices answer a model's calls: a result continues its answer once, and a request is known by what it brings."""

import json
from typing import Any

import msgspec
import pytest

from gateway.chat.change import Change, Posting, continuing_run
from gateway.chat.records.chat_record import RunStarted, Trigger, encode_event
from gateway.chat.records.messages import UIMessage
from gateway.errors import BadRequest
from tests.support.chats import after, answer, brief, fold, history, key_of, message, reconciled, tool, user

SUBMIT: Trigger = "submit-message"
REGENERATE: Trigger = "regenerate-message"
U1, A1, U2, A2, U3 = user("u1", "1"), answer("a1", "one"), user("u2", "2"), answer("a2", "two"), user("u3", "3")

CALLING = message("a1", "assistant", "pay?", tool("c", "pay", "input-available", input={}))
PAID_PARTS = [tool("c", "pay", "output-available", input={}, output="ok")]
PAID = message("a1", "assistant", "pay?", tool("c", "pay", "output-available", input={}, output="ok"))


def test_a_tool_result_continues_its_answer() -> None:
    chat = history(U1, CALLING)
    change = reconciled(chat, [U1, PAID], SUBMIT, "a1")
    assert change.answer is not None
    assert (change.answer.id, names(change)) == ("a1", ["message"])
    assert outputs(change) == ["ok"]
    assert [bytes(p) for p in after(chat, change).messages[1].parts] == [bytes(p) for p in PAID.parts]


def outputs(change: Change) -> list[Any]:
    parts = [json.loads(bytes(part)) for shown in change.conversation for part in shown.parts]
    return [part["output"] for part in parts if "output" in part]


def test_a_tool_result_and_a_new_message_come_together() -> None:
    change = reconciled(history(U1, CALLING), [U1, PAID, U2], SUBMIT, "")
    assert change.answer is None
    assert names(change) == ["message", "message"]
    assert outputs(change) == ["ok"]


def test_a_tool_result_of_a_device_that_is_behind_takes_nothing_away() -> None:
    chat = history(U1, CALLING, U2, A2)
    change = reconciled(chat, [U1, PAID], SUBMIT, "a1")
    assert brief(after(chat, change).messages) == ["u1:1", "a1:pay?", "u2:2", "a2:two"]
    assert outputs(change) == ["ok"]


def test_the_same_tool_result_again_changes_nothing() -> None:
    chat = history(U1, PAID)
    assert reconciled(chat, [U1, PAID], SUBMIT, "a1").events == []


LATE = {
    "the same": PAID_PARTS[0],
    "another result": tool("c", "pay", "output-available", input={}, output="no"),
    "a failure": tool("c", "pay", "output-error", input={}, errorText="no money"),
    "a denial": tool("c", "pay", "output-denied", input={}, approval={"id": "p", "approved": False}),
    "an approval": tool("c", "pay", "approval-responded", input={}, approval={"id": "p", "approved": True}),
}


@pytest.mark.parametrize("part", LATE.values(), ids=LATE)
def test_a_result_that_another_device_has_given_already_leads_to_its_run(part: dict[str, Any]) -> None:
    chat = fold(history(U1, CALLING), [PAID, RunStarted(run_id="r2", message_id="a1")])
    late = message("a1", "assistant", "pay?", part)
    for posted in ([U1, late], [late]):
        earlier_run = continuing_run(chat, Posting(messages=posted, message_id="a1"))
        assert earlier_run is not None
        assert earlier_run.run_id == "r2"


@pytest.mark.parametrize(
    "posted",
    [[U1], [U1, PAID, U2], [message("a1", "assistant", "pay?", *PAID_PARTS, "done")], [answer("a9", "x")], []],
    ids=["a question", "a new message", "an answer that went on", "an unknown answer", "nothing"],
)
def test_other_requests_are_runs_of_their_own(posted: list[UIMessage]) -> None:
    chat = fold(history(U1, CALLING), [PAID, RunStarted(run_id="r2", message_id="a1")])
    assert continuing_run(chat, Posting(messages=posted)) is None
    assert continuing_run(history(U1, CALLING), Posting(messages=[U1, PAID])) is None


# Keys


def test_the_same_message_is_the_same_request() -> None:
    key = key_of([U1, A1, U2], SUBMIT, "")
    assert key == key_of([U2], SUBMIT, "") != ""


@pytest.mark.parametrize(
    "other",
    [[user("u2", "2 ")], [user("u9", "2")], [message("u2", "user", "2", "")], [U2, U3]],
    ids=["another text", "another id", "another part", "a later message"],
)
def test_another_last_message_is_another_request(other: list[UIMessage]) -> None:
    assert key_of(other, SUBMIT, "") != key_of([U2], SUBMIT, "")


def test_the_order_of_fields_and_the_spaces_of_a_part_do_not_matter() -> None:
    one = UIMessage(id="u", role="user", parts=[msgspec.Raw(b'{"type":"text","text":"a"}')])
    two = UIMessage(id="u", role="user", parts=[msgspec.Raw(b'{ "text" : "a", "type": "text" }')])
    assert key_of([one], SUBMIT, "") == key_of([two], SUBMIT, "")


def test_an_answer_with_tool_results_is_a_new_request() -> None:
    assert key_of([U1, PAID], SUBMIT, "a1") != key_of([U1, CALLING], SUBMIT, "a1")


def test_a_regeneration_is_the_same_only_when_it_names_the_same_answer() -> None:
    assert key_of([U1], REGENERATE, "a1") == key_of([U1, A1], REGENERATE, "a1")
    assert key_of([U1], REGENERATE, "a1") != key_of([U1], REGENERATE, "a2")
    assert key_of([U1], REGENERATE, "") == ""
    assert key_of([U1], REGENERATE, "a1") != key_of([U1], SUBMIT, "a1")


def test_a_request_without_messages_has_no_key() -> None:
    assert key_of([], SUBMIT, "") == ""


@pytest.mark.parametrize("data", [b"1e400", b'"\xff"'], ids=["a number out of range", "bytes that are no text"])
def test_a_part_that_cannot_be_read_is_refused(data: bytes) -> None:
    part = msgspec.Raw(b'{"type":"data-x","data":%b}' % data)
    with pytest.raises(BadRequest):
        key_of([UIMessage(id="u", role="user", parts=[part])], SUBMIT, "")


def names(change: Change) -> list[str]:
    """Returns the names of the events that a change appends."""
    return [encode_event(event)[0] for event in change.events]
