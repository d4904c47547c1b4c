"""What `trilane top` shows, as a table for people, as JSON for scripts, and drawn over and over on a terminal.

A name that a client chose cannot steer the terminal (CWE-117), and no line is longer than the terminal is wide.
"""

import asyncio
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import NamedTuple, Self

import msgspec

from gateway.chat.records.chat_record import RunInfo
from gateway.core.fleet import ProcessReport
from gateway.core.logs import printable

LANES = ("chat", "events", "audio")
SILENT_S = 3.0
"""Seconds after which a process that does not answer is shown as silent, until it counts as gone."""
PLAIN_COLUMNS = 120
"""Columns of a table that goes to no terminal."""
PLAIN_RUNS = 20
"""Maximum runs of a table that is not cut to a terminal's height."""
MIN_RUNS = 3
ENTER, LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
"""Switch to a terminal's other screen without a cursor, and back."""
HOME, TO_END_OF_LINE, TO_END = "\x1b[H", "\x1b[K", "\x1b[J"
BOLD, PLAIN = "\x1b[1m", "\x1b[0m"


class ProcessView(NamedTuple):
    """A process, and how long ago it said so."""

    report: ProcessReport
    age_s: float

    @property
    def state(self) -> str:
        return self.report.state if self.age_s < SILENT_S else f"silent {self.age_s:.0f}s"


class RunView(NamedTuple):
    """A run, which this process writes."""

    report: ProcessReport
    tokens: int
    info: RunInfo


class FleetView(NamedTuple):
    """All that is shown at one time."""

    log: str
    processes: list[ProcessView]
    runs: list[RunView]
    """The oldest runs of each process, the oldest first."""
    problem: str = ""


class Column(NamedTuple):
    """A column with its heading. Of the terminal's width it gets `width`, and `share` of what is left."""

    heading: str
    width: int
    share: int = 0
    is_number: bool = False


class ShownLine(NamedTuple):
    """A line of a table; headings are drawn bold."""

    text: str
    is_heading: bool = False


PROCESSES = (
    Column("UNIT", 6),
    Column("HOST", 13, share=1),
    Column("PID", 7, is_number=True),
    Column("UP", 6, is_number=True),
    Column("STATE", 10),
    *(Column(lane.upper(), 6, is_number=True) for lane in LANES),
    Column("RUNS", 5, is_number=True),
    Column("SESS", 5, is_number=True),
)
RUNS = (
    Column("RUN", 20),
    Column("USER", 12, share=2),
    Column("MODEL", 14, share=1),
    Column("AGE", 6, is_number=True),
    Column("TOKENS", 7, is_number=True),
    Column("ON", 16, share=1),
)


def as_json(view: FleetView) -> str:
    """Returns one JSON document; times are in milliseconds since 1970, ages in seconds."""
    now_ms = time.time() * 1000
    processes = [{**msgspec.to_builtins(p.report), "age": round(p.age_s, 3)} for p in view.processes]
    for process in processes:
        del process["oldestRuns"]
    runs = [
        {
            "id": run.info.run_id,
            "user": run.info.sub,
            "model": run.info.model,
            "startedMs": run.info.started_ms,
            "age": round(max(0.0, now_ms - run.info.started_ms) / 1000, 3),
            "tokens": run.tokens,
            "process": run.report.name,
        }
        for run in view.runs
    ]
    document = {"log": view.log, "totals": _totals(view), "processes": processes, "oldestRuns": runs}
    return json.dumps(document, indent=2)


def as_table(view: FleetView, columns: int = PLAIN_COLUMNS, max_runs: int = PLAIN_RUNS) -> str:
    """Returns lines of at most `columns` characters, with at most `max_runs` runs."""
    return "\n".join(line.text for line in _lines(view, columns, max_runs))


def drawn(view: FleetView) -> str:
    """Returns what draws a view over the one before, as large as the terminal is now."""
    columns, rows = shutil.get_terminal_size()
    lines = _lines(view, columns, max(MIN_RUNS, rows - len(view.processes) - 6))[: rows - 1]
    shown = [f"{BOLD if line.is_heading else ''}{line.text}{PLAIN}{TO_END_OF_LINE}" for line in lines]
    return HOME + "\n".join(shown) + TO_END


def _lines(view: FleetView, columns: int, max_runs: int) -> list[ShownLine]:
    totals, size = _totals(view), len(view.processes)
    counts = [f"{count:,} {name if count != 1 else name.removesuffix('s')}" for name, count in totals.items()]
    counts = [f"{size} process{'es' * (size != 1)}", *counts]
    lines = [ShownLine(f"{datetime.now(UTC):%H:%M:%SZ}  {', '.join(counts)}  {view.log}", is_heading=True)]
    if view.problem:
        lines.append(ShownLine(f"not up to date: {view.problem}"))
    lines += [ShownLine(""), *_table(PROCESSES, [_process_cells(process) for process in view.processes], columns)]
    if not view.processes:
        lines.append(ShownLine("No process answers: none runs on this log, or all are of an earlier release."))
    if view.runs:
        lines += [ShownLine(""), *_table(RUNS, [_run_cells(run) for run in view.runs[:max_runs]], columns)]
        if (left := totals["runs"] - min(len(view.runs), max_runs)) > 0:
            lines.append(ShownLine(f"and {left:,} more"))
    return [ShownLine(printable(line.text)[:columns], line.is_heading) for line in lines]


def _totals(view: FleetView) -> dict[str, int]:
    reports = [process.report for process in view.processes]
    return {
        "streams": sum(sum(report.streams.values()) for report in reports),
        "runs": sum(report.runs for report in reports),
        "sessions": sum(report.sessions for report in reports),
    }


def _process_cells(process: ProcessView) -> list[str]:
    report = process.report
    lanes = [f"{report.streams[lane]}" if lane in report.streams else "-" for lane in LANES]
    up_s = time.time() - report.started_ms / 1000
    counts = [f"{report.runs}", f"{report.sessions}"]
    return [report.unit, report.host, f"{report.pid}", duration(up_s), process.state, *lanes, *counts]


def _run_cells(run: RunView) -> list[str]:
    info, report = run.info, run.report
    age_s = time.time() - info.started_ms / 1000
    return [info.run_id, info.sub, info.model or "-", duration(age_s), f"{run.tokens}", f"{report.pid}@{report.host}"]


def _table(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> list[ShownLine]:
    """Returns a heading and the rows. Columns with a share are as wide as what is in them, as far as there is room."""
    headings = [column.heading for column in columns]
    spare = max(0, width - sum(column.width + 1 for column in columns) + 1)
    shares = sum(column.share for column in columns)
    rooms = [
        min(
            column.width + spare * column.share // shares,
            max(column.width, *(len(printable(cells[at])) for cells in [headings, *rows])),
        )
        if column.share
        else column.width
        for at, column in enumerate(columns)
    ]
    return [ShownLine(_row(columns, cells, rooms), cells is headings) for cells in [headings, *rows]]


def _row(columns: Sequence[Column], cells: Sequence[str], rooms: Sequence[int]) -> str:
    texts: list[str] = []
    for column, cell, room in zip(columns, map(printable, cells), rooms, strict=True):
        text = cell if len(cell) <= room else cell[: room - 1] + "…"
        texts.append(text.rjust(room) if column.is_number else text.ljust(room))
    return " ".join(texts).rstrip()


def duration(seconds: float) -> str:
    """Returns a time in at most six characters: `7s`, `1m02s`, `3h12m`, `5d04h`, `123d`."""
    whole = max(0, int(seconds))
    for unit_s, unit, part_s, part in ((86_400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= unit_s:
            text = f"{whole // unit_s}{unit}{whole % unit_s // part_s:02}{part}"
            return text if len(text) <= 6 else f"{whole // unit_s}{unit}"
    return f"{whole}s"


class Keyboard:
    """Listens for `q` on a terminal, whose other screen it uses meanwhile; elsewhere it only waits."""

    def __init__(self) -> None:
        self.is_terminal = sys.stdin.isatty() and sys.stdout.isatty()
        self.wants_to_leave = False
        self._pressed = asyncio.Event()
        self._restore: Callable[[], None] = _nothing

    def __enter__(self) -> Self:
        if self.is_terminal and sys.platform != "win32":
            import termios
            import tty

            self._restore = partial(termios.tcsetattr, sys.stdin, termios.TCSADRAIN, termios.tcgetattr(sys.stdin))
            tty.setcbreak(sys.stdin)
            asyncio.get_running_loop().add_reader(sys.stdin, self._read)
        if self.is_terminal:
            sys.stdout.write(ENTER)
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, at: TracebackType | None) -> None:
        if self.is_terminal:
            asyncio.get_running_loop().remove_reader(sys.stdin)
            self._restore()
            sys.stdout.write(LEAVE)
            sys.stdout.flush()

    async def wait(self, seconds: float) -> None:
        """Waits that long, or until a key is pressed."""
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await self._pressed.wait()
        except TimeoutError:
            pass
        self._pressed.clear()

    def _read(self) -> None:
        keys = os.read(sys.stdin.fileno(), 64)
        self.wants_to_leave = not keys or b"q" in keys.lower()
        self._pressed.set()


def _nothing() -> None:
    """Does nothing: nothing was changed."""
