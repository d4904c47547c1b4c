"""A ScriptedUpstream needs no network: a test says what arrives when, and sees what becomes of the request."""

import asyncio

import httpx2

from gateway.chat.upstreams.completion_parser import CompletionParser
from gateway.chat.upstreams.completion_stream import CompletionStream
from gateway.chat.upstreams.connection import BodySink
from gateway.chat.upstreams.passed_answer import PassedAnswer
from gateway.chat.upstreams.upstream import Generation, Request
from gateway.errors import UpstreamError, UpstreamRefused
from gateway.upstream_settings import UpstreamSettings

SECRET = "sk-secret"


class ScriptedBody:
    """Stands in for a connection's body: what a test sends arrives at once, unless it is paused."""

    def __init__(self, *pieces: bytes) -> None:
        self.paused = self.aborted = self.closed = False
        self.read_to_end = False
        self._pieces = list(pieces)
        self._sink: BodySink | None = None
        self._has_ended = False
        self._error: httpx2.TransportError | None = None
        self._news = asyncio.Event()

    @property
    def is_over(self) -> bool:
        return self.aborted or self.closed

    # What a test does

    def send(self, *pieces: bytes) -> None:
        self._pieces += pieces
        self._arrived()

    def end(self, error: httpx2.TransportError | None = None) -> None:
        self._has_ended, self._error = True, error
        self._arrived()

    def _arrived(self) -> None:
        self._news.set()
        while self._sink is not None and self._pieces and not self.paused and not self.is_over:
            self._sink.data(self._pieces.pop(0))
        if self._sink is not None and self._has_ended and not self._pieces and not self.is_over:
            sink, self._sink = self._sink, None
            sink.end(self._error)

    # What a generation does

    async def read(self) -> bytes:
        while not self._pieces:
            if self._error is not None:
                raise self._error
            if self._has_ended:
                self.read_to_end = True
                return b""
            self._news.clear()
            await self._news.wait()
        data, self._pieces = b"".join(self._pieces), []
        return data

    def pipe(self, sink: BodySink) -> None:
        self._sink = sink
        self._arrived()

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False
        self._arrived()

    def abort(self) -> None:
        self.aborted = True

    async def aclose(self) -> None:
        self.closed = True


class ScriptedUpstream:
    """Gives out the bodies it was made with, one for each request; an error is raised instead."""

    def __init__(self, *answers: ScriptedBody | UpstreamError, name: str = "scripted", **settings: object) -> None:
        self.settings = UpstreamSettings(
            name=name, base_url="http://scripted", model="m", **{"api_key": SECRET, **settings}
        )  # type: ignore[arg-type]
        self.answers = list(answers)
        self.requests: list[tuple[Request, str]] = []
        self.passed: list[bytes] = []
        self.busy = False
        self.in_flight = 0
        self.released = 0
        """Number of generations that were closed."""
        self.closed = False

    async def open(self, request: Request, model: str, trace: bytes = b"") -> Generation:
        self.requests.append((request, model))
        answer = self.answers.pop(0)
        if isinstance(answer, UpstreamError):
            raise answer
        return generation(answer, self)

    async def pass_on(self, path: str, content: bytes, trace: bytes = b"") -> PassedAnswer:
        self.passed.append(content)
        raise UpstreamRefused(f"no route {path}", status=404)

    def release(self) -> None:
        self.released += 1

    async def models(self) -> list[str]:
        if self.answers and isinstance(self.answers[0], UpstreamError):
            raise self.answers[0]
        return self.settings.models

    async def aclose(self) -> None:
        self.closed = True


def generation(body: ScriptedBody, upstream: ScriptedUpstream) -> CompletionStream:
    return CompletionStream(
        body, upstream.settings.name, "m", upstream.settings.api_key, upstream.release, parser=CompletionParser()
    )
