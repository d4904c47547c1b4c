"""Members on sockets of two processes: what each role may do there, whom they see, and what ends with a membership."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from websockets.sync.client import ClientConnection

from gateway.chat.members import TYPING_EVERY_S
from tests.conftest import Gateway, UpstreamThread, eventually
from tests.support.live_client import Frame, answers, close_of, command, is_chunk, received, saying, socket_on
from tests.support.member_users import ASKING, ROLES, Users, key, member_gateways, member_users, shared
from tests.support.sse_client import user_message

PROMPT_S = 1.0


@pytest.fixture(scope="module")
def gateways(upstream: UpstreamThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Gateway]]:
    yield from member_gateways(upstream, tmp_path_factory.mktemp("live-members"))


@pytest.fixture(scope="module")
def users(gateways: list[Gateway]) -> Iterator[Users]:
    yield from member_users(gateways[0])


@pytest.fixture
def chat(users: Users, request: pytest.FixtureRequest) -> str:
    """Returns the shared id of a chat of Alice's that has a member of every role."""
    return shared(users, f"c{abs(hash(request.node.name))}")


@pytest.fixture
def sockets(gateways: list[Gateway]) -> Iterator[Callable[[str, str, int], ClientConnection]]:
    with ExitStack() as stack:
        yield lambda user, chat, place: stack.enter_context(socket_on(gateways[place], chat, key(user)))


Sockets = Callable[[str, str, int], ClientConnection]
COMMANDS: dict[str, tuple[str, Callable[[str], str]]] = {
    "send": ("send", lambda user: saying("T=1 I=0", "r", f"m-{user}")),
    "steer": ("send", lambda user: command("steer", "r", message=user_message("T=1 I=0", f"s-{user}"))),
    "stop": ("send", lambda user: command("stop", "r")),
    "typing": ("send", lambda user: command("typing", "r")),
    "approve": ("answer", lambda user: command("approve", "r", approvalId="ap-no-1", approved=True)),
}
"""Each command with the right that it takes."""
RIGHTS = {"view": "", "appo": "answer", "edit": "send", "otto": "send answer"}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_role_is_answered_what_the_table_says_and_its_socket_stays(
    sockets: Sockets, chat: str, name: str
) -> None:
    right, of_user = COMMANDS[name]
    for place, user in enumerate(ROLES):
        client = sockets(user, chat, place % 2)
        client.send(of_user(user))
        answer = received(client, answers("r"))[-1]
        if right in RIGHTS[user].split():
            assert answer.get("ok") is True or answer["problem"]["code"] == "approval_not_found", answer
        else:
            assert (answer["problem"]["status"], answer["problem"]["code"]) == (403, "role_forbidden"), answer
        client.send("nonsense")
        assert received(client, answers(None))[-1]["problem"]["status"] == 400, "it is open, and answers"


def test_a_viewer_is_told_what_others_do_by_the_shared_id_and_by_the_owners(sockets: Sockets, users: Users) -> None:
    """The id is the owner's for the owner, and no id of the viewer's own hides it."""
    chat = shared(users, "by-id", view="viewer", edit="editor")
    watching = [sockets("view", chat, 1), sockets("view", "by-id", 0), sockets("alice", "by-id", 1)]
    writing = sockets("edit", chat, 0)
    writing.send(saying("T=3 I=0", "r", "m-news"))
    for client in watching:
        frames = received(client, is_chunk("finish"))
        [message] = [frame["data"] for frame in frames if frame.get("event") == "message"]
        assert (message["id"], message["metadata"]["author"]) == ("m-news", "edit")
    stranger = sockets("eve", chat, 0)
    frames, code, _ = close_of(stranger)
    assert (frames[0]["problem"]["code"], code) == ("chat_not_found", 4502)


def test_an_approver_answers_over_a_socket_what_an_editor_has_asked_over_another(sockets: Sockets, chat: str) -> None:
    editor, approver, viewer = sockets("edit", chat, 0), sockets("appo", chat, 1), sockets("view", chat, 0)
    editor.send(saying("do it", "s", "m-do", model=ASKING))
    ask = received(approver, lambda frame: frame.get("event") == "ask")[-1]["data"]
    for client, code in ((viewer, "role_forbidden"), (editor, "role_forbidden"), (approver, "")):
        client.send(command("approve", "a", approvalId=ask["approvalId"], approved=True))
        answer = received(client, answers("a"))[-1]
        assert answer.get("problem", {}).get("code", "") == code, answer
    told = received(viewer, lambda frame: frame.get("event") == "answered")[-1]["data"]
    assert told["actor"]["sub"] == "appo"


def test_removal_closes_sockets_within_a_second_on_any_process(sockets: Sockets, users: Users, chat: str) -> None:
    leaving = [sockets("view", chat, 0), sockets("view", chat, 1)]
    staying = sockets("appo", chat, 1)
    assert users["otto"].call("DELETE", f"/api/chat/{chat}/members/view").status_code == 204
    began = time.monotonic()
    for client in leaving:
        frames, code, reason = close_of(client)
        assert (code, reason) == (1008, "you are no member of this chat any more")
        assert not [frame for frame in frames if frame.get("event") == "drain"]
    assert time.monotonic() - began < PROMPT_S
    gone = {"event": "member", "data": {"sub": "view", "role": None, "actor": {"sub": "otto"}}}
    assert received(staying, lambda frame: frame.get("event") == "member")[-1] == gone
    again = sockets("view", chat, 0)
    assert close_of(again)[1] == 4502


class Roster:
    """Who is there, as one client has been told."""

    def __init__(self, client: ClientConnection) -> None:
        self.client = client
        self.here: set[str] = set()

    def is_told(self, *subs: str) -> bool:
        """Takes what has come, and returns whether it is told of these, and of nobody else."""
        while True:
            try:
                frame: Frame = json.loads(self.client.recv(timeout=0.05))
            except TimeoutError:
                return self.here == set(subs)
            self.take(frame)

    def take(self, frame: Frame) -> None:
        data = frame.get("data", {})
        match frame.get("event"):
            case "here":
                self.here = set(data["here"])
            case "join":
                self.here.add(data["sub"])
            case "leave":
                self.here.remove(data["sub"])
            case _:
                return
        assert "cursor" not in frame


def test_sockets_of_two_processes_see_who_comes_who_leaves_and_who_types(
    sockets: Sockets, users: Users, chat: str
) -> None:
    first = Roster(sockets("alice", chat, 0))
    eventually(lambda: first.is_told("alice"), 10, "one sees oneself")
    editing, viewing = sockets("edit", chat, 1), Roster(sockets("view", chat, 1))
    for roster in (first, viewing):
        eventually(lambda roster=roster: roster.is_told("alice", "edit", "view"), 10, "everybody is seen")
    for _ in range(3):
        editing.send(command("typing", "t"))
        assert received(editing, answers("t"))[-1]["ok"] is True
    for roster in (first, viewing):
        frame = received(roster.client, lambda frame: frame.get("event") == "typing")[-1]
        assert frame == {"event": "typing", "data": {"sub": "edit"}}
    editing.close()
    for roster in (first, viewing):
        eventually(lambda roster=roster: roster.is_told("alice", "view"), 10, "who has left is seen no more")
    assert users["otto"].call("DELETE", f"/api/chat/{chat}/members/view").status_code == 204
    eventually(lambda: first.is_told("alice"), 10, "who was removed is seen no more")
    assert TYPING_EVERY_S > 1, "three signs of typing at once are one"


def test_a_chat_that_is_shared_while_it_is_open_shows_who_comes(sockets: Sockets, users: Users) -> None:
    alice = users["alice"]
    assert alice.say("later", "T=1 I=0").status_code == 200
    socket = sockets("alice", "later", 0)
    roster = Roster(socket)
    assert roster.is_told(), "nobody is told of in a chat of one's own"
    chat = shared(users, "later", edit="editor")
    eventually(lambda: roster.is_told("alice"), 10, "one sees oneself")
    sockets("edit", chat, 1)
    eventually(lambda: roster.is_told("alice", "edit"), 10, "the other is seen")


def test_followers_of_the_presence_topic_see_who_is_on_a_socket(
    sockets: Sockets, users: Users, gateways: list[Gateway], chat: str
) -> None:
    sockets("view", chat, 0)
    viewers = f"{gateways[1].url}/api/events/topics/chat/{chat}"

    def readers() -> int:
        return users["alice"].http.get(viewers).json()["readers"]

    eventually(lambda: readers() == 1, 10, "a socket counts as a reader of the chat's topic")
    sockets("alice", chat, 1)
    eventually(lambda: readers() == 2, 10, "of any process")
