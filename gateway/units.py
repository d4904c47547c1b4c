"""What each deploy unit consists of: lanes, their routes and the core they share.

It composes and does nothing else. A unit imports only its own lanes, so every lane is imported in the function that
makes it.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, MutableMapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, NamedTuple, Protocol

from gateway.access.auth import authenticator
from gateway.access.signin import SignIn
from gateway.core.engines import make_log
from gateway.core.process import Core
from gateway.errors import ConfigurationError, TrilaneError
from gateway.settings import Settings


class Lane(Protocol):
    """What a unit opens, drains and closes."""

    def opened(self) -> AbstractAsyncContextManager[None]: ...
    async def drain(self) -> None:
        """Take no new work, and return when nothing is in flight."""
        ...


class MountedLane(NamedTuple):
    """A lane, the name under which its handlers ask for it, and those handlers."""

    name: str
    lane: Lane
    routes: list[Any]


class Unit:
    """An ASGI application, and what its server drains."""

    def __init__(
        self, name: str, settings: Settings, lanes: Sequence[Callable[[Core], MountedLane]], more: Sequence[Any] = ()
    ) -> None:
        """`more`: handlers of no lane that this unit has besides those of every unit."""
        from routes import docs, ops
        from routes.application import application

        self.name = name
        self.core = core = Core(make_log(settings), settings)
        mounted = [make_lane(core) for make_lane in lanes]
        self.lanes = [part.lane for part in mounted]
        self.has_websockets = any(part.name == "audio" for part in mounted)
        self.failure: TrilaneError | None = None
        """Why it could not start."""
        handlers = [handler for part in mounted for handler in part.routes] + [*more, *ops.ROUTES, docs.docs]
        if settings.metrics_port:
            core.metrics.serve(settings.metrics_port)
        else:
            handlers.append(ops.metrics)
        self._app = application(
            handlers,
            dependencies={"core": core, **{part.name: part.lane for part in mounted}},
            sign_in=SignIn(settings, authenticator(settings), core.tickets),
            settings=settings,
            lifespan=self._opened,
        )

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        await self._app(scope, receive, send)

    @asynccontextmanager
    async def _opened(self, app: object) -> AsyncGenerator[None]:
        try:
            async with AsyncExitStack() as stack:
                await stack.enter_async_context(self.core.opened())
                for lane in self.lanes:
                    await stack.enter_async_context(lane.opened())
                self.core.ready = True
                yield
        except TrilaneError as err:
            self.failure = err
            self._app.start_failed = True
            raise

    # What its server tells it

    def started(self) -> None:
        self.core.pauses.watch()

    def begin(self) -> None:
        self.core.ready = False

    async def drain(self) -> None:
        leaving = self.core.streams.drain(self.core.settings.drain_window_s)
        await asyncio.gather(leaving, *[lane.drain() for lane in self.lanes])


def _chat(core: Core) -> MountedLane:
    from gateway.chat.lane import ChatLane
    from gateway.chat.upstreams.failover import open_upstreams
    from routes import chat, openai

    return MountedLane("chat", ChatLane(core, open_upstreams(core.settings)), [*chat.ROUTES, *openai.ROUTES])


def _events(core: Core) -> MountedLane:
    from events.lane import EventsLane
    from routes import events, tickets

    return MountedLane("events", EventsLane(core), [*events.ROUTES, *tickets.ROUTES])


def _audio(core: Core, *, at_once: bool = False) -> MountedLane:
    """`at_once`: the models are loaded when the unit opens, not with the first session."""
    from audio.model import heap

    heap.share()  # before NumPy starts threads

    from audio.lane import AudioLane
    from audio.model.models import load_models
    from routes import audio, realtime, transcriptions

    lane = AudioLane(core, lambda: load_models(core.settings), at_once=at_once)
    return MountedLane("audio", lane, [*audio.ROUTES, *realtime.ROUTES, *transcriptions.ROUTES])


def chat_unit(settings: Settings) -> Unit:
    return Unit("chat", settings, [_chat])


def events_unit(settings: Settings) -> Unit:
    return Unit("events", settings, [_events])


def audio_unit(settings: Settings) -> Unit:
    from audio.model.weights import INSTALL, is_installed
    from routes import tickets

    if not is_installed():
        raise ConfigurationError(f"the audio lane's packages are not there: {INSTALL}")
    return Unit("audio", settings, [partial(_audio, at_once=True)], tickets.ROUTES)


def all_unit(settings: Settings) -> Unit:
    """Return a unit of every lane whose packages are installed, and the console page."""
    from audio.model.weights import is_installed
    from routes import console

    return Unit("all", settings, [_chat, _events, *([_audio] if is_installed() else [])], console.ROUTES)


UNITS: dict[str, Callable[[Settings], Unit]] = {
    "all": all_unit,
    "chat": chat_unit,
    "events": events_unit,
    "audio": audio_unit,
}
