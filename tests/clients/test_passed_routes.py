"""OpenAI's SDK, unmodified, on the routes that are passed to an upstream: what it answers comes back as it came."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import httpx2
import openai
import psutil
import pytest

from tests.conftest import Gateway, eventually, serving
from tests.support.loop_thread import LoopThread

VECTOR = [0.25, -0.5, 1.0]
EMBEDDING = {"object": "embedding", "index": 0, "embedding": VECTOR}
USAGE = {"prompt_tokens": 7, "total_tokens": 7}
ANSWERS: dict[str, dict[str, Any]] = {
    "/v1/embeddings": {"object": "list", "data": [EMBEDDING], "model": "small", "usage": USAGE},
    "/v1/completions": {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": 1,
        "model": "coder",
        "choices": [{"index": 0, "text": 'a "usage": {"prompt_tokens": 99} b', "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8},
    },
    "/v1/images/generations": {
        "created": 1,
        "data": [{"b64_json": "AAAA"}],
        "usage": {"input_tokens": 4, "output_tokens": 100, "total_tokens": 104, "input_tokens_details": {"text": 4}},
    },
    "/v1/moderations": {"id": "modr-1", "model": "omni", "results": []},
}
PIECES = [{"id": "cmpl-1", "object": "text_completion", "choices": [{"index": 0, "text": text}]} for text in "abc"]
LARGE = 40 << 20


class OtherRoutes:
    """An upstream with OpenAI's other routes; the model's name says what goes wrong."""

    def __init__(self) -> None:
        self.url = ""
        self.bodies: list[bytes] = []
        self.is_open = 0
        """Answers that have begun and not ended, and whose client is still there."""
        self._thread = LoopThread(self._serve)

    def __enter__(self) -> "OtherRoutes":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._thread.stop()

    @asynccontextmanager
    async def _serve(self) -> AsyncGenerator[None]:
        async with await asyncio.start_server(self._connected, "127.0.0.1", 0) as server:
            self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
            yield

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                [length] = [line[15:] for line in head.lower().split("\r\n") if line.startswith("content-length:")]
                body = await reader.readexactly(int(length))
                self.bodies.append(body)
                self.is_open += 1
                try:
                    await self._answer(head.split()[1], json.loads(body), reader, writer)
                finally:
                    self.is_open -= 1
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(
        self, path: str, asked: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        model = asked.get("model", "")
        if model == "strict":
            error = {"error": {"message": "no such dimension", "type": "invalid_request_error", "code": "bad_dims"}}
            self._whole(writer, json.dumps(error).encode(), status="400 Bad Request")
        elif model == "busy":
            self._whole(writer, b'{"error":{"message":"slow down"}}', status="429 Busy", more="retry-after: 9\r\n")
        elif model == "never":
            await reader.read()
        elif model == "large":
            data = (
                b'{"object":"list","data":[],"pad":"' + b"x" * LARGE + b'","usage":' + json.dumps(USAGE).encode() + b"}"
            )
            self._whole(writer, data)
        elif asked.get("stream"):
            await self._stream(writer, reader, model)
        else:
            data = json.dumps(ANSWERS[path]).encode()
            self._whole(writer, data[: len(data) // 2] if model == "cut" else data, length=len(data))
            if model == "cut":
                raise ConnectionResetError

    @staticmethod
    def _whole(
        writer: asyncio.StreamWriter, data: bytes, *, status: str = "200 OK", length: int = 0, more: str = ""
    ) -> None:
        head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length or len(data)}\r\n{more}"
        writer.write(f"{head}\r\n".encode() + data)

    @staticmethod
    async def _stream(writer: asyncio.StreamWriter, reader: asyncio.StreamReader, model: str) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n")
        writer.write(b"transfer-encoding: chunked\r\n\r\n")
        for piece in PIECES:
            data = f"data: {json.dumps(piece)}\n\n".encode()
            writer.write(b"%x\r\n%b\r\n" % (len(data), data))
        await writer.drain()
        if model == "cut":
            raise ConnectionResetError
        if model == "endless":
            await reader.read()
        writer.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")


@pytest.fixture(scope="module")
def other() -> Iterator[OtherRoutes]:
    with OtherRoutes() as server:
        yield server


@pytest.fixture(scope="module")
def passing(other: OtherRoutes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    gateway = serving(tmp_path_factory.mktemp("passing"), other.url, TRILANE_MODEL="")
    try:
        yield gateway.start()
    finally:
        gateway.stop()


@pytest.fixture
def client(passing: Gateway) -> Iterator[openai.OpenAI]:
    with closing(openai.OpenAI(base_url=f"{passing.url}/v1", api_key="none", max_retries=0)) as made:
        yield made


def last_row(gateway: Gateway, count: int) -> dict[str, Any]:
    eventually(lambda: len(gateway.usage()) == count, what="its row is settled")
    return gateway.usage()[-1]


def test_each_route_answers_as_the_upstream_does_and_is_charged_by_its_figures(
    passing: Gateway, other: OtherRoutes, client: openai.OpenAI
) -> None:
    count = len(passing.usage())
    made = client.embeddings.create(model="small", input=["hi"], dimensions=3, encoding_format="float")
    assert made.data[0].embedding == VECTOR
    asked = {"input": ["hi"], "model": "small", "dimensions": 3, "encoding_format": "float"}
    assert json.loads(other.bodies[-1]) == asked
    row = last_row(passing, count + 1)
    assert (row["model"], row["outcome"], row["quantities"]) == (
        "small",
        "finish",
        {"inputTokens": 7, "outputTokens": 0},
    )
    assert not row.get("estimated")

    text = client.completions.create(model="coder", prompt="x")
    assert text.choices[0].text == ANSWERS["/v1/completions"]["choices"][0]["text"]
    assert last_row(passing, count + 2)["quantities"] == {"inputTokens": 3, "outputTokens": 5}

    image = client.images.generate(model="painter", prompt="x")
    assert image.data is not None
    assert image.data[0].b64_json == "AAAA"
    assert last_row(passing, count + 3)["quantities"] == {"inputTokens": 4, "outputTokens": 100}

    assert client.moderations.create(input="x").id == "modr-1"
    row = last_row(passing, count + 4)
    assert (row["estimated"], row["quantities"]["outputTokens"]) == (True, 0)


def test_a_stream_comes_as_it_came(passing: Gateway, client: openai.OpenAI) -> None:
    count = len(passing.usage())
    with client.completions.create(model="coder", prompt="x", stream=True) as stream:
        assert "".join(piece.choices[0].text for piece in stream) == "abc"
    assert last_row(passing, count + 1)["estimated"]


def test_half_an_answer_is_never_a_whole_one(passing: Gateway, client: openai.OpenAI) -> None:
    count = len(passing.usage())
    with pytest.raises((openai.APIConnectionError, httpx2.TransportError)):
        client.embeddings.create(model="cut", input="x")
    assert last_row(passing, count + 1)["outcome"] == "error"
    with (
        pytest.raises(openai.APIError, match="before its answer was complete") as error,
        client.completions.create(model="cut", prompt="x", stream=True) as stream,
    ):
        list(stream)
    assert error.value.code == "upstream_cut"
    assert last_row(passing, count + 2)["outcome"] == "error"


def test_a_refusal_is_told_in_the_words_of_the_format(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="no such dimension") as error:
        client.embeddings.create(model="strict", input="x")
    assert error.value.code == "bad_dims"
    with pytest.raises(openai.RateLimitError) as busy:
        client.moderations.create(model="busy", input="x")
    assert busy.value.response.headers["retry-after"] == "9"


@pytest.mark.parametrize(("model", "stream"), [("never", False), ("endless", True)])
def test_who_leaves_ends_the_upstreams_work(
    model: str, stream: bool, passing: Gateway, other: OtherRoutes, client: openai.OpenAI
) -> None:
    count = len(passing.usage())
    patient = client.with_options(timeout=1)
    with pytest.raises(openai.APITimeoutError):
        list(patient.completions.create(model=model, prompt="x", stream=stream))
    eventually(lambda: other.is_open == 0, what="the upstream's request is closed")
    assert last_row(passing, count + 1)["outcome"] == "abort"


def test_a_large_answer_is_never_held_whole(passing: Gateway, client: openai.OpenAI) -> None:
    process = psutil.Process(passing.pid)
    before = process.memory_info().rss
    body = {"model": "large", "input": "x"}
    with httpx2.stream("POST", f"{passing.url}/v1/embeddings", json=body, timeout=60) as answer:
        size = highest = 0
        for data in answer.iter_raw():
            size += len(data)
            highest = max(highest, process.memory_info().rss)
            if size < 4 << 20:
                time.sleep(0.01)  # a reader that is slower than the upstream
    assert size == int(answer.headers["content-length"]) > LARGE
    assert highest - before < LARGE // 4
    eventually(lambda: passing.usage()[-1]["model"] == "large")
    assert passing.usage()[-1]["quantities"]["inputTokens"] == 7, "the figures stand at the end"


def test_an_upstream_gets_one_of_each_field(passing: Gateway, other: OtherRoutes) -> None:
    """Which of two it would obey is its own matter, and what was checked is what it gets."""
    twice = b'{"model": "strict", "input": "x", "model": "small"}'
    assert httpx2.post(f"{passing.url}/v1/embeddings", content=twice).status_code == 200
    assert other.bodies[-1].count(b'"model"') == 1


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("embeddings", b"[]", 400, "not valid"),
        ("embeddings", b'{"model": 7}', 400, "model"),
        ("completions", b'{"prompt": "x", "max_tokens": 9000000}', 400, "max_tokens=9000000"),
        ("completions", b'{"prompt": "x", "max_tokens": -1}', 400, "max_tokens"),
        ("completions", b'{"prompt": "x", "stream": "yes"}', 400, "stream"),
    ],
)
def test_what_cannot_be_read_is_not_passed_on(
    path: str, body: bytes, status: int, said: str, passing: Gateway, other: OtherRoutes
) -> None:
    count = len(other.bodies)
    answer = httpx2.post(f"{passing.url}/v1/{path}", content=body)
    assert (answer.status_code, len(other.bodies)) == (status, count)
    assert said in answer.json()["error"]["message"]


def test_upstreams_with_a_system_prompt_are_asked_nothing_else(other: OtherRoutes, tmp_path: Path) -> None:
    """The next one that serves the model is asked; with none left it is said why."""
    table = '[[upstream]]\nname = "{0}"\nbase_url = "{1}"\nmodels = ["{2}"]\n{3}\n'
    system = 'system = "You sell shoes."'
    (tmp_path / "upstreams.toml").write_text(
        table.format("dead", "http://127.0.0.1:9/v1", "small", "")
        + table.format("shop", other.url, "small", system)
        + table.format("open", other.url, 'small", "org/small', "")
        + table.format("shop2", other.url, "coder", system)
    )
    gateway = serving(tmp_path, "", OPENAI_BASE_URL="", TRILANE_UPSTREAMS=str(tmp_path / "upstreams.toml")).start()
    try:
        with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0) as client:
            assert client.embeddings.create(model="small", input="x").usage.prompt_tokens == 7
            assert last_row(gateway, 1)["upstream"] == "open"
            with pytest.raises(openai.PermissionDeniedError, match="system"):
                client.completions.create(model="coder", prompt="x")
            with pytest.raises(openai.NotFoundError, match="'huge'"):
                client.embeddings.create(model="huge", input="x")
            assert client.models.retrieve("org/small").owned_by == "open"
            with pytest.raises(openai.NotFoundError, match="GET /v1/models"):
                client.models.retrieve("org/huge")
    finally:
        gateway.stop()
