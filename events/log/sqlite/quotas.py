"""Keeps the counters of limits in a small file beside the log's, for all processes of the machine.

A file of its own, because counters need no disk: nothing here waits for one (`synchronous=OFF`), and neither does a
commit of the log ever wait for a count, nor the other way round. It may be deleted while nothing runs; after a loss of
power it may be damaged, and is then made anew. Each batch is one short transaction: `decide` works on its counters in
memory, and one statement writes those that have changed. They are read only when others have written since.

A small batch is made on the event loop: it takes 0.1 ms, waits for nobody, and a thread would cost three times that to
wake. A large one, and one that another process keeps waiting, is made on a thread, by a connection of its own.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import msgspec

from events.log.quotas import HEARTBEAT_S, LIVE_S, TakeBatch, TakeReply, decide
from events.log.sqlite.file import Database, SqlError, connect, is_damage, transaction, unavailable
from gateway.errors import LogUnavailable

BUSY_S = 2.0
"""Seconds that a batch waits for those of other processes."""
SUFFIX = "-limits"
SMALL = 64
"""Maximum counters that a batch made on the event loop names, one of them as often as it is named."""
HEARD_MS = 1000
"""Milliseconds for which a process that was heard of need not be noted again."""
SWEEP_ROWS = 500
SWEEP_BUDGET_S = 0.005
"""Seconds after which a sweep leaves the rest to the next: it keeps all others waiting."""
MAX_ROWS = 500
"""Maximum rows of one statement."""
KEPT_ROWS = 1024
"""Maximum rows that a connection keeps in memory; past it all are read again."""
HOLDERS = ""
"""Name of the row of processes."""
SCHEMA = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=OFF",
    # Few pages are written over and over, and to find one in the WAL SQLite walks over its earlier versions.
    "PRAGMA wal_autocheckpoint=64",
    # All counters of one user, or of everyone, are a row, so that a request reads two of them, and the holders'.
    "CREATE TABLE IF NOT EXISTS counters (whose TEXT PRIMARY KEY, state BLOB NOT NULL) WITHOUT ROWID",
)
PORTION = f"SELECT whose, state FROM counters WHERE whose > ? ORDER BY whose LIMIT {SWEEP_ROWS}"


class CounterRow(msgspec.Struct, array_like=True, gc=False):
    """The counters whose names end alike, by how they begin."""

    rates: dict[str, dict[int, int]] = {}
    """Amounts by bucket."""
    slots: dict[str, dict[int, int]] = {}
    """Slots by the number of their process."""
    leaves_s: int = 0
    """When the newest bucket of all counts no more, in seconds since 1970."""


_encode = msgspec.msgpack.encode
_decode = msgspec.msgpack.Decoder(CounterRow).decode
_decode_holders = msgspec.msgpack.Decoder(dict[str, tuple[int, int]]).decode
"""Each process: its number, new whenever it was taken for dead, and when it was heard of, in ms since 1970."""


@lru_cache(4096)
def _place(counter: str) -> tuple[str, str]:
    """Returns the row of a counter, and its name there."""
    key, _, whose = counter.rpartition("/")
    return whose, key


@lru_cache(64)
def _find(count: int) -> str:
    return f"SELECT whose, state FROM counters WHERE whose IN ({','.join('?' * count)})"


@lru_cache(64)
def _put(count: int) -> str:
    values = ",".join(["(?,?)"] * count)
    return f"INSERT INTO counters VALUES {values} ON CONFLICT DO UPDATE SET state=excluded.state"


class SqliteCounters:
    """The counters of a log's file. `clock` gives seconds since 1970."""

    def __init__(self, log_path: Path, clock: Callable[[], float]) -> None:
        path = log_path.with_name(log_path.name + SUFFIX)
        self._here, self._there = CounterFile(path, clock, 0), CounterFile(path, clock, BUSY_S)
        self._clock = clock
        self._next_sweep_s = 0.0
        self._was_damaged = False
        """Whether the file was made anew since this thread's connection was opened."""
        self._thread = ThreadPoolExecutor(1, "log-counters")

    def take_at_once(self, batch: TakeBatch) -> TakeReply | None:
        """Makes a small batch in the caller's thread; None when that must wait, or cannot be done."""
        if self._was_damaged:
            self._was_damaged = False
            self._here.close()
        size = len(batch.held) + len(batch.settlements) + sum(map(len, batch.calls))
        if size > SMALL or not self._here.is_open or self._is_sweep_due():
            return None
        try:
            return self._here.take(batch)
        except (SqlError, msgspec.DecodeError):
            return None  # most likely another process counts just now; the thread finds out

    async def take(self, batch: TakeBatch) -> TakeReply:
        """Makes a batch. Raises LogUnavailable."""
        if (reply := self.take_at_once(batch)) is not None:
            return reply
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._take, batch)

    def _take(self, batch: TakeBatch) -> TakeReply:
        try:
            reply = self._there.take(batch)
            if self._is_sweep_due():
                self._there.sweep()
                self._next_sweep_s = self._clock() + HEARTBEAT_S
        except (SqlError, msgspec.DecodeError) as err:
            self._there.close()
            if isinstance(err, SqlError) and not is_damage(err):
                raise unavailable(err) from err
            self._there.remove()
            self._was_damaged = True
            raise LogUnavailable("the counters of limits were damaged, and begin anew") from err
        with contextlib.suppress(SqlError):  # another process counts; there is a next time
            self._here.open()
        return reply

    def _is_sweep_due(self) -> bool:
        return not 0 < self._next_sweep_s - self._clock() <= HEARTBEAT_S

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
        self._rows: dict[str, CounterRow] = {}
        """Rows as they are in the file since `_version`, and those of the batch."""
        self._version = -1
        """SQLite's `data_version`: another one says that another connection has written. -1: nothing is known."""
        self._changed: set[str] = set()
        """The rows that the batch has changed."""
        self._holders: dict[str, tuple[int, int]] = {}
        self._live: set[int] = set()
        """The numbers of the processes that were heard of within LIVE_S."""
        self._own = 0
        """The number of the batch's process."""
        self._swept_upto = HOLDERS
        """The row up to which sweeps have looked."""
        self._db: Database | None = None

    @property
    def is_open(self) -> bool:
        return self._db is not None

    def open(self) -> Database:
        if self._db is None:
            self._path.touch(mode=0o600)
            db = connect(self._path, busy_s=self._busy_s)
            for statement in SCHEMA:
                db.execute(statement)
            self._version = -1
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

    def take(self, batch: TakeBatch) -> TakeReply:
        """Makes a batch. Raises SqlError, and msgspec.DecodeError for what is no row of counters."""
        names = {HOLDERS, *[_place(counter)[0] for counter in batch.held]}
        names.update([_place(take.counter)[0] for call in batch.calls for take in call])
        names.update([_place(settlement.counter)[0] for settlement in batch.settlements])
        with self._batch() as db:
            self._load(db, names)
            was_known = self._hear(batch.holder)
            for counter, count in batch.held.items():
                self._hold(counter, count)
            outcomes = decide(batch, self, self._now_s)
            self._save(db)
        return TakeReply(was_known, self._now_s, outcomes)

    @contextlib.contextmanager
    def _batch(self) -> Generator[Database]:
        """Runs a transaction; when it fails, the rows in memory are not those of the file."""
        db = self.open()
        try:
            with transaction(db):
                self._now_s = self._clock()
                self._changed.clear()
                yield db
        except BaseException:
            self._version = -1
            raise

    def _load(self, db: Database, names: Iterable[str]) -> None:
        version: int = db.execute("PRAGMA data_version").fetchone()[0]
        if version != self._version or len(self._rows) > KEPT_ROWS:
            self._version = version
            self._rows, self._holders = {}, {}
        rows = self._rows
        missing = [name for name in names if name not in rows]
        for start in range(0, len(missing), MAX_ROWS):
            portion = missing[start : start + MAX_ROWS]
            rows.update((name, CounterRow()) for name in portion)
            for name, state in db.execute(_find(len(portion)), portion):
                if name == HOLDERS:
                    self._holders = _decode_holders(state)
                else:
                    rows[name] = _decode(state)
        since_ms = (self._now_s - LIVE_S) * 1000
        self._live = {number for number, heard_ms in self._holders.values() if heard_ms >= since_ms}

    def _hear(self, holder: str) -> bool:
        """Notes that a process lives; returns whether that was known."""
        now_ms = int(self._now_s * 1000)
        number, heard_ms = self._holders.get(holder, (0, 0))
        was_known = number in self._live
        if not was_known:  # what it held before counts no more
            number = max([now_ms, *[last + 1 for last, _ in self._holders.values()]])
            self._live.add(number)
        if not was_known or not 0 <= now_ms - heard_ms < HEARD_MS:
            self._holders[holder] = number, now_ms
            self._changed.add(HOLDERS)
        self._own = number
        return was_known

    def _save(self, db: Database) -> None:
        changed = list(self._changed)
        for start in range(0, len(changed), MAX_ROWS):
            portion = changed[start : start + MAX_ROWS]
            db.execute(_put(len(portion)), [value for name in portion for value in (name, self._state_of(name))])

    def _state_of(self, name: str) -> bytes:
        return _encode(self._holders if name == HOLDERS else self._rows[name])

    def _hold(self, counter: str, count: int) -> None:
        whose, key = _place(counter)
        row = self._rows[whose]
        slots = row.slots.get(key)
        if slots is None:
            slots = row.slots[key] = {}
        if slots.get(self._own, 0) == count:
            return
        self._changed.add(whose)
        if count:
            slots[self._own] = count
        else:
            del slots[self._own]

    # What `decide` asks for, within the transaction

    def used(self, counter: str, oldest: int) -> int:
        return sum(self._amounts(counter, oldest).values())

    def buckets(self, counter: str, oldest: int) -> list[tuple[int, int]]:
        return sorted(self._amounts(counter, oldest).items())

    def _amounts(self, counter: str, oldest: int) -> dict[int, int]:
        whose, key = _place(counter)
        rates = self._rows[whose].rates
        amounts = rates.get(key, {})
        if amounts and min(amounts) < oldest:
            rates[key] = amounts = {at: amount for at, amount in amounts.items() if at >= oldest}
        return amounts

    def held_by_all(self, counter: str) -> int:
        whose, key = _place(counter)
        slots = self._rows[whose].slots.get(key)
        if not slots:
            return 0
        live = self._live
        return sum([count for number, count in slots.items() if number in live])

    def add(self, counter: str, bucket: int, amount: int, leaves_s: int) -> None:
        whose, key = _place(counter)
        row = self._rows[whose]
        amounts = row.rates.get(key)
        if amounts is None:
            amounts = row.rates[key] = {}
        amounts[bucket] = amounts.get(bucket, 0) + amount
        if leaves_s > row.leaves_s:
            row.leaves_s = leaves_s
        self._changed.add(whose)

    def hold(self, counter: str, holder: str, change: int) -> None:
        whose, key = _place(counter)
        slots = self._rows[whose].slots.get(key)
        self._hold(counter, change if slots is None else slots.get(self._own, 0) + change)

    # What counts no more

    def sweep(self) -> None:
        """Deletes what counts no more of the next rows. Raises SqlError, and msgspec.DecodeError."""
        until = time.monotonic() + SWEEP_BUDGET_S
        with self._batch() as db:
            self._load(db, [HOLDERS])
            for holder in [holder for holder, (number, _) in self._holders.items() if number not in self._live]:
                del self._holders[holder]
                self._changed.add(HOLDERS)
            while time.monotonic() < until and self._sweep_rows(db):
                pass
            self._save(db)

    def _sweep_rows(self, db: Database) -> bool:
        """Looks at the next rows; returns whether there are more."""
        rows = db.execute(PORTION, (self._swept_upto,)).fetchall()
        for whose, state in rows:
            row = _decode(state)
            rates = row.rates if row.leaves_s > self._now_s else {}
            slots = {key: live for key, held in row.slots.items() if (live := self._living(held))}
            if not slots and not rates:
                db.execute("DELETE FROM counters WHERE whose = ?", (whose,))
                self._rows.pop(whose, None)
            elif slots != row.slots:
                self._rows[whose] = CounterRow(rates, slots, row.leaves_s)
                self._changed.add(whose)
        self._swept_upto = rows[-1][0] if len(rows) == SWEEP_ROWS else HOLDERS
        return len(rows) == SWEEP_ROWS

    def _living(self, held: dict[int, int]) -> dict[int, int]:
        return {number: count for number, count in held.items() if number in self._live}
