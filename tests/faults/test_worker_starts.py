"""What keeps workers from starting is told once, in a sentence, and nothing starts again and again."""

import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway.commands.serve import worker_count
from gateway.errors import ConfigurationError
from gateway.settings import load
from tests.conftest import OURS

ROOT = Path(__file__).resolve().parents[2]


def serve(*args: str, folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.upper().startswith(OURS)}
    return subprocess.run(
        [sys.executable, "-m", "gateway", "serve", "events", "--workers", "2", *args],
        cwd=ROOT,
        env={**clean, "TRILANE_DATA_DIR": str(folder), **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_what_keeps_the_first_from_starting_ends_all(tmp_path: Path) -> None:
    """Some of it the supervisor sees before there is a worker, the rest only a worker can know."""
    with socket.create_server(("127.0.0.1", 0)) as taken, ThreadPoolExecutor(2) as pool:
        port = str(taken.getsockname()[1])
        starts: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
            f"port {port} of 127.0.0.1 is taken": (("--port", port), {}),
            "/proc/nowhere": (("--port", "0"), {"TRILANE_LOG": "sqlite:////proc/nowhere/trilane.db"}),
        }

        def start(says: str) -> subprocess.CompletedProcess[str]:
            args, env = starts[says]
            return serve(*args, folder=tmp_path, **env)

        processes = dict(zip(starts, pool.map(start, starts), strict=True))
    for says, process in processes.items():
        assert process.returncode == 1, process
        sentences = [line for line in process.stderr.splitlines() if not line.startswith("{")]
        assert len(sentences) == 1, process.stderr
        assert sentences[0].startswith("Error: ")
        assert says in sentences[0]


@pytest.mark.parametrize(
    ("option", "setting", "workers"),
    [("", "", None), ("3", "", 3), ("", "3", 3), ("2", "3", 2), ("auto", "", 6), ("AUTO", "2", 6), ("1", "", 1)],
)
def test_the_option_comes_before_the_setting(
    option: str, setting: str, workers: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.commands.serve.usable_cpus", lambda: 6)
    assert worker_count(load({"TRILANE_WORKERS": setting}), option) == workers


@pytest.mark.parametrize("count", ["0", "-1", "257", "1.5", "two", "٣", "9" * 5000])
def test_a_count_that_cannot_be_used_is_named(count: str) -> None:
    with pytest.raises(ConfigurationError, match=r"--workers=.* is not a whole number from 1 to 256, or `auto`"):
        worker_count(load({}), count)
    with pytest.raises(ConfigurationError, match=r"TRILANE_WORKERS=.* is not a whole number"):
        load({"TRILANE_WORKERS": count})


@pytest.mark.parametrize("option", ["2", "256", "auto"])
def test_a_log_in_memory_cannot_be_shared(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.commands.serve.usable_cpus", lambda: 4)
    with pytest.raises(ConfigurationError, match=r"memory: .* sqlite:///path, or --workers 1"):
        worker_count(load({"TRILANE_LOG": "memory:"}), option)


def test_one_process_may_have_its_log_in_memory() -> None:
    assert worker_count(load({"TRILANE_LOG": "memory:"}), "1") is None
    assert worker_count(load({"TRILANE_LOG": "memory:"}), "") is None
