"""Watches the memory of this process, so that it takes no new work before the kernel kills it with all it has.

Where a cgroup bounds it, what counts is the memory of all its processes without the file cache that the kernel can take
back, as Kubernetes counts it. Otherwise it is this process's own. It is looked at on a timer, never for a request, and
on Linux alone: elsewhere it is unknown, and nothing is refused.
"""

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import structlog

LOOK_S = 0.5
"""Seconds between two looks."""
SHARE = 0.9
"""The share of what there is that may be used."""
UNBOUNDED = 1 << 60
"""What a cgroup of version 1 says at least when it has no limit."""

log = structlog.get_logger("memory")


class CgroupFiles(NamedTuple):
    """The names of a cgroup's files, in one version of cgroups."""

    bound: str
    used: str
    cache: str
    """The field of `memory.stat` for the file cache that was not used lately."""


VERSION_2 = CgroupFiles("memory.max", "memory.current", "inactive_file")
VERSION_1 = CgroupFiles("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


class MemoryGuard:
    """What is used, and how much may be; `root` is where the system's files are, for tests."""

    def __init__(self, max_bytes: int, root: Path = Path("/")) -> None:
        """`max_bytes`: the bound that is set for this process, or 0."""
        self._used: Callable[[], int] = lambda: _resident(root)
        self.max_bytes = max_bytes
        if not max_bytes:
            machine = _machine(root)
            bounded = min(_cgroups(root), default=None, key=lambda found: found[0])
            if bounded is not None and (not machine or bounded[0] < machine):
                machine, folder, files = bounded
                self._used = lambda: _used_in(folder, files)
            self.max_bytes = int(machine * SHARE)
        self.used_bytes = 0
        self.is_full = False
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self.look()
        self._timer = asyncio.get_running_loop().call_later(LOOK_S, self.start)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def look(self) -> None:
        try:
            self.used_bytes = self._used()
        except (OSError, ValueError):
            return  # it is as full as it was
        is_full = 0 < self.max_bytes < self.used_bytes
        if is_full and not self.is_full:
            log.error("memory is short: no new work is taken", used=self.used_bytes, max=self.max_bytes)
        elif self.is_full and not is_full:
            log.info("there is memory again: new work is taken", used=self.used_bytes, max=self.max_bytes)
        self.is_full = is_full


def _resident(root: Path) -> int:
    return int((root / "proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _machine(root: Path) -> int:
    """Returns the bytes of the machine's memory; 0 where that is unknown."""
    try:
        return int((root / "proc/meminfo").read_text().split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        return 0


def _cgroups(root: Path) -> Iterator[tuple[int, Path, CgroupFiles]]:
    """Yields the bound, folder and file names of each cgroup that bounds this process, as far as it sees them."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        files = VERSION_1 if controllers else VERSION_2
        top = root / "sys/fs/cgroup" / ("memory" if controllers else "")
        folder = top / path.lstrip("/")
        for place in (folder, *folder.parents):
            if not place.is_relative_to(top):
                break
            bound = _number(place / files.bound)
            if bound is not None and bound < UNBOUNDED:
                yield bound, place, files


def _number(path: Path) -> int | None:
    """Returns the number in a file; None for `max`, or where there is no such file."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _used_in(folder: Path, files: CgroupFiles) -> int:
    fields = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    return int((folder / files.used).read_text()) - int(fields.get(files.cache, 0))
