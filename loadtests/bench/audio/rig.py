"""A rig is what every load of the audio benchmark works with: how much is measured, and one server's place."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from loadtests.bench.audio.client import together
from loadtests.bench.audio.reference import References
from loadtests.bench.audio.server import AudioServer, Place, trilane
from loadtests.bench.audio.speech import PAUSE_S, Recording, silence
from loadtests.bench.audio.whisper_live import whisper_live
from loadtests.bench.harness import machine


@dataclass(frozen=True)
class AudioPlan:
    """Says how much is measured."""

    words: int = 1000
    """Number of words, about, that are counted under each condition."""
    speak_s: float = 60.0
    steps: tuple[int, ...] = (1, 2, 4, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32)
    step_s: float = 22.0
    sound_s: float = 60.0
    idle: int = 500
    visits: int = 200
    file_s: float = 3600.0
    attacks: int = 3
    """Number of times that three sessions are measured alone and beside a hostile one."""
    attack_s: float = 35.0
    """Seconds for which they are measured each time."""
    each_s: float = 45.0
    """Seconds of speech, about, for each client beside WhisperLive."""
    tail_s: float = 10.0
    """Seconds of silence after each recording there: that long it may take until the last words are final."""


QUICK = AudioPlan(
    words=60,
    speak_s=14.0,
    steps=(4, 8),
    step_s=10.0,
    sound_s=9.0,
    idle=200,
    visits=40,
    file_s=120.0,
    attacks=1,
    attack_s=12.0,
    each_s=15.0,
    tail_s=6.0,
)


@dataclass
class AudioRig:
    """Holds one server's place, and what is spoken to it."""

    target: str
    place: Place
    plan: AudioPlan
    speech: Sequence[Recording]
    references: References
    cache: Path
    peer_threads: int = 1
    faults: dict[str, int] = field(default_factory=dict[str, int])
    foreign_cores: float = 0.0
    server_core: float = 0.0

    @property
    def warm_up(self) -> Any:
        return np.concatenate([self.speech[0].samples, silence(PAUSE_S)])

    @contextlib.contextmanager
    def serving(self) -> Generator[AudioServer]:
        if self.target == "whisperlive":
            with whisper_live(self.place, self.cache, self.warm_up, self.peer_threads) as server:
                yield server
            return
        with trilane(self.place, self.warm_up) as server:
            yield server

    @contextlib.contextmanager
    def watching(self, server: AudioServer) -> Generator[Callable[[], float]]:
        """Yields what tells the CPU seconds of the server since then; notes what else the machine did meanwhile."""
        began, cpu_s = time.monotonic(), server.cpu_s()
        busy_s, own_s = machine.busy_s(), time.process_time()
        yield lambda: server.cpu_s() - cpu_s
        took_s, used_s = time.monotonic() - began, server.cpu_s() - cpu_s
        foreign_s = machine.busy_s() - busy_s - used_s - (time.process_time() - own_s)
        self.foreign_cores = max(self.foreign_cores, foreign_s / took_s)
        self.server_core = used_s / took_s

    def run(self, server: AudioServer, sessions: Sequence[Any], at_once: int) -> tuple[list[Any], float]:
        """Runs the sessions, so many at a time; returns them, and the CPU seconds of the server meanwhile."""
        with self.watching(server) as used_s:
            results = asyncio.run(_all(sessions, at_once))
            cpu_s = used_s()
        for one in results:
            self.note(one.faults)
        return results, cpu_s

    def note(self, faults: dict[str, int]) -> None:
        for name, count in faults.items():
            self.faults[name] = self.faults.get(name, 0) + count


async def _all(sessions: Sequence[Any], at_once: int) -> list[Any]:
    return await together(sessions, at_once)
