"""An AudioSession judges all that one session was told, over all its connections, and how late it was. Pure.

Times are seconds since the first sample was spoken. Where speech began and ended and where each word ends is the
server's own word (`words` in `start`): a client has no better, and right to about a tenth of a second it is. What a
cut fell into is checked like all else, but not timed: how long it took to come back is a measure of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from loadtests.bench.audio.client import Message, SpokenSegment
from loadtests.bench.audio.words import TimedWord, WordTally, delays, settle_times, timed_words
from loadtests.users.fault import Fault, Finding

FULL = frozenset({"overloaded", "draining", "log_unavailable"})
"""Codes of errors that mean: not now."""
STRANGER = frozenset({"unauthorized", "forbidden", "token_expired"})


class AudioMeasure(NamedTuple):
    """A figure of the audio lane."""

    name: str
    ms: float


@dataclass
class AudioSession:
    """Hears every message in order; `findings` and `measures` are for whoever takes them out."""

    name: str = ""
    """The server's name of the session, from its first `ready`."""
    cursor: str = ""
    acked_samples: int = 0
    """Samples that need not be sent again."""
    findings: list[Finding] = field(default_factory=list[Finding])
    measures: list[AudioMeasure] = field(default_factory=list[AudioMeasure])
    is_done: bool = False
    is_refused: bool = False
    """Whether the server said that it will not go on, and why."""
    _seq: int = 0
    _is_new_connection: bool = True
    _segments: dict[int, SpokenSegment] = field(default_factory=dict[int, SpokenSegment])
    _finals: list[Message] = field(default_factory=list[Message])
    _began: list[float] = field(default_factory=list[float])
    _speech_ends: list[float] = field(default_factory=list[float])
    _cut_segments: set[int] = field(default_factory=set[int])
    """Segments that a cut fell into, and that are not timed."""

    @property
    def text(self) -> str:
        return " ".join(final["text"] for final in self._finals)

    def lose_connection(self) -> None:
        """Notes a lost connection: an open segment may be heard anew, by another process, and read otherwise."""
        self._is_new_connection = True
        self._began.clear()
        self._speech_ends.clear()
        for number, segment in self._segments.items():
            if segment.final is None:
                segment.stable.clear()
                self._cut_segments.add(number)
        self._cut_segments.add(len(self._finals))

    def hear(self, message: Message, at_s: float) -> None:
        """Takes one message, at that time."""
        self._count(message)
        match message["type"]:
            case "ready":
                self._greet(message)
            case "speech_started":
                self._began.append(message["at"])
            case "speech_stopped":
                self._speech_ends.append(message["at"])
            case "partial":
                self._partial(message, at_s)
            case "final":
                self._final(message, at_s)
            case "ack":
                self._acknowledge(message["samples"])
            case "gap":
                span = f"{message['start']:.1f} to {message['end']:.1f} s"
                self._find(Fault.LOST, f"audio from {span} was not heard: {message['reason']}")
            case "error":
                self._refuse(message)
            case "done":
                self._end(message)
            case _:
                pass

    def judge(self, text: str, bound_percent: float) -> None:
        """Counts the words that are wrong, once all is said; more than the bound are a fault."""
        tally = WordTally()
        tally.count(text, self.text)
        percent = 100 * (tally.rate or 0.0)
        self.measures.append(AudioMeasure("words wrong %", percent))
        if percent > bound_percent:
            wrong = f"{percent:.0f} % of {tally.words} words are wrong, and {bound_percent:g} % may be"
            self._find(Fault.WORDS, f"{wrong}: heard {self.text[:200]!r}")

    def _find(self, fault: Fault, detail: str) -> None:
        self.findings.append(Finding(fault, f"audio session {self.name or '(new)'}: {detail}"))

    def _count(self, message: Message) -> None:
        """Checks that numbers go up by one; a new connection may begin with any that is known, as it repeats finals."""
        seq, due = message["seq"], self._seq + 1
        if seq > due:
            self._find(Fault.LOST, f"message {seq} came where {due} was due")
        elif seq < due and not self._is_new_connection:
            self._find(Fault.DOUBLED, f"message {seq} came again, where {due} was due")
        self._is_new_connection = False
        self._seq = seq

    def _greet(self, ready: Message) -> None:
        if not self.name:
            self.name = ready["session"]
        elif ready["session"] != self.name:
            self._find(Fault.NO_RESUME, f"came back and was given the new session {ready['session']}")
            self.is_refused = True
        elif ready["resumeFrom"] < self.acked_samples:
            sentence = f"asked for audio from sample {ready['resumeFrom']} on"
            self._find(Fault.NO_RESUME, f"{sentence}, though all before {self.acked_samples} was acknowledged")
        self.cursor = self.cursor or ready["cursor"]

    def _acknowledge(self, samples: int) -> None:
        if samples < self.acked_samples:
            self._find(Fault.OUT_OF_ORDER, f"acknowledged {samples} samples after {self.acked_samples}")
        self.acked_samples = max(self.acked_samples, samples)

    def _partial(self, message: Message, at_s: float) -> None:
        number, stable = message["segment"], message["stable"]
        segment = self._segments.setdefault(number, SpokenSegment())
        if segment.final is not None:
            self._find(Fault.OUT_OF_ORDER, f"a partial of segment {number} came after its final")
        before = segment.stable[-1].word if segment.stable else ""
        if not _begins(stable, before):
            self._find(
                Fault.DIFFERENT, f"stable words of segment {number} were taken back: {before!r} became {stable!r}"
            )
        segment.stable.append(TimedWord(stable, at_s))
        if segment.shown_at_s is None and message["text"]:
            segment.shown_at_s = at_s

    def _final(self, message: Message, at_s: float) -> None:
        number, due = message["segment"], len(self._finals)
        segment = self._segments.setdefault(number, SpokenSegment())
        self.cursor = message["cursor"]
        if segment.final is not None:
            self._find(Fault.DOUBLED, f"a second final of segment {number}: {message['text'][:80]!r}")
            return
        if number != due:
            self._find(
                Fault.LOST if number > due else Fault.OUT_OF_ORDER, f"the final of {number} where that of {due} was due"
            )
        segment.final = TimedWord(message["text"], at_s)
        self._finals.append(message)
        if number not in self._cut_segments:
            self._time(segment, message, at_s)

    def _time(self, segment: SpokenSegment, final: Message, at_s: float) -> None:
        began = _within(self._began, final)
        if began is not None and segment.shown_at_s is not None:
            self._measure("first partial", segment.shown_at_s - began)
        speech_end = _within(self._speech_ends, final)
        if speech_end is not None:
            self._measure("final", at_s - speech_end)
        reference = timed_words((word["text"], word["end"]) for word in final.get("words") or [])
        for delay in delays(settle_times(segment.stable, TimedWord(final["text"], at_s)), reference):
            self._measure("stable word", delay.seconds)

    def _measure(self, name: str, seconds: float) -> None:
        self.measures.append(AudioMeasure(name, max(0.0, seconds) * 1000))

    def _refuse(self, error: Message) -> None:
        code = error["code"]
        fault = Fault.REFUSED if code in FULL else Fault.UNAUTHORIZED if code in STRANGER else Fault.ERROR
        if code == "session_unknown" and self.name:
            fault = Fault.NO_RESUME
        self._find(fault, f"{code}: {error['message']}")
        self.is_refused = True

    def _end(self, message: Message) -> None:
        self.is_done = True
        if message["segments"] != len(self._finals):
            self._find(Fault.LOST, f"{len(self._finals)} finals came of {message['segments']}")


def _within(times: Sequence[float], final: Message) -> float | None:
    return next((at for at in times if final["start"] <= at <= final["end"]), None)


def _begins(text: str, words: str) -> bool:
    return not words or f"{text} ".startswith(f"{words} ")
