"""An answer in one piece is sent as its client takes it, and not for ever."""

import asyncio
from typing import Any

import pytest

from gateway.serving.whole import MIN_BYTES_PER_S, PATIENCE_S, PIECE_BYTES, send_json
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
