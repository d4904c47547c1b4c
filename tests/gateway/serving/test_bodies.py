"""Request bodies are counted while they are in memory, one by one and all together."""

import asyncio

import pytest

from gateway.errors import Overloaded, TooLarge
from gateway.serving.bodies import Bodies


def test_a_body_is_what_arrived_and_is_counted_until_its_handler_is_done() -> None:
    bodies = Bodies(10, 100)
    with bodies.hold() as body:
        for piece in (b"ab", b"", b"cd"):
            body.add(piece)
        assert (body.data, bodies.held_bytes) == (b"abcd", 4)
    assert (body.data, bodies.held_bytes) == (b"", 0)
    with bodies.hold() as body:
        assert body.data == b""


def test_a_body_that_is_too_large_is_refused_and_no_more_counted() -> None:
    bodies = Bodies(10, 100)
    with bodies.hold() as body:
        body.add(b"x" * 10)
        with pytest.raises(TooLarge, match=r"10 bytes \(TRILANE_LIMIT_BODY_BYTES"):
            body.add(b"x")
    assert bodies.held_bytes == 0


def test_bodies_that_are_too_much_together_are_refused_until_one_is_done() -> None:
    bodies = Bodies(10, 15)
    with bodies.hold() as first:
        first.add(b"x" * 10)
        with bodies.hold() as second:
            second.add(b"x" * 5)
            with pytest.raises(Overloaded, match=r"15 bytes already \(TRILANE_LIMIT_BODIES_BYTES") as refused:
                second.add(b"x")
            assert refused.value.retry_after
    with bodies.hold() as third:
        third.add(b"x" * 10)
    assert bodies.held_bytes == 0


def test_one_body_alone_is_always_taken() -> None:
    bodies = Bodies(10, 5)
    with bodies.hold() as body:
        body.add(b"x" * 6)
        body.add(b"x" * 4)
        with pytest.raises(Overloaded), bodies.hold() as other:
            other.add(b"x")


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_a_body_that_is_kept_counts_until_that_is_over(is_cancelled: bool) -> None:
    asyncio.run(keep(is_cancelled))


async def keep(is_cancelled: bool) -> None:
    bodies = Bodies(10, 100)
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    with bodies.hold() as body:
        body.add(b"abcd")
        body.keep_until(done)
    assert (body.data, bodies.held_bytes) == (b"", 4)
    if is_cancelled:
        done.cancel()
    else:
        done.set_result(None)
    await asyncio.sleep(0)
    assert bodies.held_bytes == 0
