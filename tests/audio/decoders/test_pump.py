"""A Pump connects a library that pulls to a client that pushes; here the library is a script of one byte per step."""

import asyncio
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from audio.decoders import pump
from audio.decoders.formats import bad_audio
from audio.decoders.pump import MAX_HELD, TRAILER_BYTES, Kind, Pump, PumpedPiece, Read, UndecodableStream
from gateway.errors import BadRequest
from tests.audio.feeding import DEADLINE_S, decode_stream

MAGIC = b"----"


def each_byte(read: Read, is_split: bool = False) -> Iterator[PumpedPiece]:
    """Yields as many samples as each byte says; some bytes stand for pauses, failures or the end."""
    while step := read(1):
        match step:
            case b"-":
                continue
            case b"m":
                yield silence(MAX_HELD)
            case b"8":
                yield silence(8, 8000)
            case b".":
                return
            case b"!":
                raise UndecodableStream("a bang")
            case b"#":
                raise bad_audio("not taken here")
            case b"?":
                raise ZeroDivisionError
            case _:
                yield silence(step[0])


def silence(samples: int, rate: int = 16_000) -> PumpedPiece:
    return PumpedPiece(np.zeros(samples, np.float32), rate)


def new_pump(rate: int = 16_000, first: int = 0, kind: Kind | None = None) -> Pump:
    return Pump(kind or Kind("Bytes", MAGIC, each_byte), rate, first=first)


async def feed_count(one: Pump, data: bytes) -> int:
    return len(await asyncio.wait_for(one.feed(data), DEADLINE_S))


def test_the_samples_of_a_piece_come_with_that_piece() -> None:
    async def run() -> list[int]:
        one = new_pump()
        try:
            return [await feed_count(one, data) for data in (b"-", b"---", b"\5", b"", b"--\3\4", b"-")]
        finally:
            one.close()

    assert asyncio.run(run()) == [0, 0, 5, 0, 7, 0]


def test_samples_are_counted_from_the_first_at_the_rate_named() -> None:
    one = new_pump(48_000, first=100)
    assert len(asyncio.run(decode_stream(one, [MAGIC, b"\5\5"]))) == 10
    assert one.samples == 130


def test_more_than_30_seconds_may_wait_and_none_is_lost() -> None:
    async def run() -> list[int]:
        one = new_pump()
        try:
            counts = [
                await feed_count(one, MAGIC + b"mmmmm\7"),
                await feed_count(one, b""),
                await feed_count(one, b"\2"),
            ]
            while count := len(await one.flush()):
                counts.append(count)
            return counts
        finally:
            one.close()

    counts = asyncio.run(run())
    assert sum(counts) == 5 * MAX_HELD + 9
    assert max(counts) <= MAX_HELD + 7


def test_a_stream_that_is_held_back_and_comes_on_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pump, "MAX_WAITING_BYTES", 10)
    with pytest.raises(BadRequest, match="wait behind 30 s of decoded audio"):
        asyncio.run(decode_stream(new_pump(), [MAGIC, *[b"mmm"] * 8]))


def test_bytes_without_a_sample_are_refused_wherever_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pump, "STALL_BYTES", 100)
    quiet = b"-" * 60
    assert len(asyncio.run(decode_stream(new_pump(), [MAGIC, quiet, b"\1", quiet, b"\1", quiet]))) == 2
    with pytest.raises(BadRequest, match="100 bytes of the Bytes stream, and not one sample"):
        asyncio.run(decode_stream(new_pump(), [MAGIC, b"\1", quiet, quiet]))


def test_a_foreign_beginning_is_refused_before_a_thread_starts() -> None:
    with pytest.raises(BadRequest, match=r"expected Bytes \(it begins with b'----'\), but .* b'--RI'") as error:
        asyncio.run(decode_stream(new_pump(), [b"--", b"R", b"I"]))
    assert error.value.code == "bad_audio"


@pytest.mark.parametrize(
    ("step", "says"),
    [(b"!", "cannot be read as Bytes: a bang"), (b"#", "not taken here"), (b"8", "changes from 16000 to 8000")],
)
def test_whole_samples_come_before_the_failure_each_time(step: bytes, says: str) -> None:
    async def run() -> None:
        one = new_pump()
        try:
            assert await feed_count(one, MAGIC + b"\5" + step + b"\5") == 5
            for _ in range(2):
                with pytest.raises(BadRequest, match=says) as error:
                    await feed_count(one, b"\1")
                assert error.value.code == "bad_audio"
            with pytest.raises(BadRequest, match=says):
                await one.flush()
        finally:
            one.close()

    asyncio.run(run())


def test_a_fault_of_ours_is_not_called_bad_audio() -> None:
    with pytest.raises(ZeroDivisionError):
        asyncio.run(decode_stream(new_pump(), [MAGIC + b"?"]))


def test_a_library_that_misses_the_end_of_a_cut_stream_is_not_heard() -> None:
    def demanding(read: Read, is_split: bool) -> Iterator[PumpedPiece]:
        yield from each_byte(read)
        raise UndecodableStream("no end")

    assert len(asyncio.run(decode_stream(new_pump(kind=Kind("Bytes", MAGIC, demanding)), [MAGIC, b"\5"]))) == 5


def test_tags_behind_the_end_are_passed_over_and_a_second_stream_is_refused() -> None:
    assert len(asyncio.run(decode_stream(new_pump(), [MAGIC + b"\5.", b"TAG" + bytes(125)]))) == 5
    with pytest.raises(BadRequest, match="the Bytes stream was over, and more follows"):
        asyncio.run(decode_stream(new_pump(), [MAGIC + b"\5.", bytes(TRAILER_BYTES), b"x"]))


def test_a_feed_that_was_cancelled_loses_nothing() -> None:
    goes_on = threading.Event()

    def slow(read: Read, is_split: bool) -> Iterator[PumpedPiece]:
        goes_on.wait(DEADLINE_S)
        yield from each_byte(read)

    async def run() -> int:
        one = new_pump(kind=Kind("Bytes", MAGIC, slow))
        try:
            waiting = asyncio.ensure_future(one.feed(MAGIC + b"\5"))
            await asyncio.sleep(0)
            waiting.cancel()
            goes_on.set()
            return await feed_count(one, b"\6")
        finally:
            one.close()

    assert asyncio.run(run()) == 11


@pytest.mark.parametrize("data", [b"", b"-", MAGIC, MAGIC + b"\5", MAGIC + b"mmm", MAGIC + b"\5!", MAGIC + b"."])
def test_close_ends_the_thread_whatever_it_does(data: bytes) -> None:
    async def run() -> None:
        one = new_pump()
        await feed_count(one, data)
        one.close()
        one.close()

    asyncio.run(run())
    # That it ended is checked after every test here.
