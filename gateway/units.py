"""What each deploy unit contains: routes, resources, and the glue between Litestar and our errors and principals.

A unit imports only its own lane. This is the only module that knows Litestar, the domain and the engines at once.
"""

import asyncio
import os
import re
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from litestar import Litestar, Router
from litestar.config.cors import CORSConfig
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.types import ASGIApp, Receive, Scope, Send

from events.log.port import EventLog, Retention
from gateway.access.auth import authenticator
from gateway.access.signin import SignIn
from gateway.core.process import Core
from gateway.errors import ConfigurationError, TrilaneError
from gateway.settings import Settings
from routes.refusals import failed, not_opened, refused, refused_by_litestar
from routes.streams import OUTSIDE

if TYPE_CHECKING:
    from audio.model.models import Models
    from audio.model.transcriber import Transcriber
    from gateway.chat.upstreams.failover import Upstreams

SANE_REQUEST_ID = re.compile(rb"[A-Za-z0-9._~-]{1,64}")
GPU_BATCH = 16
"""Sessions whose audio goes through the model in one call on CUDA; on CPU one call for each core is faster."""


def open_log(settings: Settings) -> EventLog:
    """The engine that `TRILANE_LOG` names; it is opened by the unit."""
    url = settings.log_url
    if url == "memory:":
        from events.log.memory import MemoryLog

        return MemoryLog()
    if url.startswith("sqlite:///"):
        from events.log.sqlite.engine import SqliteLog

        return SqliteLog(url.removeprefix("sqlite:///"), retention_of(settings))
    raise ConfigurationError(f"TRILANE_LOG={url.split('@')[-1][:60]!r}: this version has sqlite:///path and memory:")


def retention_of(settings: Settings) -> Callable[[str], Retention]:
    """How long each kind of topic is kept: chats and usage until deleted, finished runs a day, others as set.

    Of an audio session only the newest event is needed, and a session that nobody comes back to for a day is over.
    """
    kept = Retention()
    run = Retention(max_bytes=settings.retention_bytes, closed_age_s=86_400)
    other = Retention(events=settings.retention_events, max_bytes=settings.retention_bytes, age_s=settings.retention_s)
    ticket = Retention(age_s=300)
    cursor = Retention(max_bytes=4 * settings.retention_bytes, age_s=settings.retention_s)
    audio = Retention(events=100, age_s=86_400, closed_age_s=3600)
    kinds = {"cursor": cursor, "chat": kept, "log": kept, "usage": kept, "run": run, "ticket": ticket, "audio": audio}
    return lambda topic: kinds.get(topic.partition("/")[0], other)


def open_upstreams(settings: Settings) -> "Upstreams":
    from gateway.chat.upstreams.failover import Upstreams
    from gateway.chat.upstreams.openai import OpenAIUpstream
    from gateway.chat.upstreams.upstream import Upstream

    upstreams: list[Upstream] = [OpenAIUpstream(upstream) for upstream in settings.upstreams]
    if not upstreams:
        from gateway.chat.upstreams.embedded import EmbeddedUpstream

        upstreams.append(EmbeddedUpstream())
    return Upstreams(upstreams, settings.first_token_s)


class Lane(Protocol):
    """What a unit opens, drains and closes."""

    def opened(self) -> AbstractAsyncContextManager[None]: ...
    async def drain(self) -> None:
        """Takes no new work, and returns when nothing is in flight."""
        ...


class MountedLane(NamedTuple):
    """A lane, the name under which its handlers ask for it, and those handlers."""

    name: str
    lane: Lane
    routes: list[Any]


class Unit:
    """An application, and what its server drains."""

    app: Litestar

    def __init__(self, name: str, core: Core, parts: Sequence[MountedLane]) -> None:
        self.name = name
        self.core = core
        self.lanes = [part.lane for part in parts]
        self.has_sockets = any(part.name == "audio" for part in parts)
        """It serves WebSockets."""
        self.failure: TrilaneError | None = None
        """Why it could not start."""

    def started(self) -> None:
        self.core.pauses.watch()

    def begin(self) -> None:
        self.core.ready = False

    async def drain(self) -> None:
        leaving = self.core.streams.drain(self.core.settings.drain_window_s)
        await asyncio.gather(leaving, *[lane.drain() for lane in self.lanes])

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        """Names the request, and says its name in the answer."""
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
            return
        if scope["type"] == "websocket":
            await self.app(scope, receive, send)  # pyright: ignore - as below
            return
        request_id = _request_id(scope["headers"])
        scope["request_id"] = request_id.decode()

        async def named(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-request-id", request_id)]
            await send(message)

        await self.app(scope, receive, named)  # pyright: ignore - an ASGI scope by any other name
        stream: Callable[[], Awaitable[None]] | None = scope.pop(OUTSIDE, None)
        if stream is not None:
            await stream()

    async def _live(self, scope: Any, receive: Any, send: Any) -> None:
        """Litestar's lifespan, whose traceback nobody needs who is told the failure."""

        async def told(message: Any) -> None:
            await send({**message, "message": ""} if self.failure is not None and "message" in message else message)

        await self.app(scope, receive, told)

    @asynccontextmanager
    async def opened(self, app: Litestar) -> AsyncGenerator[None]:
        try:
            async with AsyncExitStack() as stack:
                await stack.enter_async_context(self.core.opened())
                for lane in self.lanes:
                    await stack.enter_async_context(lane.opened())
                self.core.ready = True
                yield
        except TrilaneError as err:
            self.failure = err
            raise


def _chat(core: Core) -> MountedLane:
    from gateway.chat.lane import ChatLane
    from routes import chat, openai

    return MountedLane("chat", ChatLane(core, open_upstreams(core.settings)), [*chat.ROUTES, *openai.ROUTES])


def _events(core: Core) -> MountedLane:
    from events.lane import EventsLane
    from routes import events, tickets

    return MountedLane("events", EventsLane(core), [*events.ROUTES, *tickets.ROUTES])


async def load_models(settings: Settings) -> "Models":
    """Imports what is heavy, and loads the models, beside the event loop."""
    from audio.model.models import load

    return await load(await asyncio.to_thread(_transcriber, settings))


def _transcriber(settings: Settings) -> "Transcriber":
    from audio.model.weights import whisper_model
    from audio.model.whisper import Whisper

    model = whisper_model(settings.whisper_model)
    device, compute = settings.whisper_device, settings.whisper_compute
    if device == "cpu":
        return Whisper(model, compute=compute, workers=_cores())
    return Whisper(model, device=device, compute=compute, batch=GPU_BATCH)


def _cores() -> int:
    """What this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _audio(core: Core, *, at_once: bool = False) -> MountedLane:
    from audio.model import heap

    heap.share()  # before NumPy starts threads

    from audio.lane import AudioLane
    from routes import audio, realtime, transcriptions

    lane = AudioLane(core, lambda: load_models(core.settings), at_once=at_once)
    return MountedLane("audio", lane, [*audio.ROUTES, *realtime.ROUTES, *transcriptions.ROUTES])


def chat_unit(settings: Settings) -> Unit:
    return _unit("chat", settings, [_chat])


def events_unit(settings: Settings) -> Unit:
    return _unit("events", settings, [_events])


def audio_unit(settings: Settings) -> Unit:
    from audio.model.weights import INSTALL, is_installed
    from routes import tickets

    if not is_installed():
        raise ConfigurationError(f"the audio lane's packages are not there: {INSTALL}")
    return _unit("audio", settings, [partial(_audio, at_once=True)], tickets.ROUTES)


def all_unit(settings: Settings) -> Unit:
    """Every lane that this version has, and the console page."""
    from audio.model.weights import is_installed
    from routes import console

    return _unit("all", settings, [_chat, _events, *([_audio] if is_installed() else [])], console.ROUTES)


UNITS: dict[str, Callable[[Settings], Unit]] = {
    "all": all_unit,
    "chat": chat_unit,
    "events": events_unit,
    "audio": audio_unit,
}


def _unit(
    name: str, settings: Settings, make: Sequence[Callable[[Core], MountedLane]], more: Sequence[Any] = ()
) -> Unit:
    from routes import docs, ops

    core = Core(open_log(settings), settings)
    parts = [made(core) for made in make]
    handlers = [handler for part in parts for handler in part.routes] + [*more, *ops.ROUTES, docs.docs]
    if settings.metrics_port:
        core.metrics.serve(settings.metrics_port)
    else:
        handlers.append(ops.metrics)
    given: dict[str, object] = {"core": core, **{part.name: part.lane for part in parts}}
    unit = Unit(name, core, parts)
    unit.app = Litestar(
        handlers,
        dependencies={name: Provide(_giving(value), sync_to_thread=False) for name, value in given.items()},
        cors_config=_cors(settings),
        middleware=[_authentication(SignIn(settings, authenticator(settings), core.tickets))],
        lifespan=[unit.opened],
        exception_handlers={TrilaneError: refused, HTTPException: refused_by_litestar, Exception: failed},
        openapi_config=OpenAPIConfig(
            title="Trilane",
            version="1",
            openapi_router=Router(path="/openapi.json", route_handlers=[], opt={"open": True}, include_in_schema=False),
            render_plugins=[JsonRenderPlugin(path="/")],
        ),
        request_max_body_size=settings.limits.body_bytes,
        logging_config=None,
    )
    return unit


def _giving(value: object) -> Callable[[], object]:
    return lambda: value


def _cors(settings: Settings) -> CORSConfig | None:
    """Other origins may call with a token when they are listed; without a list, only the gateway's own pages can."""
    if not settings.allowed_origins:
        return None
    return CORSConfig(allow_origins=settings.allowed_origins, allow_credentials=True, expose_headers=["x-request-id"])


def _authentication(sign_in: SignIn) -> Callable[[ASGIApp], ASGIApp]:
    """Sets `scope["user"]` for every route that does not say `open=True`.

    A middleware and not a dependency: Litestar opens a task group for each batch of two dependencies, and an event
    stream pays for that before its first byte.
    """

    def middleware(app: ASGIApp) -> ASGIApp:
        async def authenticated(scope: Scope, receive: Receive, send: Send) -> None:
            if not scope["route_handler"].opt.get("open"):
                try:
                    scope["user"] = await sign_in(scope)
                except TrilaneError as err:
                    if scope["type"] != "websocket":
                        raise
                    await not_opened(err, send)
                    return
            await app(scope, receive, send)

        return authenticated

    return middleware


def _request_id(headers: list[tuple[bytes, bytes]]) -> bytes:
    """The client's own id when it is a sane token, else one of ours."""
    for name, value in headers:
        if name == b"x-request-id" and SANE_REQUEST_ID.fullmatch(value):
            return value
    return secrets.token_hex(8).encode()
