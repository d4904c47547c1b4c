"""Each admitted answer, session and file has one usage row that is true, however it ended, and however its process did.

Two processes on one log are ended by SIGTERM and by `kill -9`, again and again, under answers and sessions of every
end; `usage_account` says what a row must be. LONG_TESTS=1 makes it 2,000 answers and 200 sessions.
"""

import asyncio
import os
import random
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import msgspec
import pytest

from events.log.quotas import LIVE_S
from events.log.sqlite.counter_file import HOLDERS, CounterRow
from gateway.core.limits import AUDIO_PORTION_S, UNKNOWN_OUTPUT_TOKENS
from tests.conftest import Gateway, UpstreamThread, eventually, serving
from tests.faults.usage_account import UsageAccount, faults, read_account, read_rows
from tests.faults.usage_load import UsageLoad

LONG = bool(os.environ.get("LONG_TESTS"))
RUNS, SESSIONS, AT_ONCE, LIVES_S = (2000, 200, 24, (2.0, 5.0)) if LONG else (120, 18, 30, (0.7, 1.5))
SETTLED_S = 45.0
"""Seconds within which everything is settled: 15 of silence, after the start of a process that notices it."""
FREE_S = 30.0
KEPT_S = 3.0
SEED = random.randrange(1 << 32)
ENV = {
    "TRILANE_FIRST_TOKEN_S": "1.5",
    "TRILANE_BETWEEN_TOKENS_S": "1.5",
    "TRILANE_DRAIN_WINDOW_S": "0.3",
    "TRILANE_DRAIN_DEADLINE_S": "1.5",
    "TRILANE_SESSION_KEPT_S": str(KEPT_S),
    **{f"TRILANE_LIMIT_{key}": "100000" for key in ("RUNS", "STREAMS", "SESSIONS", "USER_RUNS", "USER_SESSIONS")},
    **{f"TRILANE_LIMIT_{key}": "100000000" for key in ("DAILY_TOKENS", "AUDIO_SECONDS_PER_DAY")},
}
pytestmark = pytest.mark.timeout(1800 if LONG else 120)


@pytest.fixture(scope="module")
def gateways(upstream: UpstreamThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Gateway]]:
    folder = tmp_path_factory.mktemp("usage")
    processes = [serving(folder, upstream.url, **ENV) for _ in range(2)]
    try:
        for gateway in processes:
            gateway.unit = "all"
        with ThreadPoolExecutor() as starting:
            list(starting.map(Gateway.start, processes))
        yield processes
    finally:
        for gateway in processes:
            gateway.stop()


def counter_rows(folder: Path) -> dict[str, bytes]:
    """Returns what the file of the limits' counters holds, by whose they are."""
    with sqlite3.connect(folder / "trilane.db-limits") as file:
        rows = dict(file.execute("SELECT whose, state FROM counters").fetchall())
    file.close()
    return rows


def held_slots(folder: Path) -> dict[str, int]:
    """Returns the slots that processes hold of each limit; those of a process that was not heard of count no more."""
    rows = counter_rows(folder)
    holders = msgspec.msgpack.decode(rows.pop(HOLDERS, b"\x80"), type=dict[str, tuple[int, int]])
    alive = {number for number, heard_ms in holders.values() if heard_ms / 1000 >= time.time() - LIVE_S}
    held: dict[str, int] = {}
    for whose, state in rows.items():
        for key, counts in msgspec.msgpack.decode(state, type=CounterRow).slots.items():
            count = sum(count for number, count in counts.items() if number in alive)
            if count:
                held[f"{key}/{whose}"] = count
    return held


def taken(folder: Path, counter: str) -> int:
    key, _, whose = counter.rpartition("/")
    rates = msgspec.msgpack.decode(counter_rows(folder)[whose], type=CounterRow).rates
    return sum(rates.get(key, {}).values())


def check_reports(gateway: Gateway, account: UsageAccount) -> None:
    """Compares the sums that the gateway itself makes with those of the rows."""
    report = httpx2.get(f"{gateway.url}/api/usage?by=lane", verify=False).json()
    for lane in ("chat", "audio"):
        rows = [row for row in account.rows.values() if row.lane == lane]
        (group,) = [group for group in report["groups"] if group["key"] == lane]
        assert group["rows"] == len(rows)
        for name, count in group["quantities"].items():
            assert count == sum(row.quantities.get(name, 0) for row in rows), name


def check_rates(folder: Path, account: UsageAccount, load: UsageLoad) -> None:
    """Compares what limits count with the rows: of what died with its process, what was reserved stays counted.

    That is what was interrupted, what was admitted and had not begun, and what had ended a moment before a `kill -9`.
    """
    rows = account.rows.values()
    unborn = len(load.runs) + len(load.sessions) - len(rows)
    dead = sum(row.outcome == "interrupted" for row in rows) + unborn + AT_ONCE * load.ended.count("SIGKILL")
    tokens = sum(row.quantities.get(name, 0) for row in rows for name in ("inputTokens", "outputTokens"))
    assert tokens <= taken(folder, "daily_tokens/all") <= tokens + dead * (UNKNOWN_OUTPUT_TOKENS + 100)
    heard_s = sum(row.quantities.get("audioMs", 0) for row in rows if not row.estimated) / 1000
    parts = 2 * len(account.sessions)  # of which each is rounded up: a session has one in each process that had it
    assert heard_s <= taken(folder, "audio_seconds_per_day/all") <= heard_s + parts + dead * AUDIO_PORTION_S


def test_every_row_is_there_once_and_true(upstream: UpstreamThread, gateways: list[Gateway]) -> None:
    print(f"\nseed {SEED}")
    folder, began = gateways[0].folder, time.monotonic()
    load = UsageLoad(gateways, SEED)
    asyncio.run(load.run(RUNS, SESSIONS, AT_ONCE, LIVES_S))
    loaded_s = time.monotonic() - began
    eventually(lambda: not held_slots(folder), FREE_S, f"no slot is taken; {held_slots(folder)}", every_s=0.5)
    freed_s = time.monotonic() - began - loaded_s
    path = folder / "trilane.db"
    eventually(lambda: not asyncio.run(read_rows(path)).open, SETTLED_S, "every row is settled", every_s=0.5)
    account = asyncio.run(read_account(path))
    print(f"{len(load.ended)} processes ended; {loaded_s:.0f} s of load; slots free after {freed_s:.1f} s;")
    print(f"settled {time.monotonic() - began - loaded_s:.1f} s after the load; {dict(account.outcomes())}")
    print(f"refused: {load.refused}")
    found = faults(account, load.runs, load.sessions, upstream.fake.requests)
    assert not found, f"{len(found)} faults:\n" + "\n".join(found[:40])
    assert {"run finish", "run abort", "run error", "run interrupted", "session finish"} <= account.outcomes().keys()
    check_reports(gateways[0], account)
    check_rates(folder, account, load)
    for name in ("chat_open_runs", "gateway_open_streams", "audio_open_sessions", "audio_open_uploads"):
        assert [gateway.gauge(f"trilane_{name}") for gateway in gateways] == [0, 0], name
