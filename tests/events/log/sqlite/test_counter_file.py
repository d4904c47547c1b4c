"""Counters that a connection keeps in memory are those of the file, whatever happens to a batch, and whoever writes."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from events.log.quotas import MINUTE, SLOTS, MemoryCounters, Settlement, Take, TakeBatch
from events.log.sqlite.counter_file import KEPT_ROWS, CounterFile, CounterRow

RUNS = "runs/alice"
REQUESTS = "requests_per_minute/alice"


def batch(*takes: Take, holder: str = "one", **held: int) -> TakeBatch:
    return TakeBatch(holder=holder, held={f"{key}/alice": count for key, count in held.items()}, calls=[takes])


def used(file: CounterFile, counter: str = REQUESTS) -> int:
    """Returns what a connection finds counted."""
    window = SLOTS if counter == RUNS else MINUTE
    return file.take(batch(Take(counter, 1000, 0, window))).outcomes[0].tallies[0].used


@pytest.fixture
def files(tmp_path: Path) -> list[CounterFile]:
    return [CounterFile(tmp_path / "limits", time.time, 1.0) for _ in range(2)]


def test_each_connection_finds_what_the_other_has_counted(files: list[CounterFile]) -> None:
    for number in range(20):
        assert used(files[number % 2]) == number
        files[number // 2 % 2].take(batch(Take(REQUESTS, 1000, 1, MINUTE)))


def test_what_a_connection_keeps_is_counted_as_in_memory_as_time_goes_by(tmp_path: Path) -> None:
    now_s = 1_000_000.0
    file, memory = CounterFile(tmp_path / "limits", lambda: now_s, 1.0), MemoryCounters(lambda: now_s)
    for step in range(100):
        now_s += step % 7
        settled = Settlement(REQUESTS, MINUTE.current(now_s - 5 * (step % 15)), step % 5 - 1, MINUTE)
        step_batch = TakeBatch(holder="one", settlements=[settled], calls=[[Take(REQUESTS, 40, step % 3, MINUTE)]])
        found, expected = file.take(step_batch).outcomes[0], memory.take(step_batch).outcomes[0]
        assert (found.refused, found.tallies[0].used) == (expected.refused, expected.tallies[0].used)


def test_what_a_failed_batch_has_counted_is_forgotten(files: list[CounterFile]) -> None:
    file = files[0]
    file.take(batch(Take(REQUESTS, 1000, 1, MINUTE), runs=1))
    bad: Any = None
    with pytest.raises(TypeError):
        file.take(
            TakeBatch(
                holder="one", held={RUNS: 5}, calls=[[Take(REQUESTS, 1000, 7, MINUTE)], [Take(RUNS, bad, 1, SLOTS)]]
            )
        )
    assert (used(file), used(file, RUNS)) == (1, 1)


def test_what_a_sweep_deletes_does_not_come_back(tmp_path: Path) -> None:
    now_s = 1_000_000.0
    path = tmp_path / "limits"
    file = CounterFile(path, lambda: now_s, 1.0)
    file.take(batch(Take(REQUESTS, 1000, 3, MINUTE), runs=1))
    now_s += 1000
    file.sweep()
    assert (used(file), used(file, RUNS)) == (0, 0)
    file.take(batch(Take("tokens_per_minute/alice", 1000, 5, MINUTE)))
    with closing(sqlite3.connect(path)) as db:
        [(state,)] = db.execute("SELECT state FROM counters WHERE whose = 'alice'")
    row = msgspec.msgpack.decode(state, type=CounterRow)
    assert list(row.rates) == ["tokens_per_minute"]
    assert not any(row.slots.values())


def test_no_more_than_so_many_rows_are_kept(files: list[CounterFile]) -> None:
    file = files[0]
    for number in range(KEPT_ROWS + 10):
        file.take(TakeBatch(holder="one", calls=[[Take(f"requests_per_minute/u{number}", 10, 1, MINUTE)]]))
    assert len(file._rows) <= KEPT_ROWS + 2  # pyright: ignore[reportPrivateUsage]
    assert used(file, "requests_per_minute/u0") == 1
