"""Keeps the process of a tool's server: it never outlives the gateway, and leaves nothing behind.

`kept_process.py` beside it runs this file by its path, and it imports nothing of the gateway. Its first argument is the
read end of a pipe whose other end the gateway alone holds, the rest is the command. Stdin, stdout and stderr are the
command's. When the pipe ends, the gateway has died or has no more use for the server, whose stdin ends with it: what
then still runs is ended by SIGTERM, then by SIGKILL. When the command ends, so does whatever it has started, a daemon
with a session of its own included (on Linux); and the status is the command's, or 128 and its signal.

It ignores SIGTERM, SIGINT and SIGHUP: systemd sends those to every process of a service at once, and the runs of a
gateway that drains still call tools.
"""

import contextlib
import ctypes
import os
import select
import signal
import sys
import time
from pathlib import Path

LEAVE_S = 1.0
"""Seconds that the command has to leave after its stdin has ended, and once more after SIGTERM."""
REAP_S = 2.0
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
NOT_FOUND = 127


def main() -> None:
    lifeline, command = int(sys.argv[1]), sys.argv[2:]
    os.set_inheritable(lifeline, False)
    woken, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _note)
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    keeper = os.getpid()
    child = os.fork()
    if child == 0:
        _become(command, keeper)
    with contextlib.suppress(OSError):
        os.setpgid(child, child)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    status = _watch(child, lifeline, woken)
    _end_all(child)
    os._exit(status)


def _note(number: int, frame: object) -> None:
    """Does nothing: the byte in the pipe wakes `_watch`."""


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value)


def _become(command: list[str], keeper: int) -> None:
    """Becomes the command, which dies with this process."""
    os.setpgid(0, 0)
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != keeper:
        os._exit(0)  # it died before the kernel was told to take us with it
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and a program would inherit that
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)
    except OSError as err:
        os.write(2, f"{command[0]}: {err.strerror}\n".encode())
        os._exit(NOT_FOUND)


def _watch(child: int, lifeline: int, woken: int) -> int:
    """Returns the command's status once it has ended, by itself or because the pipe has."""
    step, deadline = 0, float("inf")
    while True:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        if pid:
            continue
        if step and time.monotonic() >= deadline:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGTERM if step == 1 else signal.SIGKILL)
            step, deadline = step + 1, time.monotonic() + LEAVE_S
        waits_s = None if not step else max(0.0, deadline - time.monotonic())
        ready, _, _ = select.select([woken] if step else [woken, lifeline], [], [], waits_s)
        if woken in ready:
            os.read(woken, 4096)
        if lifeline in ready:
            step, deadline = 1, time.monotonic() + LEAVE_S


def _end_all(child: int) -> None:
    """Kills what the command has left, and reaps it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    deadline = time.monotonic() + REAP_S
    while time.monotonic() < deadline:
        for pid in _children():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        try:
            if not os.waitpid(-1, os.WNOHANG)[0]:
                time.sleep(0.005)
        except ChildProcessError:
            return


def _children() -> list[int]:
    with contextlib.suppress(OSError):
        return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]
    return []


if __name__ == "__main__":
    main()
