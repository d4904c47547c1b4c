"""A socket on a chat ends when it must, says so where it can, and does nothing for one who may not any more."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.access.grants import Principal
from gateway.chat.live_socket import LAST_ANSWERS_S
from gateway.chat.tools.fake import FakeToolbox
from gateway.core.process import revocation
from gateway.errors import LogUnavailable, TrilaneError
from gateway.serving.client_socket import SEND_S
from tests.audio.asgi_client import AsgiClient
from tests.support.tool_stage import ToolStage, says, staged
from tests.support.virtual_time import simulated


class Desk:
    """Does each command in the seconds that it says."""

    def __init__(self) -> None:
        self.done: list[str] = []

    async def obey(self, frame: str) -> str:
        await asyncio.sleep(float(frame))
        self.done.append(frame)
        return json.dumps({"type": "answer", "to": frame})

    def refuse(self, frame: str, error: TrilaneError) -> str:
        return json.dumps({"type": "refusal", "code": error.code})


class Talk:
    """One client's socket, and what its commands do."""

    def __init__(self, stage: ToolStage, who: Principal) -> None:
        self.client = AsgiClient("trilane.chat.v1")
        self.desk = Desk()
        self.streams = stage.core.streams
        self.serving = asyncio.ensure_future(stage.lane.live.serve(who, self.client.socket, self.desk, "c", None, 6))

    @property
    def events(self) -> list[str]:
        return [message["event"] for message in self.client.messages if "event" in message]


@asynccontextmanager
async def talking(who: Principal | None = None) -> AsyncIterator[tuple[ToolStage, Talk]]:
    """Yields a chat and a socket on it; at the end nothing of the socket is left."""
    async with staged(FakeToolbox(), says("One."), says("Two.")) as stage:
        talk = Talk(stage, who or Principal(sub="local", key_id="k1"))
        await asyncio.sleep(1)
        assert talk.client.subprotocol == "trilane.chat.v1"
        assert len(stage.core.streams) == 1
        yield stage, talk
        await asyncio.wait_for(talk.serving, 2 * SEND_S)
        assert len(stage.core.streams) == 0
        assert not [topic for topic in stage.core.hub._tails if topic.startswith(("chat/", "run/"))]
        await stage.lane.live.drain()


@simulated
async def test_a_client_whose_key_is_revoked_is_closed_and_nothing_more_is_done_for_it() -> None:
    async with talking() as (stage, talk):
        stage.core.streams.revoke("k1", revocation())
        talk.client.send("0")
        await asyncio.sleep(1)
        assert talk.client.close_code == 1008
        assert not talk.desk.done


@simulated
async def test_one_that_does_not_even_read_that_is_cut_and_nothing_is_done_for_it_meanwhile() -> None:
    async with talking() as (stage, talk):
        talk.client.reads.clear()
        await stage.say("hello")
        stage.core.streams.revoke("k1", revocation())
        for _ in range(3):
            talk.client.send("0")
            await asyncio.sleep(1)
        assert not talk.desk.done
        await asyncio.sleep(SEND_S)
        assert talk.client.is_aborted
        talk.client.leave()


@simulated
async def test_a_client_that_does_not_read_is_cut_and_what_it_missed_is_in_the_log() -> None:
    async with talking() as (stage, talk):
        talk.client.reads.clear()
        await stage.say("hello")
        await asyncio.sleep(SEND_S + 1)
        assert talk.client.is_aborted
        talk.client.leave()
    assert not talk.client.messages


@simulated
async def test_a_process_that_leaves_answers_what_is_being_done_and_says_that_it_leaves() -> None:
    async with talking() as (stage, talk):
        talk.client.send("2")
        await asyncio.sleep(1)
        drain = asyncio.ensure_future(stage.core.streams.drain(0))
        await asyncio.sleep(0.5)
        talk.client.send("0")  # too late: for the next process
        await drain
        await stage.lane.live.drain()
        assert talk.desk.done == ["2"]
        assert [message.get("to") or message["event"] for message in talk.client.messages] == ["2", "drain"]
        assert talk.client.close_code == 1012


@simulated
async def test_one_that_sends_something_while_its_process_leaves_is_sent_on_at_once() -> None:
    async with talking() as (stage, talk):
        drain = asyncio.ensure_future(stage.core.streams.drain(600))
        await asyncio.sleep(1)
        assert talk.client.close_code is None
        talk.client.send("0")
        await asyncio.sleep(1)
        assert (talk.events, talk.client.close_code, talk.desk.done) == (["drain"], 1012, [])
        await drain


@simulated
async def test_a_command_that_takes_too_long_holds_no_drain_up() -> None:
    async with talking() as (stage, talk):
        talk.client.send(str(LAST_ANSWERS_S + 20))
        await asyncio.sleep(1)
        await stage.core.streams.drain(0)
        await asyncio.sleep(LAST_ANSWERS_S + 1)
        assert talk.client.close_code == 1012


@simulated
async def test_a_log_that_failed_ends_it_with_a_time_to_come_back() -> None:
    async with talking() as (stage, talk):
        stage.core.streams.fail(LogUnavailable("the file is gone"))
        await asyncio.sleep(1)
        [busy] = talk.client.messages
        assert (busy["event"], busy["data"]["code"]) == ("busy", "log_unavailable")
        assert 5000 <= busy["data"]["retry"] <= 15000
        assert talk.client.close_code == 1013


@simulated
async def test_who_leaves_while_a_command_is_done_is_missed_by_nobody() -> None:
    async with talking() as (_, talk):
        talk.client.send("5")
        await asyncio.sleep(1)
        talk.client.leave()
        await talk.serving
        assert talk.desk.done == ["5"]


@simulated
async def test_a_token_is_told_to_end_a_minute_before_it_does() -> None:
    who = Principal(sub="local", expires_at=time.time() + 100)
    async with talking(who) as (_, talk):
        await asyncio.sleep(42)
        assert talk.events == ["auth"]
        assert talk.client.messages[0]["data"]["expiresIn"] == 60
        assert talk.client.close_code is None
        await asyncio.sleep(60)
        assert talk.client.close_code == 4001
