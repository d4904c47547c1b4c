"""Who is forgotten is out of the chats of others, on every engine: what they said stays, and not who it was."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from events.log.port import EventLog
from gateway.access.memberships import CHANGES, ChatLink, link_appends, links_topic, new_shared_id, read_links
from gateway.chat.history import History, read_history
from gateway.chat.records.authors import author_of
from gateway.chat.records.chat_record import (
    Actor,
    ChatCreated,
    ChatEvent,
    ChatOpened,
    ChatShared,
    MemberChange,
    MemberRole,
    Queued,
    RunStarted,
    encode_event,
)
from gateway.chat.records.messages import UIMessage
from gateway.chat.topics import chat_topic
from gateway.commands.export import export
from gateway.commands.forget import forget_all
from gateway.core.personal import personal_topics
from gateway.errors import LogUnavailable
from gateway.settings import load
from tests.contract.engines import Engine, put, scenario, whole
from tests.support.chats import brief, message, user

NAME = "bob/x@é"
EXACT = "123456789012345678901234567890"


@pytest.fixture(autouse=True)
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.commands.forget.STOP_S", 0.2)


def by(author: str, said: UIMessage) -> UIMessage:
    return msgspec.structs.replace(said, metadata=msgspec.Raw(msgspec.json.encode({"author": author, "n": 1})))


def approved(sub: str) -> dict[str, Any]:
    data = {"toolCallId": "k", "state": "approved", "actor": {"sub": sub}, "input": msgspec.Raw(EXACT.encode())}
    return {"type": "data-approval", "id": "ap-1", "data": data}


def steered(sub: str) -> dict[str, Any]:
    return {"type": "data-steer", "id": "u9", "data": {"by": sub, "parts": [{"type": "text", "text": f"I am {sub}"}]}}


def conversation() -> list[UIMessage]:
    return [
        by("alice", user("m1", "from alice")),
        message("a1", "assistant", "an answer", approved(NAME), steered(NAME), approved("carol")),
        by(NAME, user("m2", "from bob")),
        message("a2", "assistant", "another", approved("alice")),
    ]


async def share(
    log: EventLog, owner: str, chat_id: str, roles: Mapping[str, MemberRole | None], *more: ChatEvent
) -> ChatLink:
    """Makes a chat with members; who has no role has left it."""
    topic, shared_id = chat_topic(owner, chat_id), new_shared_id()
    changes = [MemberChange(sub, role or "editor", Actor(owner)) for sub, role in roles.items()]
    left = [MemberChange(sub, None, Actor(sub)) for sub, role in roles.items() if role is None]
    events: list[ChatEvent] = [ChatCreated(id=chat_id), ChatShared(shared_id), *changes, ChatOpened(NAME)]
    for name, data in map(encode_event, [*events, *conversation(), *more, *left]):
        await put(log, topic, data, name=name, owner=owner)
    link = ChatLink(shared_id, chat_id, topic, (await log.read(topic, 0, max_events=1)).epoch, owner)
    for sub, role in {owner: "owner", **roles}.items():
        await log.append(*link_appends(sub, msgspec.structs.replace(link, role=role or ""), is_member=True))
        if role is None:
            await log.append(*link_appends(sub, link, is_member=False))
    return link


async def chat_of(log: EventLog, link: ChatLink) -> History:
    return await read_history(log, link.owner, link.chat_id, topic=link.topic)


def shown(chat: History) -> str:
    return json.dumps(json.loads(msgspec.json.encode(chat.messages)), ensure_ascii=False)


@scenario
async def test_a_member_leaves_and_what_they_said_stays_under_a_random_name(shared_engine: Engine) -> None:
    async with shared_engine.open() as log:
        waiting = Queued(id="q1", message=user("q1", "later"), at="turn", actor=Actor(NAME))
        alices = Queued(id="q2", message=user("q2", "mine"), at="turn", actor=Actor("alice"))
        link = await share(log, "alice", "c1", {NAME: "editor", "carol": "viewer"}, waiting, alices)
        before = await chat_of(log, link)
        own = chat_topic(NAME, "own")
        await put(log, own, *[data for _, data in [encode_event(ChatCreated(id="own"))]], name="chat", owner=NAME)
        tally = await forget_all(log, NAME)
        assert (tally.is_done, tally.left) == (True, 1)
        assert await personal_topics(log, NAME) == []
        assert await read_links(log, NAME) == []
        chat = await chat_of(log, link)
        assert chat.members == {"alice": "owner", "carol": "viewer"}
        assert brief(chat.messages) == brief(before.messages)
        assert list(chat.queue.waiting) == ["q2"]
        name = author_of(chat.by_id["m2"].metadata)
        assert name.startswith("forgotten-")
        assert json.loads(bytes(chat.by_id["m2"].metadata)) == {"author": name, "n": 1}  # type: ignore[arg-type]
        assert shown(chat) == shown(before).replace(f'"{NAME}"', f'"{name}"'), "what was typed is theirs who read it"
        assert EXACT in shown(chat)
        changes = [json.loads(data) for _, _, data in await whole(log, CHANGES)]
        assert changes[-1] == {"sub": NAME, "topic": link.topic, "sharedId": link.shared_id, "isMember": False}
        head = chat.head
        assert (await forget_all(log, NAME)).left == 0
        assert (await chat_of(log, link)).head == head
        assert {sub: len(await read_links(log, sub)) for sub in ("alice", "carol")} == {"alice": 1, "carol": 1}


@scenario
async def test_in_a_chat_that_they_have_left_before_they_have_a_random_name_too(shared_engine: Engine) -> None:
    async with shared_engine.open() as log:
        first = await share(log, "alice", "c1", {NAME: None, "carol": "editor"})
        second = await share(log, "carol", "c1", {NAME: "viewer"})
        assert (await forget_all(log, NAME)).left == 2
        names = [author_of((await chat_of(log, link)).by_id["m2"].metadata) for link in (first, second)]
        assert len({*names, NAME}) == 3, "nobody sees that it is the same person in both"
        assert NAME not in (await chat_of(log, first)).members


@scenario
async def test_a_chat_without_another_owner_gets_one_and_one_without_anybody_is_deleted(shared_engine: Engine) -> None:
    async with shared_engine.open() as log:
        roles: dict[str, MemberRole | None] = {NAME: "owner", "carol": "viewer", "ed": "editor", "eve": "editor"}
        inherited = await share(log, "dave", "c1", roles, MemberChange("dave", None, Actor("dave")))
        started = RunStarted(run_id="r1", message_id="a9")
        deserted = await share(log, "dave", "c2", {NAME: "owner"}, started, MemberChange("dave", None, Actor("dave")))
        await put(log, "run/r1", b"{}", owner="dave", close=True)
        assert (await forget_all(log, NAME)).left == 2
        assert (await chat_of(log, inherited)).members == {"carol": "viewer", "ed": "owner", "eve": "editor"}
        assert [link.role for _, link in await read_links(log, "ed")] == ["editor", "owner"]
        assert (await chat_of(log, deserted)).epoch == ""
        assert (await log.read("run/r1", 0)).epoch == ""


@scenario
async def test_what_was_broken_off_is_finished_by_the_next_call(shared_engine: Engine) -> None:
    class FailingLog:
        """A log that fails at one of the appends."""

        def __init__(self, left: int) -> None:
            self.left = left

        def __getattr__(self, name: str) -> Any:
            return getattr(log, name)

        def append(self, *appends: Any, **more: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                raise LogUnavailable("cut")
            return log.append(*appends, **more)

    async with shared_engine.open() as log:
        links = [await share(log, "alice", f"c{number}", {NAME: "editor"}) for number in range(3)]
        for left in (0, 1, 1):
            with pytest.raises(LogUnavailable):
                await forget_all(FailingLog(left), NAME)  # type: ignore[arg-type]
            assert await read_links(log, NAME), "it is known where they are still a member"
        assert (await forget_all(log, NAME)).is_done
        for link in links:
            chat = await chat_of(log, link)
            assert NAME not in chat.members
            assert f'"{NAME}"' not in shown(chat)
        assert await whole(log, links_topic(NAME)) == []


@pytest.mark.parametrize("role", ["editor", None])
def test_an_export_lists_the_chats_of_others_with_what_the_user_said_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role: MemberRole | None
) -> None:
    monkeypatch.setenv("TRILANE_DATA_DIR", str(tmp_path))
    out = io.BytesIO()

    @scenario
    async def scene() -> None:
        from gateway.core.engines import opened_log

        async with opened_log(load()) as log:
            link = await share(log, "alice", "c1", {NAME: role})
        await export(load(), NAME, out)
        lines = [json.loads(line) for line in out.getvalue().splitlines()]
        [line] = [line for line in lines if line["type"] == "membership"]
        assert (line["id"], line["sharedId"], line["role"]) == ("c1", link.shared_id, role)
        assert [said["id"] for said in line["messages"]] == ["m2"]
        assert "from alice" not in out.getvalue().decode()

    scene()
