"""Keeps the counters of one connection to their file, as `decide` reads and writes them within one transaction.

`decide` works on counters in memory, and one statement writes the rows of those that have changed. Rows are read only
when another connection has written since, which SQLite tells.
"""

import contextlib
import time
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import msgspec

from events.log.quotas import LIVE_S, TakeBatch, TakeReply, decide
from events.log.sqlite.file import Database, SqlError, connect

Transacted = TypeVar("Transacted")

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


class Counter(msgspec.Struct, gc=False):
    """A counter, as a connection keeps it in memory."""

    whose: str
    key: str
    row: CounterRow
    amounts: dict[int, int]
    """Amounts by bucket, or slots by the number of their process; of its row, unless there are none."""
    total: int = 0
    """The sum of the amounts from bucket `oldest` on; those before it are deleted."""
    oldest: int = -1


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


class CounterFile:
    """One connection to the file; a CounterTable while it makes a batch."""

    def __init__(self, path: Path, clock: Callable[[], float], busy_s: float) -> None:
        self._path = path
        self._clock = clock
        self._busy_s = busy_s
        self._now_s = 0.0
        self._rows: dict[str, CounterRow] = {}
        """Rows as they are in the file since `_version`, and those of the batch."""
        self._counters: dict[str, Counter] = {}
        """The counters of those rows that a batch has named."""
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
        return self._transact(lambda db: self._take(db, batch))

    def _take(self, db: Database, batch: TakeBatch) -> TakeReply:
        self._look(db)
        slots = [*batch.held]
        rates = [settlement.counter for settlement in batch.settlements]
        for call in batch.calls:
            for take in call:
                (rates if take.window.bucket_s else slots).append(take.counter)
        counters = self._counters
        new_rates = [counter for counter in rates if counter not in counters]
        new_slots = [counter for counter in slots if counter not in counters]
        if new_rates or new_slots:
            self._load(db, {_place(counter)[0] for counter in (*new_rates, *new_slots)})
            self._name(new_rates, new_slots)
        was_known = self._hear(batch.holder)
        for counter, count in batch.held.items():
            self._hold(counters[counter], count)
        outcomes = decide(batch, self, self._now_s)
        self._save(db)
        return TakeReply(was_known, self._now_s, outcomes)

    def _transact(self, work: Callable[[Database], Transacted]) -> Transacted:
        """Does work in a transaction; when that fails, the rows in memory are not those of the file."""
        db = self.open()
        try:
            db.execute("BEGIN IMMEDIATE")
            self._now_s = self._clock()
            self._changed.clear()
            done = work(db)
            db.execute("COMMIT")
        except BaseException:
            self._version = -1
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        return done

    def _look(self, db: Database) -> None:
        """Forgets what others have changed meanwhile, and finds out which processes live."""
        version: int = db.execute("PRAGMA data_version").fetchone()[0]
        if version != self._version or len(self._rows) > KEPT_ROWS:
            self._version = version
            self._holders = {}
            self._rows.clear()
            self._counters.clear()
            self._load(db, [HOLDERS])
        since_ms = (self._now_s - LIVE_S) * 1000
        self._live = {number for number, heard_ms in self._holders.values() if heard_ms >= since_ms}

    def _load(self, db: Database, names: Iterable[str]) -> None:
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

    def _name(self, rates: Iterable[str], slots: Iterable[str]) -> None:
        for counters, is_rate in ((rates, True), (slots, False)):
            for counter in counters:
                whose, key = _place(counter)
                row = self._rows[whose]
                self._counters[counter] = Counter(whose, key, row, (row.rates if is_rate else row.slots).get(key, {}))

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

    def _hold(self, counter: Counter, count: int) -> None:
        held = counter.amounts
        if held.get(self._own, 0) == count:
            return
        self._changed.add(counter.whose)
        if not held:
            counter.row.slots[counter.key] = held
        if count:
            held[self._own] = count
        else:
            del held[self._own]

    # What `decide` asks for, within the transaction

    def used(self, counter: str, oldest: int) -> int:
        state = self._counters[counter]
        if state.oldest != oldest:
            amounts = state.amounts
            for bucket in [bucket for bucket in amounts if bucket < oldest]:
                del amounts[bucket]
            state.oldest, state.total = oldest, sum(amounts.values())
        return state.total

    def buckets(self, counter: str, oldest: int) -> list[tuple[int, int]]:
        amounts = self._counters[counter].amounts
        return sorted((bucket, amount) for bucket, amount in amounts.items() if bucket >= oldest)

    def held_by_all(self, counter: str) -> int:
        held, live = self._counters[counter].amounts, self._live
        return sum([count for number, count in held.items() if number in live])

    def add(self, counter: str, bucket: int, amount: int, leaves_s: int) -> None:
        state = self._counters[counter]
        row, amounts = state.row, state.amounts
        if not amounts:
            row.rates[state.key] = amounts
        amounts[bucket] = amounts.get(bucket, 0) + amount
        state.total += amount
        if leaves_s > row.leaves_s:
            row.leaves_s = leaves_s
        self._changed.add(state.whose)

    def hold(self, counter: str, holder: str, change: int) -> None:
        state = self._counters[counter]
        self._hold(state, state.amounts.get(self._own, 0) + change)

    # What counts no more

    def sweep(self) -> None:
        """Deletes what counts no more of the next rows. Raises SqlError, and msgspec.DecodeError."""
        self._transact(self._sweep)

    def _sweep(self, db: Database) -> None:
        until = time.monotonic() + SWEEP_BUDGET_S
        self._look(db)
        for holder in [holder for holder, (number, _) in self._holders.items() if number not in self._live]:
            del self._holders[holder]
            self._changed.add(HOLDERS)
        self._counters.clear()
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
