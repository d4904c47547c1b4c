"""A request changes a chat: the model is sent what a client shows, and nothing is lost that nobody took back."""

import pytest

from gateway.chat.change import Change
from gateway.chat.records.chat_record import MessagesDeleted, Trigger, encode_event
from gateway.chat.records.messages import UIMessage
from gateway.errors import BadRequest
from tests.support.chats import after, answer, brief, fold, history, key_of, message, reconciled, user

SUBMIT: Trigger = "submit-message"
REGENERATE: Trigger = "regenerate-message"

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
    change = reconciled(chat, posted, trigger, message_id)
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
        reconciled(history(*stored), posted, trigger, "")


def test_a_request_changes_nothing_of_the_history_that_it_is_given() -> None:
    chat = history(U1, A1, U2, A2)
    reconciled(chat, [user("u1", "edited")], SUBMIT, "u1")
    reconciled(chat, [U1], REGENERATE, "a1")
    assert brief(chat.messages) == ["u1:1", "a1:one", "u2:2", "a2:two"]


# What is shown: (stored, posted) → what the model is sent

U4, A3 = user("u4", "4"), answer("a3", "three")
FOUR = [U1, A1, U2, A2]

SHOWN: dict[str, tuple[list[UIMessage], list[UIMessage], str]] = {
    "all of it": (FOUR, [*FOUR, U3], "u1 a1 u2 a2 u3"),
    "the first exchange was removed": (FOUR, [U2, A2, U3], "u2 a2 u3"),
    "one in the middle was removed": (FOUR, [U1, A1, A2, U3], "u1 a1 a2 u3"),
    "an answer was removed": (FOUR, [U1, U2, A2, U3], "u1 u2 a2 u3"),
    "a window": ([*FOUR, U3, A3], [A3, U4], "a3 u4"),
    "a window that is behind": ([*FOUR, U3, A3], [U2, A2, U4], "u2 a2 u3 a3 u4"),
    "everything was removed": (FOUR, [U3], "u3"),
    "a conversation from elsewhere": (FOUR, [U3, A3, U4], "u3 a3 u4"),
    "a device that is behind": (FOUR, [U1, A1, U3], "u1 a1 u2 a2 u3"),
    "a device that saw the first question alone": (FOUR, [U1, U3], "u1 a1 u2 a2 u3"),
    "its own message first": (FOUR, [U3, U1, A1, U4], "u1 a1 u2 a2 u3 u4"),
}


@pytest.mark.parametrize(("stored", "posted", "sent"), SHOWN.values(), ids=SHOWN.keys())
def test_the_model_is_sent_what_is_shown_and_nothing_stored_is_lost(
    stored: list[UIMessage], posted: list[UIMessage], sent: str
) -> None:
    chat = history(*stored)
    change = reconciled(chat, posted)
    assert ids(change.conversation) == sent.split()
    new = [message for message in posted if message not in stored]
    assert brief(after(chat, change).messages) == brief([*stored, *new])


def test_what_was_removed_stays_away_on_the_turns_that_follow() -> None:
    chat = after(history(*FOUR), reconciled(history(*FOUR), [U3]))
    fold(chat, [A3])
    assert ids(reconciled(chat, [U3, A3, U4]).conversation) == ["u3", "a3", "u4"]


def test_one_message_is_asked_with_all_that_is_stored() -> None:
    change = reconciled(history(*FOUR), [U3], is_excerpt=True)
    assert ids(change.conversation) == ["u1", "a1", "u2", "a2", "u3"]


@pytest.mark.parametrize(
    ("posted", "message_id", "trigger", "sent"),
    [
        ([user("u2", "edited")], "u2", SUBMIT, "u2"),
        ([user("u2", "edited")], "", SUBMIT, "u2"),
        ([A1, user("u2", "edited")], "u2", SUBMIT, "a1 u2"),
        ([U2], "a2", REGENERATE, "u2"),
        ([U1, U2], "a2", REGENERATE, "u1 u2"),
        ([U2], "", REGENERATE, "u2"),
    ],
)
def test_an_edit_or_a_regeneration_of_a_window_is_asked_with_the_window(
    posted: list[UIMessage], message_id: str, trigger: Trigger, sent: str
) -> None:
    chat = history(*FOUR)
    change = reconciled(chat, posted, trigger, message_id)
    assert ids(change.conversation) == sent.split()
    assert ids(after(chat, change).messages) == ["u1", "a1", "u2"]


def test_an_excerpt_can_edit_and_regenerate() -> None:
    edited = reconciled(history(*FOUR), [user("u2", "edited")], SUBMIT, "u2", is_excerpt=True)
    assert brief(edited.conversation) == ["u1:1", "a1:one", "u2:edited"]
    again = reconciled(history(*FOUR), [U2], REGENERATE, "a2", is_excerpt=True)
    assert ids(again.conversation) == ["u1", "a1", "u2"]


def test_an_earlier_message_that_was_changed_on_screen_keeps_what_follows_it() -> None:
    """A password is taken out of the first message by `setMessages`, then the talk goes on."""
    chat = history(*FOUR)
    change = reconciled(chat, [user("u1", "***"), A1, U2, A2, U3])
    assert brief(change.conversation) == ["u1:***", "a1:one", "u2:2", "a2:two", "u3:3"]
    assert brief(after(chat, change).messages) == brief(change.conversation)


def test_a_regeneration_that_posts_nothing_says_nothing_of_what_is_shown() -> None:
    assert ids(reconciled(history(*FOUR), [], REGENERATE, "a2").conversation) == ["u1", "a1", "u2"]


# What shall be gone


@pytest.mark.parametrize(
    ("posted", "kept"),
    [([U2, A2, U3], "u2 a2 u3"), ([U3], "u3"), ([U1, U3], "u1 u3"), ([*FOUR, U3], "u1 a1 u2 a2 u3")],
)
def test_what_a_truncating_client_does_not_show_is_gone_for_good(posted: list[UIMessage], kept: str) -> None:
    chat = history(*FOUR)
    change = reconciled(chat, posted, truncates=True)
    assert ids(change.conversation) == kept.split()
    chat = fold(after(chat, change), [A3])
    assert ids(chat.messages) == [*kept.split(), "a3"]
    later = reconciled(chat, [*FOUR, U3, A3, U4])
    assert ids(later.conversation) == [*kept.split(), "a3", "u4"]
    assert ids(after(chat, later).messages) == ids(later.conversation)


def test_a_deleted_message_that_another_device_shows_goes_to_no_model() -> None:
    chat = fold(history(*FOUR), [MessagesDeleted(["u1", "a1"])])
    assert ids(reconciled(chat, [*FOUR, U3]).conversation) == ["u2", "a2", "u3"]
    assert ids(reconciled(chat, [U1, A1, U3]).conversation) == ["u3"]


def test_a_deleted_message_cannot_be_asked_again() -> None:
    chat = fold(history(*FOUR), [MessagesDeleted(["u2", "a2"])])
    with pytest.raises(BadRequest, match="deleted"):
        reconciled(chat, [U1, A1, U2])
    assert ids(reconciled(chat, [U1, A1, U2], REGENERATE, "a2").conversation) == ["u1"]


def ids(messages: list[UIMessage]) -> list[str]:
    return [message.id for message in messages]


def names(change: Change) -> list[str]:
    """Returns the names of the events that a change appends."""
    return [encode_event(event)[0] for event in change.events]


# Messages that are the same, in other words


@pytest.mark.parametrize(("size", "is_same"), [(10, True), (100_000, False)], ids=["small", "large"])
def test_the_order_of_fields_does_not_make_a_small_message_another(size: int, is_same: bool) -> None:
    part = {"type": "data-x", "data": {"a": 1, "b": "x" * size}}
    reordered = {"data": {"b": "x" * size, "a": 1}, "type": "data-x"}
    stored, posted = message("u1", "user", part), message("u1", "user", reordered)
    assert (reconciled(history(stored, A1), [posted]).events == []) is is_same
    assert (key_of([stored]) == key_of([posted])) is is_same
    assert reconciled(history(stored, A1), [message("u1", "user", part)]).events == []
    assert key_of([stored]) == key_of([message("u1", "user", part)])
    assert key_of([stored]) != key_of([message("u1", "user", {**part, "data": {"a": 2, "b": "x" * size}})])
