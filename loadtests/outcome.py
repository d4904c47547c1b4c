"""An outcome is what a load run came to: every check with its evidence, and the sentences that a person reads first.
Pure.

Takes the verdict of `loadtests.users.verdict`. A lane that was asked for and not measured is a failure, whatever else
held: a run that nobody could take part in has no faults either.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from loadtests.users.fault import Fault
from loadtests.users.tally import LATE_MS, FaultCount, Measure, Summary

SILENCE_S = 25
"""Seconds of a run below which it hardly sees a ping that comes after 15 s, or its absence."""

ROUNDING_S = 2.0
"""Seconds that a run may end early without having been stopped: its clock starts with its users."""


class Lane(NamedTuple):
    """Says who loads a lane, and what must have been measured for it to count as loaded."""

    users: tuple[str, ...]
    needs: tuple[str, ...]


LANES = {
    "chat": Lane(("ChatUser", "SteeringUser"), ("first token", "whole answer")),
    "events": Lane(("EventsUser", "PublisherUser"), ("hello", "publish to receive")),
    "audio": Lane(("AudioUser",), ("ready", "final")),
}


@dataclass(frozen=True)
class Assignment:
    """Says what a run was to do, and to whom."""

    host: str
    lanes: tuple[str, ...]
    users: int
    seconds: int
    via: str = ""
    """The mistake of a proxy that stood between, for a rehearsal."""
    lasted_s: float = float("inf")
    """Seconds that the run really took; less than `seconds` when someone stopped it."""


class State(Enum):
    """Says how a check came out."""

    HELD = "held"
    FAILED = "failed"
    UNTESTED = "not tested"


class Check(NamedTuple):
    """One promise: how it came out, and on what evidence."""

    title: str
    state: State
    evidence: str


class Promise(NamedTuple):
    """A check before the run: which faults break it, and which measures count its tests, each with what it counts."""

    title: str
    faults: tuple[Fault, ...]
    tests: tuple[tuple[str, str], ...]


PROMISES = (
    Promise(
        "Nothing lost, nothing twice, all in order",
        (Fault.LOST, Fault.DOUBLED, Fault.OUT_OF_ORDER, Fault.DIFFERENT, Fault.GONE),
        (("chat/first token", "answer"), ("events/publish to receive", "delivery"), ("audio/final", "final")),
    ),
    Promise(
        "Who loses the connection goes on where it was",
        (Fault.NO_RESUME,),
        (("chat/resume gap", "answer"), ("events/resume gap", "event stream"), ("audio/resume gap", "call")),
    ),
    Promise(
        "Every stream says how it ended",
        (Fault.NO_END,),
        (("chat/whole answer", "whole answer"), ("audio/words wrong %", "whole call")),
    ),
    Promise(
        "Tokens and events come when they are made",
        (Fault.BUFFERED,),
        (("chat/between tokens", "token"), ("events/hello", "new event stream")),
    ),
    Promise("Silent streams are pinged", (Fault.NO_PING,), (("events/hello", "new event stream"),)),
    Promise("Stop means stop", (Fault.STOP_IGNORED, Fault.SLOW_STOP), (("chat/stop", "stopped answer"),)),
    Promise(
        "What is asked is answered once, and goes on",
        (Fault.DOUBLE_EFFECT, Fault.STUCK),
        (("chat/ask", "answered ask"),),
    ),
    Promise("What is said meanwhile is answered once", (Fault.LOST_STEER,), (("chat/steer", "steer"),)),
    Promise("Speech becomes the right words", (Fault.WORDS,), (("audio/words wrong %", "transcript"),)),
    Promise(
        "Everybody is let in",
        (Fault.REFUSED, Fault.UNAUTHORIZED, Fault.UNREACHABLE),
        (("chat/first token", "answer"), ("events/hello", "event stream"), ("audio/ready", "call")),
    ),
    Promise("Nothing else goes wrong", (Fault.ERROR,), ()),
)


@dataclass(frozen=True)
class Outcome:
    """A run with its verdict."""

    assignment: Assignment
    headline: str
    checks: list[Check]
    problems: list[tuple[str, str]]
    """Sentences that say what is wrong and what to do, each with what was seen first."""
    notes: list[str]
    measures: list[Measure]

    @property
    def ok(self) -> bool:
        return not self.problems


def judge(assignment: Assignment, verdict: Summary) -> Outcome:
    """Returns the outcome of a run with this verdict."""
    counts = {f"{one.lane}/{one.name}": one.count for one in verdict.measures}
    faults = {Fault[one.fault]: one for one in verdict.faults}
    problems = [_problem(one) for one in verdict.faults] + _unmeasured(assignment, counts, is_faulty=bool(faults))
    problems += _stopped(assignment)
    checks = [_check(promise, faults, counts, assignment) for promise in PROMISES]
    headline = _broken(checks) if problems else _kept(counts)
    return Outcome(assignment, headline, checks, problems, _notes(assignment, verdict), verdict.measures)


def span(seconds: float) -> str:
    """Returns a duration as people say it: 90 s are 1:30 minutes."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{rest} seconds"
    if rest:
        return f"{minutes}:{rest:02} minutes"
    return "a minute" if minutes == 1 else f"{minutes} minutes"


def enumeration(words: Iterable[str]) -> str:
    """Joins words as in a sentence: a, b and c."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def count_of(count: int, what: str) -> str:
    """Returns a number of things, of which one is called `what`, in words."""
    many = f"{what[:-1]}ies" if what.endswith("y") else f"{what}s"
    return f"{count:,} {what if count == 1 else many}"


def times(count: int) -> str:
    """Returns how often, in words."""
    return "once" if count == 1 else f"{count:,} times"


def _problem(fault: FaultCount) -> tuple[str, str]:
    return f"{fault.title.upper()}, {times(fault.count)}. {fault.sentence}", fault.first


def _unmeasured(assignment: Assignment, counts: dict[str, int], *, is_faulty: bool) -> list[tuple[str, str]]:
    """Returns the lanes that nobody got through to."""
    problems: list[tuple[str, str]] = []
    for lane in assignment.lanes:
        absent = [f"`{name}`" for name in LANES[lane].needs if not counts.get(f"{lane}/{name}")]
        if absent:
            what = f"NOT MEASURED. The {lane} lane was to be loaded, and there was no {' and no '.join(absent)}"
            why = "the faults above may say why" if is_faulty else "run longer (--time) or with more users (--users)"
            problems.append((f"{what}: {why}.", ""))
    return problems


def _stopped(assignment: Assignment) -> list[tuple[str, str]]:
    if assignment.lasted_s > assignment.seconds - ROUNDING_S:
        return []
    sentence = f"It was to take {span(assignment.seconds)}, and was stopped after {span(assignment.lasted_s)}"
    return [(f"STOPPED. {sentence}: what it had no time to see, it cannot promise.", "")]


def _check(promise: Promise, faults: dict[Fault, FaultCount], counts: dict[str, int], assignment: Assignment) -> Check:
    breaches = [faults[fault] for fault in promise.faults if fault in faults]
    if breaches:
        return Check(promise.title, State.FAILED, enumeration(f"{one.title}, {times(one.count)}" for one in breaches))
    tests = [(counts[name], what) for name, what in promise.tests if counts.get(name)]
    if promise.tests and not tests:
        return Check(promise.title, State.UNTESTED, "nothing in this run could have shown it")
    if Fault.NO_PING in promise.faults and min(assignment.seconds, assignment.lasted_s) < SILENCE_S:
        return Check(promise.title, State.UNTESTED, f"takes a run of {SILENCE_S} s")
    return Check(promise.title, State.HELD, enumeration(count_of(*test) for test in tests) if tests else "")


def _broken(checks: list[Check]) -> str:
    failures = sum(check.state is State.FAILED for check in checks)
    return (
        f"{failures} of {len(checks)} checks failed." if failures else "No check failed, and not everything was tried."
    )


def _kept(counts: dict[str, int]) -> str:
    cuts = sum(count for name, count in counts.items() if name.endswith("/resume gap"))
    through = f", through {count_of(cuts, 'lost connection')}" if cuts else ""
    return f"Nothing lost, nothing twice, and every stream came to its end{through}."


def _notes(assignment: Assignment, verdict: Summary) -> list[str]:
    notes: list[str] = []
    if assignment.via:
        notes.append(
            f"This was a rehearsal: a proxy with the mistake `{assignment.via}` stood between, so it had to fail."
        )
    left_out = [lane for lane in LANES if lane not in assignment.lanes]
    if left_out:
        notes.append(f"Left out, as asked: {enumeration(left_out)}.")
    late = verdict.client_late_ms
    if late.p99 > LATE_MS:
        notes.append(
            f"The times are too high: the client itself was late, by {late.p99} ms at the 99th percentile and by "
            f"{late.max} ms at worst. Run it on another machine than the gateway, or ask for less."
        )
    return notes
