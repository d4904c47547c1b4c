"""A tally adds up a run: faults over all processes, measures, how late the client itself was, and that in words."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from loadtests.users.fault import Fault
from loadtests.users.pulse import quantile

LATE_MS = 50
"""Lateness of a client's beat, at the 99th percentile, that spoils the figures that it measures."""
MAX_DETAIL = 500
CHECKED = {
    ("chat", "first token"): "answers",
    ("chat", "stop"): "stops",
    ("chat", "second reader"): "second readers",
    ("chat", "ask"): "answered asks",
    ("chat", "steer"): "steers",
    ("events", "publish to receive"): "deliveries",
    ("audio", "final"): "spoken sentences",
    ("audio", "words wrong %"): "whole speeches",
}
"""Measures that are taken once for each of something that is checked."""
RESUMED = "resume gap"


@dataclass(frozen=True)
class Measure:
    """One row of Locust's table: milliseconds, or per cent where the name ends in `%`."""

    lane: str
    name: str
    count: int
    p50: float
    p95: float
    p99: float
    max: float


@dataclass(frozen=True)
class FaultCount:
    """A fault: how often it occurred, and the first one's detail."""

    fault: str
    title: str
    sentence: str
    count: int
    first: str


@dataclass(frozen=True)
class Lateness:
    """Lateness of the client's own beat, in milliseconds."""

    p50: int
    p99: int
    max: int


@dataclass(frozen=True)
class Summary:
    """The verdict on a run. `ok`: something was measured, and nothing was wrong."""

    ok: bool
    faults: list[FaultCount]
    measures: list[Measure]
    client_late_ms: Lateness

    def as_json(self) -> dict[str, Any]:
        """Returns what `--verdict FILE` holds."""
        return asdict(self)

    def in_words(self) -> str:
        """Returns what a person reads at the end."""
        lines = ["", "Verdict", "-------"]
        if not self.measures:
            lines.append("NOTHING WAS MEASURED: no user got an answer.")
        else:
            lines.append(f"Checked: {self._checked()}.")
        if self.ok:
            lines.append("Nothing was lost, nothing came twice, every stream came to its end.")
        for fault in self.faults:
            lines += [f"{fault.title.upper()} ({fault.count:,} x). {fault.sentence}", f"  first: {fault.first}"]
        late = self.client_late_ms
        if self.measures and late.p99 > LATE_MS:
            lines += [
                f"THE FIGURES SUFFER: this client itself was late, {late.p99} ms at the 99th percentile and "
                f"{late.max:,} ms at worst.",
                "  Give it more processes (--processes -1) or a machine of its own, or ask for less.",
            ]
        return "\n".join(lines)

    def _checked(self) -> str:
        counts = Counter[str]()
        for measure in self.measures:
            name = "resumes" if measure.name == RESUMED else CHECKED.get((measure.lane, measure.name))
            if name:
                counts[name] += measure.count
        return ", ".join(f"{name} {count:,}" for name, count in counts.items()) or "no whole stream"


@dataclass
class Tally:
    """Holds what one process saw, or several together. Bounded: a count and a detail for each fault."""

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)
    late_ms: Counter[int] = field(default_factory=Counter)

    def note(self, kind: Fault, detail: str) -> None:
        self.counts[kind.name] += 1
        self.first.setdefault(kind.name, detail[:MAX_DETAIL])

    def pack(self) -> dict[str, Any]:
        """Returns the tally as something that goes from a worker to its master."""
        return {"counts": dict(self.counts), "first": self.first, "late_ms": dict(self.late_ms)}

    def merge(self, other: dict[str, Any]) -> None:
        """Adds what a worker packed."""
        self.counts.update(other["counts"])
        self.late_ms.update(other["late_ms"])
        self.first = other["first"] | self.first

    def sum_up(self, measures: Iterable[Measure]) -> Summary:
        """Returns the verdict; faults with the most frequent first."""
        rows = sorted(measures, key=lambda measure: (measure.lane, measure.name))
        faults = [
            FaultCount(name, Fault[name].title, Fault[name].sentence, count, self.first[name])
            for name, count in self.counts.most_common()
        ]
        late = Lateness(quantile(self.late_ms, 0.5), quantile(self.late_ms, 0.99), max(self.late_ms, default=0))
        return Summary(bool(rows) and not faults, faults, rows, late)
