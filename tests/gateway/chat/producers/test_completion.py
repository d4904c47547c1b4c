"""A completion as a producer, with a sink of the test's own: what it writes and when, its deadlines, its cost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import pytest

from gateway.chat.producers.completion import CompletionProducer
from gateway.chat.producers.producer import NEVER
from gateway.chat.producers.stream import LINGER_S
from gateway.chat.records.record import FinishReason
from gateway.chat.records.recorder import Recorder
from gateway.chat.upstreams.failover import Upstreams
from gateway.errors import UpstreamCut, UpstreamRefused, UpstreamTimeout
from tests.support.answers import message_parts, types
from tests.support.completions import END, HELLO, USAGE, chunk, frames
from tests.support.readers import settle
from tests.support.scripted_upstream import ScriptedBody, ScriptedUpstream
from tests.support.virtual_time import simulated

TOKEN = frames(chunk({"content": "x"}))
STOP = frames(chunk(finish="stop"))
BETWEEN_TOKENS_S = 30.0


class Stage:
    """A producer, its upstream and its sink, which keeps what was written in which call."""

    def __init__(self, *answers: ScriptedBody | UpstreamRefused, **limits: object) -> None:
        self.upstream = ScriptedUpstream(*answers, **limits)
        self.recorder = Recorder()
        self.producer = CompletionProducer(
            Upstreams([self.upstream], 60.0),
            {"messages": []},
            "m",
            prompt_bytes=40,
            between_tokens_s=BETWEEN_TOKENS_S,
        )
        self.calls: list[tuple[str, list[str]]] = []
        self.task: asyncio.Task[FinishReason] | None = None

    def start(self) -> "asyncio.Task[FinishReason]":
        self.task = asyncio.ensure_future(self.producer.produce(self))
        return self.task

    def until_deadline(self) -> float:
        return self.producer.deadline() - asyncio.get_running_loop().time()

    # As a sink

    def begin(self, records: list[bytes]) -> None:
        self.calls.append(("begin", types(records)))

    def write(self, records: list[bytes]) -> None:
        self.calls.append(("write", types(records)))

    def deadline_moved(self) -> None:
        self.calls.append(("deadline_moved", []))


@asynccontextmanager
async def producing(*pieces: bytes, **limits: object) -> AsyncIterator[tuple[Stage, ScriptedBody]]:
    """Yields a completion that has begun; nothing of it may be left open at the end."""
    body = ScriptedBody(*pieces)
    stage = Stage(body, **limits)
    task = stage.start()
    await settle()
    yield stage, body
    if not task.done():
        stage.producer.abort()
        task.cancel()
    await asyncio.wait((task,))
    await stage.producer.aclose()
    assert body.is_over
    assert stage.upstream.released == 1


# What it writes


@simulated
async def test_it_begins_with_who_answers_and_the_first_token_and_writes_what_follows() -> None:
    async with producing(HELLO) as (stage, body):
        body.send(TOKEN)
        body.send(END)
        assert stage.task is not None
        assert await stage.task == "stop"
        begun, *written = stage.calls
        assert begun == ("begin", ["message-metadata", "text-start", "text-delta", "text-delta"])
        assert ("write", ["text-delta"]) in written
        assert [name for name, _ in stage.calls].count("begin") == 1
        assert (stage.producer.model, stage.producer.upstream) == ("m", "scripted")
        assert message_parts(stage.recorder)[0]["text"] == "Hellox"


@simulated
async def test_a_token_is_written_before_the_call_that_brought_it_returns() -> None:
    async with producing(HELLO) as (stage, body):
        body.send(TOKEN)
        assert stage.calls[-1] == ("write", ["text-delta"])


@simulated
async def test_nothing_is_written_before_something_is_visible() -> None:
    async with producing() as (stage, body):
        body.send(frames(chunk({"role": "assistant", "content": ""})))
        await asyncio.sleep(10)
        assert (stage.calls, stage.producer.model) == ([], "")
        body.send(TOKEN)
        await settle()
        assert [name for name, _ in stage.calls] == ["begin"]


@simulated
async def test_a_field_that_nobody_knows_is_recorded_under_the_name_of_its_upstream() -> None:
    async with producing(HELLO, frames(chunk({"content": "!", "annotations": [1]}))) as (stage, _):
        assert message_parts(stage.recorder)[0]["providerMetadata"] == {"scripted": {"annotations": [1]}}


# How it ends


@simulated
async def test_a_refusal_is_raised_and_cost_nothing() -> None:
    stage = Stage(UpstreamRefused("no", code="upstream_x"))
    with pytest.raises(UpstreamRefused):
        await stage.start()
    assert stage.calls == []
    assert stage.producer.usage().total_tokens == 0
    await stage.producer.aclose()


@pytest.mark.parametrize("error", [None, httpx2.ReadError("reset")])
@simulated
async def test_a_cut_is_raised_after_what_was_written(error: httpx2.TransportError | None) -> None:
    async with producing(HELLO) as (stage, body):
        body.end(error)
        assert stage.task is not None
        with pytest.raises(UpstreamCut):
            await stage.task
        assert message_parts(stage.recorder)[0]["text"] == "Hello"


@pytest.mark.parametrize(
    ("theirs", "ours"), [("stop", "stop"), ("length", "length"), ("tool_calls", "tool-calls"), ("bored", "other")]
)
@simulated
async def test_why_it_stopped_is_said_in_our_words(theirs: str, ours: str) -> None:
    async with producing(HELLO, frames(chunk(finish=theirs), b"[DONE]")) as (stage, _):
        assert stage.task is not None
        assert await stage.task == ours


CALL = frames(chunk({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}]}))


@pytest.mark.parametrize("theirs", ["stop", "eos_token", "END_TURN", "tool_use", "function_call", None])
@simulated
async def test_an_answer_that_called_a_tool_ends_for_that_tool_whatever_its_word(theirs: str | None) -> None:
    async with producing(CALL, frames(chunk(finish=theirs), b"[DONE]")) as (stage, _):
        assert stage.task is not None
        assert await stage.task == "tool-calls"


@pytest.mark.parametrize(("theirs", "ours"), [("length", "length"), ("SAFETY", "content-filter"), ("bored", "other")])
@simulated
async def test_an_answer_that_was_cut_short_says_so_although_it_called_a_tool(theirs: str, ours: str) -> None:
    async with producing(CALL, frames(chunk(finish=theirs), b"[DONE]")) as (stage, _):
        assert stage.task is not None
        assert await stage.task == ours


@simulated
async def test_an_abort_closes_the_request_at_once_and_nothing_is_written_after_it() -> None:
    async with producing(HELLO) as (stage, body):
        stage.producer.abort()
        assert body.aborted
        before = list(stage.calls)
        body.send(TOKEN)
        stage.producer.abort()
        assert stage.calls == before


# Deadlines


@simulated
async def test_there_is_no_deadline_of_its_own_before_the_first_token() -> None:
    async with producing() as (stage, _):
        assert stage.producer.deadline() == NEVER


@pytest.mark.parametrize(("own_s", "limit_s"), [(None, BETWEEN_TOKENS_S), (5.0, 5.0)])
@simulated
async def test_silence_is_counted_from_the_last_token_by_the_limit_of_the_upstream(
    own_s: float | None, limit_s: float
) -> None:
    async with producing(between_tokens_s=own_s) as (stage, body):
        await asyncio.sleep(7)
        body.send(HELLO)
        await settle()
        assert stage.until_deadline() == limit_s
        await asyncio.sleep(3)
        body.send(TOKEN)
        assert stage.until_deadline() == limit_s
        stage.producer.expire()
        assert stage.task is not None
        with pytest.raises(UpstreamTimeout, match=f"within {limit_s:g} s"):
            await stage.task
        assert body.aborted


@simulated
async def test_a_complete_answer_has_little_time_left_and_says_so_once() -> None:
    async with producing(HELLO) as (stage, body):
        body.send(STOP)
        assert stage.until_deadline() == LINGER_S
        body.send(frames(chunk()))
        assert [name for name, _ in stage.calls].count("deadline_moved") == 1
        stage.producer.expire()
        assert stage.task is not None
        assert await stage.task == "stop", "no failure: all of the answer is there"


@simulated
async def test_an_answer_that_came_complete_has_little_time_from_its_beginning() -> None:
    async with producing(HELLO + STOP) as (stage, _):
        assert stage.until_deadline() == LINGER_S


# Back-pressure


@simulated
async def test_a_paused_completion_reads_no_further_until_it_is_resumed() -> None:
    async with producing(HELLO) as (stage, body):
        stage.producer.pause()
        assert body.paused
        body.send(TOKEN)
        assert stage.calls[-1][0] == "begin"
        stage.producer.resume()
        assert stage.calls[-1] == ("write", ["text-delta"])


@simulated
async def test_a_completion_that_is_paused_before_it_begins_is_read_no_further_than_its_beginning() -> None:
    async with producing() as (stage, body):
        stage.producer.pause()
        body.send(HELLO)
        await settle()
        assert body.paused
        body.send(TOKEN)
        assert [name for name, _ in stage.calls] == ["begin"]
        stage.producer.resume()
        assert stage.calls[-1] == ("write", ["text-delta"])


# Cost


@simulated
async def test_its_cost_is_what_the_upstream_says_or_else_an_estimate_of_its_own_tokens() -> None:
    async with producing(HELLO) as (stage, body):
        usage = stage.producer.usage()
        assert (usage.estimated, usage.output_tokens) == (True, 2)
        body.send(frames(chunk({"content": "!"}, usage=USAGE)))
        assert (stage.producer.usage().estimated, stage.producer.usage().total_tokens) == (False, 5)


@simulated
async def test_what_another_producer_wrote_before_is_not_its_cost() -> None:
    body = ScriptedBody(HELLO, END)
    stage = Stage(body)
    for _ in range(9):
        stage.recorder.text("text", "before", [])
    await stage.start()
    assert stage.producer.usage().output_tokens == 2
    await stage.producer.aclose()
