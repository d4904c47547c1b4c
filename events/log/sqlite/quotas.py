"""Keeps the counters of limits in a small file beside the log's, for all processes of the machine.

A file of its own, because counters need no disk: nothing here waits for one (`synchronous=OFF`), and neither does a
commit of the log ever wait for a count, nor the other way round. It may be deleted while nothing runs; after a loss of
power it may be damaged, and is then made anew. One thread uses the connection; each batch is one short transaction.
"""

import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from events.log.quotas import HEARTBEAT_S, LIVE_S, TakeBatch, TakeReply, decide
from events.log.sqlite.file import Database, SqlError, connect, is_damage, transaction, unavailable
from gateway.errors import LogUnavailable

BUSY_S = 2.0
"""Seconds that a batch waits for those of other processes."""
SUFFIX = "-limits"
SCHEMA = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=OFF",
    "PRAGMA wal_autocheckpoint=1000",
    "CREATE TABLE IF NOT EXISTS holders (holder TEXT PRIMARY KEY, heard_s REAL NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS slots (counter TEXT NOT NULL, holder TEXT NOT NULL, count INTEGER NOT NULL,"
    " PRIMARY KEY (counter, holder)) WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS slots_by_holder ON slots (holder)",
    "CREATE TABLE IF NOT EXISTS rates (counter TEXT NOT NULL, bucket INTEGER NOT NULL, amount INTEGER NOT NULL,"
    " leaves_s INTEGER NOT NULL, PRIMARY KEY (counter, bucket)) WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS rates_by_end ON rates (leaves_s)",
)
BUCKETS = "SELECT bucket, amount FROM rates WHERE counter = ? AND bucket >= ? ORDER BY bucket"
HELD = "SELECT coalesce(sum(s.count), 0) FROM slots s JOIN holders h USING (holder) WHERE counter = ? AND heard_s >= ?"
ADD = """
INSERT INTO rates VALUES (?, ?, ?, ?) ON CONFLICT (counter, bucket) DO UPDATE SET amount = amount + excluded.amount
"""
HOLD = "INSERT INTO slots VALUES (?, ?, ?) ON CONFLICT (counter, holder) DO UPDATE SET count = count + excluded.count"
HEAR = "REPLACE INTO holders VALUES (?, ?)"


class SqliteCounters:
    """The counters of a log's file. `clock` gives seconds since 1970."""

    def __init__(self, log_path: Path, clock: Callable[[], float]) -> None:
        self._path = log_path.with_name(log_path.name + SUFFIX)
        self._clock = clock
        self._now_s = 0.0
        self._next_sweep_s = 0.0
        self._db: Database | None = None
        self.thread = ThreadPoolExecutor(1, "log-counters")

    def take(self, batch: TakeBatch) -> TakeReply:
        """Makes a batch; called in `thread` alone. Raises LogUnavailable."""
        try:
            return self._take(batch)
        except SqlError as err:
            self._forget()
            if not is_damage(err):
                raise unavailable(err) from err
            for suffix in ("", "-wal", "-shm"):
                self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
            raise LogUnavailable("the counters of limits were damaged, and begin anew") from err

    def close(self) -> None:
        self.thread.submit(self._forget)
        self.thread.shutdown()

    def _open(self) -> Database:
        if self._db is None:
            self._path.touch(mode=0o600)
            self._db = connect(self._path, busy_s=BUSY_S)
            for statement in SCHEMA:
                self._db.execute(statement)
        return self._db

    def _forget(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            with contextlib.suppress(SqlError):
                db.close()

    def _take(self, batch: TakeBatch) -> TakeReply:
        db = self._open()
        with transaction(db):
            self._now_s = now_s = self._clock()
            if now_s >= self._next_sweep_s:
                self._next_sweep_s = now_s + HEARTBEAT_S
                self._sweep(db)
            row = db.execute("SELECT 1 FROM holders WHERE holder = ?", (batch.holder,)).fetchone()
            db.execute(HEAR, (batch.holder, now_s))
            for counter, count in batch.held.items():
                if count:
                    db.execute("REPLACE INTO slots VALUES (?, ?, ?)", (counter, batch.holder, count))
                else:
                    db.execute("DELETE FROM slots WHERE counter = ? AND holder = ?", (counter, batch.holder))
            return TakeReply(row is not None, now_s, decide(batch, self, now_s))

    def _sweep(self, db: Database) -> None:
        """Deletes what counts no more."""
        since_s = self._now_s - LIVE_S
        db.execute("DELETE FROM slots WHERE holder IN (SELECT holder FROM holders WHERE heard_s < ?)", (since_s,))
        db.execute("DELETE FROM holders WHERE heard_s < ?", (since_s,))
        db.execute("DELETE FROM rates WHERE leaves_s <= ?", (self._now_s,))

    # What `decide` asks for, within the transaction

    def buckets(self, counter: str, oldest: int) -> list[tuple[int, int]]:
        return self._open().execute(BUCKETS, (counter, oldest)).fetchall()

    def held_by_all(self, counter: str) -> int:
        return self._open().execute(HELD, (counter, self._now_s - LIVE_S)).fetchone()[0]

    def add(self, counter: str, bucket: int, amount: int, leaves_s: int) -> None:
        self._open().execute(ADD, (counter, bucket, amount, leaves_s))

    def hold(self, counter: str, holder: str, change: int) -> None:
        self._open().execute(HOLD, (counter, holder, change))
