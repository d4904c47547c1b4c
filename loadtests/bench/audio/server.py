"""Trilane's audio unit is measured on its own cores, with its model in memory and warm."""

import asyncio
import contextlib
import os
import shutil
import sys
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import psutil

from loadtests.bench.audio.client import speak
from loadtests.bench.audio.speech import Samples
from loadtests.bench.harness import machine
from loadtests.bench.harness.processes import ROOT, NotStarted, await_ready, process

HOST = "127.0.0.1"
START_S = 60.0
MANY = "100000"


@dataclass(frozen=True)
class AudioServer:
    """A running server, and what it costs."""

    url: str
    pids: list[int]

    def cpu_s(self) -> float:
        """Returns CPU time so far, also of threads that have ended: unlike in schedstat, they stay counted."""
        return sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in self.pids)

    def pss_kib(self) -> float:
        return machine.pss_kib(self.pids)


@dataclass(frozen=True)
class Place:
    """Says where a server runs, and with which model."""

    port: int
    cores: int
    model: Path
    folder: Path
    settings: dict[str, str]

    def on_cores(self, command: list[str]) -> list[str]:
        """Returns the command on the first cores, where the machine has more and taskset is there."""
        if (os.cpu_count() or 1) < self.cores or shutil.which("taskset") is None:
            return command
        return ["taskset", "-c", f"0-{self.cores - 1}", *command]


@contextlib.contextmanager
def trilane(place: Place, warm_up: Samples) -> Generator[AudioServer]:
    """Runs the audio unit with its SQLite log, which has heard `warm_up` once. Raises NotStarted.

    It refuses nobody: by itself it admits as many as it found at its start that the machine keeps up with.
    """
    env = {
        "TRILANE_LOG": f"sqlite:///{place.folder / 'audio.db'}",
        "TRILANE_DATA_DIR": str(place.folder),
        "TRILANE_WHISPER_MODEL": str(place.model),
        "PYTHONPATH": str(ROOT),
        "TRILANE_LIMIT_VOICES": MANY,
        **place.settings,
    }
    command = [sys.executable, "-m", "gateway", "serve", "audio", "--host", HOST, "--port", str(place.port)]
    with process(place.on_cores(command), place.folder, env) as child:
        await_ready(child, place.port, "/readyz", START_S)
        server = AudioServer(f"ws://{HOST}:{place.port}/api/audio", machine.tree(child.pid))
        session = asyncio.run(speak(server.url, warm_up, pace=4))
        if session.faults:
            raise NotStarted(f"its first session failed: {', '.join(session.faults)}")
        yield server
