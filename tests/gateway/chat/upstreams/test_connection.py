"""One connection to an upstream and the pool that keeps it, without sockets and in virtual time."""

import asyncio

import httpx2
import pytest

from gateway.chat.upstreams.body import Body
from gateway.chat.upstreams.connection import MAX_HEADER_BYTES, READ_HIGH_WATER
from gateway.chat.upstreams.pool import KEEPALIVE_S, MAX_IDLE_PER_ORIGIN, Pool
from tests.support.raw_server import Poured
from tests.support.virtual_time import simulated
from tests.support.wires import CHUNKED, HERE, OK, answered, connect

CLOSING = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 5\r\n\r\n"
UNBOUNDED = b"HTTP/1.1 200 OK\r\n\r\n"


# A request


@simulated
async def test_a_request_is_its_head_its_length_and_its_content() -> None:
    connection, wire = connect()
    await answered(connection, OK)
    assert wire.written == b"POST / HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}"


@simulated
async def test_a_request_waits_until_the_network_takes_more() -> None:
    connection, _ = connect()
    connection.pause_writing()
    sending = asyncio.ensure_future(connection.send(b"", b"{}"))
    await asyncio.sleep(0)
    connection.data_received(OK)
    await asyncio.sleep(1)
    assert not sending.done()
    connection.resume_writing()
    await sending


@simulated
async def test_status_and_headers_are_those_of_the_answer_and_not_of_an_interim_one() -> None:
    connection, _ = connect()
    interim = b"HTTP/1.1 103 Early Hints\r\nretry-after: 1\r\n\r\n"
    await answered(connection, interim + b"HTTP/1.1 429 No\r\nRetry-After: 7\r\nretry-after: 8\r\n\r\n")
    assert (connection.status(), connection.header(b"retry-after"), connection.header(b"x")) == (429, "7", None)


@pytest.mark.parametrize(("size", "taken"), [(MAX_HEADER_BYTES, True), (MAX_HEADER_BYTES + 1, False)])
@simulated
async def test_headers_are_bounded(size: int, taken: bool) -> None:
    connection, wire = connect()
    answer = b"HTTP/1.1 200 OK\r\nx: %b\r\n\r\n" % (b"y" * (size - 1))
    if taken:
        await answered(connection, answer)
    else:
        with pytest.raises(httpx2.RemoteProtocolError):
            await answered(connection, answer)
    assert wire.aborted is not taken


@simulated
async def test_a_connection_that_breaks_before_its_answer_fails_the_request() -> None:
    connection, _ = connect()
    sending = asyncio.ensure_future(connection.send(b"", b""))
    await asyncio.sleep(0)
    connection.connection_lost(None)
    with pytest.raises(httpx2.ReadError):
        await sending


# A body


@simulated
async def test_bytes_between_two_reads_are_one_piece() -> None:
    connection, _ = connect()
    await answered(connection, OK)
    connection.data_received(b"he")
    connection.data_received(b"ll")
    assert await connection.read() == b"hell"
    connection.data_received(b"o")
    assert [await connection.read() for _ in range(3)] == [b"o", b"", b""]


ENDS: dict[str, tuple[bytes, bool]] = {
    "a length, reached": (OK + b"hello", True),
    "a length, not reached": (OK + b"hell", False),
    "chunks, ended": (CHUNKED + b"5\r\nhello\r\n0\r\n\r\n", True),
    "chunks, not ended": (CHUNKED + b"5\r\nhello\r\n", False),
    "neither": (UNBOUNDED + b"hello", True),
}


@pytest.mark.parametrize(("answer", "is_whole"), ENDS.values(), ids=ENDS)
@simulated
async def test_a_connection_that_closes_ends_a_body_only_when_nothing_else_says_how_long_it_is(
    answer: bytes, is_whole: bool
) -> None:
    connection, _ = connect()
    await answered(connection, answer)
    connection.eof_received()
    connection.connection_lost(None)
    assert (await connection.read())[:4] == b"hell"
    if is_whole:
        assert await connection.read() == b""
    else:
        with pytest.raises(httpx2.ReadError):
            await connection.read()


@simulated
async def test_a_reader_that_falls_behind_stops_the_socket_until_it_reads() -> None:
    connection, wire = connect()
    await answered(connection, UNBOUNDED)
    connection.data_received(b"x" * READ_HIGH_WATER)
    assert wire.reading
    connection.data_received(b"x")
    assert not wire.reading
    assert len(await connection.read()) == READ_HIGH_WATER + 1
    assert wire.reading


@simulated
async def test_a_sink_gets_what_came_before_it_then_each_piece_then_the_end_once() -> None:
    connection, _ = connect()
    await answered(connection, OK + b"h")
    sink = Poured()
    Body(connection).pipe(sink)
    connection.data_received(b"el")
    connection.data_received(b"lo")
    connection.connection_lost(None)
    assert (sink.pieces, sink.ends) == ([b"h", b"el", b"lo"], [None])


@simulated
async def test_a_sink_hears_that_its_body_was_cut() -> None:
    connection, _ = connect()
    await answered(connection, OK)
    sink = Poured()
    connection.pipe(sink)
    connection.connection_lost(None)
    assert [type(error) for error in sink.ends] == [httpx2.ReadError]


@simulated
async def test_a_body_is_paused_and_resumed_while_its_connection_is_open() -> None:
    connection, wire = connect()
    await answered(connection, OK)
    body = Body(connection)
    body.pause()
    assert not wire.reading
    body.resume()
    assert wire.reading
    connection.connection_lost(None)
    body.pause()
    assert wire.reading


@simulated
async def test_a_body_that_was_let_go_has_no_power_over_its_connection() -> None:
    connection, wire = connect()
    await answered(connection, OK + b"hello")
    body, sink = Body(connection), Poured()
    await connection.read()
    await body.aclose()
    body.pause()
    body.pipe(sink)
    body.abort()
    assert await body.read() == b""
    assert (wire.reading, wire.aborted, sink.ends) == (True, False, [])


# What is kept for the next request

KEPT: dict[str, tuple[bytes, bool, bool]] = {
    "read to its end": (OK + b"hello", True, True),
    "chunks read to their end": (CHUNKED + b"5\r\nhello\r\n0\r\n\r\n", True, True),
    "not read": (OK + b"hello", False, False),
    "not complete": (OK + b"hell", True, False),
    "the server closes": (CLOSING + b"hello", True, False),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello", True, False),
}


@pytest.mark.parametrize(("answer", "reads", "is_kept"), KEPT.values(), ids=KEPT)
@simulated
async def test_a_connection_is_kept_when_its_answer_was_read_to_its_end(
    answer: bytes, reads: bool, is_kept: bool
) -> None:
    pool = Pool()
    connection, wire = connect(pool)
    await answered(connection, answer)
    if reads:
        await connection.read()
    await Body(connection).aclose()
    assert (pool.take(HERE) is connection, wire.aborted) == (is_kept, not is_kept)


@simulated
async def test_a_connection_that_was_paused_is_read_again_when_it_is_kept() -> None:
    connection, wire = connect()
    await answered(connection, OK + b"hello")
    body = Body(connection)
    await body.read()
    body.pause()
    await body.aclose()
    assert wire.reading


@simulated
async def test_a_kept_connection_answers_the_next_request_from_its_own_bytes() -> None:
    connection, _ = connect()
    await answered(connection, OK + b"first")
    await connection.read()
    connection.release()
    await answered(connection, b"HTTP/1.1 500 No\r\nx: 1\r\ncontent-length: 2\r\n\r\nno")
    assert (connection.status(), connection.headers[0], await connection.read()) == (500, (b"x", b"1"), b"no")


@simulated
async def test_the_newest_idle_connection_is_taken_first_and_only_for_its_origin() -> None:
    pool = Pool()
    older, newer = connect(pool)[0], connect(pool)[0]
    pool.keep(older)
    pool.keep(newer)
    assert pool.take(("https", "here", 443)) is None
    assert [pool.take(HERE) for _ in range(3)] == [newer, older, None]


@simulated
async def test_an_idle_connection_is_closed_after_a_while_and_one_in_use_is_not() -> None:
    pool = Pool()
    (idle, idle_wire), (used, used_wire) = connect(pool), connect(pool)
    pool.keep(idle)
    pool.keep(used)
    assert pool.take(HERE) is used
    await asyncio.sleep(KEEPALIVE_S - 0.1)
    assert not idle_wire.aborted
    await asyncio.sleep(0.2)
    assert (idle_wire.aborted, used_wire.aborted) == (True, False)
    assert pool.take(HERE) is None


@simulated
async def test_a_connection_that_closed_while_it_was_idle_is_not_taken() -> None:
    pool = Pool()
    for close in ("lost", "closing"):
        connection, wire = connect(pool)
        pool.keep(connection)
        if close == "lost":
            connection.connection_lost(None)
        else:
            wire.aborted = True
        assert pool.take(HERE) is None, close


@simulated
async def test_no_more_than_so_many_are_kept_idle() -> None:
    pool = Pool()
    wires = []
    for _ in range(MAX_IDLE_PER_ORIGIN + 1):
        connection, wire = connect(pool)
        pool.keep(connection)
        wires.append(wire)
    assert [wire.aborted for wire in wires] == [False] * MAX_IDLE_PER_ORIGIN + [True]
