"""A model on paper: a few constants, each read off a measured point, and what they say about any load. Pure.

A law predicts one figure of one series. It claims to be right (within ERROR) from one load to another; outside it is
shown and claims nothing. Where a law's constants come from, its error is 0 by construction: those points are marked.

Not modelled: delays (they grow without a bound near a full core, so plans keep cores part empty), and the most
deliveries or voices a server manages: events that wait are written together and decoding adapts, so a full server does
more than its costs at rest say.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

from events.log.sqlite.writer import LINGER_S
from loadtests.bench.growth.points import GrowthPoint, Points

ERROR = 0.3
"""Largest error of a prediction, as a share of the measured value, where its law claims to be right."""


class NotMeasured(Exception):
    """A constant has no point to be read from; the message names it."""


class Constant(NamedTuple):
    """One number of the model, for people."""

    name: str
    value: float
    unit: str
    says: str
    source: str


def _read(says: str, unit: str, source: str) -> Any:
    return field(metadata={"says": says, "unit": unit, "source": source})


@dataclass(frozen=True, kw_only=True)
class LaneModel:
    """The constants of one lane."""

    def constants(self) -> list[Constant]:
        return [
            Constant(one.name, getattr(self, one.name), one.metadata["unit"], one.metadata["says"], source)
            for one in fields(self)
            if (source := one.metadata.get("source"))
        ]


@dataclass(frozen=True, kw_only=True)
class EventsModel(LaneModel):
    """Constants of streams, topics, deliveries."""

    base_mib: float = _read("a process without streams", "MiB", "idle at 10,000, before they come")
    stream_kib: float = _read("an open stream, in the process", "KiB", "idle at 10,000")
    kernel_kib: float = _read("an open stream, in the kernel", "KiB", "idle at 10,000: half of both ends")
    idle_core: float = _read("a process that does nothing", "core", "idle at its smallest load")
    ping_us: float = _read("a ping", "µs", "idle at 10,000, less the idle process")
    accept_us: float = _read("a new stream", "µs", "idle at 10,000")
    event_us: float = _read("an event: request, log, commit", "µs", "readers at 10, less the deliveries")
    delivery_us: float = _read("a delivery that waits for no other", "µs", "readers at 1,000, less those at 10")
    relay_us: float = _read("an event that another process took", "µs", "relayed at 1, less its delivery")
    delivery_bytes: float = _read("a delivery of 200 bytes of data", "bytes", "readers at 1,000")

    def mib(self, streams: float) -> float:
        """Returns the MiB of one process with so many streams."""
        return self.base_mib + streams * self.stream_kib / 1024

    def silent_core(self, pings_per_s: float) -> float:
        """Returns the cores of one process whose streams get nothing but pings."""
        return self.idle_core + pings_per_s * self.ping_us / 1e6

    def event_cost_us(self, readers: float) -> float:
        """Returns the CPU µs of one event for so many readers, in the process that takes it."""
        return self.event_us + readers * self.delivery_us


@dataclass(frozen=True, kw_only=True)
class ChatModel(LaneModel):
    """Constants of runs, tokens, followers."""

    base_mib: float = _read("a process without runs", "MiB", "runs at 300, before they begin")
    run_kib: float = _read("a run with its reader", "KiB", "runs at 300")
    idle_core: float = _read("a process that does nothing", "core", "runs at 100, before they begin")
    start_us: float = _read("an answer's beginning and end", "µs", "answers of 10 and of 100 tokens")
    token_us: float = _read("a token", "µs", "runs at 100 and at 300")
    commit_us: float = _read("a group commit and the pass after it", "µs", "runs at 100, less all else")
    lone_core: float = _read("one run with one reader", "core", "followers at 1")
    follow_us: float = _read("a token to one more reader", "µs", "followers at 1 and at 100")

    def core(self, tokens_per_s: float, starts_per_s: float) -> float:
        """Returns the cores of one process; above 1 it does not keep up."""
        us = commits(tokens_per_s) * self.commit_us + tokens_per_s * self.token_us + starts_per_s * self.start_us
        return self.idle_core + us / 1e6

    def carried(self, tokens_per_s: float, answer_tokens: float) -> float:
        """Returns the tokens a second that one core carries, of those asked for."""
        low, high = 0.0, tokens_per_s
        if self.core(high, high / answer_tokens) <= 1:
            return high
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if self.core(middle, middle / answer_tokens) <= 1 else (low, middle)
        return low

    def mib(self, runs: float) -> float:
        """Returns the MiB of one process with so many runs."""
        return self.base_mib + runs * self.run_kib / 1024

    def followed_core(self, readers: float, tokens_per_s: float) -> float:
        """Returns the cores of one run with so many readers."""
        return self.lone_core + (readers - 1) * tokens_per_s * self.follow_us / 1e6


def commits(appends_per_s: float) -> float:
    """Returns a process's group commits a second: one each LINGER_S at most, and one each append when they are rare."""
    return appends_per_s / (1 + appends_per_s * LINGER_S)


@dataclass(frozen=True, kw_only=True)
class AudioModel(LaneModel):
    """Constants of sessions that speak all the time."""

    cores: float = _read("cores of the server", "", "sessions")
    voice_core: float = _read("one who speaks to a server with room", "core", "sessions at 1")
    full_cores: float = _read("what decoding uses when it must share", "cores", "sessions at 8")
    voices: float = _read("sessions whose words are stable in 2 s (p90)", "", "the most sessions that were")
    server_mib: float = _read("a server with 8 sessions and its model", "MiB", "sessions at 8")

    def busy_cores(self, sessions: float) -> float:
        """Cores of one server: each session takes its share until the cores are full, then partials come less often."""
        return min(sessions * self.voice_core, self.full_cores)


@dataclass(frozen=True, kw_only=True)
class LogModel(LaneModel):
    """Constants of the SQLite file: what does not depend on how much it holds."""

    event_bytes: float = _read("an event of 49 bytes, ten in an append", "bytes", "events at 100,000")
    append_per_s: float = _read("appends of 300 writers", "1/s", "events at 100,000")
    append_us: float = _read("one append, durable", "µs", "events at 100,000")
    tail_us: float = _read("the last 20 events of a topic", "µs", "events at 100,000")
    resume_us: float = _read("the last 100 events of a topic", "µs", "events at 100,000")

    def file_mb(self, events: float) -> float:
        return events * self.event_bytes / 1e6


class Law(NamedTuple):
    """One figure of one series, as a lane has it."""

    series: str
    figure: str
    says: str
    predict: Callable[[Any, GrowthPoint], float]
    claims: tuple[int, int]
    """The smallest and the largest load at which it claims to be right."""
    fixed: tuple[int, ...] = ()
    """Loads that its constants come from."""


class CheckedLaw(NamedTuple):
    """A law at one measured point."""

    law: Law
    load: int
    predicted: float
    measured: float

    @property
    def error(self) -> float:
        """Returns how far off it is, as a share of the measured value; positive where the model says too much."""
        return self.predicted / self.measured - 1

    @property
    def is_claimed(self) -> bool:
        return self.law.claims[0] <= self.load <= self.law.claims[1]

    @property
    def is_fixed(self) -> bool:
        return self.load in self.law.fixed

    @property
    def is_wrong(self) -> bool:
        return self.is_claimed and abs(self.error) > ERROR


def check(lane: LaneModel, points: Points) -> list[CheckedLaw]:
    """Returns every law of a lane at every point that was measured, also where it claims nothing."""
    return [
        CheckedLaw(law, point.load, law.predict(lane, point), measured)
        for law in LAWS[type(lane)]
        for point in points.of(law.series)
        if (measured := point.figures.get(law.figure))
    ]


LAWS: dict[type[LaneModel], Sequence[Law]] = {
    EventsModel: (
        Law("events/idle", "mib", "base + streams x stream", lambda m, p: m.mib(p.load), (1, 18_000), (10_000,)),
        Law(
            "events/idle",
            "core",
            "idle + pings x ping",
            lambda m, p: m.silent_core(p.figures["pings_per_s"]),
            (1000, 18_000),
            (10_000,),
        ),
        Law("events/idle", "us_per_accept", "accept", lambda m, p: m.accept_us, (1000, 18_000), (10_000,)),
        Law(
            "events/readers",
            "us_per_event",
            "event + readers x delivery",
            lambda m, p: m.event_cost_us(p.load),
            (1, 5000),
            (10, 1000),
        ),
        Law(
            "events/relayed",
            "us_per_event",
            "relay + readers x delivery",
            lambda m, p: m.relay_us + p.load * m.delivery_us,
            (1, 100),
            (1,),
        ),
    ),
    ChatModel: (
        Law(
            "chat/runs",
            "core",
            "idle + commits x commit + tokens x token + answers x start",
            lambda m, p: min(1.0, m.core(p.figures["tokens_per_s"], p.figures["starts_per_s"])),
            (30, 1000),
            (100, 300),
        ),
        Law(
            "chat/runs",
            "tokens_per_s",
            "as many as fit into one core",
            lambda m, p: m.carried(50 * p.load, 100),
            (1, 300),
        ),
        Law("chat/runs", "mib", "base + runs x run", lambda m, p: m.mib(p.load), (1, 300), (300,)),
        Law(
            "chat/answers",
            "core",
            "as above",
            lambda m, p: m.core(p.figures["tokens_per_s"], p.figures["starts_per_s"]),
            (10, 300),
            (10,),
        ),
        Law(
            "chat/followers",
            "core",
            "one run + readers x tokens x follower",
            lambda m, p: m.followed_core(p.load, 50),
            (1, 100),
            (1, 100),
        ),
    ),
    AudioModel: (
        Law(
            "audio/sessions",
            "core",
            "sessions x voice, at most what decoding uses",
            lambda m, p: m.busy_cores(p.load),
            (1, 16),
            (1, 8),
        ),
    ),
    LogModel: (
        Law("log/events", "file_mb", "events x event", lambda m, p: m.file_mb(p.load), (10_000, 10**7), (100_000,)),
        Law("log/events", "append_per_s", "the same", lambda m, p: m.append_per_s, (10_000, 10**7), (100_000,)),
        Law("log/events", "append_us", "the same", lambda m, p: m.append_us, (10_000, 10**7), (100_000,)),
        Law("log/events", "tail_us", "the same", lambda m, p: m.tail_us, (10_000, 10**6), (100_000,)),
        Law("log/events", "resume_us", "the same", lambda m, p: m.resume_us, (10_000, 10**6), (100_000,)),
    ),
}
