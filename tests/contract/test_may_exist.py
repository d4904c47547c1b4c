"""Callers of the hint `may_exist` behave the same with an engine that cannot know and always says True."""

from typing import Any

import msgspec
import pytest

from events.feed.start import SubscribeRequest
from events.log.memory import MemoryLog
from events.log.port import Append
from events.log.topics import stored
from gateway.chat.dialects.ui_message import UIFrames
from gateway.chat.history import read_history
from gateway.chat.lane import ChatLane
from gateway.chat.submission import SendRequest
from gateway.chat.upstreams.failover import Upstreams
from gateway.core.process import Core
from gateway.settings import Settings
from tests.support.chats import user
from tests.support.followers import LOCAL, follow, lane_on, say
from tests.support.virtual_time import simulated


class UnsureLog(MemoryLog):
    """Cannot know what exists without asking over a network."""

    def may_exist(self, topic: str) -> bool:
        return True


on_both = pytest.mark.parametrize("make", [MemoryLog, UnsureLog], ids=["exact", "always True"])


def request(chat_id: str, message_id: str) -> SendRequest:
    return SendRequest(id=chat_id, message=user(message_id, "hi"))


@on_both
@simulated
async def test_a_new_chat_begins_once_and_belongs_to_who_began_it(make: type[MemoryLog]) -> None:
    core = Core(make(), Settings())
    lane = ChatLane(core, Upstreams([], 1.0))
    async with core.opened(), lane.opened():
        first = await lane.sending.send(LOCAL, request("c", "m1"), "key", {}, UIFrames)
        again = await lane.sending.send(LOCAL, request("c", "m1"), "key", {}, UIFrames)
        assert again.reader.topic == first.reader.topic
        await lane.sending.send(msgspec.structs.replace(LOCAL, sub="eve"), request("c", "m2"), "", {}, UIFrames)
        history = await read_history(core.log, LOCAL.sub, "c")
        assert [message.id for message in history.messages][:1] == ["m1"]
        assert len(history.runs) == 1
        others = await read_history(core.log, "eve", "c")
        assert [message.id for message in others.messages][:1] == ["m2"]


STATES: dict[str, dict[str, Any] | None] = {
    "never written to": None,
    "with events": {"data": [b"1", b"2"]},
    "made without an event": {"data": []},
    "closed": {"data": [b"1"], "close": True},
}


@pytest.mark.parametrize("state", STATES.values(), ids=STATES)
@on_both
@simulated
async def test_a_feed_begins_at_the_head_of_its_topic(make: type[MemoryLog], state: dict[str, Any] | None) -> None:
    log = make()
    lane = await lane_on(log)
    if state is not None:
        await log.append(Append(topic=stored("a"), **state))
    reader = await follow(lane, ("a", "b"))
    assert (reader.hello["recovered"], reader.hello["replay"]) == (True, 0)
    head = await log.read(stored("a"), 0)
    assert (reader.start.epochs, reader.start.offsets) == ([head.epoch, ""], [head.head, 0])
    await say(log, "b", "news")
    assert (await reader.take_all()).data == ["news"]
    resumed = await lane.subscribe(LOCAL, SubscribeRequest(("a", "b"), reader.cursor), patient=True)
    assert resumed is not None
