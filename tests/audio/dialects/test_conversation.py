"""A conversation over a WebSocket is carried and ended correctly, with the lane's own dialect on top."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np

from audio.dialects import trilane
from audio.lane import KEPT_S
from gateway.access.grants import EVERYTHING, Principal
from gateway.errors import BadRequest
from gateway.serving.client_socket import MAX_REASON, SEND_S
from tests.audio.asgi_client import AsgiClient
from tests.audio.lanes import ME, Place, place
from tests.support.virtual_time import simulated

SECOND = bytes(2 * 16_000)


@asynccontextmanager
async def conversation(at: Place, client: AsgiClient) -> AsyncIterator["asyncio.Task[None]"]:
    """Opens a connection, and fails unless it is over at the end."""
    serving = asyncio.ensure_future(trilane.serve(trilane.Listening(at.lane), client.socket, ME, {}))
    client.send({"type": "start"})
    await asyncio.sleep(0.1)
    yield serving
    async with asyncio.timeout(2 * SEND_S):
        await serving


@simulated
async def test_a_subprotocol_is_named_only_when_the_client_offers_it() -> None:
    async with place() as at:
        for offers, answer in [(("trilane.audio.v1", "ticket.x"), "trilane.audio.v1"), (("other",), None), ((), None)]:
            client = AsgiClient(*offers)
            async with conversation(at, client):
                client.leave()
            assert client.subprotocol == answer


@simulated
async def test_both_sides_talk_at_once() -> None:
    async with place() as at:
        client = AsgiClient()
        async with conversation(at, client):
            for number in range(5):
                client.send(SECOND)
                client.send({"type": "marker", "id": number})
                await asyncio.sleep(0.1)
                assert [message["id"] for message in client.of("marker")] == list(range(number + 1))
            client.leave()


@simulated
async def test_a_client_that_leaves_is_sent_nothing_more_and_its_session_is_kept() -> None:
    async with place() as at:
        client = AsgiClient()
        async with conversation(at, client) as serving:
            [live] = at.lane._sessions.values()
            client.leave()
            await serving
            assert live.attachment is None
            assert client.close_code is None
            assert at.lane._sessions
            await asyncio.sleep(KEPT_S + 1)
            assert not at.lane._sessions


@simulated
async def test_a_client_that_does_not_read_is_cut_off() -> None:
    async with place() as at:
        client = AsgiClient()
        async with conversation(at, client):
            [live] = at.lane._sessions.values()
            client.reads.clear()
            client.send({"type": "marker", "id": 1})
            await asyncio.sleep(SEND_S - 1)
            assert not client.is_aborted
            await asyncio.sleep(2)
            assert client.is_aborted
            assert live.attachment is None


@simulated
async def test_a_client_that_does_not_read_its_close_is_cut_off() -> None:
    async with place() as at:
        client = AsgiClient()
        async with conversation(at, client):
            client.reads.clear()
            client.send({"type": "stop"})
            await asyncio.sleep(SEND_S + 1)
            assert client.is_aborted


@simulated
async def test_a_client_that_does_not_read_its_refusal_is_cut_off() -> None:
    async with place(sessions=1) as at:
        await at.connect()
        client = AsgiClient()
        async with conversation(at, client):
            pass
        assert client.close_code == 1013
        stubborn = AsgiClient()
        serving = asyncio.ensure_future(trilane.serve(trilane.Listening(at.lane), stubborn.socket, ME, {}))
        await asyncio.sleep(0.1)
        stubborn.reads.clear()
        stubborn.send({"type": "start"})
        await serving
        assert stubborn.is_aborted


@simulated
async def test_a_failure_comes_after_all_that_was_said_and_closes_with_its_code() -> None:
    async with place() as at:
        client = AsgiClient()
        async with conversation(at, client):
            client.send({"type": "marker", "id": 7})
            client.send("nonsense")
        assert [message["type"] for message in client.messages] == ["ready", "marker", "error"]
        assert [message["seq"] for message in client.messages] == [1, 2, 3]
        assert client.messages[-1]["code"] == "bad_message"
        assert client.close_code == 4500
        assert len(client.close_reason) <= MAX_REASON


@simulated
async def test_whatever_ends_a_conversation_its_decoder_is_closed() -> None:
    async with place() as at:
        live, attachment = await at.lane.open(ME, trilane.request_of(trilane.Start()))

        class Decoder:
            is_closed = False
            samples = 0

            async def feed(self, data: bytes) -> np.ndarray:
                raise BadRequest("no audio", code="bad_audio")

            async def flush(self) -> np.ndarray:
                return np.zeros(0, np.float32)

            def close(self) -> None:
                self.is_closed = True

        decoder = Decoder()
        client = AsgiClient()
        await client.socket.accept("x")
        client.send(b"\0\0")
        await trilane.converse(client.socket, ME, trilane.TrilanePeer(live, attachment, decoder))  # type: ignore[arg-type]
        assert decoder.is_closed
        assert client.close_code == 4501
        assert live.attachment is None


@simulated
async def test_a_client_whose_token_expires_is_told_and_may_come_back() -> None:
    async with place() as at:
        for remaining_s, expires_in in ((90.0, 60), (20.0, 20)):
            client = AsgiClient()
            who = Principal(sub="me", grants=EVERYTHING, expires_at=time.time() + remaining_s)
            serving = asyncio.ensure_future(trilane.serve(trilane.Listening(at.lane), client.socket, who, {}))
            client.send({"type": "start"})
            await asyncio.sleep(remaining_s - expires_in + 0.5)
            assert [message["expiresIn"] for message in client.of("auth")] == [expires_in]
            await asyncio.sleep(expires_in)
            async with asyncio.timeout(1):
                await serving
            assert (client.close_code, client.messages[-1]["type"]) == (4001, "auth")
            assert "expired" in client.close_reason
            again = AsgiClient()
            async with conversation(at, again):
                again.send({"type": "stop"})
            assert again.close_code == 1000


@simulated
async def test_who_leaves_before_its_token_expires_leaves_no_timer() -> None:
    async with place() as at:
        client = AsgiClient()
        who = Principal(sub="me", grants=EVERYTHING, expires_at=time.time() + 90.0)
        serving = asyncio.ensure_future(trilane.serve(trilane.Listening(at.lane), client.socket, who, {}))
        client.send({"type": "start"})
        await asyncio.sleep(1)
        client.leave()
        await serving
        await asyncio.sleep(100)
        assert not client.of("auth")
