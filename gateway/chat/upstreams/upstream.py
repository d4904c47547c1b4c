"""OpenAI-compatible upstreams: request, typed errors, concurrency, failover. The only importer of `openai`.

The SDK gives addresses, authentication, headers and lists of models. A chat's own request is put together here from
those and sent on the transport that the SDK uses too: its `post` costs 260 µs where this costs 10, and its parsed
stream objects 100 µs each where `CompletionParser` costs one. Its retries are off: failover is decided here, and never
after a visible token. Upstreams come from the server's configuration only; a client can name a model, never an
address.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

import httpx2
import msgspec
import openai

from gateway.chat.upstreams.completion import Chunk, CompletionParser, error_body, refusal
from gateway.chat.upstreams.connection import Body, UpstreamConnection
from gateway.chat.upstreams.transport import HttptoolsTransport, Target
from gateway.errors import (
    NotFound,
    Overloaded,
    UpstreamCut,
    UpstreamError,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from gateway.settings import UpstreamSettings

Request = dict[str, object]
"""The body of a chat completion, without `model` and `stream`."""

CONNECT_S = 5.0
MODELS_S = 3.0
REUSE_S = 0.1
"""How long a finished stream is read on for the end of its body, so that the connection can be used again."""
STREAMED: Request = {"stream": True, "stream_options": {"include_usage": True}}
REFUSAL_S = 2.0
MAX_REFUSAL_BYTES = 65_536


class Generation:
    """One open stream of an upstream. `next` until `ended`; then `error` says whether it was complete."""

    def __init__(self, body: Body, upstream: str, model: str, secret: str, on_close: Callable[[], None]) -> None:
        self._secret = secret
        self.upstream = upstream
        self.model = model
        self.parser = CompletionParser()
        self.ended = False
        self._body = body
        self._take: Callable[[list[Chunk]], None] = _drop
        self._piped: asyncio.Future[None] | None = None
        self._on_close: Callable[[], None] | None = on_close

    @property
    def error(self) -> UpstreamError | None:
        return _without(self._secret, self.parser.error) if self.parser.error else None

    async def next(self) -> list[Chunk]:
        """What arrived since the last call, waiting for the first bytes; [] is no sign of an end."""
        try:
            data = await self._body.read()
        except httpx2.TransportError as err:
            self.end(err)
            return []
        if not data:
            self.end(None)
            return []
        chunks = self.parser.feed(data)
        self.ended = self.parser.done or self.parser.error is not None
        return chunks

    def pipe(self, take: Callable[[list[Chunk]], None]) -> asyncio.Future[None]:
        """From now on chunks go to `take` in the turn of the event loop that reads them: no task is woken for a token.

        The future is done when the stream has ended; it never raises, `error` tells.
        """
        self._take = take
        self._piped = asyncio.get_running_loop().create_future()
        self._body.pipe(self)
        return self._piped

    def data(self, data: bytes) -> None:
        chunks = self.parser.feed(data)
        if chunks:
            self._take(chunks)
        if self.parser.done or self.parser.error is not None:
            self._end()

    def end(self, error: httpx2.TransportError | None) -> None:
        if error is None:
            self.parser.end()
        elif not self.parser.complete:
            self.parser.error = UpstreamCut(f"the upstream's stream was cut: {error}")
        self._end()

    def _end(self) -> None:
        self.ended = True
        self._take = _drop
        if self._piped is not None and not self._piped.done():
            self._piped.set_result(None)

    def pause(self) -> None:
        self._body.pause()

    def resume(self) -> None:
        self._body.resume()

    def abort(self) -> None:
        """Closes the upstream request now."""
        self._take = _drop
        self._body.abort()
        self._release()

    async def aclose(self) -> None:
        """Lets go of a finished stream; its connection is used again when the rest arrives at once."""
        try:
            if self.parser.done:
                async with asyncio.timeout(REUSE_S):
                    while await self._body.read():
                        pass
        except (TimeoutError, httpx2.TransportError):
            pass
        finally:
            await self._body.aclose()
            self._release()

    def _release(self) -> None:
        if self._on_close is not None:
            self._on_close()
            self._on_close = None


class Upstream(Protocol):
    """A server of models.

    The caller closes every generation that `open` gave it, by `abort` or `aclose`, whatever happens. The implementer
    raises only UpstreamError from `open`, has let go of everything when it does, and never tries twice.
    """

    settings: UpstreamSettings

    @property
    def busy(self) -> bool:
        """Its concurrency limit is reached."""
        ...

    async def open(self, request: Request, model: str) -> Generation: ...
    async def models(self) -> list[str]: ...
    async def aclose(self) -> None: ...


class OpenAIUpstream:
    """One server that speaks the OpenAI wire format."""

    def __init__(self, settings: UpstreamSettings, transport: HttptoolsTransport | None = None) -> None:
        self.settings = settings
        self.in_flight = 0
        self._models: list[str] = []
        self._transport = transport or HttptoolsTransport()
        http = httpx2.AsyncClient(transport=self._transport, timeout=httpx2.Timeout(None, connect=CONNECT_S))
        self._client = openai.AsyncOpenAI(
            base_url=settings.base_url, api_key=settings.api_key or "none", max_retries=0, http_client=http
        )
        headers = {**self._client.default_headers, **self._client.auth_headers}
        given = {name: value for name, value in headers.items() if isinstance(value, str)}
        self._target = Target.of(httpx2.Request("POST", self._client.base_url.join("chat/completions"), headers=given))

    @property
    def busy(self) -> bool:
        return self.in_flight >= self.settings.max_concurrency

    async def open(self, request: Request, model: str) -> Generation:
        self.in_flight += 1
        try:
            chosen = model or self.settings.model or (await self.models())[0]
            answer = await self._post({**request, **STREAMED, "model": chosen})
            body = Body(answer)
            content_type = answer.header(b"content-type") or "text/event-stream"
            if not content_type.startswith("text/event-stream"):
                body.abort()
                raise UpstreamRefused(
                    f"the upstream answered {content_type[:64]!r} instead of an event stream", code="upstream_invalid"
                )
        except BaseException:
            self._close_one()
            raise
        return Generation(body, self.settings.name, chosen, self.settings.api_key, self._close_one)

    async def _post(self, body: Request) -> UpstreamConnection:
        try:
            answer = await self._transport.exchange(self._target, msgspec.json.encode(body), CONNECT_S)
        except httpx2.ConnectTimeout as err:
            raise UpstreamTimeout(f"no connection to upstream {self.settings.name!r} in {CONNECT_S:g} s") from err
        except httpx2.TransportError as err:
            raise UpstreamUnreachable(f"upstream {self.settings.name!r} cannot be reached") from err
        if answer.status() >= 400:
            raise _without(self.settings.api_key, await _refusal(answer))
        return answer

    async def models(self) -> list[str]:
        """Names of its models: as configured, else as it lists them (asked once)."""
        configured = self.settings.models or ([self.settings.model] if self.settings.model else [])
        if configured or self._models:
            return configured or self._models
        try:
            async with asyncio.timeout(MODELS_S):
                page = await self._client.models.list()
        except (openai.OpenAIError, TimeoutError) as err:
            raise UpstreamUnreachable(f"upstream {self.settings.name!r} does not list its models") from err
        self._models = [model.id for model in page.data]
        if not self._models:
            raise UpstreamRefused(f"upstream {self.settings.name!r} lists no model: set TRILANE_MODEL")
        return self._models

    async def aclose(self) -> None:
        await self._client.close()

    def _close_one(self) -> None:
        self.in_flight -= 1


def _without(secret: str, error: UpstreamError) -> UpstreamError:
    """The error, its text less our own key: some servers repeat it."""
    if secret and secret in error.detail:
        error.detail = error.detail.replace(secret, "…")
    return error


async def _refusal(answer: UpstreamConnection) -> UpstreamRefused:
    """The error that a status of 400 or more stands for; its body is read in bounded size and time."""
    body, status, retry_after = Body(answer), answer.status(), answer.header(b"retry-after")
    is_json = (answer.header(b"content-type") or "").startswith("application/json")
    text = b""
    try:
        async with asyncio.timeout(REFUSAL_S):
            while len(text) < MAX_REFUSAL_BYTES and (data := await body.read()):
                text += data
    except (TimeoutError, httpx2.TransportError):
        pass
    finally:
        await body.aclose()
    return refusal(status, error_body(text).message if is_json else "", retry_after)


class Started(msgspec.Struct):
    """A generation of which something can be seen (or that is over), and the chunks read so far."""

    generation: Generation
    chunks: list[Chunk]


class Upstreams:
    """All upstreams, in order of preference."""

    def __init__(self, upstreams: list[Upstream], first_token_s: float) -> None:
        self.all = upstreams
        self._first_token_s = first_token_s

    async def start(self, request: Request, model: str) -> Started:
        """Opens the first upstream that gives a visible token; fails over before it, never after.

        Raises what the last one tried failed with; Overloaded when all are busy; NotFound for a model none serves.
        """
        serving = [u for u in self.all if not model or not u.settings.models or model in u.settings.models]
        if not serving:
            raise NotFound(f"no upstream serves the model {model[:64]!r}", code="model_not_found")
        failure: UpstreamError | Overloaded = Overloaded("every upstream has as many requests as it may")
        for upstream in serving:
            if upstream.busy:
                continue
            try:
                return await self._first_token(upstream, request, model)
            except UpstreamError as err:
                failure = err
                if err.code == "upstream_bad_request":
                    break
        raise failure

    async def _first_token(self, upstream: Upstream, request: Request, model: str) -> Started:
        limit = upstream.settings.first_token_s or self._first_token_s
        generation: Generation | None = None
        try:
            async with asyncio.timeout(limit):
                generation = await upstream.open(request, model)
                chunks: list[Chunk] = []
                while not generation.ended and not _visible(chunks):
                    chunks += await generation.next()
        except BaseException as err:
            if generation is not None:
                generation.abort()
            if isinstance(err, TimeoutError):
                raise UpstreamTimeout(f"no token from upstream {upstream.settings.name!r} within {limit:g} s") from err
            raise
        if generation.error is not None and not _visible(chunks):
            generation.abort()
            raise generation.error
        return Started(generation, chunks)

    async def models(self) -> list[tuple[str, str]]:
        """(model, upstream) of every upstream that can be asked."""
        found: list[tuple[str, str]] = []
        for upstream in self.all:
            try:
                found += [(model, upstream.settings.name) for model in await upstream.models()]
            except UpstreamError:
                continue
        return found

    async def aclose(self) -> None:
        for upstream in self.all:
            await upstream.aclose()


def _drop(chunks: list[Chunk]) -> None:
    """Nobody takes them any more."""


def _visible(chunks: list[Chunk]) -> bool:
    for chunk in chunks:
        for choice in chunk.choices or ():
            d = choice.delta
            if d and (d.content or d.reasoning_content or d.reasoning or d.refusal or d.tool_calls):
                return True
    return False
