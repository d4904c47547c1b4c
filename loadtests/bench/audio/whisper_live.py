"""WhisperLive runs unmodified in an environment of its own, with a client that records what it shows.

The environment (`peers.py`) takes 6 GB, for PyTorch. Left out of it is what its server does not import: PyAudio (needs
PortAudio's headers), OpenVINO, openai-whisper and librosa. The server shares one model among its clients, as ours does,
runs on the same cores with the model at int8, and keeps its own defaults (beam 5).
"""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from loadtests.bench.audio.client import frames
from loadtests.bench.audio.server import HOST, START_S, AudioServer, Place
from loadtests.bench.audio.speech import RATE, Samples
from loadtests.bench.audio.words import TimedWord
from loadtests.bench.harness import machine
from loadtests.bench.harness.peers import WHISPER_LIVE
from loadtests.bench.harness.processes import NotStarted, process

SERVE = """
import sys
from whisper_live.server import TranscriptionServer
TranscriptionServer().run("127.0.0.1", port=int(sys.argv[1]), backend="faster_whisper",
    faster_whisper_custom_model_path=sys.argv[2], single_model=True, batch_enabled=False,
    max_clients=64, max_connection_time=3600)
"""


@dataclass
class ShownText:
    """Holds what one client was shown. Times are seconds since the first sample was spoken."""

    seconds: float = 0.0
    """Seconds of audio."""
    texts: list[TimedWord] = field(default_factory=list[TimedWord])
    """The whole text, each time that it changed."""
    completed_at_s: float | None = None
    """Time at which all of the last text was completed."""
    late_s: float = 0.0
    received_bytes: int = 0
    faults: dict[str, int] = field(default_factory=dict[str, int])
    _final_texts: dict[float, str] = field(default_factory=dict[float, str])

    @property
    def text(self) -> str:
        return self.texts[-1].word if self.texts else ""

    def hear(self, message: dict[str, Any], at_s: float) -> None:
        """Takes a message, which brings the last ten completed segments and the one that may still change."""
        segments = message.get("segments", [])
        if not segments:
            return
        for segment in segments:
            if segment["completed"]:
                self._final_texts[float(segment["start"])] = segment["text"]
        open_texts = [segment["text"] for segment in segments if not segment["completed"]]
        text = " ".join(
            text.strip() for text in [*(self._final_texts[at] for at in sorted(self._final_texts)), *open_texts]
        )
        if text != self.text:
            self.texts.append(TimedWord(text, at_s))
        if open_texts:
            self.completed_at_s = None
        elif self.completed_at_s is None:
            self.completed_at_s = at_s


@contextlib.contextmanager
def whisper_live(place: Place, cache: Path, warm_up: Samples, threads: int) -> Generator[AudioServer]:
    """Runs its server, which has heard `warm_up` once. Raises NotStarted."""
    command = [WHISPER_LIVE.python(cache), "-c", SERVE, str(place.port), str(place.model)]
    env = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(threads), "CUDA_VISIBLE_DEVICES": ""}
    with process(place.on_cores(command), place.folder, env) as child:
        _await_port(child, place.port)
        server = AudioServer(f"ws://{HOST}:{place.port}", machine.tree(child.pid))
        first = asyncio.run(listen(server.url, warm_up, str(place.model)))
        if not first.text:
            raise NotStarted(f"its first client was shown nothing: {', '.join(first.faults) or 'no fault'}")
        yield server


async def listen(url: str, samples: Samples, model: str) -> ShownText:
    """Runs one client from the first sample to the last; it leaves then, since nothing makes the server finish."""
    session = ShownText(seconds=len(samples) / RATE)
    start = {"uid": os.urandom(8).hex(), "language": "en", "task": "transcribe", "model": model, "use_vad": True}
    try:
        limit_s = session.seconds + START_S
        async with asyncio.timeout(limit_s), connect(url, compression=None, proxy=None) as client:
            await client.send(json.dumps(start))
            await client.recv()  # SERVER_READY
            began = time.monotonic()
            async with asyncio.TaskGroup() as group:
                hearing = group.create_task(_hear(client, session, began))
                await _play(client, session, samples, began)
                hearing.cancel()
    except TimeoutError:
        session.faults["no answer in time"] = 1
    except (OSError, ConnectionClosed) as err:
        session.faults[f"no session: {err}"] = 1
    return session


async def _play(client: ClientConnection, session: ShownText, samples: Samples, began: float) -> None:
    try:
        session.late_s = await frames(samples.astype(np.float32).tobytes(), 4 * RATE, began, 1.0, client.send)
    except ConnectionClosed:
        session.faults["closed early"] = 1


async def _hear(client: ClientConnection, session: ShownText, began: float) -> None:
    with contextlib.suppress(ConnectionClosed):
        async for text in client:
            session.received_bytes += len(text)
            session.hear(json.loads(text), time.monotonic() - began)


def _await_port(child: subprocess.Popen[bytes], port: int) -> None:
    """Waits for the server's port, which must be its own: it has no health check."""
    end = time.monotonic() + START_S
    while time.monotonic() < end and child.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1):
            if machine.owns_port(machine.tree(child.pid), port):
                return
        time.sleep(0.2)
    raise NotStarted(f"WhisperLive did not open port {port} within {START_S:g} s")
