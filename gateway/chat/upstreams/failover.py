"""All upstreams, in order of preference, and the one rule of failover: before the first visible token, never after.

Upstreams come from the server's configuration only; a client can name a model, never an address.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import msgspec

from gateway.chat.upstreams.chunks import AnswerChunk
from gateway.chat.upstreams.completion_parser import GAVE_UP
from gateway.chat.upstreams.messages_upstream import MessagesUpstream
from gateway.chat.upstreams.openai import OpenAIUpstream
from gateway.chat.upstreams.operator_rules import allowing, for_upstream
from gateway.chat.upstreams.passed_answer import PassedAnswer
from gateway.chat.upstreams.transport import HttptoolsTransport
from gateway.chat.upstreams.try_span import TrySpan
from gateway.chat.upstreams.upstream import Generation, Request, Upstream
from gateway.chat.upstreams.way_out import way_out
from gateway.errors import Forbidden, NotFound, Overloaded, UpstreamError, UpstreamRefused, UpstreamTimeout
from gateway.settings import Settings

if TYPE_CHECKING:
    from gateway.core.tracing import Span

BY_WIRE = {"chat": OpenAIUpstream, "messages": MessagesUpstream}
"""What speaks each wire format."""
Piece = TypeVar("Piece")
Candidate = TypeVar("Candidate", bound="Tried")
Opened = TypeVar("Opened")
Answering = TypeVar("Answering", bound="Begun[Any]")


class OpenedGeneration(msgspec.Struct):
    """A generation of which something can be seen (or that is over), and the chunks read so far."""

    generation: Generation
    chunks: list[AnswerChunk]
    between_tokens_s: float | None
    """Maximum seconds between two tokens; None when its upstream has no limit of its own."""
    span: TrySpan | None = None
    """The span of the try that opened it, which ends with it."""


class OpenedAnswer(NamedTuple):
    """An answer that is passed on, and the span of the try that opened it."""

    answer: PassedAnswer
    span: TrySpan | None


class Upstreams:
    """Opens a generation on the first upstream that gives one."""

    def __init__(self, upstreams: list[Upstream], first_token_s: float) -> None:
        """Takes the upstreams in order of preference; `first_token_s` is for those that have no limit of their own."""
        self.all = upstreams
        self._first_token_s = first_token_s
        self.on_error: Callable[[UpstreamError], None] = _ignore
        """Called with the error of each try that failed before a token."""

    def in_flight(self) -> dict[str, int]:
        """Returns how many requests each upstream is answering."""
        return {upstream.settings.name: upstream.in_flight for upstream in self.all}

    def serving(self, model: str) -> list[Upstream]:
        """Returns the upstreams that serve a model; an empty name is any."""
        return [u for u in self.all if not model or not u.settings.models or model in u.settings.models]

    async def open(self, request: Request, model: str, run_span: "Span | None" = None) -> OpenedGeneration:
        """Opens the first upstream that gives a visible token; `run_span` gets a child for each try.

        An answer that the model itself gave up is its answer. Raises what the last one tried failed with; Overloaded
        when all are busy; NotFound for a model none serves; BadRequest for an option that none allows.
        """
        serving = self._allowing(model, request)

        async def attempt(upstream: Upstream) -> OpenedGeneration:
            span = None if run_span is None else TrySpan(run_span, upstream.settings, model)
            return await self._first_token(upstream, request, model, span)

        return await first_to_answer(serving, attempt, self.on_error)

    def _allowing(self, model: str, request: Request) -> list[Upstream]:
        serving = self.serving(model)
        if not serving:
            raise NotFound(f"no upstream serves the model {model[:64]!r}", code="model_not_found")
        names = allowing([upstream.settings for upstream in serving], request)
        return [upstream for upstream in serving if upstream.settings.name in names]

    async def pass_on(
        self, path: str, request: Request, content: bytes, model: str, operation: str, run_span: "Span | None" = None
    ) -> OpenedAnswer:
        """Sends `content`, which says `request`, to the first upstream that begins to answer it; raises as `open` does.

        Of an upstream with a system prompt of its operator's nothing else is asked: the prompt could be left out.
        """
        serving = [upstream for upstream in self._allowing(model, request) if not upstream.settings.system]
        if not serving:
            detail = f"{path} is not for upstreams whose operator has set `system`"
            raise Forbidden(detail, code="route_not_allowed")
        is_stream = request.get("stream") is True

        async def attempt(upstream: Upstream) -> OpenedAnswer:
            settings = upstream.settings
            limit_s = (settings.first_token_s or self._first_token_s) if is_stream else None
            span = None
            if run_span is not None:
                span = TrySpan(run_span, settings, model, operation=operation, is_stream=is_stream)
            try:
                async with asyncio.timeout(limit_s):
                    return OpenedAnswer(await upstream.pass_on(path, content, span.head if span else b""), span)
            except BaseException as err:
                if span is not None:
                    span.fail(err)
                if isinstance(err, TimeoutError):
                    raise UpstreamTimeout(f"no answer from upstream {settings.name!r} within {limit_s:g} s") from err
                raise

        return await first_to_answer(serving, attempt, self.on_error)

    async def _first_token(
        self, upstream: Upstream, request: Request, model: str, span: TrySpan | None
    ) -> OpenedGeneration:
        if span is None:
            return await self._answer(upstream, request, model)
        try:
            opened = await self._answer(upstream, request, model, span.head)
        except BaseException as err:
            span.fail(err)
            raise
        span.note_first_token()
        opened.span = span
        return opened

    async def _answer(self, upstream: Upstream, request: Request, model: str, trace: bytes = b"") -> OpenedGeneration:
        limit = upstream.settings.first_token_s or self._first_token_s
        opening = upstream.open(for_upstream(request, upstream.settings), model, trace)
        generation, chunks = await begun(opening, _is_visible, upstream.settings.name, limit)
        error = generation.error
        if error is not None and error.code != GAVE_UP and not _is_visible(chunks):
            generation.abort()
            raise error
        return OpenedGeneration(generation, chunks, upstream.settings.between_tokens_s)

    async def models(self) -> list[tuple[str, str]]:
        """Returns the name of every model that can be reached, each with the name of its upstream."""
        pairs: list[tuple[str, str]] = []
        for upstream in self.all:
            try:
                pairs += [(model, upstream.settings.name) for model in await upstream.models()]
            except UpstreamError:
                continue
        return pairs

    async def aclose(self) -> None:
        for upstream in self.all:
            await upstream.aclose()


class Begun(Protocol[Piece]):
    """The part of a stream that is used until something of it can be seen."""

    ended: bool

    async def next(self) -> list[Piece]: ...
    def abort(self) -> None: ...


class Tried(Protocol):
    """What may be asked, and may have enough to do."""

    @property
    def busy(self) -> bool: ...


async def first_to_answer(
    candidates: Iterable[Candidate],
    attempt: Callable[[Candidate], Awaitable[Opened]],
    on_error: Callable[[UpstreamError], None],
) -> Opened:
    """Returns what the first attempt gives that does not fail; Overloaded when none of the candidates has room."""
    failure: UpstreamError | None = None
    for candidate in candidates:
        if candidate.busy:
            continue
        try:
            return await attempt(candidate)
        except UpstreamError as err:
            failure = err.with_traceback(None)  # its frames hold it
            on_error(err)
            if isinstance(err, UpstreamRefused) and err.is_final:
                break
    raise failure or Overloaded("every upstream has as many requests as it may")


async def begun(
    opening: Coroutine[object, object, Answering],
    is_visible: Callable[[list[Piece]], bool],
    upstream: str,
    limit_s: float,
) -> tuple[Answering, list[Piece]]:
    """Returns a stream of which something can be seen (or that is over), and its pieces so far.

    Raises UpstreamTimeout when that takes longer than `limit_s` seconds; then, as after any failure, it is closed.
    """
    stream: Answering | None = None
    pieces: list[Piece] = []
    try:
        async with asyncio.timeout(limit_s):
            stream = await opening
            while not stream.ended and not is_visible(pieces):
                pieces += await stream.next()
    except BaseException as err:
        if stream is not None:
            stream.abort()
        if isinstance(err, TimeoutError):
            raise UpstreamTimeout(f"no token from upstream {upstream!r} within {limit_s:g} s") from err
        raise
    return stream, pieces


def open_upstreams(settings: Settings) -> Upstreams:
    """Returns the upstreams that the operator's settings name, or the embedded model when they name none.

    Raises ConfigurationError when one has an address, a header, a proxy or certificates that cannot be used.
    """
    upstreams: list[Upstream] = [
        BY_WIRE[upstream.wire](upstream, HttptoolsTransport(way_out(upstream, settings.network)))
        for upstream in settings.upstreams
        if upstream.kind == "openai"
    ]
    if not settings.upstreams:
        from gateway.chat.upstreams.embedded import EmbeddedUpstream

        upstreams.append(EmbeddedUpstream())
    return Upstreams(upstreams, settings.first_token_s)


def _ignore(error: UpstreamError) -> None:
    """Does nothing: nobody counts errors."""


def _is_visible(chunks: list[AnswerChunk]) -> bool:
    return any(choice.delta.is_visible for chunk in chunks for choice in chunk.choices or () if choice.delta)
