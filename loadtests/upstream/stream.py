"""Behaviours are made of these parts: the beginning, middle and end of a stream, and ways to cut its bytes."""

import asyncio
from collections.abc import Iterator

from loadtests.upstream import shapes
from loadtests.upstream.answer import Answer


async def forever() -> None:
    """Waits until the client leaves (the connection then cancels this)."""
    await asyncio.Event().wait()


async def start(answer: Answer) -> None:
    """Sends headers and the chunk that names the role."""
    await answer.head()
    await answer.frame(shapes.chunk(answer.ask, {"role": "assistant", "content": "", "refusal": None}))


async def say(answer: Answer, first: int, stop: int, tail: str = "") -> None:
    """Sends tokens `first` to `stop - 1`, each when it is due."""
    for index in range(first, stop):
        await answer.tick()
        await answer.frame(shapes.chunk(answer.ask, {"content": shapes.token(answer.ask, index) + tail}))
        answer.record.tokens_sent += 1


async def half(answer: Answer) -> None:
    """Sends the stream up to its middle."""
    await start(answer)
    await say(answer, 0, answer.tokens // 2)


async def finish(answer: Answer, reason: str = "stop", usage: bool = True, done_count: int = 1) -> None:
    """Sends the end: finish_reason, usage when it was asked for, [DONE], end of body."""
    await answer.frame(shapes.chunk(answer.ask, {}, reason))
    if usage and answer.ask.include_usage:
        await answer.frame(shapes.usage_chunk(answer.ask, answer.record.tokens_sent))
    for _ in range(done_count):
        await answer.frame("[DONE]")
    await answer.end()


async def ok(answer: Answer) -> None:
    """Sends a whole, well-behaved stream."""
    if answer.ask.echo and answer.ask.tokens is None:
        answer.tokens = len(shapes.echo_tokens(answer.ask))
    await start(answer)
    await say(answer, 0, answer.tokens)
    await finish(answer)


def single_bytes(data: bytes) -> Iterator[bytes]:
    """Yields every byte alone."""
    return (data[i : i + 1] for i in range(len(data)))


def inside_characters(data: bytes) -> Iterator[bytes]:
    """Cuts in the middle of every multi-byte character."""
    last = 0
    for at in range(1, len(data)):
        if data[at] & 0xC0 == 0x80 and data[at - 1] & 0xC0 == 0xC0:
            yield data[last:at]
            last = at
    yield data[last:]
