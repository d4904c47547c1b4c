"""`trilane top`: shows what all processes of the log have open, as they answer; no server needs to be named."""

import asyncio
import contextlib
import time
from collections.abc import Callable

import click
import msgspec

from events.log.hub import Hub
from events.log.port import NO_EVENTS, Block, EventLog, Position
from events.log.quotas import LIVE_S
from gateway.chat.records.chat_record import RunInfo
from gateway.chat.topics import run_topic
from gateway.commands.top_screen import FleetView, Keyboard, ProcessView, RunView, as_json, as_table, drawn
from gateway.core.engines import check_is_there, opened_log
from gateway.core.fleet import FLEET, GONE, REPORT, ProcessReport, ask, decode_report
from gateway.errors import LogDamaged, LogError
from gateway.settings import Settings

REFRESH_S = 2.0
ANSWER_S = 1.0
"""Seconds that processes have to answer; in the first round all of them are waited for, whoever they are."""
MAX_RUNS = 200
"""Maximum runs that are looked up and shown, the oldest of all processes."""
MAX_PROCESSES = 1000

_decode_name = msgspec.json.Decoder(str).decode
_decode_info = msgspec.json.Decoder(RunInfo).decode


async def top(settings: Settings, *, once: bool, in_json: bool) -> None:
    """Shows the fleet every REFRESH_S until `q` or a signal; `once` and `in_json` print what is there now.

    Raises ConfigurationError when there is no such log, and with `once` or `in_json` LogError.
    """
    check_is_there(settings)
    async with opened_log(settings) as log:
        hub = Hub(log)
        try:
            fleet = Fleet(log, hub, settings.shown_log)
            await fleet.open()
            if once or in_json:
                view = await fleet.look()
                click.echo(as_json(view) if in_json else as_table(view))
            else:
                await _follow(fleet)
        finally:
            await hub.close()


async def _follow(fleet: "Fleet") -> None:
    """Draws the fleet again and again: over what was there on a terminal, else one table after the other."""
    with Keyboard() as keyboard:
        while not keyboard.wants_to_leave:
            began = time.monotonic()
            try:
                view = await fleet.look()
            except LogError as err:
                view = fleet.view(problem=err.detail)
            click.echo(drawn(view) if keyboard.is_terminal else as_table(view) + "\n", nl=False)
            await keyboard.wait(REFRESH_S - (time.monotonic() - began))


class Fleet:
    """The processes of a log as they answered last."""

    def __init__(self, log: EventLog, hub: Hub, shown_log: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._hub = hub
        self._shown_log = shown_log
        self._clock = clock
        self._reports: dict[str, tuple[ProcessReport, float]] = {}
        """The last answer of each process, by its name, and when it came."""
        self._infos: dict[str, RunInfo] = {}
        """What the log says of the runs that are shown."""
        self._news = asyncio.Event()
        self._has_looked = False

    async def open(self) -> None:
        """Hears what processes say from now on. Raises LogError."""
        head = await self._log.read(FLEET, NO_EVENTS, max_events=1)
        self._hub.watch(FLEET, Position(head.epoch, head.head), self._receive, is_standing=True)

    async def look(self) -> FleetView:
        """Asks all processes, and returns what those that live have open. Raises LogError."""
        asked_at = self._clock()
        await self._log.append(ask())
        try:
            async with asyncio.timeout(ANSWER_S):
                while not self._has_looked or any(at < asked_at for _, at in self._reports.values()):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            pass
        self._has_looked = bool(self._reports)
        self._reports = {
            name: (report, at) for name, (report, at) in self._reports.items() if self._clock() - at < LIVE_S
        }
        await self._look_up()
        return self.view()

    def view(self, problem: str = "") -> FleetView:
        """Returns what is known now; `problem` says why that may be old."""
        now = self._clock()
        processes = [ProcessView(report, now - at) for report, at in self._reports.values()]
        processes.sort(key=lambda process: (process.report.unit, process.report.host, process.report.pid))
        runs = [
            RunView(report, run.tokens, self._infos[run.id])
            for report, _ in self._reports.values()
            for run in report.oldest_runs
            if run.id in self._infos
        ]
        runs.sort(key=lambda run: run.info.started_ms)
        return FleetView(self._shown_log, processes, runs, problem)

    def _receive(self, block: Block) -> None:
        for data in block.data:
            try:
                self._take(block.name, data)
            except msgspec.DecodeError:  # of another release
                continue
        self._news.set()

    def _take(self, name: str, data: bytes) -> None:
        if name == GONE:
            self._reports.pop(_decode_name(data), None)
        elif name == REPORT and len(self._reports) < MAX_PROCESSES:
            report = decode_report(data)
            self._reports[report.name] = (report, self._clock())

    async def _look_up(self) -> None:
        """Reads of each run that is shown the one event that says whose it is."""
        ids = [run.id for report, _ in self._reports.values() for run in report.oldest_runs][:MAX_RUNS]
        self._infos = {run_id: self._infos[run_id] for run_id in ids if run_id in self._infos}
        for run_id in ids:
            if run_id not in self._infos:
                with contextlib.suppress(LogDamaged):
                    part = await self._log.read(run_topic(run_id), 0, max_events=1)
                    if part.blocks and part.blocks[0].first == 1:
                        self._infos[run_id] = _decode_info(part.blocks[0].data[0])
