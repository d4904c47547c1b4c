"""Readers of a hub replay the log in memory, follow the ring, and end with their topic."""

import asyncio
from contextlib import suppress

import pytest

from events.log.hub import WRITE_BYTES, Hub
from events.log.port import Append, Block, Position
from events.log.ring import RING_MAX_FRAMES
from gateway.errors import Gone
from tests.contract.engines import put, scenario
from tests.support.readers import HeldLog, after, all_due, joined, open_hub, plain, settle, start_of
from tests.support.streams import FakeServer, stream


def loud(epoch: str, block: Block) -> list[bytes]:
    return [b"<%b!>" % data for data in block.data]


# Replay, then live


@scenario
async def test_a_reader_replays_what_is_there_and_then_follows() -> None:
    log, hub = await open_hub()
    await put(log, "t", b"1", b"2")
    reader = await hub.open("t", plain, None)
    assert await reader.next() == joined(1, 2)
    await put(log, "t", b"3")
    assert await reader.next() == joined(3, 3)


@scenario
async def test_a_reader_with_a_cursor_starts_strictly_after_it() -> None:
    log, hub = await open_hub()
    await put(log, "t", b"1", b"2", b"3")
    reader = await hub.open("t", plain, after(await start_of(log, "t"), 2))
    assert await all_due(reader) == joined(3, 3)


@scenario
async def test_a_reader_at_the_head_gets_nothing_until_something_comes() -> None:
    log, hub = await open_hub()
    await put(log, "t", b"1")
    reader = await hub.open("t", plain, after(await start_of(log, "t"), 1))
    assert (reader.poll(), reader.ended) == (b"", False)
    await put(log, "t", b"2")
    assert reader.poll() == joined(2, 2)


@scenario
async def test_a_reader_of_a_topic_to_come_sees_it_from_its_first_event() -> None:
    log, hub = await open_hub()
    reader = hub.open_new("t", plain)
    assert reader.poll() == b""
    await put(log, "t", b"1")
    assert reader.poll() == joined(1, 1)


@scenario
async def test_what_is_appended_while_the_log_is_read_is_not_lost() -> None:
    log = HeldLog()
    await open_hub(log)
    hub = Hub(log)
    await put(log, "t", b"1")
    log.free.clear()
    opening = asyncio.ensure_future(hub.open("t", plain, None))
    await settle()
    assert log.reading == 1
    await put(log, "t", b"2", b"3")
    log.free.set()
    assert await all_due(await opening) == joined(1, 3)


@scenario
async def test_a_replay_larger_than_one_slice_comes_whole() -> None:
    log, hub = await open_hub()
    line = b"x" * 9000
    for _ in range(30):
        await put(log, "t", line)
    reader = await hub.open("t", plain, None)
    piece = reader.poll()
    assert piece is not None
    assert len(piece) < WRITE_BYTES
    assert piece + await all_due(reader) == b"<%b>" % line * 30


@scenario
async def test_a_long_replay_lets_others_run() -> None:
    log, hub = await open_hub()
    for _ in range(40):
        await put(log, "t", b"x" * WRITE_BYTES)
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    task = asyncio.ensure_future(other())
    await all_due(await hub.open("t", plain, None))
    task.cancel()
    assert turns >= 30


# Falling off the ring


@scenario
async def test_a_reader_that_falls_off_the_ring_goes_on_in_the_log() -> None:
    log, hub = await open_hub()
    await put(log, "t", b"1")
    slow = await hub.open("t", plain, None)
    fast = await hub.open("t", plain, None)
    last, frames = RING_MAX_FRAMES * 3, b""
    for first in range(2, last, 500):
        await put(log, "t", *(b"%d" % number for number in range(first, min(first + 500, last + 1))))
        frames += await all_due(fast)
    assert frames == joined(1, last)
    assert await slow.next() == joined(1, 1)
    assert slow.poll() is None
    assert await all_due(slow) == joined(2, last)


@scenario
async def test_readers_at_different_speeds_get_the_same_bytes() -> None:
    log, hub = await open_hub()
    await put(log, "t", b"1")
    readers = [await hub.open("t", plain, None) for _ in range(4)]
    outputs = [b""] * 4
    for number in range(2, 600):
        await put(log, "t", b"%d" % number)
        for which, reader in enumerate(readers):
            if which and number % (7**which) == 0:
                outputs[which] += await all_due(reader)
    for which, reader in enumerate(readers):
        outputs[which] += await all_due(reader)
    assert set(outputs) == {joined(1, 599)}


@scenario
async def test_two_encoders_of_one_topic_do_not_share_frames() -> None:
    log, hub = await open_hub()
    await put(log, "t", b"1")
    quiet, noisy = await hub.open("t", plain, None), await hub.open("t", loud, None)
    await put(log, "t", b"2")
    assert (await all_due(quiet), await all_due(noisy)) == (b"<1><2>", b"<1!><2!>")


@scenario
async def test_readers_with_equal_encoders_share_one_ring_and_its_encoding() -> None:
    calls: list[int] = []

    def counted(epoch: str, block: Block) -> list[bytes]:
        calls.append(block.first)
        return plain(epoch, block)

    log, hub = await open_hub()
    hub.open_new("t", counted)
    readers = [hub.open_new("t", counted) for _ in range(50)]
    await put(log, "t", b"1")
    assert [reader.poll() for reader in readers] == [joined(1, 1)] * 50
    assert calls == [1]


@scenario
async def test_events_that_an_encoder_hides_hold_nobody_up() -> None:
    def odd(epoch: str, block: Block) -> list[bytes]:
        return [data if int(data) % 2 else b"" for data in block.data]

    log, hub = await open_hub()
    await put(log, "t", *(b"%d" % number for number in range(1, 6)))
    reader = await hub.open("t", odd, None)
    assert await all_due(reader) == b"135"
    await put(log, "t", b"6")
    assert (reader.poll(), reader.cursor) == (b"", 6)
    await put(log, "t", b"7")
    assert reader.poll() == b"7"


# The end


@scenario
async def test_a_closed_topic_ends_its_readers_after_its_last_event() -> None:
    log, hub = await open_hub()
    reader = hub.open_new("t", plain)
    await put(log, "t", b"1")
    await put(log, "t", b"2", close=True)
    assert not reader.ended
    assert (await reader.next(), reader.ended) == (joined(1, 2), True)
    assert await reader.next() == b""


@scenario
async def test_a_topic_that_was_closed_before_ends_a_reader_after_its_replay() -> None:
    log, hub = await open_hub()
    await put(log, "t", b"1", close=True)
    reader = await hub.open("t", plain, None)
    assert not reader.ended
    assert (reader.poll(), reader.ended) == (joined(1, 1), True)


@scenario
async def test_a_reader_at_the_end_of_a_closed_topic_has_ended_at_once() -> None:
    log, hub = await open_hub()
    await put(log, "t", b"1", close=True)
    reader = await hub.open("t", plain, after(await start_of(log, "t"), 1))
    assert (reader.poll(), reader.ended) == (b"", True)


@scenario
async def test_a_topic_closed_without_an_event_ends_its_readers() -> None:
    log, hub = await open_hub()
    reader = hub.open_new("t", plain)
    await put(log, "t", b"1")
    await reader.next()
    waiting = asyncio.ensure_future(reader.next())
    await settle()
    await put(log, "t", close=True)
    assert (await waiting, reader.ended) == (b"", True)


@scenario
async def test_a_deleted_topic_ends_its_readers() -> None:
    log, hub = await open_hub()
    reader = hub.open_new("t", plain)
    await put(log, "t", b"1")
    await reader.next()
    waiting = asyncio.ensure_future(reader.next())
    await settle()
    await log.delete("t")
    assert (await waiting, reader.ended) == (b"", True)


@scenario
async def test_a_response_whose_topic_was_deleted_is_cut() -> None:
    """The topic was not closed, so its last event was never written: a client must not take this for the end."""
    log, hub = await open_hub()
    server = FakeServer(stream(hub.open_new("t", plain), end=b"data: [DONE]\n\n"))
    await put(log, "t", b"1")
    await server.settled_body()
    await log.delete("t")
    with suppress(Gone):
        await server.over()
    assert not server.complete


@scenario
async def test_a_topic_made_anew_does_not_continue_the_old_one() -> None:
    log, hub = await open_hub()
    old = hub.open_new("t", plain)
    await put(log, "t", b"1")
    await log.delete("t")
    await put(log, "t", b"a", b"b", b"c")
    await settle()
    assert old.ended
    new = await hub.open("t", plain, None)
    assert await all_due(new) == b"<a><b><c>"
    await put(log, "t", b"d")
    assert new.poll() == b"<d>"


@scenario
async def test_a_hub_forgets_a_topic_with_its_last_reader() -> None:
    log, hub = await open_hub()
    one, two = hub.open_new("t", plain), hub.open_new("t", plain)
    end_watch = hub.watch("t", Position(epoch="", offset=0), lambda block: None)
    one.close()
    two.close()
    assert "t" in log.interest
    end_watch()
    assert "t" not in log.interest
    end_watch()
    two.close()


@scenario
async def test_a_reader_that_was_refused_leaves_nothing_behind() -> None:
    log, hub = await open_hub()
    with pytest.raises(Gone):
        await hub.open("t", plain, None)
    assert len(log.interest) == 0


# One of many


@scenario
async def test_readers_that_all_end_at_once_all_hear_of_it() -> None:
    """A response that owns its connection leaves while the others are being told."""
    log, hub = await open_hub()
    servers = [FakeServer(stream(hub.open_new("t", plain), end=b"END"), direct=True) for _ in range(5)]
    await settle()
    await log.append(Append(topic="t", data=[b"1"], close=True))
    for server in servers:
        await server.over(2)
        assert (server.body, server.complete) == (b": ok\n<1>END", True)


@scenario
async def test_an_encoder_that_fails_ends_its_own_readers_only() -> None:
    def broken(epoch: str, block: Block) -> list[bytes]:
        raise ZeroDivisionError

    errors: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context["exception"]))
    log, hub = await open_hub()
    failing, reader, blocks = hub.open_new("t", broken), hub.open_new("t", plain), []
    hub.watch("t", Position(epoch="", offset=0), blocks.append)
    await put(log, "t", b"1")
    assert (failing.ended, failing.complete) == (True, False)
    assert (reader.poll(), len(blocks)) == (joined(1, 1), 1)
    assert isinstance(errors[0], ZeroDivisionError)


@scenario
async def test_a_connection_that_fails_keeps_the_news_from_no_other() -> None:
    errors: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context["exception"]))
    log, hub = await open_hub()
    readers = [hub.open_new("t", plain) for _ in range(3)]
    wakes: list[int] = []
    for number, reader in enumerate(readers):
        reader.on_wake = (lambda: 1 / 0) if number == 1 else (lambda number=number: wakes.append(number))
    await put(log, "t", b"1")
    assert (sorted(wakes), len(errors)) == ([0, 2], 1)
