"""Starts gateways by forking a process that has imported all of theirs: importing is four fifths of what a start costs.

What is started is a process like any other but for its command line, and the one it was forked from is its parent.
"""

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path


def _network() -> str:
    """Returns the name of the network that this thread is in; see `namespace.apart`."""
    try:
        return os.readlink("/proc/thread-self/ns/net")
    except OSError:
        return ""


HOME = _network()
_forkserver = multiprocessing.get_context("forkserver")
_forkserver.set_forkserver_preload(["tests.support.preloaded"])


def can_fork() -> bool:
    """Tells whether what is forked is where this thread is: the process that forks stays in the network it began in."""
    return _network() == HOME


class ForkedProcess:
    """`trilane ARGS`, with what tests use of `subprocess.Popen`; its standard error goes to the end of a file."""

    def __init__(self, args: list[str], env: dict[str, str], stderr: Path) -> None:
        self._process = _forkserver.Process(target=_trilane, args=(args, env, str(stderr)))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, less than 0 when a signal ended it; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Returns the exit code. Raises subprocess.TimeoutExpired when it has not ended after `timeout` seconds."""
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(f"the gateway {self.pid}", timeout or 0)
        return self.returncode

    def kill(self) -> None:
        self._process.kill()


def _trilane(args: list[str], env: dict[str, str], stderr: str) -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    written = os.open(stderr, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    for file, descriptor in ((nowhere, 0), (nowhere, 1), (written, 2)):
        os.dup2(file, descriptor)
    os.close(nowhere)
    os.close(written)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = ["trilane", *args]
    sys.orig_argv = [sys.executable, "-m", "gateway", *args]  # what starts the workers of a supervisor, too

    from gateway.cli import main

    main()
