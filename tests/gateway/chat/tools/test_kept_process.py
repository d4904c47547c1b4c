"""The process of a server never outlives us, nor does anything that it has started."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import uvloop

from gateway.chat.tools.kept_process import WORDS_LINES, KeptProcess
from gateway.chat.tools.lines import Overlong
from tests.conftest import eventually

RAW_SERVER = Path(__file__).with_name("raw_server.py")
ENVIRONMENT = {"PATH": os.environ["PATH"]}


def script(text: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", text]


async def started(command: list[str], **env: str) -> KeptProcess:
    return await KeptProcess.start("test", command, {**ENVIRONMENT, **env})


def noted_pids(notes: Path) -> list[int]:
    lines = notes.read_text().splitlines() if notes.exists() else []
    return [int(line.split()[1]) for line in lines if line.startswith("pid ")]


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_lines_go_both_ways_and_its_end_is_told() -> None:
    async def talk() -> tuple[list[bytes | Overlong], str]:
        child = await started(script("import sys\nfor line in sys.stdin: print(line.strip() * 2, flush=True)"))
        try:
            await child.write(b"ab")
            await child.write(b"x" * 600)
            child._process.stdin.close()  # type: ignore[union-attr]
            async with asyncio.timeout(30):
                return [line async for line in child.lines(1000, 3)], await child.end()
        finally:
            await child.stop()

    lines, end = asyncio.run(talk())
    assert lines[0] == b"abab"
    assert isinstance(lines[1], Overlong)
    assert (lines[1].head, lines[1].size) == (b"xxx", 1200)
    assert end == "it ended with status 0"


@pytest.mark.parametrize(
    ("command", "end"),
    [
        (["/no/such/program"], "it ended with status 127: /no/such/program: No such file or directory"),
        (script("import sys; print('why', file=sys.stderr); sys.exit(3)"), "it ended with status 3: why"),
        (script("import os; os.kill(os.getpid(), 11)"), "it ended with status 139"),
    ],
)
def test_it_says_how_it_ended(command: list[str], end: str) -> None:
    async def run() -> str:
        child = await started(command)
        try:
            async with asyncio.timeout(30):
                return await child.end()
        finally:
            await child.stop()

    assert asyncio.run(run()) == end


def test_one_that_has_left_or_does_not_read_cannot_be_written_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.chat.tools.kept_process.WRITE_S", 0.3)

    async def keep_writing(child: KeptProcess, size: int) -> None:
        for _ in range(100):
            await child.write(b"x" * size)
            await asyncio.sleep(0.05)

    async def write(command: list[str], size: int) -> None:
        child = await started(command)
        try:
            with pytest.raises(BrokenPipeError):
                await keep_writing(child, size)
            assert not child.is_open
        finally:
            await child.stop()

    asyncio.run(write(script("pass"), 10))
    asyncio.run(write(script("import time; time.sleep(600)"), 200_000))


def test_stopping_ends_what_it_has_started_and_leaves_no_zombie(tmp_path: Path) -> None:
    notes = tmp_path / "notes"

    async def run() -> None:
        child = await started([sys.executable, str(RAW_SERVER), "stubborn", "daemon"], NOTES=str(notes))
        await asyncio.to_thread(eventually, lambda: len(noted_pids(notes)) == 2)
        await child.stop()
        pids = [child.pid, *noted_pids(notes)]
        assert not [pid for pid in pids if psutil.pid_exists(pid)]

    asyncio.run(run())


PARENT = f"""
import asyncio, sys
from gateway.chat.tools.kept_process import KeptProcess

async def main():
    command = [sys.executable, {str(RAW_SERVER)!r}, "stubborn", "daemon"]
    await KeptProcess.start("test", command, {{"NOTES": sys.argv[1]}})
    print("started", flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


def test_nothing_outlives_a_gateway_that_is_killed(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    with subprocess.Popen([sys.executable, "-c", PARENT, str(notes)]) as parent:
        eventually(lambda: len(noted_pids(notes)) == 2)
        pids = [child.pid for child in psutil.Process(parent.pid).children(recursive=True)]
        parent.kill()
        parent.wait()
    assert set(noted_pids(notes)) < {*pids, *noted_pids(notes)}
    assert len(pids) == 3
    eventually(lambda: all(is_gone(pid) for pid in pids), what=f"{pids} are gone")


def test_nothing_outlives_a_keeper_that_is_killed(tmp_path: Path) -> None:
    notes = tmp_path / "notes"

    async def run() -> None:
        child = await started([sys.executable, str(RAW_SERVER), "stubborn"], NOTES=str(notes))
        await asyncio.to_thread(eventually, lambda: len(noted_pids(notes)) == 1)
        os.kill(child.pid, signal.SIGKILL)
        await child.stop()
        [pid] = noted_pids(notes)
        await asyncio.to_thread(eventually, lambda: is_gone(pid))

    asyncio.run(run())


def test_a_command_that_ends_takes_what_it_has_started_with_it(tmp_path: Path) -> None:
    notes = tmp_path / "notes"

    async def run() -> None:
        child = await started(["sh", "-c", f"sleep 600 & echo pid $! >> {notes}; setsid sleep 600 & exit 0"])
        async with asyncio.timeout(30):
            assert await child.end() == "it ended with status 0"
        [pid] = noted_pids(notes)
        assert not psutil.pid_exists(pid)
        await child.stop()

    asyncio.run(run())


def test_a_start_that_is_cancelled_leaves_no_process() -> None:
    async def run() -> None:
        before = set(psutil.Process().children())
        for _ in range(5):
            start = asyncio.create_task(started(["sleep", "600"]))
            await asyncio.sleep(0)
            start.cancel()
            with pytest.raises(asyncio.CancelledError):
                await start
        assert set(psutil.Process().children()) == before

    with contextlib.closing(uvloop.new_event_loop()) as loop:
        loop.run_until_complete(run())
    asyncio.run(run())


def test_signals_of_a_whole_service_leave_a_server_for_runs_that_drain() -> None:
    async def run() -> None:
        child = await started(["cat"])
        try:
            await asyncio.sleep(0.3)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                os.kill(child.pid, number)
            await child.write(b"still here")
            async with asyncio.timeout(30):
                assert await anext(child.lines(100, 100)) == b"still here"
        finally:
            await child.stop()

    asyncio.run(run())


def test_stderr_is_logged_with_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[str] = []
    monkeypatch.setattr(
        "gateway.chat.tools.kept_process.log.info", lambda event, *, server, text: logged.append(text), raising=False
    )
    noise = "import sys\nfor n in range(3000): print('x' * 5000, n, file=sys.stderr)\nprint('last', file=sys.stderr)"

    async def run() -> str:
        child = await started(script(noise))
        try:
            async with asyncio.timeout(30):
                return await child.end()
        finally:
            await child.stop()

    assert asyncio.run(run()) == "it ended with status 0: last"
    assert len(logged) == WORDS_LINES
    assert max(len(line) for line in logged) <= 500
