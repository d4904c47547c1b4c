"""Delays are computed from what sessions were told: first words, stable words, finals. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from loadtests.bench.audio.client import SpokenSession
from loadtests.bench.audio.reference import Reference
from loadtests.bench.audio.words import TimedWord, delays, settle_times, summary


@dataclass
class SessionDelays:
    """Holds the delays of many sessions, in seconds."""

    first_s: list[float] = field(default_factory=list[float])
    """Delays from the start of speech to the first text of its segment."""
    stable_s: list[float] = field(default_factory=list[float])
    """Delays from the end of a word until it is in a stable prefix, or in the final."""
    final_s: list[float] = field(default_factory=list[float])
    """Delays from the end of speech to the final of its segment, endpointing included."""
    halves_s: tuple[list[float], list[float]] = field(default_factory=lambda: ([], []))
    """The `stable_s` of the words in the first and in the second half of a session: growing lag shows here."""

    def count(self, session: SpokenSession, reference: Reference) -> None:
        """Adds a session that spoke what the reference is about."""
        words: list[TimedWord] = []
        for segment in session.finals:
            assert segment.final is not None
            words += settle_times(segment.stable, segment.final)
            if segment.shown_at_s is not None:
                self.first_s.append(segment.shown_at_s - reference.speech_began(segment.start_s))
                self.final_s.append(segment.final.at_s - reference.speech_ended(segment.end_s))
        for delay in delays(words, reference.words):
            self.stable_s.append(delay.seconds)
            self.halves_s[delay.end_s > session.seconds / 2].append(delay.seconds)

    def figures(self) -> dict[str, Any]:
        return {
            "first_s": summary(self.first_s),
            "stable_s": summary(self.stable_s),
            "final_s": summary(self.final_s),
            "stable_halves_s": [summary(half) for half in self.halves_s],
        }


def of_sessions(sessions: Sequence[SpokenSession], references: Iterable[Reference]) -> SessionDelays:
    """Returns the delays of all sessions together."""
    together = SessionDelays()
    for one, reference in zip(sessions, references, strict=True):
        together.count(one, reference)
    return together


def lag(sessions: Sequence[SpokenSession]) -> dict[str, Any]:
    """Returns what the server itself said about being late, and how late the client was with its frames."""
    lags = [seconds for one in sessions for seconds in one.lags_s]
    return {
        "lag_messages": len(lags),
        "lag_max_s": max(lags, default=0.0),
        "late_s": max((one.late_s for one in sessions), default=0.0),
    }
