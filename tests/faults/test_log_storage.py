"""Storage that goes wrong is told: readers are sent away or get a gap, publishers an error, and nothing is ready."""

import asyncio
import json
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from events.log.sqlite.file import PAGE_BYTES, prepare
from gateway.errors import ConfigurationError
from tests.conftest import Gateway, eventually
from tests.support.damage import damage_where
from tests.support.event_streams import EventReader
from tests.support.problems import check_problem
from tests.support.sse_decoder import Event

READ_S = 20.0
BUSY_S = 3.0
"""Seconds within which a reader is told: two, and one more for a busy machine."""
EVENTS = 400
TEXT = "x" * 300
BLOCK = "SELECT data FROM blocks WHERE topic_id = (SELECT id FROM topics WHERE name = 'event/a') AND first = ?"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Gateway]:
    server = Gateway(tmp_path, {}, unit="events")
    try:
        yield server.start()
    finally:
        server.stop()


def publish(place: Gateway, topic: str, data: Any) -> httpx2.Response:
    return httpx2.post(f"{place.url}/api/events", json={"topic": topic, "data": data}, timeout=20)


async def _read(
    place: Gateway, topics: list[str], cursor: str, query: dict[str, str], count: int, n: int
) -> list[Event]:
    events: list[Event] = []
    async with asyncio.timeout(READ_S), EventReader(place.port, topics, cursor, **query) as reader:
        async for event in reader.events():
            events.append(event)
            if len(events) == count or (event.event == "message" and json.loads(event.data)["n"] == n):
                break
    return events


def read(place: Gateway, *topics: str, cursor: str = "", count: int = 0, upto: int = 0, **query: str) -> list[Event]:
    """Returns a stream's first `count` events, or those up to the one that says it is number `upto`."""
    return asyncio.run(_read(place, [*topics], cursor, query, count, upto))


def first_frame(place: Gateway, *topics: str) -> tuple[str, float]:
    """Returns the name of a stream's first event, and the seconds until it came."""
    began = time.monotonic()
    [event] = read(place, *topics, count=1)
    return event.event, time.monotonic() - began


def is_ready(place: Gateway) -> bool:
    return httpx2.get(f"{place.url}/readyz", timeout=10).status_code == 200


# A file that is no longer there, or takes nothing


@pytest.mark.parametrize("is_replaced", [False, True], ids=["deleted", "replaced"])
def test_a_log_that_was_taken_away_is_told_to_everyone(place: Gateway, is_replaced: bool) -> None:
    assert publish(place, "a", 1).status_code == 200
    path, aside = place.folder / "trilane.db", place.folder / "aside.db"
    path.rename(aside)
    if is_replaced:
        path.write_bytes(aside.read_bytes())
    eventually(lambda: not is_ready(place), within_s=BUSY_S, what="it is not ready")
    refusal = check_problem(publish(place, "a", 2), 503, "log_unavailable", "deleted or replaced")
    assert refusal["retryable"]
    for topics in (["a"], ["new"], ["a", "b"], ["a/*"], ["*"]):
        name, took_s = first_frame(place, *topics)
        assert (name, took_s < BUSY_S) == ("busy", True), topics
    assert httpx2.get(f"{place.url}/api/events/topics/a").status_code == 503
    path.unlink(missing_ok=True)
    aside.rename(path)
    eventually(lambda: is_ready(place), what="it is ready when the file is back")
    assert publish(place, "a", 2).json()["events"][0]["offset"] == 2
    name, _ = first_frame(place, "a")
    assert name == "hello"


def test_a_log_that_cannot_be_written_is_not_ready_and_a_pattern_is_busy(place: Gateway) -> None:
    assert publish(place, "t/1", 1).status_code == 200
    other = sqlite3.connect(place.folder / "trilane.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        eventually(lambda: not is_ready(place), what="it is not ready")
        name, took_s = first_frame(place, "t/*")
        assert (name, took_s < BUSY_S) == ("busy", True)
        assert first_frame(place, "t/1")[0] == "hello"
    finally:
        other.execute("ROLLBACK")
        other.close()
    eventually(lambda: is_ready(place), what="it is ready again")
    assert first_frame(place, "t/*")[0] == "hello"


def test_a_full_disk_is_told_at_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(db: sqlite3.Connection, path: Path) -> None:
        db.execute("CREATE TABLE t (x)")
        db.execute("PRAGMA max_page_count=2")
        db.execute("INSERT INTO t VALUES (zeroblob(100000))")

    monkeypatch.setattr("events.log.sqlite.file._prepare", fill)
    with pytest.raises(ConfigurationError, match=r"the disk is full; free some space"):
        prepare(tmp_path / "log.db")


# A damaged page


def damage(path: Path, offsets: range) -> set[int]:
    """Overwrites the pages of some events; returns the offsets that cannot be read any more."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    content = path.read_bytes()
    for offset in offsets:
        at = content.find(f'{{"n":{offset},"text"'.encode())
        if at >= 0:
            page = at // PAGE_BYTES * PAGE_BYTES
            content = content[:page] + b"\xff" * PAGE_BYTES + content[page + PAGE_BYTES :]
    path.write_bytes(content)
    db = sqlite3.connect(path, isolation_level=None)
    lost = {offset for offset in range(1, EVENTS + 1) if not is_readable(db, offset)}
    db.close()
    return lost


def is_readable(db: sqlite3.Connection, offset: int) -> bool:
    try:
        return db.execute(BLOCK, (offset,)).fetchone() is not None
    except sqlite3.DatabaseError:
        return False


@pytest.mark.parametrize("offsets", [range(200, 201), range(40, 41), range(100, 140)], ids=["middle", "start", "wide"])
def test_a_damaged_page_is_a_gap_and_the_rest_comes(tmp_path: Path, offsets: range) -> None:
    server = Gateway(tmp_path, {}, unit="events").start()
    try:
        with httpx2.Client(base_url=server.url) as http:
            for number in range(1, EVENTS + 1):
                body = {"topic": "a", "data": {"n": number, "text": TEXT}}
                assert http.post("/api/events", json=body).status_code == 200
        server.stop()
        damage_where(tmp_path / "trilane.db", b'"kind":"new"')  # what processes say to each other of their readers
        lost = damage(tmp_path / "trilane.db", offsets)
        assert offsets[0] in lost
        assert EVENTS not in lost
        server.start()
        events = read(server, "a", upto=EVENTS, **{"from": "earliest"})
        numbers = [json.loads(event.data)["n"] for event in events if event.event == "message"]
        gaps = [json.loads(event.data) for event in events if event.event == "gap"]
        assert {gap["reason"] for gap in gaps} == {"damaged"}
        assert {number for gap in gaps for number in range(gap["from"], gap["to"] + 1)} == lost
        assert numbers == [number for number in range(1, EVENTS + 1) if number not in lost]
        last_gap = [event for event in events if event.event == "gap"][-1]
        hello, event = read(server, "a", cursor=last_gap.id, count=2)
        assert (json.loads(hello.data)["recovered"], event.event) == (True, "message")
        assert "the log is damaged" in server.stderr()
        metrics = httpx2.get(f"{server.url}/metrics").text
        assert f'trilane_log_lost_events_total{{reason="damaged"}} {float(len(lost))}' in metrics
    finally:
        server.stop()
