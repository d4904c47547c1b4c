"""`make load` leaves this page behind: the verdict first, then what it rests on. It is one file and fetches nothing.

Beside it lie Locust's own page, the verdict as JSON and Locust's log; the page links to them.
"""

import platform
import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from html import escape
from importlib import metadata
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from loadtests.bench.harness import machine
from loadtests.bench.report.plot import Line, over_time
from loadtests.outcome import Assignment, Check, Outcome, State, enumeration, span
from loadtests.progress import Interval, clock, figure
from loadtests.users.tally import Measure

STYLE = Path(__file__).with_name("report.css")
MARKS = {State.HELD: "✓", State.FAILED: "✗", State.UNTESTED: "·"}
SECRET = re.compile(r"(--token(?:=|$))(.*)")
CODE = re.compile("`([^`]+)`")
EXPLAINED = {
    "chat/first token": "from a question until the first token of its answer is here",
    "chat/between tokens": "from one token to the next; the fake upstream makes one every 20 ms",
    "chat/whole answer": "from a question to its end, of answers that nobody cut or stopped",
    "chat/resume gap": "from coming back until the first new event",
    "chat/stop": "from a stop on one device until the reader on another sees the end",
    "chat/second reader": "from a second device's request until its first event",
    "events/hello": "from a new stream's request until it is told where it begins",
    "events/publish": "from an event's publication until its receipt",
    "events/publish to receive": "from an event's publication until a reader has it",
    "events/resume gap": "from coming back until the stream says where it goes on",
    "audio/ready": "from connecting until audio may be sent",
    "audio/first partial": "from the start of speech until its first text",
    "audio/stable word": "from the end of a word until it will not change any more",
    "audio/final": "from the end of speech until its final text; half a second of waiting for more is in it",
    "audio/resume gap": "from coming back until audio may be sent again",
    "audio/words wrong %": "of what was said, per transcript",
}
PAUSE_S = 10.0
"""Longest pause in the measures, in seconds, that a line bridges."""
LANE_ORDER = ("chat", "events", "audio")


class About(NamedTuple):
    """Says when the run was, and how it was called; secrets are masked."""

    began: datetime
    command: str
    with_gateway: bool = True
    """Whether the gateway ran on the same machine, from the same environment."""


def mask(arguments: Sequence[str]) -> list[str]:
    """Returns a command line that may be shown: the value after `--token` is masked."""
    words: list[str] = []
    hides_next = False
    for argument in arguments:
        match = SECRET.match(argument)
        words.append("***" if hides_next else SECRET.sub(r"\1***", argument) if match and match[2] else argument)
        hides_next = bool(match) and argument == "--token"
    return words


def lines(measures: Sequence[Measure]) -> Iterator[str]:
    """Yields the measures as a table for a terminal; nothing where there are none."""
    if not measures:
        return
    yield f"{'':28} {'times':>9} {'p50':>9} {'p95':>9} {'p99':>9} {'max':>9}"
    for one in _in_order(measures):
        cells = " ".join(f"{text:>9}" for text in _figures(one))
        yield f"{one.lane + '  ' + one.name:28} {one.count:>9,} {cells}"


def page(outcome: Outcome, about: About, timeline: Sequence[Interval]) -> str:
    """Returns the whole page."""
    word = "passed" if outcome.ok else "failed"
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Load test {word}: {escape(outcome.assignment.host)}</title>
<style>
{STYLE.read_text()}</style>
<main>
{_verdict(outcome, about)}
<h2>What was checked</h2>
<ul class="checks">
{"".join(map(_check, outcome.checks))}</ul>
{_plots(timeline, outcome.assignment)}
<h2>What was measured</h2>
<div class="wide"><table>
<thead><tr><th></th><th>times</th><th>p50</th><th>p95</th><th>p99</th><th>max</th></tr></thead>
{_table(outcome.measures)}</table></div>
<h2>Where and how</h2>
{_about(about)}
<p class="soft">More: <a href="locust.html">Locust's own page</a>, <a href="verdict.json">the verdict as JSON</a>,
<a href="timeline.jsonl">every second of it</a>, <a href="locust.log">Locust's log</a>.</p>
</main>
</html>
"""


def _verdict(outcome: Outcome, about: About) -> str:
    assignment = outcome.assignment
    load = f"{assignment.users} users for {span(assignment.seconds)} on {enumeration(assignment.lanes)}"
    when = about.began.strftime("%d %B %Y, %H:%M").lstrip("0")
    sentences = f"<p>{escape(outcome.headline)}</p>" + "".join(_problem(*problem) for problem in outcome.problems)
    notes = "".join(f"<p>{_prose(note)}</p>" for note in outcome.notes)
    return (
        f'<section class="verdict {"passed" if outcome.ok else "failed"}">'
        f"<h1>{'✓ Passed' if outcome.ok else '✗ Failed'}</h1>"
        f'<p class="soft">{escape(load)} of <code>{escape(assignment.host)}</code>, {when}</p>'
        f"{sentences}{notes}</section>"
    )


def _problem(sentence: str, first: str) -> str:
    name, _, rest = sentence.partition(". ")
    evidence = f'<p class="soft">First seen: <code>{escape(first)}</code></p>' if first else ""
    return f'<div class="problem"><p><b>{escape(name)}.</b> {_prose(rest)}</p>{evidence}</div>'


def _prose(text: str) -> str:
    """Returns a sentence as HTML; what stands in backticks is code."""
    return CODE.sub(r"<code>\1</code>", escape(text))


def _check(check: Check) -> str:
    name = {State.HELD: "held", State.FAILED: "failed", State.UNTESTED: "soft"}[check.state]
    text = f"{check.state.value}: {check.evidence}" if check.evidence else check.state.value
    return (
        f'<li class="{name}"><span class="mark" aria-hidden="true">{MARKS[check.state]}</span>'
        f'<span>{escape(check.title)}</span><span class="soft">{escape(text)}</span></li>\n'
    )


def _plots(timeline: Sequence[Interval], assignment: Assignment) -> str:
    if not timeline:
        return ""
    seconds = max(assignment.seconds, timeline[-1]["at_s"])
    plots = {"Users": [Line("", [(line["at_s"], line["users"]) for line in timeline], gap=PAUSE_S)]}
    if "chat" in assignment.lanes:
        plots["First token, ms"] = _quantiles(timeline, "chat/first token")
    if "events" in assignment.lanes:
        plots["Deliveries a second"] = [_line(timeline, "events/publish to receive", "count")]
    if "audio" in assignment.lanes:
        plots["Stable word, ms"] = _quantiles(timeline, "audio/stable word")
    figures = [over_time(title, series, seconds, clock) for title, series in plots.items()]
    return f'<h2>How it went</h2>\n<div class="plots">{"".join(figures)}</div>'


def _quantiles(timeline: Sequence[Interval], name: str) -> list[Line]:
    return [_line(timeline, name, quantile, quantile, colour) for colour, quantile in enumerate(("p50", "p95"))]


def _line(timeline: Sequence[Interval], name: str, column: str, title: str = "", colour: int = 0) -> Line:
    points = [(line["at_s"], line["measures"][name][column]) for line in timeline if name in line["measures"]]
    return Line(title, points, colour, gap=PAUSE_S)


def _table(measures: Sequence[Measure]) -> str:
    bodies: list[str] = []
    for lane, rows in groupby(_in_order(measures), key=lambda one: one.lane):
        bodies.append(f'<tbody><tr><th colspan="6">{escape(lane)}</th></tr>\n{"".join(map(_row, rows))}</tbody>\n')
    return "".join(bodies)


def _row(one: Measure) -> str:
    explained = EXPLAINED.get(f"{one.lane}/{one.name}", "")
    cells = "".join(f"<td>{text}</td>" for text in _figures(one))
    name = escape(one.name.removesuffix(" %"))
    return f"<tr><td>{name}<small>{escape(explained)}</small></td><td>{one.count:,}</td>{cells}</tr>\n"


def _figures(one: Measure) -> list[str]:
    """Returns a measure's percentiles, which Locust rounds, capped at the greatest value, and that value."""
    return [figure(min(value, one.max), one.name) for value in (one.p50, one.p95, one.p99, one.max)]


def _in_order(measures: Sequence[Measure]) -> list[Measure]:
    """Returns the measures by lane, and in each as EXPLAINED has them; what is not there comes last."""
    names = list(EXPLAINED)

    def place(one: Measure) -> tuple[int, int]:
        name = f"{one.lane}/{one.name}"
        lane = LANE_ORDER.index(one.lane) if one.lane in LANE_ORDER else len(LANE_ORDER)
        return lane, names.index(name) if name in names else len(names)

    return sorted(measures, key=place)


def _about(about: About) -> str:
    rows = {
        "Machine" if about.with_gateway else "Client": escape(_machine()),
        "Versions": escape(", ".join(f"{name} {version}" for name, version in _versions(about).items())),
        "Command": f"<code>{escape(about.command)}</code>",
    }
    return f"<dl>{''.join(f'<dt>{name}</dt><dd>{text}</dd>' for name, text in rows.items())}</dl>"


def _machine() -> str:
    try:
        description = machine.describe()
    except OSError:  # no /proc
        return f"{platform.machine()}, {platform.platform()}"
    memory = f"{int(description['memory_mb']) / 1000:.0f} GB"
    return f"{description['cpu']}, {description['cores']} cores, {memory}, Linux {description['kernel']}"


def _versions(about: About) -> dict[str, str]:
    """Returns the versions of what was measured and of what measured it, as far as they are known here."""
    ours = {"locust": metadata.version("locust"), **machine.versions()}
    if about.with_gateway:
        return {"trilane": metadata.version("trilane"), **ours}
    return {name: ours[name] for name in ("locust", "python", "commit") if name in ours}
