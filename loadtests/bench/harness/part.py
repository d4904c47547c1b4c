"""A part of the benchmark tells the harness its name, its cases and targets, and how to measure them."""

import argparse
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from loadtests.bench.harness.processes import CLIENT_CORE, SERVER_CORE
from loadtests.bench.harness.records import Record


class Cannot(Exception):
    """A target has no way to do what the case asks: it cannot ... (the message). No failure: the table shows it."""


class Case(Protocol):
    """One load. `latency-8` belongs to the group `latency`: either can be asked for."""

    @property
    def name(self) -> str: ...

    @property
    def targets(self) -> Sequence[str]: ...

    @property
    def measure(self) -> Callable[[Any], Record]:
        """Measures with a rig, and returns figures. Raises NotStarted, ClientFailed, Cannot."""
        ...


class Rig(Protocol):
    """A rig is what a case measures with; afterwards it has the faults, and the other work meanwhile in cores."""

    faults: dict[str, int]
    foreign_cores: float


class RecordsView(Protocol):
    """The look of records: a line for each while the benchmark runs, and a table of all at its end."""

    def progress(self, record: Record) -> str: ...

    def render(self, records: list[Record], absent: dict[str, str]) -> str:
        """Returns the table; `absent` has the targets that cannot be measured here, and why."""
        ...


@dataclass(frozen=True)
class Plans:
    """Plans say how much is measured by default, with --quick and with --long: dataclasses of the part's own."""

    usual: Any
    quick: Any
    long: Any = None

    def chosen(self, args: argparse.Namespace) -> Any:
        if args.quick:
            return self.quick
        return (self.long or self.usual) if args.long else self.usual


@dataclass(frozen=True)
class Run:
    """One run of a part: its arguments, its plan, its ports."""

    args: argparse.Namespace
    plan: Any
    port: int
    """The first of the part's ports."""

    @property
    def settings(self) -> dict[str, str]:
        """Returns environment variables of Trilane, from --env."""
        return dict(pair.split("=", 1) for pair in self.args.env)


@dataclass(frozen=True)
class Job:
    """One measurement: this case on this target, with a folder that is removed after it."""

    case: Case
    target: str
    folder: Path


Session = Callable[[Run], AbstractContextManager[Callable[[Job], Rig]]]
"""Opens what lives for the whole run (an upstream, a model), and yields what makes the rig of each measurement."""


def _nothing(_: Any) -> None:
    """Says that nothing is missing, and adds nothing."""


@dataclass(frozen=True)
class Part:
    """One part of the benchmark; `rounds.py` says how it is run."""

    name: str
    says: str
    port: int
    cases: Sequence[Case]
    ours: Sequence[str]
    plans: Plans
    session: Session
    table: RecordsView
    peers: Sequence[str] = ()
    """Targets that --peers adds, when they are installed."""
    extras: Sequence[str] = ()
    """Targets measured only when they are named."""
    ports: int = 1
    beside: Sequence[str] = ()
    """Groups of cases that mean something only beside peers."""
    once: Sequence[str] = ()
    """Groups of cases measured in the first round only, because they hardly change from one to the next."""
    lengthy: Sequence[str] = ()
    """Groups of cases measured only with --long, or when they are named."""
    named: Callable[[str], Case | None] = _nothing
    """A function that returns a case by a name that `cases` does not have."""
    arguments: Callable[[argparse.ArgumentParser], None] = _nothing
    """A function that adds the part's own arguments."""
    lacks: Callable[[argparse.Namespace], str | None] = _nothing
    """A function that returns why the part cannot be measured at all, and what to do."""
    missing: Callable[[str], str | None] = _nothing
    """A function that returns why a target cannot be measured here."""
    cannot: Callable[[str, str], str | None] = lambda _target, _case: None
    """A function that returns what a target cannot do, after "it cannot", so that a case means nothing for it."""
    about: Callable[[Run], Record] = lambda _: {}
    """A function that returns more for each record."""
    file: str = ""
    """Name of the file of its results, when it is not called as the part is."""
    server_cores: Callable[[argparse.Namespace], Sequence[int]] = lambda _: (SERVER_CORE,)
    client_core: int = CLIENT_CORE

    @property
    def targets(self) -> list[str]:
        return [*self.ours, *self.peers, *self.extras]


@dataclass(frozen=True)
class LeftOut:
    """A part that cannot be measured here, why, and what to do."""

    name: str
    why: str


def group(case: Case) -> str:
    """Returns the group of a case: `latency` of `latency-8`."""
    return case.name.partition("-")[0]
