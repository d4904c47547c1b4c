"""uvicorn's WebSocket protocol, as we changed it, takes and writes bytes on a transport that only records them."""

import asyncio
from collections.abc import Callable
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from gateway.serving.frame_meter import ALLOWANCE_S, FRAMES_PER_S
from gateway.serving.websocket import (
    ABORT,
    LINGER_BYTES,
    LINGER_S,
    MAX_FRAGMENTS,
    MIN_PIECE_BYTES,
    STALL_S,
    TURN_MESSAGES,
    UNDER_WAY_BYTES,
    SocketProtocol,
)
from tests.support.raw_sockets import BINARY, CLOSE, LAST, MORE, PING, TEXT, UNFINISHED, UPGRADE, close_in, frame
from tests.support.virtual_time import simulated

PONG = b"\x8a"


class Wire(asyncio.Transport):
    """A transport that accepts everything, and records what became of it."""

    def __init__(self, protocol: SocketProtocol) -> None:
        super().__init__()
        self.protocol = protocol
        self.output = b""
        self.is_paused = self.has_eof = self.is_closed = self.is_aborted = False

    def write(self, data: Any) -> None:
        assert not self.has_eof
        self.output += data

    def take(self) -> bytes:
        data, self.output = self.output, b""
        return data

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.has_eof = True

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def abort(self) -> None:
        self.is_aborted = True
        self.close()


class Application:
    """Accepts the connection, and does what a test says."""

    def __init__(self) -> None:
        self.scope: Any = None
        self.receive: Callable[[], Any]
        self.send: Callable[[Any], Any]
        self.is_accepting = asyncio.Event()
        self.is_over = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scope, self.receive, self.send = scope, receive, send
        await receive()
        await self.is_accepting.wait()
        await send({"type": "websocket.accept"})
        await self.is_over.wait()


async def open_socket(*, accepts: bool = True) -> tuple[Application, SocketProtocol, Wire]:
    application = Application()
    if accepts:
        application.is_accepting.set()
    config = uvicorn.Config(application, log_config=None, ws_max_size=1 << 20, ws_ping_interval=None, lifespan="off")  # type: ignore[arg-type]
    config.load()
    protocol = SocketProtocol(config=config, server_state=ServerState(), app_state={})
    wire = Wire(protocol)
    protocol.connection_made(wire)
    protocol.data_received(UPGRADE.format(path="/", more="").encode())
    await settle()
    wire.take()
    return application, protocol, wire


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def turns_to_parse(protocol: SocketProtocol, wire: Wire) -> int:
    """Returns the turns of the loop until all that was read is parsed."""
    turns = 0
    while wire.is_paused:
        await asyncio.sleep(0)
        turns += 1
    return turns


@simulated
async def test_pings_are_parsed_in_turns_and_nothing_is_read_meanwhile() -> None:
    _, protocol, wire = await open_socket()
    protocol.data_received(frame(PING) * 5000)
    assert wire.is_paused
    assert 0 < len(wire.output) // 2 <= 2 * MIN_PIECE_BYTES // 6
    assert await turns_to_parse(protocol, wire) >= 100
    assert wire.output == PONG + b"\0" + (PONG + b"\0") * 4999


@simulated
async def test_messages_are_given_in_turns() -> None:
    application, protocol, wire = await open_socket()
    protocol.data_received(frame(TEXT, b"{}") * 1000)
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.ensure_future(count_turns())
    for _ in range(1000):
        assert (await application.receive())["text"] == "{}"
    counting.cancel()
    assert turns >= 1000 // TURN_MESSAGES // 2
    await settle()
    assert not wire.is_paused


@simulated
async def test_a_large_message_is_whole_and_the_next_waits_until_it_was_taken() -> None:
    application, protocol, wire = await open_socket()
    data = bytes(range(256)) * 256
    protocol.data_received(frame(BINARY, data[:60_000]) + frame(BINARY, data[60_000:]))
    assert (await application.receive())["bytes"] == data[:60_000]
    assert (await application.receive())["bytes"] == data[60_000:]
    await settle()
    assert not wire.is_paused


@simulated
async def test_no_frame_is_taken_before_the_application_has_accepted() -> None:
    application, _, wire = await open_socket(accepts=False)
    assert wire.is_paused
    application.is_accepting.set()
    await settle()
    assert not wire.is_paused
    assert application.scope["extensions"][ABORT] == wire.abort


@simulated
async def test_more_frames_than_the_allowance_are_4504() -> None:
    application, protocol, wire = await open_socket()
    protocol.data_received(frame(PING) * int(FRAMES_PER_S * ALLOWANCE_S))
    await turns_to_parse(protocol, wire)
    wire.take()
    protocol.data_received(frame(PING) * 2)
    code, reason = close_in(wire.output)
    assert (code, reason[:21]) == (4504, "more than 1000 frames")
    assert await application.receive() == {"type": "websocket.disconnect", "code": code, "reason": reason}


@simulated
async def test_the_number_of_fragments_is_limited() -> None:
    application, protocol, wire = await open_socket()
    protocol.data_received(frame(UNFINISHED) + frame(MORE, b"x") * (MAX_FRAGMENTS - 2) + frame(LAST, b"x"))
    await settle_turns()
    assert len((await application.receive())["bytes"]) == MAX_FRAGMENTS - 1
    protocol.data_received(frame(UNFINISHED) + frame(MORE, b"x") * MAX_FRAGMENTS)
    await settle_turns()
    assert close_in(wire.output) == (1009, f"a message of more than {MAX_FRAGMENTS} fragments")


async def settle_turns() -> None:
    for _ in range(500):
        await asyncio.sleep(0)


# Who does not read


@simulated
async def test_a_client_that_does_not_read_is_owed_only_the_newest_pong() -> None:
    _, protocol, wire = await open_socket()
    protocol.pause_writing()
    for number in range(3):
        protocol.data_received(frame(PING, b"%d" % number) * 40)
    await settle_turns()
    assert wire.take() == b""
    protocol.resume_writing()
    assert wire.take() == PONG + b"\x012"
    protocol.data_received(frame(PING, b"3"))
    assert wire.take() == PONG + b"\x013"


@simulated
async def test_a_client_that_reads_nothing_for_too_long_is_cut() -> None:
    _, protocol, wire = await open_socket()
    protocol.pause_writing()
    await asyncio.sleep(STALL_S - 1)
    protocol.resume_writing()
    protocol.pause_writing()
    await asyncio.sleep(STALL_S - 1)
    assert not wire.is_aborted
    await asyncio.sleep(1.1)
    assert wire.is_aborted


# After a close


@simulated
async def test_a_close_that_is_answered_is_the_end() -> None:
    application, protocol, wire = await open_socket()
    await application.send({"type": "websocket.close", "code": 1000})
    protocol.data_received(frame(PING) * 100 + frame(CLOSE, b"\x03\xe8"))
    await settle()
    assert wire.is_closed
    assert not wire.is_aborted
    assert PONG not in wire.output[4:]


@simulated
async def test_an_answer_behind_what_was_under_way_is_found() -> None:
    application, protocol, wire = await open_socket()
    protocol.data_received(frame(BINARY, b"x" * 5000) * 3)
    await application.send({"type": "websocket.close", "code": 1000})
    protocol.data_received(frame(CLOSE, b"\x03\xe8"))
    await settle()
    assert wire.is_closed
    assert not wire.is_aborted


@simulated
async def test_a_close_that_is_not_answered_has_a_deadline() -> None:
    application, _, wire = await open_socket()
    await application.send({"type": "websocket.close", "code": 1000})
    application.is_over.set()
    await asyncio.sleep(9.9)
    assert not wire.is_closed
    await asyncio.sleep(0.2)
    assert wire.is_aborted


@simulated
async def test_a_client_that_goes_on_after_a_close_has_a_moment_to_read_it() -> None:
    application, protocol, wire = await open_socket()
    await application.send({"type": "websocket.close", "code": 4500, "reason": "no"})
    application.is_over.set()
    protocol.data_received(b"\0" * (UNDER_WAY_BYTES + 1))
    assert (close_in(wire.output), wire.has_eof, wire.is_paused) == ((4500, "no"), True, False)
    protocol.data_received(b"\0" * (LINGER_BYTES - UNDER_WAY_BYTES - 1))
    assert not wire.is_paused
    protocol.data_received(b"\0")
    assert wire.is_paused
    await asyncio.sleep(LINGER_S - 0.1)
    assert not wire.is_closed
    await asyncio.sleep(0.2)
    assert wire.is_aborted


@simulated
async def test_a_frame_that_is_too_large_is_1009_and_the_rest_of_it_is_read() -> None:
    application, protocol, wire = await open_socket()
    protocol.data_received(b"\x82\xff" + (2_000_000).to_bytes(8) + b"\0\0\0\0" + b"x" * 1000)
    assert (await application.receive())["code"] == close_in(wire.output)[0] == 1009
    application.is_over.set()
    await settle()
    assert (wire.has_eof, wire.is_paused, wire.is_closed) == (True, False, False)
    protocol.data_received(b"x" * 2_000_000)
    assert not wire.is_closed
    protocol.eof_received()
    wire.close()
    await asyncio.sleep(LINGER_S * 2)
    assert not wire.is_aborted


@simulated
async def test_a_close_of_theirs_is_answered_and_what_follows_is_not_heard() -> None:
    application, protocol, wire = await open_socket()
    protocol.data_received(frame(CLOSE, b"\x03\xe8") + frame(PING) * 10)
    assert await application.receive() == {"type": "websocket.disconnect", "code": 1000, "reason": ""}
    assert (wire.output, wire.has_eof) == (b"\x88\x02\x03\xe8", True)


@simulated
async def test_a_server_that_ends_says_so_and_hangs_up_soon() -> None:
    _, protocol, wire = await open_socket()
    protocol.shutdown()
    protocol.shutdown()
    assert (close_in(wire.output)[0], wire.has_eof) == (1012, True)
    await asyncio.sleep(LINGER_S + 0.1)
    assert wire.is_aborted


@simulated
async def test_a_client_that_answers_no_ping_is_closed_with_1011() -> None:
    application, protocol, wire = await open_socket()
    protocol.keepalive_timeout()
    assert close_in(wire.output) == (1011, "keepalive ping timeout")
    assert (await application.receive())["code"] == 1011
