"""A filter of topic names says without SQLite that a topic is certainly not in the log.

A look into SQLite gives up the interpreter's lock, and a busy event loop waits for it longer than for all else that a
new chat asks of the log. The filter is a Bloom filter in a file beside the log, which every process that has the log
open maps into its memory; the last that closes it removes the file.
"""

import contextlib
import fcntl
import mmap
import os
import sys
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path

SLOTS = 1 << 22
"""Number of slots, a byte each, so that two processes may fill them at once. Of the names that are not in the log 0.2 %
pass for existing when it has 100,000 topics, and 15 % when it has a million: those are looked up."""
MASK = SLOTS - 1


class NameFilter:
    """Holds every name that a process has added since the file was made; it never forgets one."""

    def __init__(self, log_path: Path) -> None:
        """Maps the filter of the log at this path, which is made when there is none. Raises OSError."""
        self.is_complete = False
        """Whether it holds the names of all topics; until then every name passes."""
        self._path = f"{log_path}-names"
        self._descriptor = _open_shared(self._path)
        try:
            os.posix_fallocate(self._descriptor, 0, SLOTS)  # a page without room on the disk would kill the process
            self._slots = mmap.mmap(self._descriptor, SLOTS)
        except OSError:
            os.close(self._descriptor)
            raise

    def close(self) -> None:
        """Lets every name pass from now on."""
        self.is_complete = False
        with contextlib.suppress(OSError):
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # nobody else has it open
            os.unlink(self._path)
        os.close(self._descriptor)

    def add(self, names: Iterable[str]) -> None:
        """Adds names, before anybody can read the topics themselves."""
        for name in names:
            one, other = _slots_of(name)
            self._slots[one] = self._slots[other] = 1

    def may_hold(self, name: str) -> bool:
        if not self.is_complete:
            return True
        one, other = _slots_of(name)
        return bool(self._slots[one] and self._slots[other])


def open_filter(log_path: Path) -> NameFilter | None:
    """Returns the filter of a log; None off Linux, or where files cannot be locked, mapped or given their room."""
    if sys.platform != "linux":
        return None
    try:
        return NameFilter(log_path)
    except OSError:
        return None


def _open_shared(path: str) -> int:
    """Returns a descriptor of the file that this path names as long as the descriptor is open."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            if os.path.exists(path) and os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)  # somebody removed it between the two steps


def _slots_of(name: str) -> tuple[int, int]:
    number = int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little")
    return number & MASK, number >> 32 & MASK
