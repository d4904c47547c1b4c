"""The regression check measures the log in this process, beside SQLite alone, and speech beside one decode of it."""

import asyncio
import contextlib
import importlib.util
import itertools
import sqlite3
import statistics
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from events.log.port import Append, EventLog
from loadtests.bench.harness.event_log import TOKEN, event_log, loop_factory
from loadtests.bench.harness.processes import ROOT, NotStarted
from loadtests.bench.regress.lanes import Pairs, Probe

TOPICS = 300
BURST_S, CHAIN, READS = 0.4, 1000, 100
SPEECH = ROOT / "tests" / "audio" / "data" / "jfk.flac"


@contextlib.contextmanager
def log(port: int, folder: Path) -> Generator[Probe]:
    """Measures appends of many topics at once, appends one after the other, and reads, beside rows in SQLite."""
    numbers = itertools.count()

    def probe() -> Pairs:
        path = folder / f"log-{next(numbers)}"
        path.mkdir()
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            ours = runner.run(_log(path))
        rows = _rows(path)
        return {name: (ours[name], rows[name]) for name in ours}

    yield probe


async def _log(folder: Path) -> dict[str, float]:
    async with event_log(folder / "log.db") as log:
        burst_us = await _burst(log)
        chain_s = [await _time_us(log.append(Append(topic="chain", data=[TOKEN]))) for _ in range(CHAIN)]
        began = time.process_time()
        for _ in range(READS):
            await log.read("burst/2", 0)
        head = (await log.read("burst/2", 0)).head
        read_us = (time.process_time() - began) / READS / head * 1e6
    return {
        "log: CPU of an append": burst_us,
        "log: time of an append": statistics.median(chain_s),
        "log: CPU of a read": read_us,
    }


async def _burst(log: EventLog) -> float:
    """Returns the CPU µs of an append, while every run appends its next token as soon as the last one is there."""
    count, until = 0, time.perf_counter() + BURST_S

    async def run(topic: str) -> None:
        nonlocal count
        expect = 1
        while time.perf_counter() < until:
            await log.append(Append(topic=topic, data=[TOKEN], expect=expect), patient=True)
            expect += 1
            count += 1

    began = time.process_time()
    await asyncio.gather(*(run(f"burst/{n}") for n in range(TOPICS)))
    return (time.process_time() - began) / count * 1e6


async def _time_us(call: Any) -> float:
    began = time.perf_counter()
    await call
    return time.perf_counter() - began


def _rows(folder: Path) -> dict[str, float]:
    """Measures the same tokens as rows: a transaction for all topics, then one for each token; then all are read."""
    with contextlib.closing(sqlite3.connect(folder / "rows.db", isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=NORMAL")
        db.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, data BLOB)")
        count, until, began = 0, time.perf_counter() + BURST_S / 2, time.process_time()
        while time.perf_counter() < until:
            _insert(db, TOPICS)
            count += TOPICS
        burst_us = (time.process_time() - began) / count * 1e6
        chain_s = [_clock_us(lambda: _insert(db, 1)) for _ in range(CHAIN)]
        began = time.process_time()
        row_count = sum(len(db.execute("SELECT data FROM rows LIMIT 1000").fetchall()) for _ in range(READS * 4))
        read_us = (time.process_time() - began) / row_count * 1e6
    return {
        "log: CPU of an append": burst_us,
        "log: time of an append": statistics.median(chain_s),
        "log: CPU of a read": read_us,
    }


def _insert(db: sqlite3.Connection, count: int) -> None:
    db.execute("BEGIN IMMEDIATE")
    db.executemany("INSERT INTO rows (data) VALUES (?)", [(TOKEN,)] * count)
    db.execute("COMMIT")


def _clock_us(call: Callable[[], None]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


@contextlib.contextmanager
def audio(port: int, folder: Path) -> Generator[Probe]:
    """Measures the CPU of a session that speaks for 11 s, beside one decode of the same recording as a whole."""
    import soundfile
    from faster_whisper import WhisperModel

    from audio.model.weights import whisper_models
    from loadtests.bench.audio.client import speak
    from loadtests.bench.audio.server import Place, trilane

    samples, _ = soundfile.read(SPEECH, dtype="float32")
    model = WhisperModel(
        str(whisper_models("")[0].folder), device="cpu", compute_type="int8", cpu_threads=1, num_workers=1
    )

    def decode() -> float:
        began = time.process_time()
        list(model.transcribe(samples, beam_size=5, language="en")[0])
        return time.process_time() - began

    decode()
    place = Place(port, 2, whisper_models("")[0].folder, folder, {})
    with trilane(place, samples) as server:

        def probe() -> Pairs:
            before, began = decode(), server.cpu_s()
            session = asyncio.run(speak(server.url, samples))
            cpu_s = server.cpu_s() - began
            if session.faults:
                raise NotStarted(", ".join(session.faults))
            return {"audio: CPU of speech": (cpu_s, min(before, decode()))}

        yield probe


def has_audio() -> bool:
    """Returns whether the audio extra is installed."""
    return importlib.util.find_spec("faster_whisper") is not None
