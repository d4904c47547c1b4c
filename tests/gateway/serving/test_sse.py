"""The response writes a stream on any ASGI server, and on one that lends it its connection."""

import asyncio
import json
from contextlib import suppress

import pytest

from gateway.errors import Gone, Overloaded, UpstreamRefused
from gateway.serving.open_streams import OpenStreams
from tests.support.streams import HOUR_S, SLICE, FakeServer, Feed, on_both_ways, stream
from tests.support.virtual_time import simulated

# From the first byte to the end


@on_both_ways
@simulated
async def test_the_headers_say_what_it_is_and_that_nobody_may_keep_or_change_it(direct: bool) -> None:
    server = FakeServer(stream(Feed(has_ended=True), headers=[(b"x-mine", b"1")]), direct=direct)
    await server.over()
    assert (server.status, server.headers) == (
        200,
        {
            "content-type": "text/event-stream; charset=utf-8",
            "cache-control": "no-store, no-transform",
            "x-accel-buffering": "no",
            "x-mine": "1",
        },
    )


@on_both_ways
@simulated
async def test_the_first_bytes_go_out_before_anything_is_due(direct: bool) -> None:
    server = FakeServer(stream(Feed()), direct=direct)
    assert await server.settled_body() == b": ok\n"
    server.leave()
    await server.over()


@on_both_ways
@simulated
async def test_what_is_due_at_the_start_goes_out_with_the_first_bytes(direct: bool) -> None:
    server = FakeServer(stream(Feed(b"data: 1\n\n", b"data: 2\n\n")), direct=direct)
    await server.settled_body()
    assert server.pieces == [b": ok\ndata: 1\n\ndata: 2\n\n"]
    server.leave()
    await server.over()


@on_both_ways
@simulated
async def test_what_comes_later_goes_out_when_it_comes_in_one_piece(direct: bool) -> None:
    feed = Feed()
    server = FakeServer(stream(feed), direct=direct)
    await server.settled_body()
    feed.say(b"data: 1\n\n", b"data: 2\n\n")
    await server.settled_body()
    feed.say(b"data: 3\n\n")
    await server.settled_body()
    assert server.pieces == [b": ok\n", b"data: 1\n\ndata: 2\n\n", b"data: 3\n\n"]
    server.leave()
    await server.over()


@simulated
async def test_a_lent_connection_is_written_in_the_turn_that_brought_the_event() -> None:
    feed = Feed()
    server = FakeServer(stream(feed), direct=True)
    await server.settled_body()
    feed.say(b"data: 1\n\n")
    assert server.pieces[-1] == b"data: 1\n\n"
    server.leave()
    await server.over()


@on_both_ways
@simulated
async def test_a_source_that_ends_ends_the_response_after_its_last_event(direct: bool) -> None:
    feed = Feed(b"data: 1\n\n")
    server = FakeServer(stream(feed, end=b"data: [DONE]\n\n"), direct=direct)
    await server.settled_body()
    assert not server.complete
    feed.say(b"data: 2\n\n")
    feed.end()
    await server.over()
    assert (server.body, server.complete) == (b": ok\ndata: 1\n\ndata: 2\n\ndata: [DONE]\n\n", True)
    assert feed.closed == 1


@on_both_ways
@simulated
async def test_a_source_that_has_ended_already_is_a_whole_response(direct: bool) -> None:
    for feed in (Feed(has_ended=True), Feed(b"data: 1\n\n", has_ended=True)):
        due = bytes(feed.due)
        server = FakeServer(stream(feed, end=b"END"), direct=direct)
        await server.over()
        assert (server.body, server.complete) == (b": ok\n" + due + b"END", True)


@on_both_ways
@simulated
async def test_more_than_one_piece_goes_out_whole_and_in_order(direct: bool) -> None:
    text = b"".join(b"%07d\n" % number for number in range(100_000))
    server = FakeServer(stream(Feed(text, has_ended=True)), direct=direct)
    await server.over()
    assert server.body == b": ok\n" + text
    assert len(server.pieces) == -(-len(text) // SLICE)


@on_both_ways
@simulated
async def test_what_is_only_in_the_log_is_fetched(direct: bool) -> None:
    feed = Feed(b"1")
    feed.hold(b"2", b"3")
    server = FakeServer(stream(feed), direct=direct)
    assert await server.settled_body() == b": ok\n123"
    feed.hold(b"4")
    feed.say(b"5")
    assert await server.settled_body() in (b": ok\n12345", b": ok\n12354")
    feed.end()
    await server.over()


@on_both_ways
@simulated
async def test_history_that_is_gone_while_it_is_read_cuts_the_response(direct: bool) -> None:
    feed, streams, closes = Feed(b"1"), OpenStreams(), []
    feed.hold(Gone(code="evicted"))
    server = FakeServer(stream(feed, streams=streams, on_close=lambda: closes.append(1)), direct=direct)
    with suppress(Gone):
        await server.over()
    assert (server.body, server.complete, feed.closed, closes, len(streams)) == (b": ok\n1", False, 1, [1], 0)


# Leaving


@on_both_ways
@simulated
async def test_a_stream_that_leaves_says_farewell_and_is_cut(direct: bool) -> None:
    """It is cut, not ended: a client that takes it for a whole answer would never come back."""
    feed = Feed(b"data: 1\n\n")
    response = stream(feed, end=b"data: [DONE]\n\n", farewell=lambda: b"retry: 7\ndata: {}\n\n")
    server = FakeServer(response, direct=direct)
    await server.settled_body()
    response.leave()
    await server.over()
    assert (server.body, server.complete) == (b": ok\ndata: 1\n\nretry: 7\ndata: {}\n\n", False)
    assert feed.closed == 1


@on_both_ways
@simulated
async def test_leaving_twice_is_leaving_once(direct: bool) -> None:
    response = stream(Feed(), farewell=lambda: b"bye")
    server = FakeServer(response, direct=direct)
    await server.settled_body()
    response.leave()
    response.leave()
    await server.over()
    response.leave()
    assert server.body == b": ok\nbye"


@on_both_ways
@simulated
async def test_a_client_that_is_gone_closes_the_source(direct: bool) -> None:
    feed, streams, closes = Feed(b"1"), OpenStreams(), []
    server = FakeServer(stream(feed, streams=streams, end=b"END", on_close=lambda: closes.append(1)), direct=direct)
    await server.settled_body()
    assert len(streams) == 1
    server.leave()
    await server.over()
    assert (server.body, server.complete, feed.closed, closes, len(streams)) == (b": ok\n1", False, 1, [1], 0)
    feed.say(b"2")
    assert server.body == b": ok\n1"


@on_both_ways
@simulated
async def test_a_client_that_is_gone_closes_the_source_even_while_it_is_behind(direct: bool) -> None:
    feed = Feed()
    server = FakeServer(stream(feed), direct=direct)
    await server.settled_body()
    server.leave()
    feed.hold(b"x", b"y")
    await server.over()
    assert feed.closed == 1


@on_both_ways
@simulated
async def test_a_response_that_is_cancelled_closes_the_source(direct: bool) -> None:
    feed, streams = Feed(), OpenStreams()
    verdict = asyncio.get_running_loop().create_future()
    server = FakeServer(stream(feed, streams=streams, verdict=verdict, prime_s=5), direct=direct)
    await server.settled_body()
    server._task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await server.over()
    assert (feed.closed, len(streams)) == (1, 0)


# A client that does not read


@on_both_ways
@simulated
async def test_nothing_is_taken_from_the_source_while_the_connection_is_full(direct: bool) -> None:
    feed = Feed()
    server = FakeServer(stream(feed), direct=direct)
    await server.settled_body()
    server.stop_taking()
    before = feed.polled_bytes
    for _ in range(50):
        feed.say(b"x" * SLICE)
        await server.settled_body()
    assert feed.polled_bytes - before <= SLICE
    server.take_again()
    await server.settled_body()
    assert server.body == b": ok\n" + b"x" * SLICE * 50
    feed.end()
    await server.over()
    assert server.complete


# The verdict


def verdict() -> "asyncio.Future[None]":
    """Returns a future like a run's: its owner retrieves a refusal that comes when nobody waits for it any more."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.add_done_callback(lambda it: it.cancelled() or it.exception())
    return future


@on_both_ways
@simulated
async def test_nothing_is_answered_while_the_verdict_is_open(direct: bool) -> None:
    waiting = verdict()
    server = FakeServer(stream(Feed(b"1"), verdict=waiting, prime_s=HOUR_S), direct=direct)
    await server.settled_body()
    assert (server.status, server.body) == (0, b"")
    waiting.set_result(None)
    assert await server.settled_body() == b": ok\n1"
    server.leave()
    await server.over()


@on_both_ways
@simulated
async def test_a_verdict_that_takes_too_long_is_not_waited_for(direct: bool) -> None:
    waiting = verdict()
    server = FakeServer(stream(Feed(), verdict=waiting, prime_s=2), direct=direct)
    await asyncio.sleep(1.9)
    assert server.status == 0
    await asyncio.sleep(0.2)
    assert (server.status, server.body) == (200, b": ok\n")
    waiting.set_exception(UpstreamRefused("late"))
    assert await server.settled_body() == b": ok\n"
    server.leave()
    await server.over()


@on_both_ways
@simulated
async def test_a_refusal_is_a_problem_document_and_closes_the_source(direct: bool) -> None:
    feed, streams, closes, waiting = Feed(b"never shown"), OpenStreams(), [], verdict()
    response = stream(feed, streams=streams, verdict=waiting, prime_s=HOUR_S, on_close=lambda: closes.append(1))
    server = FakeServer(response, direct=direct)
    await server.settled_body()
    waiting.set_exception(UpstreamRefused("slow down", status=429, code="upstream_rate_limited", retry_after="7"))
    await server.over()
    document = json.loads(server.body)
    assert (server.status, document["status"], document["code"]) == (429, 429, "upstream_rate_limited")
    assert document["request_id"] == "req-1"
    assert server.headers["content-type"] == "application/problem+json"
    assert server.headers["retry-after"] == "7"
    assert server.headers["content-length"] == str(len(server.body))
    assert (server.complete, feed.closed, closes, len(streams)) == (True, 1, [1], 0)


@simulated
async def test_a_refusal_that_is_known_already_needs_no_waiting() -> None:
    waiting = verdict()
    waiting.set_exception(Overloaded())
    server = FakeServer(stream(Feed(), verdict=waiting, prime_s=HOUR_S))
    await server.over()
    assert (server.status, server.headers["retry-after"]) == (503, "2")


@simulated
async def test_a_client_that_leaves_before_the_verdict_is_answered_nothing() -> None:
    feed, waiting = Feed(), verdict()
    server = FakeServer(stream(feed, verdict=waiting, prime_s=HOUR_S))
    await server.settled_body()
    server.leave()
    await server.over()
    assert (server.status, feed.closed) == (0, 1)
    waiting.set_exception(UpstreamRefused("late"))
    assert waiting.exception()


@pytest.mark.parametrize("settle", ["cancel", "fault"])
@simulated
async def test_a_verdict_that_is_none_is_an_answer_that_goes_on(settle: str) -> None:
    """What went wrong is then the stream's to tell."""
    waiting = verdict()
    if settle == "cancel":
        waiting.cancel()
    else:
        waiting.set_exception(RuntimeError("a bug"))
    server = FakeServer(stream(Feed(b"1"), verdict=waiting, prime_s=HOUR_S))
    assert (await server.settled_body(), server.status) == (b": ok\n1", 200)
    server.leave()
    await server.over()
