"""What a gateway holds of memory and descriptors does not grow while people are on every lane, for a minute here.

LONG_TESTS=1 makes it `make soak`.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

LONG = bool(os.environ.get("LONG_TESTS"))
HOW = (
    ["--users", "24"]
    if LONG
    else ["--time", "60s", "--warm-up", "20", "--skip", "15", "--share", "0.04", "--users", "16"]
)
"""In a minute caches still fill: a share of 4 % is what a leak of 30 KiB an answer passes."""


@pytest.mark.paced
@pytest.mark.timeout(1500 if LONG else 240)
def test_neither_memory_nor_descriptors_of_any_process_grow(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "loadtests.soak", "--speakers", "1", "--out", str(tmp_path), *HOW]
    process = subprocess.run(command, capture_output=True, text=True, timeout=1400, check=False)
    print(process.stdout[-2000:])
    assert process.returncode == 0, process.stdout + process.stderr
    assert process.stdout.count(" steady: ") >= 2
    assert process.stdout.endswith("\nSTEADY\n")
