"""A crew of processes hears many recordings, one on each core: hours of speech take minutes.

Each process has a model of its own, with one thread. Results come in the order of the recordings, and how far the crew
is is printed now and then.
"""

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TypeVar

from loadtests.bench.audio.speech import Recording

SHOWN_S = 15.0
"""Seconds between two lines that say how far it is."""

Result = TypeVar("Result")


def heard_by_all(
    hear: Callable[[Recording], Result], begin: Callable[[Path], None], model: Path, recordings: Sequence[Recording]
) -> Iterator[Result]:
    """Yields what `hear` returns of each recording; `begin` opens the model in each process. Both are functions."""
    cores = os.cpu_count() or 1
    spawned = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(cores, len(recordings)), spawned, _begin, (begin, model))
    try:
        yield from pool.map(hear, recordings)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _begin(begin: Callable[[Path], None], model: Path) -> None:
    os.sched_setaffinity(0, range(os.cpu_count() or 1))  # the benchmark itself is on one core
    begin(model)


def shown(results: Iterator[Result], recordings: Sequence[Recording], what: str) -> Iterator[Result]:
    """Yields the results, and prints now and then how much was heard and how long the rest will take."""
    began = told = time.monotonic()
    heard_s, total_s = 0.0, sum(one.seconds for one in recordings)
    for at, (recording, result) in enumerate(zip(recordings, results, strict=True), 1):
        yield result
        heard_s += recording.seconds
        now = time.monotonic()
        if now - told > SHOWN_S or at == len(recordings):
            told, left_s = now, (now - began) * (total_s / heard_s - 1)
            line = f"  {what}: {heard_s / 60:.1f} of {total_s / 60:.1f} min, {at} of {len(recordings)} recordings"
            print(f"{line}, {now - began:.0f} s, {left_s:.0f} s to go", flush=True)
