"""Large loads need processes, memory, network, and a store between the processes: how much, by the model. Pure.

A process is one event loop, so one core; a plan fills it to SHARE and no further. A machine's other costs (TLS at the
edge, load balancers, logs, the models themselves) are not in it, and neither is money.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from loadtests.bench.growth.model import AudioModel, ChatModel, EventsModel, commits

SHARE = 0.6
"""The share of a core that a plan uses: delays stay small, and the load of a lost process has room elsewhere."""
MEMORY_SHARE = 0.8
MOST_STREAMS = 18_000
"""Streams in one process: more were not measured."""
MOST_PROCESSES = 1_000_000
PACKET_BYTES = 66 + 29
"""Bytes around one write: Ethernet, IP and TCP with timestamps; a TLS 1.3 record and an HTTP chunk."""
TOKEN_BYTES = 92
"""Bytes of a token's frame in the UI message stream: id, type, five letters of text."""
UPSTREAM_BYTES = 240
"""Bytes of a token's chunk from an OpenAI-compatible server."""
VOICE_BYTES_PER_S = 32_000
"""Bytes of speech a second: 16 kHz, 16 bit, one channel."""
SEGMENT_S = 5.0
"""Seconds of speech between two finals."""


@dataclass(frozen=True, kw_only=True)
class Need:
    """The resources that a load needs. `store_*`: what Redis or Postgres between the processes would carry."""

    processes: int
    cores: float
    """Cores that are used, not reserved."""
    reserved_cores: int
    memory_gib: float
    out_mb_s: float
    in_mb_s: float = 0.0
    store_events_per_s: float = 0.0
    """Events that are appended in a second."""
    store_writes_per_s: float = 0.0
    """Transactions or pipelines that carry them in a second."""
    store_relayed_per_s: float = 0.0
    """Events that processes read in a second because another one took them."""


@dataclass(frozen=True, kw_only=True)
class Listeners:
    """People who wait for events."""

    streams: int
    readers: int
    """Number of readers of each topic."""
    events_per_s: float
    """Events a second on each topic."""
    ping_s: float = 15.0
    stay_s: float = 540.0
    """Seconds that a stream lasts: 80 to 100 % of TRILANE_MAX_AGE_S."""
    by_topic: bool = False
    """Whether the balancer sends all readers of a topic to the same process; else they are anywhere."""


def listeners(model: EventsModel, load: Listeners) -> Need:
    """Returns what listeners need. Raises OverflowError when no number of processes is enough."""
    events = load.streams / load.readers * load.events_per_s

    def relayed(processes: int) -> float:
        """Returns events a second that a process hears of from others: with readers anywhere, of each topic here."""
        if load.by_topic:
            return 0.0
        return max(0.0, events * (1 - (1 - 1 / processes) ** load.readers) - events / processes)

    def core(processes: int) -> float:
        streams = load.streams / processes
        silent = model.silent_core(streams / load.ping_s) + streams / load.stay_s * model.accept_us / 1e6
        events_us = events / processes * model.event_us + relayed(processes) * model.relay_us
        return silent + (events_us + streams * load.events_per_s * model.delivery_us) / 1e6

    processes = _fewest(core, math.ceil(load.streams / MOST_STREAMS))
    kernel_gib = load.streams * model.kernel_kib / 1024**2
    return Need(
        processes=processes,
        cores=processes * core(processes),
        reserved_cores=processes,
        memory_gib=(processes * model.mib(load.streams / processes) / 1024 + kernel_gib) / MEMORY_SHARE,
        out_mb_s=load.streams * load.events_per_s * (model.delivery_bytes + PACKET_BYTES) / 1e6
        + load.streams / load.ping_s * (len(": ping\n") + PACKET_BYTES) / 1e6,
        store_events_per_s=events,
        store_writes_per_s=processes * commits(events / processes),
        store_relayed_per_s=processes * relayed(processes),
    )


@dataclass(frozen=True, kw_only=True)
class Runs:
    """Answers that are being written."""

    runs: int
    tokens_per_s: float = 50.0
    """Tokens a second of each run."""
    answer_tokens: float = 500.0


def runs(model: ChatModel, load: Runs) -> Need:
    """Returns what runs need, each read by the process that owns it.

    Raises OverflowError when no number of processes is enough.
    """
    tokens = load.runs * load.tokens_per_s
    starts = tokens / load.answer_tokens

    def core(processes: int) -> float:
        return model.core(tokens / processes, starts / processes)

    processes = _fewest(core, 1)
    return Need(
        processes=processes,
        cores=processes * core(processes),
        reserved_cores=processes,
        memory_gib=processes * model.mib(load.runs / processes) / 1024 / MEMORY_SHARE,
        out_mb_s=tokens * (TOKEN_BYTES + PACKET_BYTES) / 1e6,
        in_mb_s=tokens * (UPSTREAM_BYTES + PACKET_BYTES) / 1e6,
        store_events_per_s=tokens,
        store_writes_per_s=processes * commits(tokens / processes) + 2 * starts,
    )


@dataclass(frozen=True, kw_only=True)
class Voices:
    """People who are connected to speak; `speaking` is the share of the time that they do."""

    voices: int
    speaking: float = 1.0


def voices(model: AudioModel, load: Voices) -> Need:
    """Returns what voices need. Raises OverflowError when not one session was in time."""
    if not model.voices:
        raise OverflowError("no session's words were stable in time: no number of servers is enough")
    servers = math.ceil(load.voices * load.speaking / model.voices)
    finals = load.voices * load.speaking / SEGMENT_S
    return Need(
        processes=servers,
        cores=servers * model.busy_cores(load.voices * load.speaking / servers),
        reserved_cores=servers * round(model.cores),
        memory_gib=servers * model.server_mib / 1024 / MEMORY_SHARE,
        out_mb_s=0.0,
        in_mb_s=load.voices * VOICE_BYTES_PER_S / 1e6,
        store_events_per_s=finals,
        store_writes_per_s=finals,
    )


def _fewest(core: Callable[[int], float], least: int) -> int:
    """Returns the fewest processes, each with room. `core` is what one of so many uses.

    A search, because more processes may first mean more work: each hears of what the others took.
    """
    processes = max(1, least)
    while core(processes) > SHARE:
        processes = max(processes + 1, math.ceil(processes * 1.01))
        if processes > MOST_PROCESSES:
            raise OverflowError(f"a process of a million still needs {core(processes):.2f} cores")
    return processes
