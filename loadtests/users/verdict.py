"""The verdict says what is wrong with a deployment, in one sentence each, at the end of a run.

Users call `fault` and `note_measure`; both go into Locust's own tables (`check` rows are faults), so the web page, the
CSV and a run over several processes show them too. At the end the process that was started prints what was wrong and
what to do about it, writes it to `--verdict FILE`, and exits with 1 when there was a fault.
"""

import json
from argparse import ArgumentParser, ArgumentTypeError
from collections import Counter
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import gevent
from locust import events
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner
from locust.stats import StatsEntry

from loadtests.users.fault import Fault
from loadtests.users.pulse import Pulse
from loadtests.users.tally import Measure, Tally

CHECK = "check"
"""Type of the rows in Locust's tables that are faults."""


class FaultSeen(Exception):
    """A fault in Locust's failure table: the same text for all of a kind, so that they are counted as one."""


class Witness:
    """Holds the tally and the pulse of one Locust environment."""

    def __init__(self) -> None:
        self.tally = Tally()
        self.pulse = Pulse()

    def take(self) -> dict[str, Any]:
        """Returns what was noted since the last time, for the master."""
        self.tally.late_ms, self.pulse.late_ms = self.pulse.late_ms, Counter()
        pack, self.tally = self.tally.pack(), Tally()
        return pack

    def forget(self) -> None:
        """Forgets all, since a new run begins."""
        self.tally = Tally()
        self.pulse.late_ms = Counter()


_witnesses: WeakKeyDictionary[Environment, Witness] = WeakKeyDictionary()


def witness(environment: Environment) -> Witness:
    """Returns the witness of this environment."""
    if environment not in _witnesses:
        _witnesses[environment] = Witness()
    return _witnesses[environment]


def fault(environment: Environment, kind: Fault, detail: str) -> None:
    """Notes that something is wrong; `detail` says what was seen, and the first one of a kind is shown."""
    witness(environment).tally.note(kind, detail)
    _fire(environment, CHECK, kind.title, None, FaultSeen(kind.sentence))


def note_measure(environment: Environment, lane: str, name: str, ms: float) -> None:
    """Notes a measure of a lane (`chat`, `events`, `audio`), in milliseconds unless its name ends in `%`."""
    _fire(environment, lane, name, ms, None)


def _fire(environment: Environment, lane: str, name: str, ms: float | None, exception: Exception | None) -> None:
    environment.events.request.fire(
        request_type=lane, name=name, response_time=ms, response_length=0, exception=exception, context={}
    )


def late_since(environment: Environment, moment: float) -> float:
    """Returns how late this client itself was at worst since that `time.monotonic()`, in seconds."""
    return witness(environment).pulse.worst_since(moment)


@events.init_command_line_parser.add_listener
def add_arguments(parser: ArgumentParser) -> None:
    """Adds the options that all locustfiles share; each can be set in the environment too (`LOCUST_TOKEN`, ...)."""

    def add(name: str, **kwargs: Any) -> None:
        parser.add_argument(f"--{name}", env_var=f"LOCUST_{name.replace('-', '_').upper()}", **kwargs)

    add("token", default="", is_secret=True, help="API key or JWT that every user sends")
    add("tokens-file", type=_file, default="", metavar="FILE", help="a token a line; users take them in turn")
    add("insecure", action="store_true", help="do not check the certificate of the host")
    add("model", default="", help="model that chats ask for (default: the gateway's own)")
    add("cut", type=float, default=0.2, help="share of streams that are cut and resumed (0.2)")
    add("stop", type=float, default=0.1, help="share of answers that are stopped half way (0.1)")
    add("listeners", type=int, default=50, help="event streams per events user (50)")
    add("speech", default="", metavar="DIR", help="recordings for the audio users, and their transcripts.tsv")
    add("verdict", default="", metavar="FILE", help="write the verdict as JSON too")


def _file(name: str) -> str:
    if name and not Path(name).is_file():
        raise ArgumentTypeError(f"there is no file {name!r}")
    return name


@events.init.add_listener
def begin(environment: Environment, **_: Any) -> None:
    """Starts the pulse where users run, and hooks the verdict to the run."""
    own = witness(environment)
    hooks = environment.events
    hooks.test_start.add_listener(lambda **_: own.forget())
    if not isinstance(environment.runner, MasterRunner):
        gevent.spawn(own.pulse.run)
    if isinstance(environment.runner, WorkerRunner):
        hooks.report_to_master.add_listener(lambda client_id, data: data.update(trilane=own.take()))
        return
    hooks.worker_report.add_listener(lambda client_id, data: own.tally.merge(data["trilane"]))
    hooks.quitting.add_listener(lambda **_: conclude(environment))


def conclude(environment: Environment) -> None:
    """Sets the exit code, writes the verdict file, and prints the verdict after Locust's own tables."""
    own = witness(environment)
    if not isinstance(environment.runner, MasterRunner):
        own.tally.late_ms.update(own.pulse.late_ms)
    summary = own.tally.sum_up(_measure(row) for row in environment.stats.entries.values() if row.method != CHECK)
    if not summary.ok:
        environment.process_exit_code = 1
    assert environment.parsed_options is not None
    if path := environment.parsed_options.verdict:
        Path(path).write_text(json.dumps(summary.as_json(), indent=1) + "\n")
    environment.events.quit.add_listener(lambda **_: print(summary.in_words()))


def _measure(row: StatsEntry) -> Measure:
    p50, p95, p99 = (row.get_response_time_percentile(share) for share in (0.5, 0.95, 0.99))
    return Measure(row.method, row.name, row.num_requests, p50, p95, p99, round(row.max_response_time, 1))
