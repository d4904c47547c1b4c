"""A session that hears hours of silence, in minutes: the lane itself, on a clock that is turned on as fast as it hears.

    python -m loadtests.bench.audio_silence SECONDS

Prints memory before and after, as JSON. Over a WebSocket it would last as long as it says: more than real time is
refused.
"""

import asyncio
import gc
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from audio.attachment import Attachment, SocketClose
from audio.lane import AudioLane
from audio.messages import Start
from audio.model.transcriber import SAMPLE_RATE
from gateway.access.auth import EVERYTHING, Principal
from gateway.core.process import Core
from gateway.settings import Settings
from gateway.units import load_models, open_log
from loadtests.bench import machine

ME = Principal(sub="bench", grants=EVERYTHING)
WARM_UP_S = 300.0


async def silent(seconds: float, folder: Path) -> dict[str, float]:
    """One session of WARM_UP_S to warm up, then one of so many seconds."""
    settings = Settings(data_dir=folder)
    core = Core(open_log(settings), settings)
    async with core.opened():
        lane = AudioLane(core, lambda: load_models(settings), at_once=True)
        async with lane.opened():
            await _session(lane, WARM_UP_S)
            before, began = _memory_mib(), time.process_time()
            most = await _session(lane, seconds)
            used_s, after = time.process_time() - began, _memory_mib()
    return {
        "seconds": seconds,
        "before_mib": before,
        "open_mib": most,
        "after_mib": after,
        "left": after / before - 1,
        "core": used_s / seconds,
    }


async def _session(lane: AudioLane, seconds: float) -> float:
    """From `start` to `done`; returns the memory in MiB at its end, while it is open."""
    loop = asyncio.get_running_loop()
    real, ahead_s = type(loop).time, loop.time() - type(loop).time(loop)
    loop.time = lambda: real(loop) + ahead_s
    live, attachment = await lane.open(ME, Start())
    reading = asyncio.ensure_future(_read(attachment))
    tenth = np.zeros(SAMPLE_RATE // 10, np.float32)
    for _ in range(int(seconds * 10)):
        live.meter.count(len(tenth))
        await live.hear(tenth, attachment)
        ahead_s += 0.1
        await asyncio.sleep(0)
    most = _memory_mib()
    live.stop()
    await reading
    live.detach(attachment)
    return most


async def _read(attachment: Attachment) -> None:
    while not isinstance(await attachment.next(), SocketClose):
        pass


def _memory_mib() -> float:
    gc.collect()
    return machine.pss_kib([os.getpid()]) / 1024


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="trilane-bench-") as name:
        print(json.dumps(asyncio.run(silent(float(sys.argv[1]), Path(name)))))
