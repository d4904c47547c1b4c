"""The load client notices what a gateway must not do: each fault of the fake upstream, seen through `load` alone."""

import asyncio
import json
import shutil
from typing import Any

import pytest

from loadtests.bench.native.build import tool
from loadtests.upstream import Answer, FakeUpstream
from loadtests.upstream.stream import finish, say, start

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(shutil.which("cc") is None, reason="the load client is built from C and there is no cc"),
]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def load(up: FakeUpstream, model: str, drain_s: float = 0.3) -> dict[str, Any]:
    message = {"role": "user", "content": "T=8 I=1000 n=%d"}
    body = json.dumps({"model": model, "stream": True, "messages": [message]}, separators=(",", ":"))
    options = ["--port", str(up.port), "--path", "/v1/chat/completions", "--body", body, "--streams", "2"]
    options += ["--tokens", "8", "--warm", "0", "--dur", "0.2", "--drain", str(drain_s)]
    process = await asyncio.create_subprocess_exec(tool("load"), *options, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    return json.loads(out.splitlines()[-1])


@pytest.mark.parametrize("model", ["ok+marks", "crlf+marks", "drip+marks", "utf8-split+marks"])
async def test_whole_streams_are_good_however_their_bytes_are_split(up: FakeUpstream, model: str) -> None:
    result = await load(up, model, drain_s=20)
    assert (result["bad"], result["running"], result["broken"]) == (0, 0, 0)
    assert result["finished"] == result["requests"] >= 2


@pytest.mark.parametrize("model", ["ok+marks", "crlf+marks"])
async def test_events_are_counted_however_their_lines_end(up: FakeUpstream, model: str) -> None:
    result = await load(up, model, drain_s=20)
    assert result["frames"] >= result["tokens"] > 0


@pytest.mark.parametrize(
    "model", ["cut+marks", "cut-hard+marks", "cut-eof+marks", "error-openai+marks", "e429", "html"]
)
async def test_streams_that_end_early_are_bad(up: FakeUpstream, model: str) -> None:
    result = await load(up, model, drain_s=20)
    assert result["bad"] == result["requests"] >= 2


async def test_a_stalled_stream_is_still_running_at_the_end(up: FakeUpstream) -> None:
    assert (await load(up, "stall-mid+marks"))["running"] == 2


@pytest.mark.parametrize(
    ("parts", "counter"), [([(0, 4), (3, 8)], "doubled"), ([(0, 3), (4, 8)], "lost"), ([(4, 8), (0, 4)], "doubled")]
)
async def test_a_token_twice_missing_or_out_of_order_is_counted(
    up: FakeUpstream, parts: list[tuple[int, int]], counter: str
) -> None:
    async def wrong(answer: Answer) -> None:
        await start(answer)
        for first, stop in parts:
            await say(answer, first, stop)
        await finish(answer)

    up.script("wrong+marks", wrong)
    result = await load(up, "wrong+marks")
    assert result["bad"] == result["requests"] >= 2
    assert result[counter] >= 2


async def test_every_request_gets_a_number_of_its_own(up: FakeUpstream) -> None:
    await load(up, "ok+marks")
    texts = [request.ask.text for request in up.requests if request.ask]
    assert len(set(texts)) == len(texts) >= 4


@pytest.fixture
async def up() -> Any:
    async with FakeUpstream() as up:
        yield up
