"""The model's constants are read off the measured points. Pure; where a point is missing, so is the lane.

Each is taken at a load where it matters: large enough to show, small enough that nothing waits.
"""

from collections.abc import Callable

from loadtests.bench.growth.model import AudioModel, ChatModel, EventsModel, LaneModel, LogModel, NotMeasured, commits
from loadtests.bench.growth.points import Points

IN_TIME_S = 2.0
"""A word's 90 % of the way to being stable; later, people wait for their words."""
IDLE, FEW, READERS, FULL, LOG_EVENTS = 10_000, 10, 1000, 8, 100_000


def events(points: Points) -> EventsModel:
    """Returns the events lane's constants. Raises NotMeasured."""
    quiet = points.of("events/idle")
    idle_core = _value_of(quiet[0].figures.get("core") if quiet else None, "events/idle")
    pings_per_s = _at(points, "events/idle", "pings_per_s", IDLE)
    few_us = _at(points, "events/readers", "us_per_event", FEW)
    many_us = _at(points, "events/readers", "us_per_event", READERS)
    delivery_us = (many_us - few_us) / (READERS - FEW)
    return EventsModel(
        base_mib=_at(points, "events/idle", "base_mib", IDLE),
        stream_kib=_at(points, "events/idle", "kib", IDLE),
        kernel_kib=_at(points, "events/idle", "kernel_kib", IDLE),
        idle_core=idle_core,
        ping_us=(_at(points, "events/idle", "core", IDLE) - idle_core) / pings_per_s * 1e6,
        accept_us=_at(points, "events/idle", "us_per_accept", IDLE),
        event_us=few_us - FEW * delivery_us,
        delivery_us=delivery_us,
        relay_us=max(0.0, _at(points, "events/relayed", "us_per_event", 1) - delivery_us),
        delivery_bytes=_at(points, "events/readers", "bytes_per_delivery", READERS),
    )


def chat(points: Points) -> ChatModel:
    """Returns the chat lane's constants. Raises NotMeasured."""

    def runs(name: str, count: int) -> float:
        return _at(points, "chat/runs", name, count)

    idle_core = runs("idle_core", 100)
    core, tokens, starts = (runs(name, 100) for name in ("core", "tokens_per_s", "starts_per_s"))
    more_core, more_tokens, more_starts = (runs(name, 300) for name in ("core", "tokens_per_s", "starts_per_s"))
    short_core, short_starts = (_at(points, "chat/answers", name, 10) for name in ("core", "starts_per_s"))
    start_core = max(0.0, (short_core - core) / (short_starts - starts))
    token_core = (more_core - core - (more_starts - starts) * start_core) / (more_tokens - tokens)
    commit_core = core - idle_core - tokens * token_core - starts * start_core
    lone_core, followed_core = (_at(points, "chat/followers", "core", count) for count in (1, 100))
    follower_tokens = _at(points, "chat/followers", "tokens_per_s", 100) - _at(
        points, "chat/followers", "tokens_per_s", 1
    )
    return ChatModel(
        base_mib=runs("base_mib", 300),
        run_kib=runs("kib_per_run", 300),
        idle_core=idle_core,
        start_us=start_core * 1e6,
        token_us=token_core * 1e6,
        commit_us=max(0.0, commit_core / commits(tokens) * 1e6),
        lone_core=lone_core,
        follow_us=(followed_core - lone_core) / follower_tokens * 1e6,
    )


def audio(points: Points) -> AudioModel:
    """Returns the audio lane's constants. Raises NotMeasured."""
    in_time = [one.load for one in points.figure("audio/sessions", "stable_p90_s") if one.value <= IN_TIME_S]
    return AudioModel(
        cores=_at(points, "audio/sessions", "cores", FULL),
        voice_core=_at(points, "audio/sessions", "core", 1),
        full_cores=_at(points, "audio/sessions", "core", FULL),
        voices=max(in_time, default=0),
        server_mib=_at(points, "audio/sessions", "mib", FULL),
    )


def log(points: Points) -> LogModel:
    """Returns the log lane's constants. Raises NotMeasured."""

    def value_of(name: str) -> float:
        return _at(points, "log/events", name, LOG_EVENTS)

    return LogModel(
        event_bytes=value_of("bytes_per_event"),
        append_per_s=value_of("append_per_s"),
        append_us=value_of("append_us"),
        tail_us=value_of("tail_us"),
        resume_us=value_of("resume_us"),
    )


LANES: dict[str, Callable[[Points], LaneModel]] = {"events": events, "chat": chat, "audio": audio, "log": log}


def _at(points: Points, series: str, name: str, load: int) -> float:
    return _value_of(points.at(series, name, load), f"{name} of {series} at {load:,}")


def _value_of(value: float | None, what: str) -> float:
    if value is None:
        raise NotMeasured(f"{what} was not measured")
    return value
