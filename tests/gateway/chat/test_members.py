"""Every cell of the table of roles, on a real gateway: what each member may call, and what ends with a membership."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest

from tests.conftest import Gateway, UpstreamThread, eventually
from tests.support.member_users import ASKING, ROLES, User, Users, member_gateways, member_users, reading, shared
from tests.support.sse_client import chat_body, user_message


@pytest.fixture(scope="module")
def gateways(upstream: UpstreamThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Gateway]]:
    yield from member_gateways(upstream, tmp_path_factory.mktemp("members"))


@pytest.fixture(scope="module")
def users(gateways: list[Gateway]) -> Iterator[Users]:
    yield from member_users(gateways[0])


@pytest.fixture
def chat(users: Users, request: pytest.FixtureRequest) -> str:
    """Returns the shared id of a chat of Alice's that has a member of every role."""
    return shared(users, f"c{abs(hash(request.node.name))}")


Call = Callable[[User, str], httpx2.Response]
CALLS: dict[str, tuple[str, Call]] = {
    "snapshot": ("read", lambda user, chat: user.call("GET", f"/api/chat/{chat}")),
    "stream": ("read", lambda user, chat: user.call("GET", f"/api/chat/{chat}/stream")),
    "send": ("send", lambda user, chat: user.say(chat, "T=1 I=0")),
    "regenerate": (
        "send",
        lambda user, chat: user.call(
            "POST", "/api/chat", {"id": chat, "messages": [], "trigger": "regenerate-message"}
        ),
    ),
    "truncate": (
        "manage",
        lambda user, chat: user.call("POST", "/api/chat", chat_body(chat, "T=1 I=0", truncate=True, message_id="t")),
    ),
    "steer": (
        "send",
        lambda user, chat: user.call(
            "POST", f"/api/chat/{chat}/steer", {"message": user_message("T=1 I=0", f"s-{user.name}")}
        ),
    ),
    "resume the queue": ("send", lambda user, chat: user.call("POST", f"/api/chat/{chat}/queue/resume")),
    "stop": ("send", lambda user, chat: user.call("POST", f"/api/chat/{chat}/stop", {})),
    "typing": ("send", lambda user, chat: user.call("POST", f"/api/chat/{chat}/typing")),
    "approval of nothing": (
        "answer",
        lambda user, chat: user.call("POST", f"/api/chat/{chat}/approvals/ap-no-1", {"approved": True}),
    ),
    "add": ("manage", lambda user, chat: user.call("PUT", f"/api/chat/{chat}/members/zoe", {"role": "viewer"})),
    "promote oneself": (
        "manage",
        lambda user, chat: user.call("PUT", f"/api/chat/{chat}/members/{user.name}", {"role": "owner"}),
    ),
    "remove": ("manage", lambda user, chat: user.call("DELETE", f"/api/chat/{chat}/members/zoe")),
    "delete a message": ("manage", lambda user, chat: user.call("DELETE", f"/api/chat/{chat}/messages/m-0")),
    "delete": ("manage", lambda user, chat: user.call("DELETE", f"/api/chat/{chat}")),
}
"""Each call with the right that it takes; of an owner's, what is not there is missed only by who may ask for it."""
RIGHTS = {"view": "read", "appo": "read answer", "edit": "read send", "otto": "read answer send manage"}


@pytest.mark.parametrize("name", CALLS)
def test_every_role_may_call_what_the_table_says(users: Users, chat: str, name: str) -> None:
    right, call = CALLS[name]
    refused = call(users["eve"], chat)
    assert (refused.status_code, refused.json()["code"]) == (404, "chat_not_found")
    for user in reversed(ROLES):  # an owner comes last: what they delete is gone for all
        answer = call(users[user], chat)
        if right in RIGHTS[user].split():
            assert answer.status_code < 300 or answer.json()["code"] in ("approval_not_found", "message_not_found")
        else:
            assert (answer.status_code, answer.json()["code"]) == (403, "role_forbidden"), (user, answer.text)


def test_a_stranger_is_told_the_same_of_a_chat_that_is_there_and_of_one_that_is_not(users: Users, chat: str) -> None:
    nowhere = "s_" + "0" * 22
    for _, call in CALLS.values():
        there, not_there = call(users["eve"], chat), call(users["eve"], nowhere)
        told = [
            {field: value for field, value in answer.json().items() if field not in ("request_id", "instance")}
            for answer in (there, not_there)
        ]
        assert json.dumps(told[0]).replace(chat, "ID") == json.dumps(told[1]).replace(nowhere, "ID")


def test_the_last_owner_stays_and_everybody_else_may_leave(users: Users, chat: str) -> None:
    alice, otto = users["alice"], users["otto"]

    def members() -> dict[str, str]:
        return {member["sub"]: member["role"] for member in otto.chat(chat)["members"]}

    assert members() == {"alice": "owner", **ROLES}
    assert users["view"].call("DELETE", f"/api/chat/{chat}/members/view").status_code == 204
    assert alice.call("PUT", f"/api/chat/{chat}/members/alice", {"role": "viewer"}).json()["members"][0] == {
        "sub": "alice",
        "role": "viewer",
    }
    for method, body in (("DELETE", None), ("PUT", {"role": "editor"})):
        refused = otto.call(method, f"/api/chat/{chat}/members/otto", body)
        assert (refused.status_code, refused.json()["code"]) == (409, "last_owner")
        assert "make somebody else an owner first" in refused.json()["detail"]
    assert members() == {"alice": "viewer", "otto": "owner", "edit": "editor", "appo": "approver"}


def test_who_was_removed_from_a_chat_of_their_own_making_begins_anew_under_its_id(users: Users) -> None:
    alice, otto = users["alice"], users["otto"]
    chat = shared(users, "taken", otto="owner")
    before = alice.chat("taken")["messages"]
    assert otto.call("DELETE", f"/api/chat/{chat}/members/alice").status_code == 204
    assert alice.call("GET", "/api/chat/taken").status_code == 404
    assert alice.call("GET", f"/api/chat/{chat}").status_code == 404
    assert "taken" not in [listed["id"] for listed in alice.call("GET", "/api/chats").json()["chats"]]
    assert alice.say("taken", "T=1 I=0", "anew").status_code == 200
    assert alice.chat("taken")["messages"][0]["id"] == "anew"
    assert otto.chat(chat)["messages"] == before
    assert "taken" in [listed["id"] for listed in alice.call("GET", "/api/chats").json()["chats"]]


def test_an_id_is_looked_up_among_ones_own_chats_first_and_then_among_those_that_are_shared(users: Users) -> None:
    alice, otto, edit = users["alice"], users["otto"], users["edit"]
    of_alice = shared(users, "same", edit="editor")
    assert edit.chat("same")["sharedId"] == of_alice
    assert otto.say("same", "T=1 I=0").status_code == 200
    of_otto = otto.call("PUT", "/api/chat/same/members/edit", {"role": "editor"}).json()["sharedId"]
    refused = edit.call("GET", "/api/chat/same")
    assert (refused.status_code, refused.json()["code"]) == (409, "chat_ambiguous")
    assert {edit.chat(chat)["sharedId"] for chat in (of_alice, of_otto)} == {of_alice, of_otto}
    listed = {chat["sharedId"]: (chat["id"], chat["role"]) for chat in edit.call("GET", "/api/chats").json()["chats"]}
    assert [listed[chat] for chat in (of_alice, of_otto)] == [("same", "editor")] * 2
    assert otto.call("DELETE", "/api/chat/same").status_code == 204
    assert edit.chat("same")["sharedId"] == of_alice
    assert alice.chat("same")["sharedId"] == of_alice
    assert otto.say("same", "T=1 I=0 not for edit").status_code == 200
    titles = [chat["title"] for chat in edit.call("GET", "/api/chats").json()["chats"]]
    assert not [title for title in titles if "not for edit" in title]
    assert edit.chat("same")["sharedId"] == of_alice


def test_the_gateway_says_who_wrote_and_a_model_is_told_of_several(users: Users, upstream: UpstreamThread) -> None:
    alice, edit = users["alice"], users["edit"]
    chat = shared(users, "authors", edit="editor")
    forged = {"metadata": {"author": "alice", "mine": 1}}
    message = user_message("T=1 I=0 second", "m-2") | forged
    assert edit.call("POST", "/api/chat", {"id": chat, "message": message}).status_code == 200
    stored = [message["metadata"] for message in alice.chat("authors")["messages"] if message["role"] == "user"]
    assert stored == [{"author": "alice"}, {"mine": 1, "author": "edit"}]
    body: Any = upstream.fake.requests[-1].body
    sent = body["messages"]
    assert [(turn["role"], turn.get("name")) for turn in sent] == [
        ("user", "alice"),
        ("assistant", None),
        ("user", "edit"),
    ]
    usage = edit.call("GET", "/api/usage?by=sub").json()
    assert [group["key"] for group in usage["groups"]] == ["edit"]


def test_removal_ends_what_is_open_within_a_second_on_any_process(users: Users, gateways: list[Gateway]) -> None:
    alice = users["alice"]
    chat = shared(users, "open")
    writing = threading.Thread(target=lambda: alice.say(chat, "T=400 I=20000"))
    writing.start()
    eventually(lambda: alice.chat(chat)["activeRun"], 20, "the answer is being written")
    follow, events = f"/api/chat/{chat}/stream", f"/api/events?topic=chat/{chat}&topic=presence/chat/{chat}"
    here, there, notices, other = [list[str]() for _ in range(4)]
    first, second = (gateway.url for gateway in gateways)
    with (
        reading(users["view"], first, follow, here) as one,
        reading(users["view"], second, follow, there) as two,
        reading(users["view"], second, events, notices) as three,
        reading(users["appo"], second, follow, other) as four,
    ):
        for lines in (here, there, other):
            eventually(lambda lines=lines: any("text-delta" in line for line in lines), 20, "the reader follows")
        eventually(lambda: any("hello" in line for line in notices), 20, "the events are followed")
        assert alice.call("DELETE", f"/api/chat/{chat}/members/view").status_code == 204
        removed_at = time.monotonic()
        for thread in (one, two, three):
            thread.join(10)
        assert time.monotonic() - removed_at < 1
        assert four.is_alive()
        assert alice.call("POST", f"/api/chat/{chat}/stop", {}).status_code == 200
    writing.join(30)
    for lines in (here, there):
        assert [line for line in lines if line.startswith("data:")][-2:] == [
            'data: {"type":"abort","reason":"removed"}',
            "data: [DONE]",
        ]
    assert "event: bye" in notices
    assert 'data: {"code":"removed","retry":false}' in notices
    assert any('"reason":"stopped"' in line for line in other)


def test_who_was_removed_answers_nothing(users: Users) -> None:
    alice, edit, appo = users["alice"], users["edit"], users["appo"]
    chat = shared(users, "asks")
    assert edit.say(chat, "do it", model=ASKING).status_code == 200
    [ask] = appo.chat(chat)["pending"]
    path, yes = f"/api/chat/{chat}/approvals/{ask['approvalId']}", {"approved": True}
    for user in ("view", "edit"):
        refused = users[user].call("POST", path, yes)
        assert (refused.status_code, refused.json()["code"]) == (403, "role_forbidden")
    assert alice.call("DELETE", f"/api/chat/{chat}/members/appo").status_code == 204
    answer = dict(alice.chat(chat)["messages"][-1])
    answer["parts"] = [
        part | {"state": "approval-responded", "approval": {"id": ask["approvalId"], "approved": True}}
        if part["type"] == "dynamic-tool"
        else part
        for part in answer["parts"]
    ]
    post = {"id": chat, "messages": [answer], "trigger": "submit-message", "messageId": answer["id"]}
    for user in ("appo", "eve"):
        assert users[user].call("POST", path, yes).status_code == 404
        assert users[user].call("POST", "/api/chat", post).status_code == 404
    for user in ("view", "edit"):
        assert users[user].call("POST", "/api/chat", post).json()["code"] == "role_forbidden"
    assert alice.chat(chat)["pending"] == [ask]
    assert alice.call("PUT", f"/api/chat/{chat}/members/appo", {"role": "approver"}).status_code == 200
    told = appo.call("POST", "/api/chat", post)
    assert (told.status_code, "tool-output-available" in told.text) == (200, True)
    assert alice.chat(chat)["pending"] == []
    late = appo.call("POST", "/api/chat", post)
    assert (late.status_code, "[DONE]" in late.text) == (200, True)


def test_an_editor_stops_their_own_run_and_no_other(users: Users, chat: str) -> None:
    alice, edit = users["alice"], users["edit"]
    for sender, is_allowed in ((alice, False), (edit, True)):
        writing = threading.Thread(target=lambda sender=sender: sender.say(chat, "T=400 I=20000"))
        writing.start()
        eventually(lambda: alice.chat(chat)["activeRun"], 20, "the answer is being written")
        stopped = edit.call("POST", f"/api/chat/{chat}/stop", {})
        assert stopped.status_code == (200 if is_allowed else 403), stopped.text
        alice.call("POST", f"/api/chat/{chat}/stop", {})
        writing.join(30)
        eventually(lambda: not alice.chat(chat)["activeRun"], 20, "the answer has ended")


def test_members_are_told_once_they_have_looked_and_see_who_types(users: Users, gateways: list[Gateway]) -> None:
    alice, edit = users["alice"], users["edit"]
    chat = shared(users, "told", edit="editor", newt="approver")
    assert edit.call("GET", f"/api/chat/{chat}").status_code == 200
    presence: list[str] = []
    forbidden = users["eve"].call("GET", f"/api/events?topic=presence/chat/{chat}")
    assert (forbidden.status_code, forbidden.json()["code"]) == (403, "topic_forbidden")
    with reading(edit, gateways[1].url, f"/api/events?topic=presence/chat/{chat}&topic=chat/{chat}", presence):
        eventually(lambda: any("hello" in line for line in presence), 20, "the presence is followed")
        assert alice.say(chat, "T=1 I=0", "m-news").status_code == 200
        typing_at = time.monotonic()
        for _ in range(3):
            assert alice.call("POST", f"/api/chat/{chat}/typing").status_code == 204
        most = 1 + (time.monotonic() - typing_at) // 2
        eventually(lambda: any("event: typing" in line for line in presence), 20, "typing is seen")
        eventually(lambda: any("event: run-finished" in line for line in presence), 20, "the chat's topic tells")
        assert alice.call("DELETE", f"/api/chat/{chat}/members/edit").status_code == 204
    assert 1 <= presence.count("event: typing") <= most
    assert 'data: {"sub":"alice"}' in presence
    assert [line for line in presence if "m-news" in line and '"author":"alice"' in line]
    heads = {
        name: users[name].call("GET", f"/api/events/topics/user/{name}").json()["head"] for name in ("edit", "newt")
    }
    assert (heads["edit"] > 0, heads["newt"]) == (True, 0)
