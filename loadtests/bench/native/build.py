"""The C programs are built when they are missing or older than their sources; git ignores what is built."""

import os
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
FLAGS = ["-O2", "-g", "-Wall", "-Wextra", "-std=gnu11", "-pthread"]


def tool(name: str) -> Path:
    """Builds the program of `<name>.c`, and returns its path; raises SystemExit where there is no C compiler."""
    source, program = HERE / f"{name}.c", HERE / "bin" / name
    newest = max(path.stat().st_mtime for path in [source, *HERE.glob("*.h")])
    if program.exists() and program.stat().st_mtime >= newest:
        return program
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise SystemExit(
            "The benchmark builds its load client from C and found no cc; on Debian: apt install gcc libc6-dev"
        )
    program.parent.mkdir(exist_ok=True)
    unfinished = program.with_name(f"{name}.{os.getpid()}")  # another process may build the same program
    subprocess.run([compiler, *FLAGS, "-o", str(unfinished), str(source)], check=True)
    unfinished.replace(program)
    return program
