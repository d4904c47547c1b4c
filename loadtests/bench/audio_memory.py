"""What sessions keep in the server's memory while they are open and say nothing, and after they are closed."""

import asyncio
import json
import time
from contextlib import AsyncExitStack
from typing import Any

from websockets.asyncio.client import ClientConnection

from loadtests.bench.audio_client import PATIENCE_S, opened, pcm, speak, together
from loadtests.bench.audio_server import Server
from loadtests.bench.audio_speech import RATE, Samples, sounds
from loadtests.bench.processes import NotStarted

WARM_UP = 40
"""Open sessions before the first look: what a process keeps once for all of them is there then."""
AT_ONCE = 20
SETTLE_S = 2.0
FRAME = RATE // 10 * 2


def visited(server: Server, speech: Samples, count: int) -> dict[str, Any]:
    """Memory before and after so many sessions that spoke one sentence and left, and at four places between.

    Allocators make it go up and down by some per cent: growth from place to place says more than one of them.
    """
    _visit(server, speech, count // 2)
    before = server.pss_kib()
    places: list[float] = []
    for _ in range(4):
        _visit(server, speech, count // 4)
        places.append(server.pss_kib())
    places_mib = [kib / 1024 for kib in places]
    return {"visits": count, "before_mib": before / 1024, "then_mib": places_mib, "left": places[-1] / before - 1}


def idle(server: Server, count: int) -> dict[str, Any]:
    """KiB for each open session: after `start` alone, and after 3 s of quiet audio."""
    return asyncio.run(_idle(server, count))


def _visit(server: Server, speech: Samples, count: int) -> None:
    done = asyncio.run(_talk(server, speech, count))
    if bad := [one.faults for one in done if one.faults]:
        raise NotStarted(f"{len(bad)} of {count} sessions failed, the first with {', '.join(bad[0])}")
    time.sleep(SETTLE_S)


async def _talk(server: Server, speech: Samples, count: int) -> list[Any]:
    return await together([speak(server.url, speech, pace=10) for _ in range(count)], AT_ONCE)


async def _idle(server: Server, count: int) -> dict[str, Any]:
    async with AsyncExitStack() as stack:
        await _open(stack, server, WARM_UP)
        base = await _look(server)
        sockets = await _open(stack, server, count)
        started = await _look(server)
        audio = pcm(sounds(3.0)["white noise"] / 100)
        for socket in sockets:
            await _say(socket, audio)
        heard = await _look(server)
    return {
        "sessions": count,
        "base_mib": base / 1024,
        "kib_started": (started - base) / count,
        "kib_heard": (heard - base) / count,
    }


async def _open(stack: AsyncExitStack, server: Server, count: int) -> list[ClientConnection]:
    """So many sessions that are ready."""
    sockets: list[ClientConnection] = []
    for _ in range(count):
        socket = await stack.enter_async_context(opened(server.url))
        said = json.loads(await asyncio.wait_for(socket.recv(), PATIENCE_S))
        if said["type"] != "ready":
            raise NotStarted(f"session {len(sockets) + 1} was not opened: {said}")
        sockets.append(socket)
    return sockets


async def _say(socket: ClientConnection, audio: bytes) -> None:
    """Frames of 100 ms, and back when the server has heard them."""
    for at in range(0, len(audio), FRAME):
        await socket.send(audio[at : at + FRAME])
    await socket.send('{"type":"marker","id":1}')
    while json.loads(await asyncio.wait_for(socket.recv(), PATIENCE_S))["type"] != "marker":
        pass


async def _look(server: Server) -> float:
    """KiB, once what just happened has settled."""
    await asyncio.sleep(SETTLE_S)
    return server.pss_kib()
