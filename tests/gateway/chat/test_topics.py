"""Names of topics: a chat's says nothing of its owner and its id, and is theirs alone."""

import re

import pytest

from gateway.chat.topics import CHATS, MAX_ID, chat_topic, check_id, new_run_id, run_id_of, run_topic
from gateway.errors import BadRequest


def test_a_chat_has_one_topic_for_each_owner_and_id() -> None:
    pairs = [("alice", "c"), ("bob", "c"), ("alice", "d"), ("alic", "ec"), ("alicec", ""), ("", "alicec")]
    assert len({chat_topic(*pair) for pair in pairs}) == len(pairs)
    assert chat_topic("alice", "c") == chat_topic("alice", "c")


@pytest.mark.parametrize("owner", ["alice", "é", "\ud800", "a/b c\n", "x" * 10_000])
def test_a_chats_topic_is_of_one_form_whatever_its_owner_is_called(owner: str) -> None:
    assert re.fullmatch(CHATS + "[0-9a-f]{40}", chat_topic(owner, "c"))


def test_a_chats_topic_never_changes_its_name() -> None:
    """Logs are kept for years: another digest would hide every chat there is."""
    assert chat_topic("local", "c") == "chat/c152eb2c2e9f20364ebd31e6f0ac251cc6036acd"


def test_a_runs_topic_tells_its_id() -> None:
    run_id = new_run_id()
    assert run_id_of(run_topic(run_id)) == run_id
    assert new_run_id() != run_id


@pytest.mark.parametrize("value", ["c", "A-Za-z0-9._:@~+=-", "x" * MAX_ID])
def test_what_can_be_an_id_is_one(value: str) -> None:
    assert check_id("chat id", value) == value


@pytest.mark.parametrize("value", ["", "x" * (MAX_ID + 1), "a/b", "a b", "a\n", "é", "\0", "\ud800"])
def test_what_cannot_be_an_id_is_refused_by_name(value: str) -> None:
    with pytest.raises(BadRequest, match="chat id") as refused:
        check_id("chat id", value)
    assert refused.value.code == "bad_id"
