"""The CPUs that count are those that a process may run on, or fewer where a cgroup's quota pays for fewer."""

import os
from pathlib import Path

import pytest

from gateway.core import cpus
from gateway.core.cpus import cpu_quota, cpu_share, usable_cpus
from gateway.settings import load

CASES: dict[str, tuple[str, dict[str, str], float | None]] = {
    "no cgroups": ("", {}, None),
    "version 2, no quota": ("0::/\n", {"cpu.max": "max 100000\n"}, None),
    "version 2, in a container": ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
    "version 2, a service": ("0::/a.slice/b.service\n", {"a.slice/b.service/cpu.max": "400000 100000\n"}, 4),
    "version 2, a tighter one above": (
        "0::/a.slice/b.service\n",
        {"a.slice/b.service/cpu.max": "400000 100000\n", "a.slice/cpu.max": "50000 25000\n"},
        2,
    ),
    "version 2, a folder that is not mounted here": ("0::/../x\n", {"cpu.max": "300000 100000"}, 3),
    "version 1": (
        "5:cpuset:/x\n4:cpu,cpuacct:/docker/1\n1:name=systemd:/x\n",
        {"cpu/docker/1/cpu.cfs_quota_us": "250000\n", "cpu/docker/1/cpu.cfs_period_us": "100000\n"},
        2.5,
    ),
    "version 1, seen from inside": (
        "4:cpuacct,cpu:/docker/1\n",
        {"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"},
        0.5,
    ),
    "version 1, no quota": (
        "4:cpu:/\n",
        {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"},
        None,
    ),
    "a file that says nothing": ("0::/\n", {"cpu.max": "\n"}, None),
}


@pytest.mark.parametrize("case", CASES)
def test_the_tightest_quota_counts(case: str, tmp_path: Path) -> None:
    own, files, quota = CASES[case]
    contents = {f"sys/fs/cgroup/{name}": text for name, text in files.items()} | {"proc/self/cgroup": own}
    for name, text in contents.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cpu_quota(tmp_path) == quota


@pytest.mark.parametrize(("quota", "allowed", "usable"), [(None, 8, 8), (1.5, 8, 2), (0.2, 8, 1), (6.0, 4, 4)])
def test_a_part_of_a_cpu_is_worth_a_process(
    quota: float | None, allowed: int, usable: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpus, "cpu_quota", lambda: quota)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(allowed)), raising=False)
    assert usable_cpus() == usable


@pytest.mark.parametrize(("workers", "share"), [("", 8), ("auto", 8), ("1", 8), ("3", 2), ("8", 1), ("20", 1)])
def test_workers_share_the_cpus(workers: str, share: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpus, "usable_cpus", lambda: 8)
    assert cpu_share(load({"TRILANE_WORKERS": workers})) == share
