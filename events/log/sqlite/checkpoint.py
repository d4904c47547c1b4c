"""Moves what the WAL holds into the database file, in a thread of its own.

A checkpoint waits for the disk. In the writer's thread it would hold up every stream; here it holds up nobody, except
when the WAL is past MAX_WAL_BYTES: then the writer waits until all of it was moved.
"""

import threading
from pathlib import Path

from events.log.sqlite.file import PAGE_BYTES, Database, SqlError, connect

SYNC_S = 1.0
"""What was written is on the disk after about this time: all that a loss of power takes."""
PASSIVE_BYTES = 8 << 20
ATTEMPTS = 4
"""The WAL starts anew only when all of it was moved and nobody wrote meanwhile. The first attempt moves most of it in
some milliseconds; those after it are short enough to fall between two commits."""
MAX_WAL_BYTES = 64 << 20
WAIT_FOR_READERS_S = 0.05
"""The writer waits for as long as this too, when the WAL must be emptied."""


class Checkpointer:
    """`wrote` is told of each commit, by the writer; the thread does the rest."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._bytes = 0
        self._due = threading.Event()
        self._room = threading.Event()
        self._room.set()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="log-checkpoint", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Waits for a checkpoint that is under way."""
        self._stopping = True
        self._due.set()
        self._thread.join()

    def wait_for_room(self) -> None:
        """The writer asks before each commit: one that never pauses would never leave the lock to a checkpoint."""
        if not self._room.is_set():
            self._room.wait()

    def wrote(self, rows: int, size: int) -> None:
        """Each row writes about one page of the index, whatever its size; a few more are the same for all."""
        self._bytes += (rows + 4) * PAGE_BYTES + size
        if self._bytes > PASSIVE_BYTES:
            self._due.set()

    def _run(self) -> None:
        db = connect(self._path, busy_s=WAIT_FOR_READERS_S)
        try:
            while not self._stopping:
                self._due.wait(SYNC_S)
                self._due.clear()
                if self._bytes:
                    self._bytes = 0
                    self._checkpoint(db)
        finally:
            db.close()

    def _checkpoint(self, db: Database) -> None:
        pages, before = 0, -1
        try:
            for _ in range(ATTEMPTS):
                pages: int = db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1]
                if pages <= before:  # nobody wrote since the last attempt, or somebody did and began the WAL anew
                    return
                before = pages
            if pages * PAGE_BYTES > MAX_WAL_BYTES:
                self._room.clear()
                db.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
        except SqlError:
            self._bytes = 1  # again after SYNC_S; appends themselves say what is wrong with the disk
        finally:
            self._room.set()
