"""The fake upstream is a server: it keeps connections and requests, and a record of both.

Owns HTTP/1.1 parsing of requests (with a length; a chunked request gets 411) and knows, at any moment, which
requests are still open: a gateway that leaves one open after its reader is gone is caught by that list.
An asyncio.Protocol rather than streams, because a client that leaves must be noticed without reading.
"""

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self, cast

from loadtests.upstream import shapes
from loadtests.upstream.answer import JSON, Answer, RequestRecord, set_linger
from loadtests.upstream.ask import Ask, read_ask
from loadtests.upstream.behaviours import TABLE, Behaviour
from loadtests.upstream.unary import answer_unary

Script = str | Behaviour


class FakeUpstream:
    """An OpenAI-compatible server that does what the model's name says (`async with FakeUpstream() as up`).

    `requests` holds every chat request in order of arrival; `open_requests` those not answered and not left.
    A model that no behaviour is named after gets 404, unless `default` names one.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0, default: str | None = None) -> None:
        self.host, self.port, self.default = host, port, default
        self.requests: list[RequestRecord] = []
        self._scripts: dict[str, list[Script]] = {}
        self._connections: set[_Connection] = set()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """Returns the base URL for an OpenAI client, `/v1` included."""
        return f"http://{self.host}:{self.port}/v1"

    @property
    def open_requests(self) -> list[RequestRecord]:
        """Returns requests whose answer has not ended and whose client is still there."""
        return [record for record in self.requests if record.open]

    @property
    def models(self) -> list[str]:
        """Returns every name that chooses a behaviour."""
        return [*TABLE, *self._scripts]

    def script(self, name: str, behaviour: Script | Sequence[Script]) -> None:
        """Makes model `name` do this: a name from the table, a coroutine function, or one after the other per request.

        The last of a sequence stays: `up.script("flaky", ["e503", "e503", "ok"])`.
        """
        steps = [behaviour] if isinstance(behaviour, str) or callable(behaviour) else list(behaviour)
        self._scripts[name] = steps

    async def received(self, count: int = 1, timeout_s: float = 5) -> list[RequestRecord]:
        """Waits until that many chat requests have arrived."""
        await self._until(lambda: len(self.requests) >= count, timeout_s)
        return self.requests

    async def quiet(self, timeout_s: float = 5) -> None:
        """Waits until no request is open; TimeoutError says which ones are."""
        await self._until(lambda: not self.open_requests, timeout_s)

    async def _until(self, condition: Callable[[], bool], timeout_s: float) -> None:
        end = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError(f"after {timeout_s} s: {len(self.requests)} requests, open: {self.open_requests}")
            await asyncio.sleep(0.002)

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), self.host, self.port, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        tasks = [connection.task for connection in self._connections if connection.task]
        for connection in list(self._connections):
            connection.transport.abort()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._server.wait_closed()
        failures = [record.failure for record in self.requests if record.failure is not None]
        if failures and error is None:
            raise failures[0]

    async def serve_forever(self) -> None:
        """Serves in a process of its own."""
        assert self._server is not None
        await self._server.serve_forever()

    # ------------------------------------------------------------------ what a connection asks of its server

    def choose(self, ask: Ask) -> Behaviour | None:
        """Returns the behaviour for this request, or None where nothing has that name."""
        steps = self._scripts.get(ask.model) or self._scripts.get(ask.behaviour)
        step: Script = ask.behaviour
        if steps:
            step = steps.pop(0) if len(steps) > 1 else steps[0]
        if not isinstance(step, str):
            return step
        name = step if step in TABLE else self.default
        if name is None:
            return None
        if ask.stream or TABLE[name].any:
            return TABLE[name].behave
        return lambda answer: answer_unary(answer, name)

    def overview(self) -> str:
        """Returns what happened so far, as JSON, for a test in another process."""
        fields = ("path", "opened_at", "tokens_sent", "completed", "left_at", "closed_at")
        return json.dumps(
            [{**{f: getattr(s, f) for f in fields}, "model": (s.body or {}).get("model")} for s in self.requests]
        )

    def add_connection(self, connection: "_Connection") -> None:
        self._connections.add(connection)

    def remove_connection(self, connection: "_Connection") -> None:
        self._connections.discard(connection)


class _Connection(asyncio.Protocol):
    """One client: requests one after the other, each answered by a task that dies with the connection."""

    def __init__(self, server: FakeUpstream) -> None:
        self.server = server
        self.task: asyncio.Task[None] | None = None
        self._buffer = b""
        self._room = asyncio.Event()
        self._room.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.server.add_connection(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        self.server.remove_connection(self)
        self._room.set()
        if self.task:
            self.task.cancel()

    def pause_writing(self) -> None:
        self._room.clear()

    def resume_writing(self) -> None:
        self._room.set()

    async def send(self, data: bytes) -> None:
        self.transport.write(data)
        await self._room.wait()
        await asyncio.sleep(0)  # a stream without pauses must still notice that its client has left

    def shut(self, linger: bytes | None) -> None:
        if linger is not None:
            set_linger(self.transport.get_extra_info("socket"), linger)
            self.transport.abort()
        else:
            self.transport.close()

    def _next(self) -> None:
        """Starts on the next request once it is here and the one before is answered."""
        head, separator, rest = self._buffer.partition(b"\r\n\r\n")
        if self.task or not separator:
            return
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", "0"))
        if len(rest) < length:
            return
        self._buffer = rest[length:]
        method, path, _ = first.split(" ", 2)
        record = RequestRecord(method, path, headers, _json(rest[:length]), time.monotonic())
        self.task = asyncio.get_running_loop().create_task(self._run(record))

    async def _run(self, record: RequestRecord) -> None:
        try:
            await self._answer(record)
            record.completed = True
        except asyncio.CancelledError:
            record.left_at = time.monotonic()
        except Exception as err:  # a fault in a behaviour is a fault of the test: shown when the fake is closed
            record.failure = err
            self.transport.abort()
        finally:
            record.closed_at = time.monotonic()
            self.task = None
        if record.headers.get("connection") == "close":
            self.transport.close()
        elif not self.transport.is_closing():
            self._next()

    async def _answer(self, record: RequestRecord) -> None:
        ask = read_ask(record.body or {})
        answer = Answer(ask, record, self)
        path = record.path.partition("?")[0]
        if path.endswith("/chat/completions") and record.method == "POST":
            await self._complete(answer)
        elif path.endswith("/models"):
            models = [
                {"id": n, "object": "model", "created": shapes.CREATED, "owned_by": "fake"} for n in self.server.models
            ]
            await answer.whole(200, JSON, json.dumps({"object": "list", "data": models}))
        elif path == "/_requests":
            await answer.whole(200, JSON, self.server.overview())
        else:
            await answer.whole(404, JSON, json.dumps(shapes.error(f"No route {path}", "invalid_request_error", None)))

    async def _complete(self, answer: Answer) -> None:
        record, ask = answer.record, answer.ask
        record.ask = ask
        self.server.requests.append(record)
        if "transfer-encoding" in record.headers or record.body is None:
            await answer.whole(411, JSON, json.dumps(shapes.error("JSON body with length needed", "fake", None)))
            return
        behave = self.server.choose(ask)
        if behave is None:
            message = f"No behaviour {ask.behaviour!r}; there are {', '.join(TABLE)}"
            await answer.whole(404, JSON, json.dumps(shapes.error(message, "fake", "model_not_found")))
            return
        await behave(answer)


def _json(data: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(data)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
