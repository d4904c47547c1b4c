"""The loads of the audio benchmark, each on a fresh server: what is spoken, and what is learnt from it."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from loadtests.bench import audio_memory, machine
from loadtests.bench.audio_client import Spoken, speak, together
from loadtests.bench.audio_delays import lag, of_sessions
from loadtests.bench.audio_peers import Shown, listen, whisper_live
from loadtests.bench.audio_reference import Reference, References
from loadtests.bench.audio_server import Place, Server, trilane
from loadtests.bench.audio_speech import PAUSE_S, Recording, deal, silence, some, sounds, tracks
from loadtests.bench.audio_words import Tally, delays, for_good, normalise, quantile, summary

Figures = dict[str, Any]
TOO_LATE_S = 2.0
"""A server keeps up with so many sessions while 90 % of their words are stable within this."""
STAGGER_S = 0.37
"""Between the starts of two sessions: no two of them end their sentences together."""
SOUND_PACE = 3.0
"""How fast sounds are sent; a client may be a minute ahead of real time."""
SOUND_SESSIONS = 8
"""So many hear the same sound: what the server does for itself is hardly counted then."""


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    of_each_kind: int = 1000
    longest_s: float = 600.0
    """Of a recording whose words are counted."""
    at_once: int = 4
    speak_s: float = 60.0
    steps: tuple[int, ...] = (1, 2, 4, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32)
    step_s: float = 22.0
    sound_s: float = 60.0
    idle: int = 500
    visits: int = 200
    each_s: float = 45.0
    """About so much speech for each client beside WhisperLive,"""
    tail_s: float = 10.0
    """and so much silence after each recording: that long it may take until the last words are final."""


QUICK = Plan(
    of_each_kind=3,
    longest_s=30.0,
    speak_s=14.0,
    steps=(4, 8),
    step_s=10.0,
    sound_s=9.0,
    idle=200,
    visits=40,
    each_s=15.0,
    tail_s=6.0,
)


@dataclass
class Rig:
    """One server's place, and what is spoken to it."""

    target: str
    place: Place
    plan: Plan
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
    def serving(self) -> Generator[Server]:
        if self.target == "whisperlive":
            with whisper_live(self.place, self.cache, self.warm_up, self.peer_threads) as server:
                yield server
            return
        with trilane(self.place, self.warm_up) as server:
            yield server

    @contextlib.contextmanager
    def watching(self, server: Server) -> Generator[Callable[[], float]]:
        """Yields what tells the CPU seconds of the server since then; notes what else the machine did meanwhile."""
        began, cpu_s = time.monotonic(), server.cpu_s()
        busy_s, own_s = machine.busy_s(), time.process_time()
        yield lambda: server.cpu_s() - cpu_s
        took_s, used_s = time.monotonic() - began, server.cpu_s() - cpu_s
        foreign_s = machine.busy_s() - busy_s - used_s - (time.process_time() - own_s)
        self.foreign_cores = max(self.foreign_cores, foreign_s / took_s)
        self.server_core = used_s / took_s

    def run(self, server: Server, sessions: Sequence[Any], at_once: int) -> tuple[list[Any], float]:
        """The sessions, so many at a time, and the CPU seconds of the server meanwhile."""
        with self.watching(server) as used_s:
            done = asyncio.run(_all(sessions, at_once))
            cpu_s = used_s()
        for one in done:
            for name, count in one.faults.items():
                self.faults[name] = self.faults.get(name, 0) + count
        return done, cpu_s


@dataclass(frozen=True)
class Case:
    """One load."""

    name: str
    measure: Callable[[Rig], Figures]
    targets: tuple[str, ...] = ("trilane",)

    @property
    def group(self) -> str:
        return self.name.partition("-")[0]


async def _all(sessions: Sequence[Any], at_once: int) -> list[Any]:
    return await together(sessions, at_once)


# Accuracy


def accuracy(rig: Rig) -> Figures:
    """Each recording in real time, as a session of its own: the errors of the joined finals, by kind."""
    usable = [one for one in rig.speech if one.seconds <= rig.plan.longest_s]
    recordings = some(usable, rig.plan.of_each_kind)
    rig.references.learn(recordings)
    if rig.target == "offline":
        return {"wer": _wer(recordings, [rig.references.of(one).text for one in recordings])}
    with rig.serving() as server:
        spoken, cpu_s = rig.run(server, [speak(server.url, one.samples) for one in recordings], rig.plan.at_once)
    texts = [one.text for one in spoken]
    heard = {one.name: text for one, text in zip(recordings, texts, strict=True)}
    return {"wer": _wer(recordings, texts), "cpu_per_audio_s": cpu_s / _seconds(spoken), "texts": heard, **lag(spoken)}


def _wer(recordings: Sequence[Recording], texts: Sequence[str]) -> Figures:
    tallies: dict[str, Tally] = {}
    for recording, text in zip(recordings, texts, strict=True):
        for kind in (recording.kind, "all"):
            tallies.setdefault(kind, Tally()).count(recording.text, text)
    return {kind: {"rate": one.rate, "errors": one.errors, "words": one.words} for kind, one in tallies.items()}


# Delays


def latency(sessions: int) -> Callable[[Rig], Figures]:
    """So many sessions that speak all the time: sentences with pauses of 1.5 s between."""

    def measure(rig: Rig) -> Figures:
        with rig.serving() as server:
            return _speaking(rig, server, sessions, rig.plan.speak_s)

    return measure


def _speaking(rig: Rig, server: Server, sessions: int, seconds: float) -> Figures:
    spoken_tracks = tracks(rig.speech, sessions, seconds)
    rig.references.learn({one.name: one for track in spoken_tracks for _, one in track.parts}.values())
    references = [rig.references.of_track(track) for track in spoken_tracks]
    calls = [speak(server.url, track.samples, wait_s=n * STAGGER_S) for n, track in enumerate(spoken_tracks)]
    spoken, cpu_s = rig.run(server, calls, sessions)
    found = of_sessions(spoken, references).figures()
    more = {"cpu_per_audio_s": cpu_s / _seconds(spoken), "server_core": rig.server_core, "sessions": sessions}
    return {**found, **lag(spoken), **more}


def capacity(rig: Rig) -> Figures:
    """More and more sessions that speak all the time, until their words are stable too late."""
    steps: list[Figures] = []
    best = 0
    with rig.serving() as server:
        for sessions in rig.plan.steps:
            steps.append(_speaking(rig, server, sessions, rig.plan.step_s))
            p90_s = steps[-1]["stable_s"]["p90"]
            print(
                f"  {sessions} sessions: stable p90 {p90_s or 0:.2f} s, server {rig.server_core:.2f} cores", flush=True
            )
            if p90_s is None or p90_s > TOO_LATE_S:
                break
            best = sessions
    crossed = best < steps[-1]["sessions"]
    return {"sessions": best, "per_core": best / rig.place.cores, "crossed": crossed, "steps": steps}


# Other loads


def quiet(rig: Rig) -> Figures:
    """Each sound that is no speech, to several sessions at once: its words, and what one of them costs."""
    found: Figures = {}
    with rig.serving() as server:
        for name, samples in sounds(rig.plan.sound_s).items():
            calls = [speak(server.url, samples, pace=SOUND_PACE, wait_s=n * STAGGER_S) for n in range(SOUND_SESSIONS)]
            spoken, cpu_s = rig.run(server, calls, SOUND_SESSIONS)
            words = sum(len(normalise(text.word)) for one in spoken for text in one.texts)
            texts = [one.text for one in spoken if one.text]
            found[name] = {"words": words, "core": cpu_s / _seconds(spoken), "texts": texts}
    return found


def memory(rig: Rig) -> Figures:
    """What open sessions keep in memory, and what closed ones leave behind."""
    shortest = min((one for one in rig.speech if one.kind == "clean"), key=lambda one: one.seconds)
    with rig.serving() as server, rig.watching(server):
        kept = audio_memory.idle(server, rig.plan.idle)
    with rig.serving() as server, rig.watching(server):
        return {**kept, **audio_memory.visited(server, shortest.samples, rig.plan.visits)}


def beside(clients: int) -> Callable[[Rig], Figures]:
    """The same recordings to each server, a connection for each, so many at once; silence follows on all of them."""

    def measure(rig: Rig) -> Figures:
        hands = deal(rig.speech, max(8, round(sum(one.seconds for one in rig.speech) / rig.plan.each_s)))[:clients]
        recordings = [one for turn in zip_longest(*hands) for one in turn if one is not None]
        rig.references.learn(recordings)
        spoken = [np.concatenate([one.samples, silence(rig.plan.tail_s)]) for one in recordings]
        with rig.serving() as server:
            if rig.target == "whisperlive":
                calls: list[Any] = [listen(server.url, samples, str(rig.place.model)) for samples in spoken]
            else:
                calls = [speak(server.url, samples) for samples in spoken]
            done, cpu_s = rig.run(server, calls, clients)
        return _compared(recordings, [rig.references.of(one) for one in recordings], done, cpu_s)

    return measure


def _compared(
    recordings: Sequence[Recording], references: Sequence[Reference], done: Sequence[Spoken | Shown], cpu_s: float
) -> Figures:
    """By what every server shows: its whole text, each time that it changes, and since when it is final.

    What never came counts as if it had come when the client left: a server that drops words is not fast.
    """
    first_s: list[float] = []
    final_s: list[float] = []
    words_s: list[float] = []
    for reference, one in zip(references, done, strict=True):
        shown_s = next((text.at_s for text in one.texts if text.word.strip()), one.seconds)
        first_s.append(shown_s - reference.speech_began(0.0))
        final_s.append((_final_at(one) or one.seconds) - reference.speech_ended(one.seconds))
        there = delays(for_good(one.texts), reference.words, missing_s=one.seconds)
        words_s += [delay.seconds for delay in there]
    return {
        "wer": _wer(recordings, [one.text for one in done]),
        "first_s": summary(first_s),
        "word_s": summary(words_s),
        "final_s": summary(final_s),
        "without_final": sum(_final_at(one) is None for one in done),
        "cpu_per_audio_s": cpu_s / _seconds(done),
        "bytes_per_audio_s": sum(one.received_bytes for one in done) / _seconds(done),
        "late_s": quantile([one.late_s for one in done], 1.0),
    }


def _final_at(one: Spoken | Shown) -> float | None:
    """When the last of it was final."""
    if isinstance(one, Shown):
        return one.completed_at_s
    return max((segment.final.at_s for segment in one.finals if segment.final is not None), default=None)


def _seconds(spoken: Sequence[Spoken | Shown]) -> float:
    return sum(one.seconds for one in spoken)


CASES = (
    Case("accuracy", accuracy, ("offline", "trilane")),
    Case("latency-1", latency(1)),
    Case("latency-8", latency(8)),
    Case("capacity", capacity),
    Case("silence", quiet),
    Case("memory", memory),
    *(Case(f"peers-{clients}", beside(clients), ("whisperlive", "trilane")) for clients in (1, 4, 8)),
)
