"""Damages pages of a log's file, as a bad disk does. The file must be closed."""

import sqlite3
from pathlib import Path

from events.log.sqlite.file import PAGE_BYTES


def settle(path: Path) -> None:
    """Moves what the WAL holds into the file."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()


def damage_where(path: Path, *texts: bytes) -> None:
    """Overwrites every page that holds one of the texts."""
    settle(path)
    content = bytearray(path.read_bytes())
    for text in texts:
        at = content.find(text)
        assert at >= 0, f"{text!r} is not in the file"
        while at >= 0:
            _overwrite(content, at // PAGE_BYTES)
            at = content.find(text, at)
    path.write_bytes(content)


def damage_root(path: Path, name: str) -> None:
    """Overwrites the first page of a table or an index."""
    settle(path)
    db = sqlite3.connect(path)
    [page] = db.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (name,)).fetchone()
    db.close()
    content = bytearray(path.read_bytes())
    _overwrite(content, page - 1)
    path.write_bytes(content)


def _overwrite(content: bytearray, page: int) -> None:
    content[page * PAGE_BYTES : (page + 1) * PAGE_BYTES] = b"\xff" * PAGE_BYTES
