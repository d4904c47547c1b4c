"""Composes each deploy unit from lanes, their routes and the core they share, and does nothing else.

A unit imports only its own lanes, so every lane is imported in the function that makes it.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, MutableMapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, NamedTuple, Protocol

from gateway.access.auth import authenticator
from gateway.access.signin import SignIn
from gateway.core.engines import make_log
from gateway.core.process import Core
from gateway.errors import ConfigurationError, TrilaneError
from gateway.mcp.server import McpServer
from gateway.mcp.tool import OfferedTool
from gateway.settings import Settings


class Lane(Protocol):
    """A part of a unit, which opens, drains and closes it."""

    def opened(self) -> AbstractAsyncContextManager[None]: ...
    async def drain(self) -> None:
        """Takes no new work, and returns when nothing is in flight."""
        ...


class MountedLane(NamedTuple):
    """A lane, the name under which its handlers ask for it, those handlers, and what it offers to agents."""

    name: str
    lane: Lane
    routes: list[Any]
    tools: Sequence[OfferedTool] = ()
    reload: Callable[[Settings], None] | None = None
    """Has new settings hold for new work, as far as they can change while it runs. Raises ConfigurationError."""


LaneFactory = Callable[[Core, Mapping[str, Any]], MountedLane]
"""A function that makes a lane, given those of the unit that were made before it, by name."""


class Unit:
    """An ASGI application, and what its server drains."""

    def __init__(
        self,
        name: str,
        settings: Settings,
        lanes: Sequence[LaneFactory],
        extra_routes: Sequence[Any] = (),
    ) -> None:
        """Makes its lanes; `extra_routes` are handlers that belong to none of them and are not in every unit."""
        from routes import docs, mcp, ops, session, usage
        from routes.application import application

        self.name = name
        self.core = core = Core(make_log(settings), settings)
        core.fleet.unit = name
        self._authenticator = authenticator(settings, core.keys)
        mounts: list[MountedLane] = []
        for make_lane in lanes:
            mounts.append(make_lane(core, {mount.name: mount.lane for mount in mounts}))
        mcp_server = McpServer(core, [tool for mount in mounts for tool in mount.tools])
        self.lanes = [mount.lane for mount in mounts]
        self._reloads = [mount.reload for mount in mounts if mount.reload is not None]
        self.has_websockets = any(mount.name in ("audio", "chat") for mount in mounts)
        self.failure: TrilaneError | None = None
        """The error that kept it from starting."""
        handlers = [handler for mount in mounts for handler in mount.routes] + [
            *extra_routes,
            *mcp.ROUTES,
            *session.ROUTES,
            *ops.ROUTES,
            *docs.routes(settings.docs),
            *usage.ROUTES,
        ]
        if not settings.metrics_port:
            handlers.append(ops.metrics)
        self._app = application(
            handlers,
            dependencies={"core": core, "mcp": mcp_server, **{mount.name: mount.lane for mount in mounts}},
            sign_in=SignIn(settings, self._authenticator, core.tickets),
            settings=settings,
            refusals=core.refusals,
            lifespan=self._opened,
        )

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        await self._app(scope, receive, send)

    @asynccontextmanager
    async def _opened(self, app: object) -> AsyncGenerator[None]:
        try:
            async with AsyncExitStack() as stack:
                await stack.enter_async_context(self.core.opened())
                await stack.enter_async_context(self._authenticator.opened())
                for lane in self.lanes:
                    await stack.enter_async_context(lane.opened())
                self.core.fleet.state = "ready"
                yield
        except TrilaneError as err:
            self.failure = err
            self._app.start_failed = True
            raise

    # Called by its server

    def on_start(self) -> None:
        self.core.pauses.watch()

    def on_shutdown(self) -> None:
        self.core.fleet.state = "draining"

    def reload(self, settings: Settings) -> None:
        """Has new settings hold for new work, as far as they can change while it runs. Raises ConfigurationError."""
        for reload in self._reloads:
            reload(settings)

    async def drain(self) -> None:
        departures = self.core.streams.drain(self.core.settings.drain_window_s)
        await asyncio.gather(departures, *[lane.drain() for lane in self.lanes])


def _chat(core: Core, lanes: Mapping[str, Any]) -> MountedLane:
    from gateway.chat.agents.agents import open_agents
    from gateway.chat.lane import ChatLane
    from gateway.chat.tools.mcp_toolbox import open_toolbox
    from gateway.chat.upstreams.failover import listed_upstreams, open_upstreams
    from gateway.mcp.ask import AskTool
    from routes import (
        agui,
        chat,
        live,
        mcp_sign_in,
        members,
        messages,
        models,
        openai,
        passed,
        responses,
        schedules,
        steering,
        workers,
    )

    toolbox, agents = open_toolbox(core.settings, core.log), open_agents(core.settings)
    lane = ChatLane(core, open_upstreams(core.settings), toolbox, agents=agents)

    async def lane_models() -> list[tuple[str, str]]:
        return [*await lane.upstreams.models(), *lane.agents.models()]

    core.model_lists.append((lambda who: who.grants.chat, lane_models))
    routes = [*chat.ROUTES, *members.ROUTES, *steering.ROUTES, *schedules.ROUTES, *live.ROUTES, *models.ROUTES]
    routes += [*openai.ROUTES, *responses.ROUTES, *messages.ROUTES, *passed.ROUTES, *agui.ROUTES]
    routes += [*workers.ROUTES, *mcp_sign_in.ROUTES]

    def reload(settings: Settings) -> None:
        lane.upstreams.replace(listed_upstreams(settings))

    return MountedLane("chat", lane, routes, [AskTool(lane, core.log)], reload)


def _events(core: Core, lanes: Mapping[str, Any]) -> MountedLane:
    from events.lane import EventsLane
    from gateway.mcp.publish import PublishTool
    from routes import events, tickets

    lane = EventsLane(core)
    return MountedLane("events", lane, [*events.ROUTES, *tickets.ROUTES], [PublishTool(lane)])


def _audio(core: Core, lanes: Mapping[str, Any], *, at_once: bool = False) -> MountedLane:
    """Returns the audio lane; `at_once`: its models are loaded when the unit opens, not with the first session."""
    from audio.model import heap

    heap.tune()  # before NumPy starts threads

    from audio.lane import AudioLane
    from audio.model.models import load_models
    from audio.model.weights import whisper_models
    from gateway.mcp.transcribe import TranscribeTool
    from routes import realtime, transcriptions

    measures_voices = not core.settings.limits.voices
    lane = AudioLane(core, lambda: load_models(core.settings, measures_voices=measures_voices), at_once=at_once)

    async def lane_models() -> list[tuple[str, str]]:
        return [(files.name, "speech") for files in whisper_models(core.settings.whisper_model)]

    core.model_lists.append((lambda who: who.grants.audio, lane_models))
    routes = [*realtime.ROUTES, *transcriptions.ROUTES]
    return MountedLane("audio", lane, routes, [TranscribeTool(lane)])


def _speech(core: Core, lanes: Mapping[str, Any]) -> MountedLane:
    from audio.model.voices import voice_of
    from audio.speech.lane import SpeechLane
    from routes import speech

    lane = SpeechLane(core, voice_of(core.settings))

    async def lane_models() -> list[tuple[str, str]]:
        return [(lane.booth.voice.model, "voice")]

    core.model_lists.append((lambda who: who.grants.audio, lane_models))
    return MountedLane("speech", lane, speech.ROUTES)


def _voice(core: Core, lanes: Mapping[str, Any]) -> MountedLane:
    """Returns the lane of conversations, which stands on audio and speech, and on the chat lane where there is one."""
    from gateway.voice.lane import VoiceLane
    from routes import audio

    answers = None
    if (chat := lanes.get("chat")) is not None:
        from gateway.voice.chat_answers import ChatAnswers

        answers = ChatAnswers(chat, core.log, core.hub)
    return MountedLane("voice", VoiceLane(core, lanes["audio"], lanes["speech"], answers), audio.ROUTES)


def chat_unit(settings: Settings) -> Unit:
    """Returns the unit of the chat lane, and of the console page: the three units behind one name have it, too."""
    from routes import console, tickets

    return Unit("chat", settings, [_chat], [*console.ROUTES, *tickets.ROUTES])


def events_unit(settings: Settings) -> Unit:
    return Unit("events", settings, [_events])


def audio_unit(settings: Settings) -> Unit:
    from audio.model.weights import INSTALL, is_installed
    from routes import models, tickets

    if not is_installed():
        raise ConfigurationError(f"the audio lane's packages are not installed: {INSTALL}")
    return Unit("audio", settings, [partial(_audio, at_once=True), _speech, _voice], [*tickets.ROUTES, *models.ROUTES])


def all_unit(settings: Settings) -> Unit:
    """Returns a unit of every lane whose packages are installed, and the console page."""
    from audio.model.weights import is_installed
    from routes import console

    return Unit(
        "all", settings, [_chat, _events, *([_audio, _speech, _voice] if is_installed() else [])], console.ROUTES
    )


UNITS: dict[str, Callable[[Settings], Unit]] = {
    "all": all_unit,
    "chat": chat_unit,
    "events": events_unit,
    "audio": audio_unit,
}
