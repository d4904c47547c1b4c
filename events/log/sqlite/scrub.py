"""Overwrites what deleted events have left in the SQLite file, while gateways go on writing to it.

A deletion hands whole pages back to SQLite's list of free pages without touching them: zeroing them would double what
retention writes. Here they are taken into a table of zeros, portion by portion, and deleted as zeros; then the WAL is
emptied into the file and cut to nothing. What was broken off is finished by the next call.

Its limit: when SQLite moves events between two pages, it may leave copies in the unused middle of a page that others'
events still share. Those few are overwritten as the page fills again, or by `VACUUM` while no gateway runs.
"""

import contextlib
import time
from pathlib import Path

from events.log.sqlite.file import PAGE_BYTES, Database, SqlError, connect

PORTION = 256
"""Pages that one transaction overwrites: half a MB, so that no append waits long."""
PAUSE_S = 0.002
"""Seconds between two transactions, in which others write."""
WAL_S = 10.0
"""Maximum seconds that emptying the WAL waits for readers."""
HOLD_MS = 20
"""Maximum milliseconds that one try to empty the WAL waits, and appends with it."""
ZEROS = "scrub"
"""Table of zeros, which exists only during a scrub."""
WAL_IS_READ = "the log's WAL is being read without a pause; run this again, or it is overwritten as it fills"


def scrub(path: Path) -> str:
    """Overwrites all free pages, and empties the WAL; returns a sentence on what is left, mostly nothing."""
    with contextlib.closing(connect(path)) as db:
        db.execute("PRAGMA secure_delete=ON")
        db.execute(f"CREATE TABLE IF NOT EXISTS {ZEROS} (data BLOB)")
        for _ in range(_free_pages(db) // PORTION + 1):  # gateways free and take pages meanwhile, so it has an end
            if not (free_pages := _free_pages(db)):
                break
            db.execute(f"INSERT INTO {ZEROS} VALUES (zeroblob(?))", (min(free_pages, PORTION) * PAGE_BYTES,))
            time.sleep(PAUSE_S)
        for (row,) in db.execute(f"SELECT rowid FROM {ZEROS}").fetchall():
            db.execute(f"DELETE FROM {ZEROS} WHERE rowid = ?", (row,))
            time.sleep(PAUSE_S)
        db.execute(f"DROP TABLE {ZEROS}")
        return "" if _empty_wal(db) else WAL_IS_READ


def _free_pages(db: Database) -> int:
    return db.execute("PRAGMA freelist_count").fetchone()[0]


def _empty_wal(db: Database) -> bool:
    db.execute(f"PRAGMA busy_timeout={HOLD_MS}")
    deadline = time.monotonic() + WAL_S
    while time.monotonic() < deadline:
        with contextlib.suppress(SqlError):
            if not db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                return True
        time.sleep(PAUSE_S * 10)
    return False
