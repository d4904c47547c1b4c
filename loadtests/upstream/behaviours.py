"""The fake behaves by name: one table at the end of this file, and a short function for each row that needs one.

A behaviour is an `async def (answer)`. It writes a stream; the answer to a request without `stream` is in
`unary.py`, except for rows marked `any`, which do the same for both.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

from loadtests.upstream import shapes
from loadtests.upstream.answer import JSON, Answer
from loadtests.upstream.ask import Ask
from loadtests.upstream.stream import finish, forever, half, inside_characters, ok, say, single_bytes, start

Behaviour = Callable[[Answer], Awaitable[None]]
UTF8_TAIL = "é漢🙂"  # two, three and four bytes
OVERLOADED = shapes.error("The server is overloaded", "server_error", "overloaded")
FLAT_ERROR = {"object": "error", "message": "The engine died", "type": "InternalServerError", "code": 500}
OPENROUTER_ERROR = {"error": {"code": 502, "message": "Provider disconnected"}}


# ------------------------------------------------------------------ makers of behaviours


def with_end(reason: str = "stop", usage: bool = True, done_count: int = 1) -> Behaviour:
    """Returns a behaviour that streams all tokens, then this end."""

    async def behave(answer: Answer) -> None:
        await start(answer)
        await say(answer, 0, answer.tokens)
        await finish(answer, reason, usage, done_count)

    return behave


def refusal(status: int, message: str, kind: str, code: str, **headers: str) -> Behaviour:
    """Returns a behaviour that answers with an error before the first byte of any stream."""

    async def behave(answer: Answer) -> None:
        await answer.whole(status, JSON, shapes.encode(shapes.error(message, kind, code)), **headers)

    return behave


def in_style(
    cut: Callable[[bytes], Iterator[bytes]] | None = None, newline: str = "\n", between: bytes = b""
) -> Behaviour:
    """Returns a behaviour that streams as `ok` does, in unusual bytes."""

    async def behave(answer: Answer) -> None:
        answer.cut, answer.newline, answer.between = cut, newline, between
        await ok(answer)

    return behave


def at_pace(tokens: int | None, interval_s: float) -> Behaviour:
    """Returns a behaviour like `ok` at another default speed."""

    async def behave(answer: Answer) -> None:
        answer.pace(tokens, interval_s)
        await ok(answer)

    return behave


def with_error(payload: shapes.Payload, event: str | None = None, has_done: bool = False) -> Behaviour:
    """Returns a behaviour that streams half the tokens, then an error frame in this shape, then the end of the body."""

    async def behave(answer: Answer) -> None:
        await half(answer)
        await answer.frame(payload, event)
        if has_done:
            await answer.frame("[DONE]")
        await answer.end()

    return behave


def half_then(how: Callable[[Answer], Awaitable[None]]) -> Behaviour:
    """Returns a behaviour that streams half the tokens, then does `how`."""

    async def behave(answer: Answer) -> None:
        await half(answer)
        await how(answer)

    return behave


# ------------------------------------------------------------------ behaviours


async def hang(answer: Answer) -> None:
    await forever()


async def slow_headers(answer: Answer) -> None:
    await asyncio.sleep(3)
    await ok(answer)


async def html(answer: Answer) -> None:
    await answer.whole(200, "text/html", "<!doctype html><title>Sign in</title><p>Please sign in to the network.")


async def stall_first(answer: Answer) -> None:
    await answer.head(kind=JSON if not answer.ask.stream else "text/event-stream")
    await forever()


async def cut_first(answer: Answer) -> None:
    await answer.head()
    await answer.end()


async def reset(answer: Answer) -> None:
    answer.reset()


async def hang_up(answer: Answer) -> None:
    answer.hang_up()


async def cut_midline(answer: Answer) -> None:
    await half(answer)
    line = shapes.encode(shapes.chunk(answer.ask, {"content": " lost"}))
    await answer.chunk(f"data: {line[: len(line) // 2]}".encode())
    await answer.end()


async def badjson(answer: Answer) -> None:
    await half(answer)
    await answer.frame('{"id":"chatcmpl-fake","choices":[{"delta":{"content":" w')
    await say(answer, answer.tokens // 2, answer.tokens)
    await finish(answer)


async def error_first(answer: Answer) -> None:
    await answer.head()
    await answer.frame(OVERLOADED)
    await answer.end()


async def error_openrouter(answer: Answer) -> None:
    await half(answer)
    await answer.frame(shapes.chunk(answer.ask, {"content": ""}, "error", **OPENROUTER_ERROR))
    await answer.frame("[DONE]")
    await answer.end()


async def huge(answer: Answer) -> None:
    await half(answer)
    await answer.frame(shapes.chunk(answer.ask, {"content": shapes.HUGE}))
    await say(answer, answer.tokens // 2, answer.tokens)
    await finish(answer)


async def utf8_split(answer: Answer) -> None:
    answer.cut = inside_characters
    await start(answer)
    await say(answer, 0, answer.tokens, tail=UTF8_TAIL)
    await finish(answer)


async def multiline_data(answer: Answer) -> None:
    await start(answer)
    for index in range(answer.tokens):
        await answer.tick()
        payload = shapes.chunk(answer.ask, {"content": shapes.token(answer.ask, index)})
        await answer.frame(json.dumps(payload, indent=1))
        answer.record.tokens_sent += 1
    await finish(answer)


def tools(calls: int) -> Behaviour:
    """Returns a behaviour that streams tool calls in pieces; once the request ends in a tool's result, `ok`."""

    async def behave(answer: Answer) -> None:
        if answer.ask.after_tool:
            return await ok(answer)
        await start(answer)
        for call in calls_for(answer.ask, calls):
            await _stream_call(answer, call)
        return await finish(answer, "tool_calls")

    return behave


def calls_for(ask: Ask, count: int) -> list[shapes.Payload]:
    """Returns the calls that answer a request: of the tool that it names, with its own text, else `tool_calls`."""
    if not ask.called:
        return tool_calls(count)
    return [shapes.tool_call(i, ask.called, shapes.encode({"text": f"{ask.text} {i}"})) for i in range(count)]


def tool_calls(count: int) -> list[shapes.Payload]:
    """Returns the calls that `tools` makes, whole."""
    return [shapes.tool_call(i, "get_weather", f'{{"city":"Zürich","day":{i}}}') for i in range(count)]


async def _stream_call(answer: Answer, call: shapes.Payload) -> None:
    arguments = call["function"]["arguments"]
    opening = {**call, "function": {**call["function"], "arguments": ""}}
    await answer.frame(shapes.chunk(answer.ask, {"tool_calls": [opening]}))
    for at in range(0, len(arguments), 5):
        await answer.tick()
        piece = {"index": call["index"], "function": {"arguments": arguments[at : at + 5]}}
        await answer.frame(shapes.chunk(answer.ask, {"tool_calls": [piece]}))
        answer.record.tokens_sent += 1


async def reasoning(answer: Answer) -> None:
    await start(answer)
    for index in range(5):
        await answer.tick()
        await answer.frame(shapes.chunk(answer.ask, {"reasoning_content": f"r{index} "}))
    await say(answer, 0, answer.tokens)
    await finish(answer)


async def unknown_fields(answer: Answer) -> None:
    await start(answer)
    for index in range(answer.tokens):
        await answer.tick()
        delta = {"content": shapes.token(answer.ask, index), "mood": None, "annotations": [{"kind": 1}]}
        extra = {"service_tier": "default", "x_vendor": {"id": "req_1", "nested": {"deep": [1, 2]}}, "timings": 0.5}
        await answer.frame(shapes.chunk(answer.ask, delta, **extra))
        answer.record.tokens_sent += 1
    await finish(answer)


async def usage_every(answer: Answer) -> None:
    await start(answer)
    for index in range(answer.tokens):
        await answer.tick()
        answer.record.tokens_sent += 1
        delta = {"content": shapes.token(answer.ask, index)}
        await answer.frame(shapes.chunk(answer.ask, delta, usage=shapes.usage(answer.record.tokens_sent)))
    await answer.frame(shapes.chunk(answer.ask, {}, "stop", usage=shapes.usage(answer.record.tokens_sent)))
    await answer.frame("[DONE]")
    await answer.end()


async def empty(answer: Answer) -> None:
    await answer.head()
    await finish(answer)


# ------------------------------------------------------------------ the table


@dataclass(frozen=True)
class Entry:
    """A behaviour and what it does; `any` rows ignore whether the request asked for a stream."""

    behave: Behaviour
    does: str
    any: bool = False


TABLE: dict[str, Entry] = {
    "ok": Entry(ok, "T words (20) every I µs (10000), finish_reason stop, usage if asked for, [DONE]"),
    "fast": Entry(at_pace(None, 0), "ok with no wait between tokens"),
    "slow": Entry(at_pace(None, 1.0), "ok with a token a second"),
    "drip": Entry(in_style(cut=single_bytes), "ok, every byte in its own HTTP chunk and write, 0.5 ms apart"),
    "hang": Entry(hang, "the request is read and never answered", any=True),
    "slow-headers": Entry(slow_headers, "ok, headers after 3 s"),
    "e400": Entry(refusal(400, "Too many tokens", "invalid_request_error", "context_length_exceeded"), "400", any=True),
    "e401": Entry(refusal(401, "Incorrect API key", "invalid_request_error", "invalid_api_key"), "401", any=True),
    "e429": Entry(
        refusal(429, "Rate limit reached", "requests", "rate_limit_exceeded", retry_after="7"),
        "429 with retry-after: 7",
        any=True,
    ),
    "e429-bare": Entry(
        refusal(429, "Quota exceeded", "insufficient_quota", "insufficient_quota"), "429, no retry-after", any=True
    ),
    "e500": Entry(refusal(500, "Internal error", "server_error", "internal_error"), "500", any=True),
    "e503": Entry(refusal(503, "Overloaded", "server_error", "overloaded"), "503", any=True),
    "html": Entry(html, "200 and a text/html page: a captive portal", any=True),
    "stall-first": Entry(stall_first, "headers, then nothing", any=True),
    "stall-mid": Entry(half_then(lambda answer: forever()), "half the tokens, then nothing"),
    "cut": Entry(
        half_then(Answer.end), "half the tokens, then the regular end of the body: no finish_reason, no [DONE]"
    ),
    "cut-first": Entry(cut_first, "headers, then the regular end of an empty body"),
    "cut-hard": Entry(half_then(reset), "half the tokens, then the socket is reset"),
    "cut-eof": Entry(half_then(hang_up), "half the tokens, then the socket is closed inside the body"),
    "cut-midline": Entry(cut_midline, "half the tokens and half of a line, then the regular end of the body"),
    "badjson": Entry(badjson, "half the tokens, a frame of broken JSON, the other half, a regular end"),
    "error-openai": Entry(with_error(OVERLOADED), 'half the tokens, {"error":{message,type,code}}, end of body'),
    "error-openai-first": Entry(error_first, "the same error as the first frame"),
    "error-vllm": Entry(with_error(FLAT_ERROR, has_done=True), 'half the tokens, {"object":"error",...}, [DONE]'),
    "error-openrouter": Entry(
        error_openrouter, 'half the tokens, a chunk with "error" and finish_reason error, [DONE]'
    ),
    "error-event": Entry(
        with_error({"message": "upstream died"}, event="error"), "half the tokens, an event named error"
    ),
    "no-done": Entry(with_end(done_count=0), "all tokens and finish_reason, no [DONE]"),
    "double-done": Entry(with_end(done_count=2), "[DONE] twice"),
    "no-usage": Entry(with_end(usage=False), "no usage, even where it was asked for"),
    "usage-every": Entry(usage_every, "usage so far in every chunk, none of its own"),
    "huge": Entry(huge, "one token of a million bytes in the middle"),
    "utf8-split": Entry(utf8_split, f"every word followed by {UTF8_TAIL}, each character split over two writes"),
    "crlf": Entry(in_style(newline="\r\n"), "lines end in CR LF"),
    "cr": Entry(in_style(newline="\r"), "lines end in CR alone"),
    "comments": Entry(in_style(between=b": OPENROUTER PROCESSING\n\n"), "a comment after every frame"),
    "multiline-data": Entry(multiline_data, "each JSON object spread over several data: lines"),
    "tools": Entry(tools(1), "a tool call, arguments in pieces, finish_reason tool_calls; after its result, ok"),
    "tools-2": Entry(tools(2), "two parallel tool calls"),
    "reasoning": Entry(reasoning, "5 reasoning_content deltas (r0 r1 ...) before the words"),
    "unknown-fields": Entry(unknown_fields, "fields nobody has heard of, in the chunk and in its delta"),
    "finish-length": Entry(with_end("length"), "finish_reason length"),
    "finish-filter": Entry(with_end("content_filter"), "finish_reason content_filter"),
    "empty": Entry(empty, "finish at once, no token"),
}
