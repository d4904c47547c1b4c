"""A chat is what its topic tells: messages, runs, what was deleted, and what is going on."""

from typing import Any

import pytest

from events.log.port import Block
from gateway.chat.history import History
from gateway.chat.records.chat_record import MessagesDeleted, RunFinished, RunStarted, Trigger
from gateway.chat.records.messages import UIMessage
from gateway.core.usage import Usage
from tests.support.chats import answer, brief, fold, history, key_of, reconciled, user

SUBMIT: Trigger = "submit-message"


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
    chat = fold(history(first), [started("r1", key_of([first])), ended("r1", answer=answer("a", "1"))])
    fold(chat, reconciled(chat, [second], SUBMIT, "u").events)
    fold(chat, [started("r2", key_of([second], SUBMIT, "u"), "b"), ended("r2", answer=answer("b", "2"))])
    assert chat.run_of(key_of([first], SUBMIT, "u")) is None


def test_an_answer_is_found_by_its_id() -> None:
    chat = history(user("u", "hi"), answer("a", "hello"))
    assert chat.answer("a") is chat.messages[1]
    assert chat.answer("u") is None


def test_a_chat_without_a_topic_is_empty() -> None:
    assert (History(chat_id="c").messages, History(chat_id="c").head) == ([], 0)


# Deleted messages

ASKED = [user("u1", "1"), answer("a1", "one"), user("u2", "2")]


def test_a_deleted_message_is_gone_and_does_not_come_back() -> None:
    chat = fold(history(*ASKED), [MessagesDeleted(["u1", "a1"]), user("u1", "again"), answer("a1", "late")])
    assert brief(chat.messages) == ["u2:2"]


def test_an_answer_that_was_deleted_while_it_was_written_does_not_come_back() -> None:
    chat = fold(history(ASKED[0]), [started("r1"), MessagesDeleted(["a"]), ended("r1", answer=answer("a", "late"))])
    assert (brief(chat.messages), chat.active) == (["u1:1"], None)


def test_a_run_whose_question_was_deleted_is_no_result_any_more() -> None:
    chat = fold(history(ASKED[0]), [started("r1", "k1"), ended("r1", answer=ASKED[1]), ASKED[2], started("r2", "k2")])
    fold(chat, [MessagesDeleted(["u1"])])
    assert chat.run_of("k1") is None
    assert chat.run_of("k2") is not None
    fold(chat, [MessagesDeleted(["u2"])])
    assert chat.run_of("k2") is None


def test_deleting_what_is_not_there_changes_nothing() -> None:
    chat = fold(history(*ASKED), [started("r1", "k1"), MessagesDeleted(["x"])])
    assert (brief(chat.messages), chat.run_of("k1") is not None) == (["u1:1", "a1:one", "u2:2"], True)


# Answers that were continued


def test_the_run_that_goes_on_with_an_answer_is_known_until_it_fails_unseen() -> None:
    chat = fold(history(ASKED[0]), [started("r1", message_id="a1"), ended("r1", answer=ASKED[1])])
    assert chat.continued == {}
    fold(chat, [answer("a1", "one"), started("r2", message_id="a1")])
    assert chat.continued == {"a1": "r2"}
    fold(chat, [ended("r2", "error")])
    assert chat.continued == {}


def test_results_that_came_with_a_new_message_belong_to_its_run() -> None:
    chat = fold(history(*ASKED[:2]), [answer("a1", "1!"), ASKED[2], started("r2", message_id="a2")])
    assert chat.continued == {"a1": "r2"}
    assert fold(chat, [user("u3", "3"), started("r3", message_id="a3")]).continued == {"a1": "r2"}
