"""Sessions and files keep memory in the server while they are open, and leave some behind."""

import asyncio
import json
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import soundfile
from openai import OpenAI
from websockets.asyncio.client import ClientConnection

from loadtests.bench.audio.client import PATIENCE_S, open_session, pcm, speak, together
from loadtests.bench.audio.server import AudioServer
from loadtests.bench.audio.speech import RATE, Recording, Samples, sounds
from loadtests.bench.harness.processes import NotStarted

WARM_UP = 40
"""Open sessions before the first look: what a process keeps once for all of them is there then."""
AT_ONCE = 20
SETTLE_S = 2.0
UPLOAD_S = 1800.0
"""Seconds that a file may take."""
FRAME = RATE // 10 * 2


def visits(server: AudioServer, speech: Samples, count: int) -> dict[str, Any]:
    """Measures memory before and after so many sessions that spoke one sentence and left, and four times between.

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


def idle(server: AudioServer, count: int) -> dict[str, Any]:
    """Measures KiB for each open session: after `start` alone, and after 3 s of quiet audio."""
    return asyncio.run(_idle(server, count))


def file(server: AudioServer, speech: Sequence[Recording], seconds: float, folder: Path) -> dict[str, Any]:
    """Measures memory before, while and after so many seconds of a file are transcribed, after a short one."""
    _upload(server, _write_speech(speech, min(60.0, seconds), folder))
    before = server.pss_kib() / 1024
    with _watch(server) as sizes_mib:
        began = time.monotonic()
        words = _upload(server, _write_speech(speech, seconds, folder))
        took_s = time.monotonic() - began
    after = server.pss_kib() / 1024
    return {
        "file_s": seconds,
        "file_took_s": took_s,
        "file_words": words,
        "file_before_mib": before,
        "file_most_mib": max(sizes_mib, default=before),
        "file_after_mib": after,
        "file_left": after / before - 1,
    }


@contextmanager
def _watch(server: AudioServer) -> Generator[list[float]]:
    """Yields the server's memory in MiB, looked at twice a second meanwhile."""
    sizes_mib: list[float] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.5):
            sizes_mib.append(server.pss_kib() / 1024)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield sizes_mib
    finally:
        over.set()
        watching.join()


def _write_speech(speech: Sequence[Recording], seconds: float, folder: Path) -> Path:
    """Writes a FLAC file of so many seconds of speech, one recording after the other."""
    path = folder / f"{seconds:.0f}.flac"
    samples_left = int(seconds * RATE)
    with soundfile.SoundFile(path, "w", RATE, 1, format="FLAC") as out:
        while samples_left > 0:
            for recording in speech:
                out.write(recording.samples[:samples_left])
                samples_left -= min(samples_left, len(recording.samples))
    return path


def _upload(server: AudioServer, path: Path) -> int:
    """Uploads a file, and returns the number of words that came back."""
    base = server.url.replace("ws://", "http://").replace("/api/audio", "/v1")
    client = OpenAI(base_url=base, api_key="none", timeout=UPLOAD_S, max_retries=0)
    with path.open("rb") as body:
        text = client.audio.transcriptions.create(model="whisper-1", file=body).text
    time.sleep(SETTLE_S)
    return len(text.split())


def _visit(server: AudioServer, speech: Samples, count: int) -> None:
    sessions = asyncio.run(_talk(server, speech, count))
    if bad := [one.faults for one in sessions if one.faults]:
        raise NotStarted(f"{len(bad)} of {count} sessions failed, the first with {', '.join(bad[0])}")
    time.sleep(SETTLE_S)


async def _talk(server: AudioServer, speech: Samples, count: int) -> list[Any]:
    return await together([speak(server.url, speech, pace=10) for _ in range(count)], AT_ONCE)


async def _idle(server: AudioServer, count: int) -> dict[str, Any]:
    async with AsyncExitStack() as stack:
        await _open(stack, server, WARM_UP)
        base_kib = await _look(server)
        sockets = await _open(stack, server, count)
        started_kib = await _look(server)
        audio = pcm(sounds(3.0)["white noise"] / 100)
        for socket in sockets:
            await _say(socket, audio)
        heard_kib = await _look(server)
    return {
        "sessions": count,
        "base_mib": base_kib / 1024,
        "kib_started": (started_kib - base_kib) / count,
        "kib_heard": (heard_kib - base_kib) / count,
    }


async def _open(stack: AsyncExitStack, server: AudioServer, count: int) -> list[ClientConnection]:
    """Opens so many sessions that are ready."""
    sockets: list[ClientConnection] = []
    for _ in range(count):
        socket = await stack.enter_async_context(open_session(server.url))
        answer = json.loads(await asyncio.wait_for(socket.recv(), PATIENCE_S))
        if answer["type"] != "ready":
            raise NotStarted(f"session {len(sockets) + 1} was not opened: {answer}")
        sockets.append(socket)
    return sockets


async def _say(socket: ClientConnection, audio: bytes) -> None:
    """Sends frames of 100 ms, and returns when the server has heard them."""
    for at in range(0, len(audio), FRAME):
        await socket.send(audio[at : at + FRAME])
    await socket.send('{"type":"marker","id":1}')
    while json.loads(await asyncio.wait_for(socket.recv(), PATIENCE_S))["type"] != "marker":
        pass


async def _look(server: AudioServer) -> float:
    """Returns KiB, once what just happened has settled."""
    await asyncio.sleep(SETTLE_S)
    return server.pss_kib()
