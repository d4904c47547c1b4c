"""`trilane top` shows what all processes of a log have open, in 80 columns or more and as JSON, and no content."""

import asyncio
import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from events.log.hub import Hub
from events.log.quotas import LIVE_S
from gateway.chat.records.chat_record import RunInfo
from gateway.commands.top import Fleet
from gateway.commands.top_screen import ENTER, LEAVE, FleetView, ProcessView, RunView, as_json, as_table, duration
from gateway.core.engines import opened_log
from gateway.core.fleet import ProcessReport
from gateway.core.usage import now_ms
from gateway.settings import Settings
from tests.conftest import Gateway, UpstreamThread, eventually, serving
from tests.gateway.test_units import ROOT, command, environment, trilane
from tests.support.sse_client import chat_body

LONG = "T=2000 I=20000 the-prompt-71c2"


# What is shown


def process(unit: str = "chat", host: str = "box", age_s: float = 0.1, **more: object) -> ProcessView:
    report = {
        "name": f"{unit}-{host}",
        "unit": unit,
        "version": "1",
        "host": host,
        "pid": 4_194_304,
        "started_ms": now_ms() - 3_725_000,
        "state": "ready",
        "streams": {"chat": 12},
        "runs": 3,
        "sessions": 0,
        "oldest_runs": [],
    }
    return ProcessView(ProcessReport(**(report | more)), age_s)  # type: ignore[arg-type]


def run(sub: str = "alice", model: str = "gpt", age_s: float = 61) -> RunView:
    info = RunInfo(run_id="0123456789abcdef0123", sub=sub, message_id="m", model=model)
    started_ms = now_ms() - int(age_s * 1000)
    return RunView(process().report, 345, RunInfo(**{**_fields(info), "started_ms": started_ms}))


def _fields(info: RunInfo) -> dict[str, str]:
    return {name: getattr(info, name) for name in ("run_id", "sub", "message_id", "model")}


def wide() -> FleetView:
    """Returns a fleet of which every name is too long, or worse."""
    return FleetView(
        "redis://cache.internal.example:6379/0" * 3,
        [
            process(),
            process("events", "a-very-long-name-of-a-pod-7f9c4b6d-x2x", 7.0, streams={"events": 123_456}, runs=0),
        ],
        [run("someone@a-company.example" * 4, "a-very-long-name-of-a-model" * 2), run("evil\x1b[2J\n\u202eforged")],
    )


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_no_line_is_longer_than_the_terminal_and_no_name_steers_it(columns: int) -> None:
    lines = as_table(wide(), columns).split("\n")
    assert max(map(len, lines)) <= columns
    assert len(lines) == 10
    assert not re.search(r"[\x00-\x1f\u202e]", "".join(lines))


def test_a_table_of_80_columns_has_what_matters() -> None:
    lines = as_table(wide(), 80).split("\n")
    assert "2 processes, 123,468 streams, 3 runs, 0 sessions" in lines[0]
    assert lines[2].split() == ["UNIT", "HOST", "PID", "UP", "STATE", "CHAT", "EVENTS", "AUDIO", "RUNS", "SESS"]
    assert lines[3].split() == ["chat", "box", "4194304", "1h02m", "ready", "12", "-", "-", "3", "0"]
    assert lines[4].split() == [
        "events",
        "a-very-long-n…",
        "4194304",
        "1h02m",
        "silent",
        "7s",
        "-",
        "123456",
        "-",
        "0",
        "0",
    ]
    assert lines[7].split()[:3] == ["0123456789abcdef0123", "someone@a-c…", "a-very-long-n…"]
    assert lines[7].split()[3:] == ["1m01s", "345", "4194304@box"]


def test_more_runs_than_there_is_room_for_are_counted() -> None:
    view = FleetView("x", [process(runs=30)], [run() for _ in range(20)])
    assert as_table(view, 80, max_runs=5).split("\n")[-1] == "and 25 more"
    assert as_table(view, 80).split("\n")[-1] == "and 10 more"


def test_a_fleet_without_processes_and_a_log_that_is_away_are_said() -> None:
    assert "No process answers" in as_table(FleetView("x", [], []))
    assert "not up to date: gone" in as_table(FleetView("x", [process()], [], "gone"))
    assert json.loads(as_json(FleetView("x", [], [])))["totals"] == {"streams": 0, "runs": 0, "sessions": 0}


DURATIONS = {-5: "0s", 7.9: "7s", 62: "1m02s", 3599: "59m59s", 11_520: "3h12m", 446_400: "5d04h", 9e7: "1041d"}


@pytest.mark.parametrize("seconds", DURATIONS)
def test_a_time_takes_six_characters(seconds: float) -> None:
    assert duration(seconds) == DURATIONS[seconds]


# A fleet of real processes


@pytest.fixture(scope="module")
def fleet(upstream: UpstreamThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateway, Gateway]]:
    """Yields a chat unit with a run that is written and an events unit with a stream that is read, on one log."""
    folder = tmp_path_factory.mktemp("fleet")
    gateways = serving(folder, upstream.url), Gateway(folder, {}, unit="events")
    try:
        for gateway in gateways:
            gateway.start()
        with (
            _reading("POST", f"{gateways[0].url}/api/chat", json=chat_body("c", LONG)),
            _reading("GET", f"{gateways[1].url}/api/events?topic=news"),
        ):
            yield gateways
            httpx2.post(f"{gateways[0].url}/api/chat/c/stop", json={})
    finally:
        for gateway in gateways:
            gateway.stop()


@contextlib.contextmanager
def _reading(method: str, url: str, **request: object) -> Iterator[None]:
    """Reads a stream meanwhile, in a thread."""
    began, ends = threading.Event(), threading.Event()

    def read() -> None:
        with (
            contextlib.suppress(httpx2.TransportError),
            httpx2.stream(method, url, timeout=60, **request) as response,  # type: ignore[arg-type]
        ):
            for _ in response.iter_lines():
                began.set()
                if ends.is_set():
                    return

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    assert began.wait(20)
    yield
    ends.set()


def test_scripts_get_one_json_document(fleet: tuple[Gateway, Gateway]) -> None:
    chat, events = fleet
    shown = trilane("top", "--json", folder=chat.folder)
    assert shown.returncode == 0, shown.stderr
    document = json.loads(shown.stdout)
    by_unit = {process["unit"]: process for process in document["processes"]}
    assert {unit: process["pid"] for unit, process in by_unit.items()} == {"chat": chat.pid, "events": events.pid}
    assert {process["state"] for process in by_unit.values()} == {"ready"}
    assert by_unit["chat"]["streams"] == {"chat": 1}
    assert by_unit["events"]["streams"] == {"events": 1}
    assert document["totals"] == {"streams": 2, "runs": 1, "sessions": 0}
    [written] = document["oldestRuns"]
    assert (written["user"], written["process"]) == ("local", by_unit["chat"]["name"])
    assert written["tokens"] > 0
    assert 0 < written["age"] < 120
    assert "the-prompt" not in shown.stdout
    assert b"the-prompt" not in b"".join(data for _, data in _raw_events(chat, "fleet"))


def _raw_events(gateway: Gateway, topic: str) -> list[tuple[str, bytes]]:
    return [(name, json.dumps(data).encode()) for name, data in gateway.events(topic)]


def test_elsewhere_than_on_a_terminal_tables_follow_one_another(fleet: tuple[Gateway, Gateway]) -> None:
    once = trilane("top", "--once", folder=fleet[0].folder)
    assert (once.returncode, once.stdout.count("UNIT"), "\x1b" in once.stdout) == (0, 1, False)
    with subprocess.Popen(
        command("top"),
        cwd=ROOT,
        env=environment(fleet[0].folder, {}),
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=_heed_interrupts,
    ) as shown:
        assert shown.stdout is not None
        headings = 0
        for line in shown.stdout:
            assert "\x1b" not in line
            headings += line.startswith("UNIT")
            if headings == 2:
                break
        shown.send_signal(signal.SIGINT)
        shown.stdout.read()
    assert shown.returncode == 130


@pytest.mark.parametrize(("key", "status"), [(b"q", 0), (b"\x03", 130)], ids=["q", "ctrl-C"])
def test_a_terminal_is_drawn_over_and_left_as_it_was(key: bytes, status: int, fleet: tuple[Gateway, Gateway]) -> None:
    process_id, terminal = pty.fork()
    if not process_id:
        os.chdir(ROOT)
        _heed_interrupts()
        os.execve(sys.executable, command("top"), environment(fleet[0].folder, {}))
    before = termios.tcgetattr(terminal)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    shown = _until(terminal, b"\x1b[J")
    os.write(terminal, key)
    rest = _until(terminal, LEAVE.encode())
    after = termios.tcgetattr(terminal)
    _, ended = os.waitpid(process_id, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(ended) == status
    assert shown.startswith(ENTER.encode())
    assert b"UNIT" in shown
    assert "Traceback" not in (shown + rest).decode()
    assert after == before
    for line in re.sub(rb"\x1b\[\??[0-9]*[a-zA-Z]", b"", shown + rest).splitlines():
        assert len(line.decode()) <= 80


def _heed_interrupts() -> None:
    """Makes SIGINT what it is on a terminal: tests that run in the background have it ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _until(terminal: int, end: bytes) -> bytes:
    """Returns what a terminal shows up to these bytes."""
    shown, deadline = b"", time.monotonic() + 30
    while end not in shown and time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.1)[0]:
            with contextlib.suppress(OSError):
                shown += os.read(terminal, 65_536)
    assert end in shown, shown
    return shown


def test_a_process_that_is_killed_is_silent_and_then_gone_and_one_that_ends_says_so(
    upstream: UpstreamThread, tmp_path: Path
) -> None:
    ahead_s = 0.0

    async def watch() -> None:
        nonlocal ahead_s
        settings = Settings(data_dir=tmp_path)
        async with opened_log(settings) as log:
            hub = Hub(log)
            fleet = Fleet(log, hub, "", lambda: time.monotonic() + ahead_s)
            await fleet.open()
            assert {shown.state for shown in (await fleet.look()).processes} == {"ready"}
            killed.signal(signal.SIGKILL)
            killed.wait()
            drained.signal(signal.SIGTERM)
            ahead_s = 5.0
            states = {killed.pid: "", drained.pid: "ready"}
            async with asyncio.timeout(20):
                while states[drained.pid] == "ready":
                    states = {shown.report.pid: shown.state for shown in (await fleet.look()).processes}
            assert states[killed.pid].startswith("silent")
            assert states[drained.pid] == "draining"
            ahead_s += LIVE_S
            view = await fleet.look()
            assert [shown.report.pid for shown in view.processes] == [drained.pid]
            [written] = view.runs
            assert written.info.sub == "local"
            drained.signal(signal.SIGTERM)  # again: what it writes is cut
            async with asyncio.timeout(20):
                while fleet.view().processes:
                    await fleet.look()
            await hub.close()

    drained, killed = serving(tmp_path, upstream.url), Gateway(tmp_path, {}, unit="events")
    others = upstream.open_requests  # of the fleet that the tests above share
    try:
        drained.start()
        killed.start()
        with _reading("POST", f"{drained.url}/api/chat", json=chat_body("c", LONG)):
            asyncio.run(watch())
        drained.wait(20)
    finally:
        drained.stop()
        killed.stop()
    eventually(lambda: all(request in others for request in upstream.open_requests), what="the run was stopped")


def test_a_log_that_no_other_process_has_is_refused(tmp_path: Path) -> None:
    for env, words in (({"TRILANE_LOG": "memory:"}, "memory of one process"), ({}, "there is no log at")):
        shown = trilane("top", "--once", folder=tmp_path / "nowhere", **env)
        assert shown.returncode == 1
        assert words in shown.stderr
        assert not (tmp_path / "nowhere").exists()
