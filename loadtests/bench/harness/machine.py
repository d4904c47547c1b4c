"""The machine tells of processes: CPU time, memory, who owns a port, and how busy everything else is.

Linux's /proc only. CPU comes from schedstat (nanoseconds on a core), because clock ticks of 10 ms are too coarse.
"""

import os
import platform
import re
import resource
import shutil
import socket
import sqlite3
import subprocess
import time
from importlib import metadata
from pathlib import Path

PROC = Path("/proc")


def tree(pid: int) -> list[int]:
    """Returns the ids of a process and all its descendants."""
    pids = [pid]
    for task in _tasks(pid):
        try:
            children = (task / "children").read_text().split()
        except OSError:
            continue
        for child in children:
            pids += tree(int(child))
    return pids


def cpu_ns(pids: list[int]) -> int:
    """Returns the time in ns that these processes have spent on a core, over all their threads."""
    return sum(int((task / "schedstat").read_text().split()[0]) for pid in pids for task in _tasks(pid))


def rss_mb(pids: list[int]) -> float:
    """Returns resident memory in MB (10^6 bytes), pages shared between processes counted in each."""
    return sum(_status_kib(pid, "VmRSS") for pid in pids) * 1024 / 1e6


def own_memory_kib(pid: int) -> int:
    """Returns the resident memory of a process in KiB that is no page of a file: those the kernel takes as it likes."""
    return _status_kib(pid, "RssAnon")


def descriptors(pid: int) -> int:
    """Returns how many descriptors a process has open."""
    return len(os.listdir(PROC / str(pid) / "fd"))


def pss_kib(pids: list[int]) -> float:
    """Returns memory in KiB, each page that processes share counted once."""
    rollups = ((PROC / str(pid) / "smaps_rollup").read_text() for pid in pids)
    return float(sum(int(match.group(1)) for text in rollups if (match := re.search(r"\nPss:\s+(\d+)", text))))


def allow_descriptors() -> int:
    """Lifts the limit of open files, for this process and its children, as far as it goes; returns how far."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def busy_s() -> float:
    """Returns CPU seconds that all cores together have worked since boot."""
    user, nice, system, _idle, _wait, irq, softirq, steal, *_ = map(int, _cpu_line()[1:])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def await_quiet(timeout_s: float, cores: float = 0.1) -> None:
    """Waits until everything together uses less than `cores` for a second, but no longer than the timeout."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        before = busy_s()
        time.sleep(1)
        if busy_s() - before < cores:
            return


def port_is_free(port: int) -> bool:
    """Returns whether nothing listens there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def owns_port(pids: list[int], port: int) -> bool:
    """Returns whether one of these processes holds the listening socket; else a leftover server would be measured."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    inodes = {line[9] for line in lines if line[3] == "0A" and line[1].endswith(f":{port:04X}")}
    return any(f"socket:[{inode}]" in _links(pid) for pid in pids for inode in inodes)


def describe() -> dict[str, str | int]:
    """Returns the facts of the machine, for the record of a result."""
    model = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    return {
        "cpu": model.group(1) if model else platform.machine(),
        "cores": os.cpu_count() or 0,
        "memory_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 10**6,
        "kernel": platform.release(),
    }


def versions() -> dict[str, str]:
    """Versions of what was measured, as far as they are known."""
    versions = {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version}
    for name in ("litestar", "uvicorn", "uvloop", "httptools", "openai", "httpx2", "msgspec"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    versions["commit"] = _output("git", "rev-parse", "--short", "HEAD")
    versions["nginx"] = _output("nginx", "-v").rpartition("/")[2]
    return {name: version for name, version in versions.items() if version}


def _tasks(pid: int) -> list[Path]:
    try:
        return list((PROC / str(pid) / "task").iterdir())
    except OSError:
        return []


def _status_kib(pid: int, name: str) -> int:
    match = re.search(rf"{name}:\s+(\d+)", (PROC / str(pid) / "status").read_text())
    return int(match.group(1)) if match else 0


def _cpu_line() -> list[str]:
    return Path("/proc/stat").read_text().split("\n", 1)[0].split()


def _links(pid: int) -> set[str]:
    links: set[str] = set()
    for link in (PROC / str(pid) / "fd").iterdir():
        try:
            links.add(os.readlink(link))
        except OSError:
            continue
    return links


def _output(program: str, *args: str) -> str:
    if shutil.which(program) is None:
        return ""
    result = subprocess.run([program, *args], capture_output=True, text=True, check=False)
    return (result.stdout or result.stderr).strip()
