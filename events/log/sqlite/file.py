"""Opens the SQLite file, declares its schema, and translates its errors.

The only importer of `sqlite3`. Every connection here is in autocommit mode, in WAL, with synchronous=NORMAL, and never
checkpoints by itself: a checkpoint waits for the disk, and is the business of `events.log.sqlite.checkpoint`.
"""

import contextlib
import errno
import os
import sqlite3
import time
from collections.abc import Generator
from pathlib import Path

from gateway.errors import ConfigurationError, LogDamaged, LogError, LogUnavailable

Database = sqlite3.Connection


class Damage(sqlite3.Error):
    """What SQLite has read is not what was written."""


SqlError = sqlite3.Error
SqliteFailure = (sqlite3.Error, ValueError, OverflowError)
"""The exceptions that `sqlite3` raises: the latter two for values that it cannot pass on."""

OLDEST_SQLITE = (3, 35, 0)
VERSION = 2
"""Number of the file's format; a file of a later one is refused.

Version 1 has the same tables. What the chat lane keeps in them has moved on since (`gateway.chat.legacy`).
"""
APPLICATION_ID = 0x54726C6E
BUSY_S = 5.0
"""Seconds that a start, or a connection that mostly reads, waits for the writes of other processes."""
WRITE_S = 30.0
"""Seconds that a write waits for those of others: a backup, a shell or a process that was stopped may hold the lock.

What is appended meanwhile waits behind it, within the bound of pending bytes.
"""
PAGE_BYTES = 2048
"""Bytes of a page of the file. A commit writes every page that it touches, one per topic for the index.

Half of SQLite's 4096 nearly halves what a token costs in the WAL (2.9 KB instead of 4.7 KB over 300 topics); at 1024
large events cost more than small ones save.
"""

SCHEMA = f"""
CREATE TABLE topics (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    epoch TEXT NOT NULL,
    owner TEXT NOT NULL,
    closed INTEGER NOT NULL DEFAULT 0,   -- or else the newest block is `closing`
    oldest INTEGER NOT NULL DEFAULT 1,   -- offset of the oldest event kept; head + 1 when none is
    base INTEGER NOT NULL DEFAULT 0,     -- bytes of all events before it
    updated_ms INTEGER NOT NULL          -- of the newest event, valid while no block is kept
);
CREATE TABLE blocks (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    topic_id INTEGER NOT NULL,           -- 0: a marker, "look at the topic called `name`"; data is its epoch
    first INTEGER,
    count INTEGER NOT NULL,
    total INTEGER NOT NULL,              -- bytes of the topic up to and including this block, ever
    time_ms INTEGER NOT NULL,
    closing INTEGER NOT NULL,            -- no event follows
    name TEXT NOT NULL,
    data BLOB NOT NULL                   -- the events, joined with LF
);
CREATE UNIQUE INDEX blocks_by_topic ON blocks (topic_id, first);
CREATE TABLE keys (
    topic_id INTEGER NOT NULL,
    key TEXT NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    time_ms INTEGER NOT NULL,
    PRIMARY KEY (topic_id, key)
) WITHOUT ROWID;
CREATE INDEX keys_by_time ON keys (time_ms);
INSERT INTO sqlite_sequence (name, seq) VALUES ('blocks', 0);
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {VERSION};
"""
PROBES = (
    "SELECT seq FROM sqlite_sequence",
    "SELECT max(rowid), name FROM topics",
    "SELECT max(name) FROM topics INDEXED BY sqlite_autoindex_topics_1",
    "SELECT max(rowid), name FROM blocks",
    "SELECT max(topic_id) FROM blocks INDEXED BY blocks_by_topic",
)
"""SQL that reads the pages without which nothing can be appended."""
NEWEST = "(SELECT seq FROM blocks WHERE topic_id = t.id ORDER BY first DESC LIMIT 1)"
"""SQL for the newest block of topic `t`, the only place where the topic's head, size and end are written."""


def connect(path: Path, *, busy_s: float = BUSY_S, cache_kib: int = 2048) -> Database:
    """Returns a connection that any one thread at a time may use."""
    db = sqlite3.connect(
        path, timeout=busy_s, isolation_level=None, check_same_thread=False, cached_statements=256, uri=False
    )
    # FAST: pages that are freed are wiped only where that costs no write; some builds wipe all of them by default.
    for pragma in ("synchronous=NORMAL", "wal_autocheckpoint=0", "secure_delete=FAST", f"cache_size=-{cache_kib}"):
        db.execute(f"PRAGMA {pragma}")
    return db


def prepare(path: Path) -> None:
    """Makes the file, or checks that it is ours and can be written. Raises ConfigurationError."""
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise ConfigurationError(f"this Python has SQLite {sqlite3.sqlite_version}; the log needs 3.35 or newer")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The log holds private conversations, so the file, and with it its WAL, is readable by its owner alone.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        with contextlib.closing(connect(path)) as db:
            _prepare(db, path)
    except (OSError, SqlError) as err:
        raise ConfigurationError(f"the log {str(path)!r} cannot be used ({err}): {_remedy(err)}") from err


def _remedy(err: Exception) -> str:
    """Returns what to do about an error at start."""
    code: int = getattr(err, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL or getattr(err, "errno", 0) in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full; free some space, or name a file on another disk (TRILANE_LOG)"
    if code == sqlite3.SQLITE_CORRUPT:
        return "the file is damaged; restore a copy, or name another file (TRILANE_LOG)"
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return "another process holds it; end that one, or name another file (TRILANE_LOG)"
    return (
        "name a file in a directory on a local disk that this user may write, "
        "and that holds nothing or a log of Trilane"
    )


def _prepare(db: Database, path: Path) -> None:
    db.execute(f"PRAGMA page_size={PAGE_BYTES}")
    _use_wal(db)
    with transaction(db):
        version: int = db.execute("PRAGMA user_version").fetchone()[0]
        is_ours = db.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID
        if db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
            for statement in SCHEMA.split(";\n"):
                db.execute(statement)
        elif not is_ours:
            raise ConfigurationError(f"{str(path)!r} is a database, but not a log of Trilane: name another file")
        elif version > VERSION:
            raise ConfigurationError(
                f"the log {str(path)!r} has format {version}, and this release knows formats up to {VERSION}: "
                "use the newer release that wrote it, or name another file"
            )
        else:  # a file whose tables cannot be read at all is found out now, too
            for probe in PROBES:
                db.execute(probe).fetchone()
            # a file of an older format is taken over; one that is read-only shows it now, not at the first append
            db.execute(f"PRAGMA user_version = {VERSION}")


def _use_wal(db: Database) -> None:
    """Changes to WAL, and retries: SQLite does not wait for the lock here, and two processes may start at once."""
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            if db.execute("PRAGMA journal_mode=WAL").fetchone()[0] != "wal":
                raise ConfigurationError("this file system cannot share memory between processes, which WAL needs")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


@contextlib.contextmanager
def transaction(db: Database) -> Generator[None]:
    """Runs a transaction that has the write lock from its start, so that its reads stay true until it commits."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def failure_of(err: Exception) -> LogError:
    """Returns the error that readers get for a failure of SQLite: a damaged page stays damaged, others may pass."""
    return LogDamaged(f"a part of the log cannot be read: {err}") if is_damage(err) else unavailable(err)


def is_damage(err: Exception) -> bool:
    """Returns whether an error says that what is stored is damaged, and not that it cannot be read right now."""
    return getattr(err, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_CORRUPT or isinstance(err, (ValueError, Damage))


def unavailable(err: Exception) -> LogUnavailable:
    """Returns the error that callers get for a failure of SQLite."""
    return LogUnavailable(f"the log cannot be used right now: {err}")
