"""The loads of the audio benchmark each run on a fresh server, and turn speech into figures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np

from loadtests.bench.audio import memory as session_memory
from loadtests.bench.audio.accuracy import accuracy
from loadtests.bench.audio.client import SpokenSession, speak
from loadtests.bench.audio.latency import STAGGER_S, capacity, latency
from loadtests.bench.audio.reference import Reference
from loadtests.bench.audio.rig import AudioRig
from loadtests.bench.audio.speech import Recording, deal, silence, sounds
from loadtests.bench.audio.strain import overload, under_attack, upload
from loadtests.bench.audio.whisper_live import ShownText, listen
from loadtests.bench.audio.words import WordTally, delays, for_good, normalise, quantile, summary
from loadtests.bench.harness.records import Figures

SOUND_PACE = 3.0
"""Times real time at which sounds are sent; a client may be a minute ahead of real time."""
SOUND_SESSIONS = 8
"""Sessions that hear the same sound: so many that the server's own work hardly counts."""


@dataclass(frozen=True)
class AudioCase:
    """One load of the audio benchmark."""

    name: str
    measure: Callable[[AudioRig], Figures]
    targets: tuple[str, ...] = ("trilane",)


def _wer(recordings: Sequence[Recording], texts: Sequence[str]) -> Figures:
    tallies: dict[str, WordTally] = {}
    for recording, text in zip(recordings, texts, strict=True):
        for kind in (recording.kind, "all"):
            tallies.setdefault(kind, WordTally()).count(recording.text, text)
    return {kind: {"rate": one.rate, "errors": one.errors, "words": one.words} for kind, one in tallies.items()}


# Other loads


def quiet(rig: AudioRig) -> Figures:
    """Measures each sound that is no speech, with several sessions at once: its words, and the cost of one session."""
    figures: Figures = {}
    with rig.serving() as server:
        for name, samples in sounds(rig.plan.sound_s).items():
            calls = [speak(server.url, samples, pace=SOUND_PACE, wait_s=n * STAGGER_S) for n in range(SOUND_SESSIONS)]
            sessions, cpu_s = rig.run(server, calls, SOUND_SESSIONS)
            words = sum(len(normalise(text.word)) for one in sessions for text in one.texts)
            texts = [one.text for one in sessions if one.text]
            figures[name] = {"words": words, "core": cpu_s / _seconds(sessions), "texts": texts}
    return figures


def memory(rig: AudioRig) -> Figures:
    """Measures what open sessions keep in memory, and what closed ones leave behind."""
    shortest = min((one for one in rig.speech if one.kind == "clean"), key=lambda one: one.seconds)
    with rig.serving() as server, rig.watching(server):
        idle = session_memory.idle(server, rig.plan.idle)
    with rig.serving() as server, rig.watching(server):
        return {**idle, **session_memory.visits(server, shortest.samples, rig.plan.visits)}


def beside(clients: int) -> Callable[[AudioRig], Figures]:
    """Measures the same recordings on each server, so many connections at once; silence follows on all of them."""

    def measure(rig: AudioRig) -> Figures:
        hands = deal(rig.speech, max(8, round(sum(one.seconds for one in rig.speech) / rig.plan.each_s)))[:clients]
        recordings = [one for turn in zip_longest(*hands) for one in turn if one is not None]
        rig.references.learn(recordings)
        audio = [np.concatenate([one.samples, silence(rig.plan.tail_s)]) for one in recordings]
        with rig.serving() as server:
            if rig.target == "whisperlive":
                calls: list[Any] = [listen(server.url, samples, str(rig.place.model)) for samples in audio]
            else:
                calls = [speak(server.url, samples) for samples in audio]
            sessions, cpu_s = rig.run(server, calls, clients)
        return _compare(recordings, [rig.references.of(one) for one in recordings], sessions, cpu_s)

    return measure


def _compare(
    recordings: Sequence[Recording],
    references: Sequence[Reference],
    sessions: Sequence[SpokenSession | ShownText],
    cpu_s: float,
) -> Figures:
    """Compares what each server shows: its whole text, each time that it changes, and since when it is final.

    What never came counts as if it had come when the client left: a server that drops words is not fast.
    """
    first_s: list[float] = []
    final_s: list[float] = []
    words_s: list[float] = []
    for reference, one in zip(references, sessions, strict=True):
        shown_s = next((text.at_s for text in one.texts if text.word.strip()), one.seconds)
        first_s.append(shown_s - reference.speech_began(0.0))
        final_s.append((_final_at(one) or one.seconds) - reference.speech_ended(one.seconds))
        there = delays(for_good(one.texts), reference.words, missing_s=one.seconds)
        words_s += [delay.seconds for delay in there]
    return {
        "wer": _wer(recordings, [one.text for one in sessions]),
        "first_s": summary(first_s),
        "word_s": summary(words_s),
        "final_s": summary(final_s),
        "without_final": sum(_final_at(one) is None for one in sessions),
        "cpu_per_audio_s": cpu_s / _seconds(sessions),
        "bytes_per_audio_s": sum(one.received_bytes for one in sessions) / _seconds(sessions),
        "late_s": quantile([one.late_s for one in sessions], 1.0),
    }


def _final_at(one: SpokenSession | ShownText) -> float | None:
    """Returns when the last of a session's text was final."""
    if isinstance(one, ShownText):
        return one.completed_at_s
    return max((segment.final.at_s for segment in one.finals if segment.final is not None), default=None)


def _seconds(sessions: Sequence[SpokenSession | ShownText]) -> float:
    return sum(one.seconds for one in sessions)


CASES = (
    AudioCase("accuracy", accuracy, ("offline", "file", "trilane")),
    AudioCase("latency-1", latency(1)),
    AudioCase("latency-8", latency(8)),
    AudioCase("capacity", capacity),
    AudioCase("silence", quiet),
    AudioCase("memory", memory),
    AudioCase("upload", upload),
    AudioCase("hostile", under_attack),
    AudioCase("overload", overload),
    *(AudioCase(f"peers-{clients}", beside(clients), ("whisperlive", "trilane")) for clients in (1, 4, 8)),
)
