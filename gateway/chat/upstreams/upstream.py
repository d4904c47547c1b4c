"""An upstream is a server of models; this is its port, and the words that the port uses."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from gateway.chat.upstreams.chunks import AnswerChunk
from gateway.chat.upstreams.loose_fields import JsonFields
from gateway.chat.upstreams.passed_answer import PassedAnswer
from gateway.core.usage import UpstreamUsage
from gateway.errors import UpstreamError
from gateway.upstream_settings import UpstreamSettings

Request = dict[str, object]
"""The body of a chat completion, without `model` and `stream`."""
OWN_TOOLS = "trilane_tools"
"""Name under which a request has the tools that the gateway runs, which no upstream's operator forbids; they are sent
among the others."""
TakeChunks = Callable[[list[AnswerChunk]], None]


class Generation(Protocol):
    """One open stream of an upstream.

    The caller reads it by `next` until it wants `pipe`, and from then on by `pipe` alone. It closes the stream exactly
    once, by `abort` or `aclose`, whatever happens.

    The implementer hands on what arrives in the turn of the event loop that reads it, in order, and nothing after
    `ended` is true. Its methods raise nothing: how the stream ended is told by `complete` and `error`.
    """

    upstream: str
    ended: bool
    """Whether nothing more will come."""

    @property
    def model(self) -> str:
        """Returns the model that answers."""
        ...

    @property
    def complete(self) -> bool:
        """Returns whether the upstream has said that this is all; its figures of usage may still follow."""
        ...

    @property
    def finish_reason(self) -> str | None:
        """Returns the upstream's own word for why it stopped."""
        ...

    @property
    def usage(self) -> UpstreamUsage | None: ...
    @property
    def facts(self) -> JsonFields:
        """Returns what the upstream has said of the whole answer beside its text, such as the model, as it came."""
        ...

    @property
    def error(self) -> UpstreamError | None:
        """Returns the error that ended it before it was complete, which never holds the upstream's key."""
        ...

    async def next(self) -> list[AnswerChunk]:
        """Returns what arrived since the last call, waiting for the first bytes; [] is no sign of an end."""
        ...

    def pipe(self, take: TakeChunks) -> asyncio.Future[None]:
        """Passes chunks to `take` from now on, as they are read; the future is done when the stream has ended."""
        ...

    def pause(self) -> None:
        """Reads no more until `resume`, so that the upstream is slowed down."""
        ...

    def resume(self) -> None: ...
    def abort(self) -> None:
        """Closes the upstream's request before it returns. Idempotent."""
        ...

    async def aclose(self) -> None:
        """Lets go of a stream that has ended; its connection may be used again."""
        ...


class Upstream(Protocol):
    """A server of models.

    The caller closes every generation that `open` gave it, whatever happens. The implementer raises only UpstreamError
    from `open`, `pass_on` and `models`, has let go of everything when it does, and never tries twice.
    """

    settings: UpstreamSettings

    @property
    def in_flight(self) -> int:
        """Returns the number of generations that are open, or being opened."""
        ...

    @property
    def busy(self) -> bool:
        """Returns whether its concurrency limit is reached."""
        ...

    async def open(self, request: Request, model: str, trace: bytes = b"") -> Generation:
        """Asks for one answer; `trace` is further lines of the request's head, each with its CRLF."""
        ...

    async def pass_on(self, path: str, content: bytes, trace: bytes = b"") -> PassedAnswer:
        """Sends JSON to one of its other routes, such as `/embeddings`, and returns what it answers as it comes."""
        ...

    async def models(self) -> list[str]: ...
    async def aclose(self) -> None: ...
