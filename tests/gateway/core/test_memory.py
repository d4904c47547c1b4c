"""The memory that counts is the cgroup's where one bounds the process, else the process's own."""

import os
from pathlib import Path

import pytest

from gateway.core.memory import MemoryGuard

PAGE = os.sysconf("SC_PAGE_SIZE")
GIB = 1 << 30


def system(root: Path, **files: str) -> Path:
    """Writes files of a system, `__` for each slash; of a machine of 4 GiB, and a process of 100 pages."""
    standard = {
        "proc__meminfo": f"MemTotal: {4 << 20} kB\nMemFree: 1 kB\n",
        "proc__self__statm": "900 100 50 1 0 9 0\n",
    }
    for name, text in (standard | files).items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_without_a_cgroup_the_process_counts_against_the_machine(tmp_path: Path) -> None:
    guard = MemoryGuard(0, system(tmp_path))
    guard.look()
    assert (guard.max_bytes, guard.used_bytes, guard.is_full) == (int(4 * GIB * 0.9), 100 * PAGE, False)


def test_a_setting_bounds_the_process(tmp_path: Path) -> None:
    guard = MemoryGuard(100 * PAGE, system(tmp_path))
    guard.look()
    assert not guard.is_full
    system(tmp_path, proc__self__statm="900 101 50")
    guard.look()
    assert guard.is_full
    system(tmp_path)
    guard.look()
    assert not guard.is_full


@pytest.mark.parametrize(
    ("cgroup", "place"),
    [("0::/\n", ""), ("0::/kubepods/pod1/c1\n", "kubepods/pod1/"), ("0::/kubepods/pod1\n", "kubepods/pod1/")],
    ids=["a container's own", "of a parent", "of a machine's"],
)
def test_the_narrowest_cgroup_counts_without_its_file_cache(tmp_path: Path, cgroup: str, place: str) -> None:
    system(tmp_path, proc__self__cgroup=cgroup)
    folder = tmp_path / "sys/fs/cgroup" / place
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in {
        "memory.max": f"{GIB}\n",
        "memory.current": f"{GIB}\n",
        "memory.stat": f"anon 1\ninactive_file {GIB // 2}\nactive_file 3\n",
    }.items():
        (folder / name).write_text(text)
    guard = MemoryGuard(0, tmp_path)
    guard.look()
    assert (guard.max_bytes, guard.used_bytes, guard.is_full) == (int(GIB * 0.9), GIB // 2, False)
    (folder / "memory.stat").write_text("inactive_file 0\n")
    guard.look()
    assert guard.is_full


def test_version_1_of_cgroups_is_known(tmp_path: Path) -> None:
    system(tmp_path, proc__self__cgroup="9:cpu,cpuacct:/a\n5:memory:/docker/1\n")
    folder = tmp_path / "sys/fs/cgroup/memory"
    folder.mkdir(parents=True)
    (folder / "memory.limit_in_bytes").write_text(str(GIB))
    (folder / "memory.usage_in_bytes").write_text("1000")
    (folder / "memory.stat").write_text("cache 5\ntotal_inactive_file 400\n")
    guard = MemoryGuard(0, tmp_path)
    guard.look()
    assert (guard.max_bytes, guard.used_bytes) == (int(GIB * 0.9), 600)


@pytest.mark.parametrize("bound", ["max", str((1 << 63) - 4096), str(8 * GIB), "nonsense"])
def test_a_cgroup_that_bounds_nothing_does_not_count(tmp_path: Path, bound: str) -> None:
    system(tmp_path, proc__self__cgroup="0::/\n1:memory:/\n")
    for place, name in (("", "memory.max"), ("memory", "memory.limit_in_bytes")):
        folder = tmp_path / "sys/fs/cgroup" / place
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(bound)
    assert MemoryGuard(0, tmp_path).max_bytes == int(4 * GIB * 0.9)


def test_where_nothing_is_known_nothing_is_refused(tmp_path: Path) -> None:
    for guard in (MemoryGuard(0, tmp_path), MemoryGuard(1, tmp_path)):
        guard.look()
        assert not guard.is_full
