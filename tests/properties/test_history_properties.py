"""Whatever devices post to a chat, all who read its topic see what the model was asked, and nothing is lost."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.chat.records.chat_record import Trigger
from gateway.chat.records.messages import UIMessage
from gateway.errors import BadRequest
from tests.support.chats import after, answer, brief, history, message, reconciled, tool, user

IDS = [f"{number}" for number in range(6)]
TEXTS = st.sampled_from(["a", "b", "c"])


def message_of(message_id: str, text: str) -> UIMessage:
    """Returns a user's message for an even id and an answer for an odd one: clients never change whose a message is."""
    if int(message_id) % 2 == 0:
        return user(message_id, text)
    if text == "c":
        return message(message_id, "assistant", "t", tool("call", "f", "input-available"))
    return answer(message_id, text)


MESSAGES = st.lists(st.builds(message_of, st.sampled_from(IDS), TEXTS), max_size=6, unique_by=lambda m: m.id)
TRIGGERS = st.sampled_from(["submit-message", "regenerate-message"])
NAMED = st.sampled_from(["", "unknown", *IDS])


@given(MESSAGES, MESSAGES, TRIGGERS, NAMED)
def test_the_chat_holds_what_the_model_was_asked(
    messages: list[UIMessage], request: list[UIMessage], trigger: Trigger, named: str
) -> None:
    chat = history(*messages)
    try:
        change = reconciled(chat, request, trigger, named)
    except BadRequest:
        return
    kept = iter(brief(after(chat, change).messages))
    assert all(sent in kept for sent in brief(change.conversation)), "it was asked what is not stored, or in no order"
    assert len({m.id for m in change.conversation}) == len(change.conversation)


@given(MESSAGES, st.lists(st.sampled_from(IDS), max_size=6, unique=True), st.sampled_from(["", "unknown"]))
def test_a_device_that_edits_nothing_takes_nothing_away(
    messages: list[UIMessage], known_ids: list[str], named: str
) -> None:
    """It posts some of what is stored, its answers cut short, and one new message."""
    request = [m if m.role == "user" else answer(m.id, "") for m in messages if m.id in known_ids] + [user("new", "hi")]
    chat = history(*messages)
    change = reconciled(chat, request, "submit-message", named)
    assert brief(after(chat, change).messages) == [*brief(messages), "new:hi"]
    places = [place for place, m in enumerate(messages) if m.id in known_ids]
    seen = max(places) + 1 if places else len(messages)
    shown = [m for place, m in enumerate(messages) if place in places or place >= seen]
    assert brief(change.conversation) == [*brief(shown), "new:hi"]


@given(MESSAGES, MESSAGES)
def test_the_same_request_again_changes_nothing(messages: list[UIMessage], request: list[UIMessage]) -> None:
    """A client repeats it when the answer was cut; it edits nothing."""
    users = {m.id: m for m in messages if m.role == "user"}
    request = [users.get(m.id, m) for m in request]
    chat = history(*messages)
    try:
        change = reconciled(chat, request, "submit-message", "")
    except BadRequest:
        return
    assert reconciled(after(chat, change), request, "submit-message", "").events == []
