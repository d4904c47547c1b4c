"""Keeps the counters of limits in a small file beside the log's, for all processes of the machine.

A file of its own, because counters need no disk: nothing here waits for one (`synchronous=OFF`), and neither does a
commit of the log ever wait for a count, nor the other way round. It may be deleted while nothing runs; after a loss of
power it may be damaged, and is then made anew. Each batch is one short transaction.

A small batch is made on the event loop: it takes 0.1 ms, waits for nobody, and a thread would cost three times that to
wake. A large one, and one that another process keeps waiting, is made on a thread, by a connection of its own.
"""

import asyncio
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
SMALL = 16
"""Maximum statements of a batch that is made on the event loop."""
HEARD_S = 1.0
"""Seconds for which a process that was heard of need not be noted again."""
SCHEMA = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=OFF",
    "CREATE TABLE IF NOT EXISTS holders (holder TEXT PRIMARY KEY, heard_s REAL NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS slots (counter TEXT NOT NULL, holder TEXT NOT NULL, count INTEGER NOT NULL,"
    " PRIMARY KEY (counter, holder)) WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS slots_by_holder ON slots (holder)",
    "CREATE TABLE IF NOT EXISTS rates (counter TEXT NOT NULL, bucket INTEGER NOT NULL, amount INTEGER NOT NULL,"
    " leaves_s INTEGER NOT NULL, PRIMARY KEY (counter, bucket)) WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS rates_by_end ON rates (leaves_s)",
)
BUCKETS = "SELECT bucket, amount FROM rates WHERE counter = ? AND bucket >= ? ORDER BY bucket"
HELD = """
SELECT coalesce(sum(s.count), 0) FROM slots s JOIN holders h USING (holder)
WHERE counter = ? AND heard_s >= ? AND holder <> ?
"""
ADD = """
INSERT INTO rates VALUES (?, ?, ?, ?) ON CONFLICT (counter, bucket) DO UPDATE SET amount = amount + excluded.amount
"""
HOLD = "REPLACE INTO slots VALUES (?, ?, ?)"
OWN = "SELECT count FROM slots WHERE counter = ? AND holder = ?"
HEAR = "REPLACE INTO holders VALUES (?, ?)"


class SqliteCounters:
    """The counters of a log's file. `clock` gives seconds since 1970."""

    def __init__(self, log_path: Path, clock: Callable[[], float]) -> None:
        path = log_path.with_name(log_path.name + SUFFIX)
        self._here, self._there = CounterFile(path, clock, 0), CounterFile(path, clock, BUSY_S)
        self._thread = ThreadPoolExecutor(1, "log-counters")

    async def take(self, batch: TakeBatch) -> TakeReply:
        """Makes a batch. Raises LogUnavailable."""
        size = len(batch.held) + len(batch.settlements) + sum(map(len, batch.calls))
        if size <= SMALL and self._here.is_open and not self._here.is_sweep_due():
            with contextlib.suppress(SqlError):  # most likely another process counts just now; the thread finds out
                return self._here.take(batch)
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._take, batch)

    def _take(self, batch: TakeBatch) -> TakeReply:
        try:
            reply = self._there.take(batch, sweeps=True)
            self._here.note_sweep()
            with contextlib.suppress(SqlError):  # another process counts; there is a next time
                self._here.open()
        except SqlError as err:
            self._there.close()
            if not is_damage(err):
                raise unavailable(err) from err
            self._there.remove()
            raise LogUnavailable("the counters of limits were damaged, and begin anew") from err
        return reply

    def close(self) -> None:
        self._thread.shutdown()
        self._here.close()
        self._there.close()


class CounterFile:
    """One connection to the file; a CounterTable while it makes a batch."""

    def __init__(self, path: Path, clock: Callable[[], float], busy_s: float) -> None:
        self._path = path
        self._clock = clock
        self._busy_s = busy_s
        self._now_s = 0.0
        self._next_sweep_s = 0.0
        self._heard = ("", 0.0)
        """Whom it has noted last, and when."""
        self._holder = ""
        self._own: dict[str, int] = {}
        """The slots of the batch's holder, and after its calls, of each counter in it."""
        self._written: set[str] = set()
        self._db: Database | None = None

    @property
    def is_open(self) -> bool:
        return self._db is not None

    def is_sweep_due(self) -> bool:
        return not 0 <= self._next_sweep_s - self._clock() <= HEARTBEAT_S

    def note_sweep(self) -> None:
        self._next_sweep_s = self._clock() + HEARTBEAT_S

    def open(self) -> Database:
        if self._db is None:
            self._path.touch(mode=0o600)
            db = connect(self._path, busy_s=self._busy_s)
            for statement in SCHEMA:
                db.execute(statement)
            self._db = db  # only now: another thread may be waiting for it
        return self._db

    def remove(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)

    def close(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            with contextlib.suppress(SqlError):
                db.close()

    def take(self, batch: TakeBatch, *, sweeps: bool = False) -> TakeReply:
        """Makes a batch. Raises SqlError."""
        try:
            return self._take(self.open(), batch, sweeps)
        except SqlError:
            self._heard = ("", 0.0)
            raise

    def _take(self, db: Database, batch: TakeBatch, sweeps: bool) -> TakeReply:
        with transaction(db):
            self._now_s = now_s = self._clock()
            if sweeps and self.is_sweep_due():
                self.note_sweep()
                self._sweep(db)
            was_known = self._hear(db, batch.holder)
            self._holder, self._own, self._written = batch.holder, dict(batch.held), set()
            outcomes = decide(batch, self, now_s)
            for counter in self._own.keys() - self._written:
                self._report(db, counter)
        if sweeps:
            db.execute("PRAGMA wal_checkpoint(PASSIVE)")
        return TakeReply(was_known, now_s, outcomes)

    def _hear(self, db: Database, holder: str) -> bool:
        """Notes that a process lives; returns whether that was known."""
        last_holder, heard_s = self._heard
        if last_holder == holder and 0 <= self._now_s - heard_s < HEARD_S:
            return True
        row = db.execute("SELECT 1 FROM holders WHERE holder = ?", (holder,)).fetchone()
        db.execute(HEAR, (holder, self._now_s))
        self._heard = (holder, self._now_s)
        return row is not None

    def _report(self, db: Database, counter: str) -> None:
        if self._own[counter]:
            db.execute(HOLD, (counter, self._holder, self._own[counter]))
        else:
            db.execute("DELETE FROM slots WHERE counter = ? AND holder = ?", (counter, self._holder))

    def _sweep(self, db: Database) -> None:
        """Deletes what counts no more."""
        since_s = self._now_s - LIVE_S
        db.execute("DELETE FROM slots WHERE holder IN (SELECT holder FROM holders WHERE heard_s < ?)", (since_s,))
        db.execute("DELETE FROM holders WHERE heard_s < ?", (since_s,))
        db.execute("DELETE FROM rates WHERE leaves_s <= ?", (self._now_s,))

    # What `decide` asks for, within the transaction

    def buckets(self, counter: str, oldest: int) -> list[tuple[int, int]]:
        return self.open().execute(BUCKETS, (counter, oldest)).fetchall()

    def held_by_all(self, counter: str) -> int:
        others: int = self.open().execute(HELD, (counter, self._now_s - LIVE_S, self._holder)).fetchone()[0]
        return others + self._own_of(counter)

    def add(self, counter: str, bucket: int, amount: int, leaves_s: int) -> None:
        self.open().execute(ADD, (counter, bucket, amount, leaves_s))

    def hold(self, counter: str, holder: str, change: int) -> None:
        self._own[counter] = self._own_of(counter) + change
        self._written.add(counter)
        self._report(self.open(), counter)

    def _own_of(self, counter: str) -> int:
        """Returns what the batch's process holds; it is asked for where the batch does not say it."""
        if counter not in self._own:
            row = self.open().execute(OWN, (counter, self._holder)).fetchone()
            self._own[counter] = row[0] if row else 0
            self._written.add(counter)
        return self._own[counter]
