"""The fake upstream: well-behaved towards the real SDK, and misbehaving exactly as its table says."""

import asyncio
import json
import re
from collections.abc import AsyncIterator

import openai
import pytest
from openai import AsyncOpenAI

from loadtests.upstream import HUGE, PROMPT_TOKENS, TABLE, UTF8_TAIL, FakeUpstream, words

pytestmark = pytest.mark.anyio

FAST = "T=6 I=0"
ENDLESS = {"hang", "stall-first", "stall-mid"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def up() -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream() as up:
        yield up


@pytest.fixture
async def sdk(up: FakeUpstream) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=up.url, api_key="x", max_retries=0, timeout=5) as client:
        yield client


def ask(model: str, text: str = FAST, **extra: object) -> dict[str, object]:
    return {"model": model, "messages": [{"role": "user", "content": text}], "stream": True, **extra}


async def exchange(up: FakeUpstream, body: dict[str, object], timeout_s: float = 0.3) -> tuple[bytes, str]:
    """Returns all bytes of one answer, and how they ended: `eof`, `reset` or `silence`."""
    data = json.dumps(body).encode()
    reader, writer = await asyncio.open_connection(up.host, up.port)
    head = b"POST /v1/chat/completions HTTP/1.1\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(data)
    writer.write(head + data)
    got = b""
    try:
        while piece := await asyncio.wait_for(reader.read(65536), timeout_s):
            got += piece
        return got, "eof"
    except TimeoutError:
        return got, "silence"
    except ConnectionResetError:
        return got, "reset"
    finally:
        writer.close()


def dechunk(answer: bytes) -> tuple[bytes, bool]:
    """Returns the body inside HTTP chunks, and whether its regular end was there."""
    rest, body = answer.partition(b"\r\n\r\n")[2], b""
    while True:
        size, _, rest = rest.partition(b"\r\n")
        if not size or not int(size, 16):
            return body, bool(size)
        body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]


def text_of(body: bytes) -> str:
    """Returns the words in a body, whatever its line ends."""
    texts = re.findall(rb'"content":"([^"]*)"', body)
    return b"".join(texts).decode()


async def said(sdk: AsyncOpenAI, model: str, text: str = FAST) -> tuple[str, str | None]:
    """Returns the text and finish_reason of a stream, through the SDK."""
    out, reason = "", None
    stream = await sdk.chat.completions.create(**ask(model, text))  # type: ignore[call-overload]
    async for chunk in stream:
        for choice in chunk.choices or []:
            out += choice.delta.content or ""
            reason = choice.finish_reason or reason
    return out, reason


async def test_ok_streams_numbered_words_and_usage_to_the_sdk(up: FakeUpstream, sdk: AsyncOpenAI) -> None:
    stream = await sdk.chat.completions.create(**ask("ok", stream_options={"include_usage": True}))  # type: ignore[call-overload]
    chunks = [chunk async for chunk in stream]
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == words(6) == "w0 w1 w2 w3 w4 w5"
    assert [c.usage.completion_tokens for c in chunks if c.usage] == [6]
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert up.requests[0].completed
    assert up.requests[0].tokens_sent == 6
    assert up.requests[0].headers["authorization"] == "Bearer x"


async def test_ok_answers_whole_without_stream(sdk: AsyncOpenAI) -> None:
    answer = await sdk.chat.completions.create(**ask("ok", stream=False))  # type: ignore[call-overload]
    assert answer.choices[0].message.content == words(6)
    assert answer.usage.total_tokens == PROMPT_TOKENS + 6


async def test_usage_comes_only_when_asked_for(up: FakeUpstream) -> None:
    silent, _ = await exchange(up, ask("ok"))
    without_usage, _ = await exchange(up, ask("no-usage", stream_options={"include_usage": True}))
    assert b"prompt_tokens" not in silent
    assert b"prompt_tokens" not in without_usage


async def test_models_lists_every_behaviour(sdk: AsyncOpenAI) -> None:
    assert {model.id async for model in sdk.models.list()} == set(TABLE)


async def test_echo_gives_back_the_users_own_words(sdk: AsyncOpenAI) -> None:
    assert await said(sdk, "echo", "a  b c\nI=0") == ("a  b c\nI=0", "stop")


async def test_marks_number_the_tokens_and_carry_the_time(up: FakeUpstream) -> None:
    answer, _ = await exchange(up, ask("ok+marks"))
    marks = re.findall(rb"~s(\d+)~t(\d+)~ ", answer)
    assert [int(seq) for seq, _ in marks] == list(range(6))
    assert sorted(marks, key=lambda mark: int(mark[1])) == marks


async def test_the_message_can_choose_the_behaviour(up: FakeUpstream) -> None:
    answer, _ = await exchange(up, ask("ok", f"{FAST} B=e503"))
    assert answer.startswith(b"HTTP/1.1 503 ")


async def test_a_name_nobody_knows_is_404_unless_there_is_a_default(up: FakeUpstream) -> None:
    refused, _ = await exchange(up, ask("cutt"))
    assert refused.startswith(b"HTTP/1.1 404 ")
    async with FakeUpstream(default="fast") as lenient:
        answer, _ = await exchange(lenient, ask("gpt-9"))
        assert text_of(dechunk(answer)[0]) == words(6)


@pytest.mark.parametrize(
    ("model", "error", "status"),
    [
        ("e400", openai.BadRequestError, 400),
        ("e401", openai.AuthenticationError, 401),
        ("e429", openai.RateLimitError, 429),
        ("e429-bare", openai.RateLimitError, 429),
        ("e500", openai.InternalServerError, 500),
        ("e503", openai.InternalServerError, 503),
    ],
)
async def test_refusals_are_the_sdks_own_errors(
    sdk: AsyncOpenAI, model: str, error: type[openai.APIStatusError], status: int
) -> None:
    with pytest.raises(error) as caught:
        await said(sdk, model)
    assert caught.value.status_code == status
    assert caught.value.response.headers.get("retry-after") == ("7" if model == "e429" else None)


@pytest.mark.parametrize("model", ["fast", "crlf", "comments", "multiline-data", "unknown-fields", "usage-every"])
async def test_unusual_streams_lose_nothing_on_the_way_to_the_sdk(sdk: AsyncOpenAI, model: str) -> None:
    assert await said(sdk, model) == (words(6), "stop")


async def test_a_huge_frame_arrives_whole(sdk: AsyncOpenAI) -> None:
    text, reason = await said(sdk, "huge")
    assert (text.replace(HUGE, ""), len(text), reason) == (words(6), len(HUGE) + len(words(6)), "stop")


async def test_tools_call_then_answer_once_the_result_is_there(sdk: AsyncOpenAI) -> None:
    body = ask("tools-2")
    stream = await sdk.chat.completions.create(**body)  # type: ignore[call-overload]
    arguments = ["", ""]
    async for chunk in stream:
        for call in chunk.choices[0].delta.tool_calls or []:
            arguments[call.index] += call.function.arguments
    assert [json.loads(a)["day"] for a in arguments] == [0, 1]
    body["messages"] = [{"role": "user", "content": FAST}, {"role": "tool", "tool_call_id": "call_0", "content": "3"}]
    again = await sdk.chat.completions.create(**{**body, "stream": False})  # type: ignore[call-overload]
    assert again.choices[0].message.content == words(6)


async def test_utf8_split_leaves_no_character_whole_in_one_chunk(up: FakeUpstream) -> None:
    answer, _ = await exchange(up, ask("utf8-split", "T=2 I=0"))
    body, ended = dechunk(answer)
    assert ended
    assert text_of(body) == f"w0{UTF8_TAIL} w1{UTF8_TAIL}"
    assert all(char.encode() not in answer for char in UTF8_TAIL)


async def test_drip_sends_every_byte_alone(up: FakeUpstream) -> None:
    answer, _ = await exchange(up, ask("drip", "T=1 I=0"))
    body, ended = dechunk(answer)
    assert ended
    assert answer.count(b"\r\n1\r\n") >= len(body) - 1


async def test_cr_lines_contain_no_line_feed(up: FakeUpstream) -> None:
    body, _ = dechunk((await exchange(up, ask("cr")))[0])
    assert b"\n" not in body
    assert text_of(body) == words(6)


@pytest.mark.parametrize(
    ("model", "text", "how", "ended"),
    [
        ("stall-first", "", "silence", False),
        ("stall-mid", words(3), "silence", False),
        ("cut", words(3), "eof", True),
        ("cut-first", "", "eof", True),
        ("cut-midline", words(3), "eof", True),
        ("cut-hard", words(3), "reset", False),
        ("cut-eof", words(3), "eof", False),
    ],
)
async def test_cuts_and_stalls_stop_at_the_promised_place(
    up: FakeUpstream, model: str, text: str, how: str, ended: bool
) -> None:
    answer, end = await exchange(up, ask(model))
    body, regular = dechunk(answer)
    assert (text_of(body), end, regular) == (text, how, ended)
    assert b'finish_reason":"' not in body
    assert b"[DONE]" not in body


@pytest.mark.parametrize(
    ("model", "needle", "done"),
    [
        ("error-openai", rb'data: {"error":{"message":"The server is overloaded"', 0),
        ("error-openai-first", rb'data: {"error":{"message":"The server is overloaded"', 0),
        ("error-vllm", rb'data: {"object":"error"', 1),
        ("error-openrouter", rb'"finish_reason":"error"}],"error":{"code":502', 1),
        ("error-event", b'event: error\ndata: {"message"', 0),
        ("badjson", b'"content":" w\n\n', 1),
        ("no-done", b'"finish_reason":"stop"', 0),
        ("double-done", b"data: [DONE]\n\ndata: [DONE]\n\n", 2),
        ("finish-length", b'"finish_reason":"length"', 1),
        ("empty", b'"delta":{},"logprobs":null,"finish_reason":"stop"', 1),
    ],
)
async def test_odd_frames_are_in_the_stream(up: FakeUpstream, model: str, needle: bytes, done: int) -> None:
    body, ended = dechunk((await exchange(up, ask(model)))[0])
    assert needle in body
    assert (body.count(b"[DONE]"), ended) == (done, True)


async def test_a_client_that_leaves_is_noticed_at_once(up: FakeUpstream) -> None:
    loop = asyncio.get_running_loop()
    await exchange(up, ask("stall-mid"))
    left = loop.time()
    await up.quiet()
    assert loop.time() - left < 0.1
    assert up.requests[0].left_at is not None
    assert not up.requests[0].completed


async def test_a_waiting_request_is_open_until_then(up: FakeUpstream, sdk: AsyncOpenAI) -> None:
    async with asyncio.TaskGroup() as group:
        call = group.create_task(said(sdk, "hang"))
        await up.received(1)
        assert [request.body["model"] for request in up.open_requests if request.body] == ["hang"]
        call.cancel()
    await up.quiet()


async def test_a_script_answers_one_request_after_the_other(up: FakeUpstream) -> None:
    up.script("flaky", ["e503", "e429", "fast"])
    starts = [(await exchange(up, ask("flaky")))[0][9:12] for _ in range(4)]
    assert starts == [b"503", b"429", b"200", b"200"]


async def test_a_fault_in_a_script_surfaces_when_the_fake_is_closed() -> None:
    async def wrong(answer: object) -> None:
        raise ZeroDivisionError

    async def run() -> None:
        async with FakeUpstream() as up:
            up.script("wrong", wrong)
            await exchange(up, ask("wrong"))

    with pytest.raises(ZeroDivisionError):
        await run()


@pytest.mark.parametrize("model", sorted(set(TABLE) - {"slow", "slow-headers"}))
async def test_every_behaviour_also_answers_without_stream(up: FakeUpstream, model: str) -> None:
    answer, how = await exchange(up, ask(model, stream=False), timeout_s=0.1)
    assert answer.startswith(b"HTTP/1.1 ") or model == "hang"
    assert b"data:" not in answer
    await up.quiet()
    assert up.requests[0].completed == (model not in ENDLESS), how
