"""A client of the audio lane does everything wrong, one thing after the other, in a process beside those who speak.

    python -m loadtests.bench.audio.hostile URL SECONDS

Prints one JSON object: `closes`, for each misdeed the close codes it met and how often (1006 is a connection that was
cut), and `cpu_s`, what it used itself.
"""

import asyncio
import contextlib
import io
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable

import numpy as np
import soundfile
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from loadtests.bench.audio.client import PROTOCOL, pcm
from loadtests.bench.audio.speech import RATE, sounds

TRY_S = 6.0
"""Seconds that one misdeed is tried when nothing ends it before."""
ENDING_S = 3.0
"""Seconds that it then waits for its end, after `stop`."""
STOP = '{"type": "stop"}'

Act = Callable[[ClientConnection], Awaitable[object]]


async def _floods(socket: ClientConnection, data: bytes | str) -> None:
    """Sends as fast as it can, looking up now and then."""
    while True:
        for _ in range(100):
            await socket.send(data)
        await asyncio.sleep(0)


async def _races(socket: ClientConnection) -> None:
    """Speaks at ten times real time."""
    second = pcm(sounds(1.0)["white noise"])
    while True:
        await socket.send(second)
        await asyncio.sleep(0.05)


async def _sends(socket: ClientConnection, data: bytes) -> None:
    """Sends data in real time, as if it were audio of 16 bits."""
    for at in range(0, len(data), RATE // 5):
        await socket.send(data[at : at + RATE // 5 + 1])
        await asyncio.sleep(0.1)


async def _half_a_page(socket: ClientConnection) -> None:
    page = io.BytesIO()
    soundfile.write(page, sounds(5.0)["tones"], RATE, format="OGG", subtype="OPUS")
    await socket.send(page.getvalue()[: len(page.getvalue()) // 2 + 7])


MISDEEDS: dict[str, tuple[dict[str, object], Act]] = {
    "never reads": ({}, lambda socket: _floods(socket, '{"type": "marker", "id": 1}')),
    "ten times real time": ({}, _races),
    "frames of one byte": ({}, lambda socket: _floods(socket, b"\x01")),
    "frames of 64 KiB": ({}, lambda socket: _floods(socket, b"\x01" * 65_536)),
    "NaN floats": ({"encoding": "pcm_f32le"}, lambda socket: _sends(socket, np.full(RATE, np.nan, "<f4").tobytes())),
    "odd byte counts": ({}, lambda socket: _sends(socket, b"\x01" * 2 * RATE)),
    "the wrong codec": ({"encoding": "webm_opus"}, lambda socket: _floods(socket, b"\xff\xfb\x90\x64" * 4000)),
    "a prompt of 10 kB": ({"prompt": "x" * 10_000}, lambda socket: socket.wait_closed()),
    "half an Opus page": ({"encoding": "ogg_opus"}, _half_a_page),
}


async def misbehave(url: str, seconds: float) -> dict[str, Counter[str]]:
    """Commits each misdeed in turn, again and again."""
    codes = {name: Counter[str]() for name in MISDEEDS}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for name, (start, act) in MISDEEDS.items():
            left_s = end - time.monotonic()
            if left_s > 0:
                codes[name][await _one(url, start, act, min(TRY_S, left_s), reads=name != "never reads")] += 1
    return codes


async def _one(url: str, start: dict[str, object], act: Act, try_s: float, *, reads: bool) -> str:
    """Returns the close code of one connection; `none` when nothing ended it."""
    socket = await connect(url, subprotocols=[PROTOCOL], compression=None, max_queue=1, proxy=None, close_timeout=1)
    reading = asyncio.ensure_future(_read(socket)) if reads else None
    try:
        await socket.send(json.dumps({"type": "start", **start}))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(try_s):
                await act(socket)
        await socket.send(STOP)
        async with asyncio.timeout(ENDING_S):
            await socket.wait_closed()
    except TimeoutError:
        return "none"
    except (ConnectionClosed, OSError):
        pass
    finally:
        if reading is not None:
            reading.cancel()
        await socket.close()
    return str(socket.close_code)


async def _read(socket: ClientConnection) -> None:
    with contextlib.suppress(ConnectionClosed):
        async for _ in socket:
            pass


if __name__ == "__main__":
    os.nice(19)  # it has a machine of its own, as it were: here it takes only the time that nobody wants
    closes = asyncio.run(misbehave(sys.argv[1], float(sys.argv[2])))
    print(json.dumps({"closes": closes, "cpu_s": time.process_time()}))
