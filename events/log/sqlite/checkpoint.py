"""Moves what the WAL holds into the database file, in a thread of its own.

A checkpoint waits for the disk. In the writer's thread it would hold up every stream; here it holds up nobody, except
when the WAL is past MAX_WAL_BYTES: then the writer waits until all of it was moved.
"""

import threading
from pathlib import Path

from events.log.sqlite.file import PAGE_BYTES, Database, SqlError, connect

SYNC_S = 1.0
"""Seconds after which a commit is on the disk, about: a loss of power takes no more than those."""
PASSIVE_BYTES = 8 << 20
"""Bytes in the WAL past which a checkpoint does not wait for SYNC_S."""
ATTEMPTS = 4
"""Maximum attempts of one checkpoint.

The WAL starts anew only when all of it was moved and nobody wrote meanwhile. The first attempt moves most of it in some
milliseconds; those after it are short enough to fall between two commits.
"""
MAX_WAL_BYTES = 64 << 20
"""Bytes in the WAL past which the writer waits until it is emptied."""
WAIT_FOR_READERS_S = 0.05
"""Maximum seconds that emptying the WAL waits for readers; the writer waits along."""


class Checkpointer:
    """Owns the thread that checkpoints. The writer notes each commit with `note_commit`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._bytes = 0
        self._request = threading.Event()
        self._has_room = threading.Event()
        self._has_room.set()
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="log-checkpoint", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread, after the checkpoint that is under way."""
        self._is_stopping = True
        self._request.set()
        self._thread.join()

    def wait_for_room(self) -> None:
        """Waits while the WAL is emptied; a writer that never paused would never leave the lock to a checkpoint."""
        if not self._has_room.is_set():
            self._has_room.wait()

    def note_commit(self, rows: int, size: int) -> None:
        """Counts what a commit wrote: its bytes, about one page of the index for each row, and a few more."""
        self._bytes += (rows + 4) * PAGE_BYTES + size
        if self._bytes > PASSIVE_BYTES:
            self._request.set()

    def _run(self) -> None:
        db = connect(self._path, busy_s=WAIT_FOR_READERS_S)
        try:
            while not self._is_stopping:
                self._request.wait(SYNC_S)
                self._request.clear()
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
                self._has_room.clear()
                db.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
        except SqlError:
            self._bytes = 1  # again after SYNC_S; appends themselves say what is wrong with the disk
        finally:
            self._has_room.set()
