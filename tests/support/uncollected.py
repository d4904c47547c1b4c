"""Serves every lane, collects no garbage when it is told so, and says what a collection would have found.

`python -m tests.support.uncollected PORT` serves with a fake speech model and voice, and with a tool that a model may
call when somebody approves.
"""

import asyncio
import gc
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import Any

from litestar import get, post

from audio.lane import AudioLane
from audio.model.desk import Desk
from audio.model.fake import FakeSpeechDetector, FakeTranscriber
from audio.model.fake_voice import FakeVoice
from audio.model.models import Models
from audio.speech.lane import SpeechLane
from events.lane import EventsLane
from gateway.chat.lane import ChatLane
from gateway.chat.tools.fake import FakeCall, FakeToolbox, fake_tool
from gateway.chat.upstreams.failover import open_upstreams
from gateway.commands.serve import serve
from gateway.core.process import Core
from gateway.settings import Settings, load
from gateway.units import MountedLane, Unit
from gateway.voice.chat_answers import ChatAnswers
from gateway.voice.lane import VoiceLane
from routes import agui, audio, chat, events, messages, openai, passed, realtime, responses, tickets, transcriptions


async def weather(call: FakeCall) -> object:
    call.progress(1, 2)
    await asyncio.sleep(0)
    return {"sky": "blue"}


async def load_fakes() -> Models:
    transcriber = FakeTranscriber()
    return Models(transcriber, Desk(transcriber), FakeSpeechDetector())


def chat_lane(core: Core, lanes: Mapping[str, Any]) -> MountedLane:
    lane = ChatLane(core, open_upstreams(core.settings), FakeToolbox((fake_tool("get_weather"), weather)))
    routes = [*chat.ROUTES, *openai.ROUTES, *messages.ROUTES, *responses.ROUTES, *passed.ROUTES, *agui.ROUTES]
    return MountedLane("chat", lane, routes)


def events_lane(core: Core, lanes: Mapping[str, Any]) -> MountedLane:
    return MountedLane("events", EventsLane(core), [*events.ROUTES, *tickets.ROUTES])


def audio_lane(core: Core, lanes: Mapping[str, Any]) -> MountedLane:
    return MountedLane("audio", AudioLane(core, load_fakes, at_once=True), [*realtime.ROUTES, *transcriptions.ROUTES])


def speech_lane(core: Core, lanes: Mapping[str, Any]) -> MountedLane:
    return MountedLane("speech", SpeechLane(core, FakeVoice()), [])


def voice_lane(core: Core, lanes: Mapping[str, Any]) -> MountedLane:
    answers = ChatAnswers(lanes["chat"], core.log, core.hub)
    return MountedLane("voice", VoiceLane(core, lanes["audio"], lanes["speech"], answers), audio.ROUTES)


@post("/begin", opt={"open": True})
async def begin() -> None:
    """Forgets all garbage that there is; from then on it stays."""
    gc.collect()
    gc.disable()


@get("/tasks", opt={"open": True})
async def tasks() -> int:
    return len(asyncio.all_tasks())


@get("/leftovers", opt={"open": True})
async def leftovers() -> dict[str, int]:
    """Returns how many objects of each type hold themselves, in circles that nobody else holds."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    gc.set_debug(0)
    found = gc.garbage[:]
    gc.garbage.clear()
    return Counter(map(name_of, circles_of(found)))


def circles_of(found: Sequence[object]) -> list[object]:
    """Returns the objects that are part of a circle, or between two, without what hangs on those."""
    objects = {id(each): each for each in found}
    links = {key: {id(held) for held in gc.get_referents(each)} & objects.keys() for key, each in objects.items()}
    while True:
        held = set[int]().union(*links.values())
        kept = {key: links[key] & links.keys() for key in links if key in held and links[key] & links.keys()}
        if kept == links:
            return [objects[key] for key in links]
        links = kept


def name_of(found: object) -> str:
    """Returns the name of an object's type, and of the code that it is."""
    if isinstance(found, FrameType):
        return f"frame of {found.f_code.co_qualname}"
    code = getattr(found, "__qualname__", "")
    return f"{type(found).__module__}.{type(found).__qualname__}{f' {code}' if isinstance(code, str) and code else ''}"


def every_lane(settings: Settings) -> Unit:
    lanes = [chat_lane, events_lane, audio_lane, speech_lane, voice_lane]
    return Unit("all", settings, lanes, [begin, tasks, leftovers])


if __name__ == "__main__":
    sys.exit(serve(load(), "all", every_lane, "127.0.0.1", int(sys.argv[1])))
