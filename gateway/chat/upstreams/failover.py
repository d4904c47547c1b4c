"""All upstreams, by the models that they serve: opens an answer on the first of them that the router finds.

Upstreams come from the server's configuration only; a client can name a model, never an address.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import msgspec

from gateway.chat.upstreams.chunks import AnswerChunk
from gateway.chat.upstreams.circuit import Circuit, Trial
from gateway.chat.upstreams.completion_parser import GAVE_UP
from gateway.chat.upstreams.messages_upstream import MessagesUpstream
from gateway.chat.upstreams.openai import OpenAIUpstream
from gateway.chat.upstreams.operator_rules import allowing, for_upstream
from gateway.chat.upstreams.passed_answer import PassedAnswer
from gateway.chat.upstreams.responses_upstream import ResponsesUpstream
from gateway.chat.upstreams.router import Router
from gateway.chat.upstreams.transport import HttptoolsTransport
from gateway.chat.upstreams.try_span import TrySpan
from gateway.chat.upstreams.upstream import Generation, Request, Upstream
from gateway.chat.upstreams.way_out import way_out
from gateway.errors import Forbidden, NotFound, UpstreamError, UpstreamTimeout
from gateway.settings import Settings
from gateway.upstream_settings import UpstreamSettings

if TYPE_CHECKING:
    from gateway.core.tracing import Span

BY_WIRE = {"chat": OpenAIUpstream, "messages": MessagesUpstream, "responses": ResponsesUpstream}
"""What speaks each wire format."""
RETIRE_LOOK_S = 0.5
"""Seconds between two looks whether an upstream that was replaced still answers something."""
Piece = TypeVar("Piece")
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

    def __init__(self, upstreams: Sequence[Upstream], first_token_s: float, router: Router | None = None) -> None:
        """Takes the upstreams in order of preference; `first_token_s` is for those that have no limit of their own."""
        self.all: tuple[Upstream, ...] = tuple(upstreams)
        self.router = router or Router()
        self._first_token_s = first_token_s
        self._leaving: dict[Upstream, asyncio.Task[None]] = {}

    def in_flight(self) -> dict[str, int]:
        """Returns how many requests each upstream is answering."""
        counts = {upstream.settings.name: upstream.in_flight for upstream in self.all}
        for upstream in self._leaving:
            counts[upstream.settings.name] = counts.get(upstream.settings.name, 0) + upstream.in_flight
        return counts

    def circuits(self) -> dict[str, Circuit]:
        """Returns the circuit of each upstream, by its name."""
        return {upstream.settings.name: self.router.circuit(upstream.settings.name) for upstream in self.all}

    def serving(self, model: str, among: Sequence[Upstream] | None = None) -> list[Upstream]:
        """Returns the upstreams that serve a model, by its name or an alias; an empty name is any."""
        return [upstream for upstream in among or self.all if _serves(upstream.settings, model)]

    async def open(
        self,
        request: Request,
        model: str,
        run_span: "Span | None" = None,
        *,
        key: str = "",
        among: Sequence[Upstream] | None = None,
    ) -> tuple[OpenedGeneration, Trial]:
        """Opens the first upstream that gives a visible token; `run_span` gets a child for each try.

        `key`: requests with one key go to the same of several that share a place. `among`: who may be asked, as `all`
        once was. The caller ends the trial with the answer. An answer that the model itself gave up is its answer.
        Raises what the last one tried failed with; Overloaded when all are busy; NotFound for a model none serves;
        BadRequest for an option that none allows.
        """

        async def attempt(upstream: Upstream) -> OpenedGeneration:
            sent = upstream.settings.aliases.get(model, model)
            span = None if run_span is None else TrySpan(run_span, upstream.settings, sent)
            return await self._first_token(upstream, request, sent, span)

        return await self.router.first(self._allowing(model, request, among), key, attempt)

    def _allowing(self, model: str, request: Request, among: Sequence[Upstream] | None = None) -> list[Upstream]:
        serving = self.serving(model, among)
        if not serving:
            raise NotFound(f"no upstream serves the model {model[:64]!r}", code="model_not_found")
        names = allowing([upstream.settings for upstream in serving], request)
        return [upstream for upstream in serving if upstream.settings.name in names]

    async def pass_on(
        self,
        path: str,
        request: Request,
        content: bytes,
        model: str,
        operation: str,
        run_span: "Span | None" = None,
        *,
        key: str = "",
    ) -> tuple[OpenedAnswer, Trial]:
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
            sent = settings.aliases.get(model, model)
            asked = content if sent == model else _for_model(content, sent)
            span = None
            if run_span is not None:
                span = TrySpan(run_span, settings, sent, operation=operation, is_stream=is_stream)
            try:
                async with asyncio.timeout(limit_s):
                    return OpenedAnswer(await upstream.pass_on(path, asked, span.head if span else b""), span)
            except BaseException as err:
                if span is not None:
                    span.fail(err)
                if isinstance(err, TimeoutError):
                    raise UpstreamTimeout(f"no answer from upstream {settings.name!r} within {limit_s:g} s") from err
                raise

        return await self.router.first(serving, key, attempt)

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
        """Returns the name of every model that can be reached, aliases too, each with the name of its upstream."""
        pairs: list[tuple[str, str]] = []
        for upstream in self.all:
            name, aliases = upstream.settings.name, upstream.settings.aliases
            try:
                listed = await upstream.models()
            except UpstreamError:
                continue
            pairs += [(model, name) for model in dict.fromkeys([*listed, *aliases])]
        return pairs

    def replace(self, upstreams: Sequence[Upstream]) -> None:
        """Has these answer new requests; what is in flight stays where it is, and is closed when it has ended.

        One whose settings are what they were goes on with its connections and its health, unless it has certificates:
        those may be new.
        """
        kept = {one.settings.name: one for one in self.all if any(_is_same(one, other) for other in upstreams)}
        gone = [one for one in self.all if one.settings.name not in kept]
        self.all = tuple(kept.get(one.settings.name, one) for one in upstreams)
        self.router.keep(kept.keys())
        for upstream in gone:
            self._leaving[upstream] = asyncio.get_running_loop().create_task(self._retire(upstream))

    async def _retire(self, upstream: Upstream) -> None:
        while True:
            await asyncio.sleep(RETIRE_LOOK_S)  # first of all: a run may have been about to ask it
            if not upstream.in_flight:
                break
        del self._leaving[upstream]
        await upstream.aclose()

    async def aclose(self) -> None:
        for upstream, retiring in list(self._leaving.items()):
            retiring.cancel()
            await upstream.aclose()
        for upstream in self.all:
            await upstream.aclose()


def _serves(settings: UpstreamSettings, model: str) -> bool:
    return not model or not settings.models or model in settings.models or model in settings.aliases


def _for_model(content: bytes, model: str) -> bytes:
    """Returns a JSON request with another `model`, all else as it came."""
    fields = msgspec.json.decode(content, type=dict[str, msgspec.Raw])
    return msgspec.json.encode({**fields, "model": model})


def _is_same(upstream: Upstream, other: Upstream) -> bool:
    settings = upstream.settings
    return settings == other.settings and not (settings.ca or settings.client_certificate)


class Begun(Protocol[Piece]):
    """The part of a stream that is used until something of it can be seen."""

    ended: bool

    async def next(self) -> list[Piece]: ...
    def abort(self) -> None: ...


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
    """Returns the upstreams of `listed_upstreams`, which are then asked. Raises ConfigurationError as it does."""
    return Upstreams(listed_upstreams(settings), settings.first_token_s)


def listed_upstreams(settings: Settings) -> list[Upstream]:
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
    return upstreams


def _is_visible(chunks: list[AnswerChunk]) -> bool:
    return any(choice.delta.is_visible for chunk in chunks for choice in chunk.choices or () if choice.delta)
