"""Counts the CPUs that this process may keep busy, which in a container are fewer than the machine has.

Two bounds count: the CPUs that the process may run on (its affinity), and the time that its cgroup's quota pays for. Of
nested cgroups the tightest holds. Elsewhere than on Linux neither is known, and every CPU of the machine counts.
"""

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from gateway.settings import Settings

ROOT = Path("/")


def usable_cpus() -> int:
    """Returns how many CPUs this process may keep busy; a quota of one and a half can use two."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota()
    return allowed if quota is None else max(1, min(allowed, math.ceil(quota)))


def cpu_share(settings: Settings) -> int:
    """Returns how many CPUs are this process's part: of several workers each has as many as the others, at least one.

    What uses every CPU, such as a speech model, uses no more than these.
    """
    workers = settings.workers if isinstance(settings.workers, int) else 1
    return max(1, usable_cpus() // workers)


def cpu_quota(root: Path = ROOT) -> float | None:
    """Returns the CPUs that the cgroups of this process grant it; None without a quota. `root` holds /proc and /sys."""
    return min((quota for folder in _cgroups(root) if (quota := _quota(folder)) is not None), default=None)


def _cgroups(root: Path) -> Iterator[Path]:
    """Yields the folders of this process's cgroups (version 2, or 1's `cpu`) and of all above them."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / ("cpu" if controllers else "")
        own = PurePosixPath(path.lstrip("/"))
        yield from (mount / folder for folder in (own, *own.parents))


def _quota(folder: Path) -> float | None:
    with contextlib.suppress(OSError, ValueError):
        quota, period = (folder / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    with contextlib.suppress(OSError, ValueError):
        quota_us, period_us = (int((folder / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
        return quota_us / period_us if quota_us > 0 else None
    return None
