"""An answer in one piece is sent as its client takes it, and not for ever."""

import asyncio
from math import inf
from typing import Any

import pytest

from gateway.errors import Unauthorized
from gateway.serving.whole import (
    MIN_BYTES_PER_S,
    PATIENCE_S,
    PIECE_BYTES,
    Callers,
    send_json,
    while_connected,
)
from tests.support.virtual_time import simulated


@simulated
@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES, PIECE_BYTES + 1])
async def test_every_byte_is_sent_in_pieces(size: int) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await send_json(b"x" * size, send)
    assert sent[0]["headers"] == [(b"content-type", b"application/json"), (b"content-length", b"%d" % size)]
    assert b"".join(message["body"] for message in sent[1:]) == b"x" * size
    assert [message["more_body"] for message in sent[1:]] == [True] * (max(0, size - 1) // PIECE_BYTES) + [False]


@simulated
async def test_a_client_that_takes_too_long_does_not_get_the_end() -> None:
    sent: list[int] = []

    async def send(message: Any) -> None:
        await asyncio.sleep(30)
        sent.append(len(message.get("body", b"")))

    began = asyncio.get_running_loop().time()
    await send_json(b"x" * (4 * PIECE_BYTES), send)
    assert asyncio.get_running_loop().time() - began == PATIENCE_S + 4 * PIECE_BYTES / MIN_BYTES_PER_S + 30
    assert sum(sent) < 4 * PIECE_BYTES


# The caller


def callers() -> Callers:
    return Callers(lambda: Unauthorized("the key was revoked", code="key_revoked"))


async def connected() -> Any:
    await asyncio.sleep(inf)


@simulated
async def test_work_ends_with_the_token_of_its_caller() -> None:
    here, began = callers(), asyncio.get_running_loop().time()
    with pytest.raises(Unauthorized) as error:
        async with here.while_valid("", 5):
            await asyncio.sleep(100)
    assert error.value.code == "token_expired"
    assert asyncio.get_running_loop().time() - began == 5
    async with here.while_valid("", inf), here.while_valid("k", 50):
        await asyncio.sleep(49)


@simulated
async def test_work_ends_when_the_key_of_its_caller_is_revoked_and_none_begins_any_more() -> None:
    here = callers()
    asyncio.get_running_loop().call_later(5, here.revoke, "k")
    async with here.while_valid("other", inf):
        for _ in range(2):
            with pytest.raises(Unauthorized) as error:
                async with here.while_valid("k", inf):
                    await asyncio.sleep(100)
            assert error.value.code == "key_revoked"
    assert asyncio.get_running_loop().time() < 100


@simulated
async def test_a_timeout_of_the_work_itself_stays_one() -> None:
    with pytest.raises(TimeoutError):
        async with callers().while_valid("k", 50), asyncio.timeout(1):
            await asyncio.sleep(100)


@simulated
@pytest.mark.parametrize("by_key", [True, False])
async def test_an_answer_that_has_begun_is_sent_to_its_end(by_key: bool) -> None:
    here, sent = callers(), list[Any]()

    async def answer(send: Any) -> None:
        for message in range(3):
            await asyncio.sleep(4)
            await send(message)

    async def send(message: Any) -> None:
        sent.append(message)

    async with here.while_valid("k", 5) as watch:
        asyncio.get_running_loop().call_later(6, here.revoke, "k" if by_key else "")
        await while_connected(connected, answer(watch.ending_with(send)))
    assert sent == [0, 1, 2]


@simulated
async def test_an_answer_that_would_begin_in_the_moment_of_the_end_does_not() -> None:
    here, sent = callers(), list[Any]()

    async def send(message: Any) -> None:
        sent.append(message)

    async def answer(send: Any) -> None:
        here.revoke("k")
        await asyncio.sleep(0)
        await send(0)

    with pytest.raises(Unauthorized):
        async with here.while_valid("k", 50) as watch:
            await while_connected(connected, answer(watch.ending_with(send)))
    assert not sent
