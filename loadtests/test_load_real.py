"""`make load` names what it found, with real servers, real users and a proxy that makes mistakes."""

import subprocess
import sys
from pathlib import Path

import pytest


def run_load(folder: Path, *arguments: str) -> tuple[int, str]:
    """Returns the exit code and what was printed."""
    command = [
        sys.executable,
        "-m",
        "loadtests.load",
        "--out",
        str(folder),
        "--users",
        "8",
        "--speakers",
        "1",
        *arguments,
    ]
    process = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    return process.returncode, process.stdout + process.stderr


@pytest.mark.paced
def test_a_good_deployment_passes_with_every_lane_measured(tmp_path: Path) -> None:
    code, printed = run_load(tmp_path, "--time", "14s")
    assert code == 0, printed
    assert "PASSED. Nothing lost, nothing twice" in printed
    html = (tmp_path / "report.html").read_text()
    assert "✓ Passed" in html
    assert "<figure>" in html
    for beside in ("locust.html", "verdict.json", "timeline.jsonl", "locust.log"):
        assert f'href="{beside}"' in html
        assert (tmp_path / beside).stat().st_size > 0


@pytest.mark.paced  # people who are late themselves accuse nobody
@pytest.mark.parametrize(
    ("mistake", "arguments", "title"),
    [
        ("buffer", ["--lanes", "chat,events"], "BUFFERED"),
        ("no-pings", ["--lanes", "events", "--env", "TRILANE_PING_S=1"], "NO PING"),
        ("no-resume", ["--lanes", "chat,events", "--cut", "0.5"], "NO RESUME"),
    ],
)
def test_each_mistake_of_a_proxy_fails_and_is_named(
    mistake: str, arguments: list[str], title: str, tmp_path: Path
) -> None:
    code, printed = run_load(tmp_path, "--time", "8s", "--via-proxy", mistake, *arguments)
    assert code == 1, printed
    assert "\nFAILED. " in printed
    assert f"  {title}, " in printed
    assert f"<b>{title}, " in (tmp_path / "report.html").read_text()


def test_nobody_at_the_address_fails_with_a_sentence_that_says_so(tmp_path: Path) -> None:
    code, printed = run_load(tmp_path, "--time", "3s", "--lanes", "chat", "--host", "http://127.0.0.1:1")
    assert code == 1
    assert "UNREACHABLE" in printed
    assert "NOT MEASURED. The chat lane" in printed
