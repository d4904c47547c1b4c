"""Large loads have a row each in the tables of GROWTH.md: what they need, and what a store would carry for them."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from loadtests.bench.growth import constants
from loadtests.bench.growth.model import NotMeasured
from loadtests.bench.growth.needs import Listeners, Need, Runs, Voices, listeners, runs, voices
from loadtests.bench.growth.points import Points
from loadtests.bench.report.text import aligned, rounded


class Scenario(NamedTuple):
    """A load, and what to call it."""

    title: str
    load: Listeners | Runs | Voices


MILLION = 1_000_000
SCENARIOS = (
    Scenario(
        "1,000,000 listeners, topics of 1,000 readers, an event a minute each",
        Listeners(streams=MILLION, readers=1000, events_per_s=1 / 60),
    ),
    Scenario(
        "the same, an event a second each, readers anywhere", Listeners(streams=MILLION, readers=1000, events_per_s=1)
    ),
    Scenario(
        "the same, all readers of a topic in one process",
        Listeners(streams=MILLION, readers=1000, events_per_s=1, by_topic=True),
    ),
    Scenario("100,000 runs at once, 50 tokens/s, 500 in an answer", Runs(runs=100_000)),
    Scenario("10,000 voices that speak all the time", Voices(voices=10_000)),
    Scenario("10,000 voices that speak 40 % of the time", Voices(voices=10_000, speaking=0.4)),
)
Column = tuple[str, Callable[[Need], float]]
MACHINES: tuple[Column, ...] = (
    ("processes", lambda need: need.processes),
    ("cores reserved", lambda need: need.reserved_cores),
    ("cores used", lambda need: need.cores),
    ("memory, GiB", lambda need: need.memory_gib),
    ("network out, MB/s", lambda need: need.out_mb_s),
    ("network in, MB/s", lambda need: need.in_mb_s),
)
STORE: tuple[Column, ...] = (
    ("events appended/s", lambda need: need.store_events_per_s),
    ("writes that carry them/s", lambda need: need.store_writes_per_s),
    ("events told to other processes/s", lambda need: need.store_relayed_per_s),
)


def cells(points: Points, columns: Sequence[Column], scenarios: Sequence[Scenario] = SCENARIOS) -> list[list[str]]:
    """Returns the header, and a row for each scenario; one without a model has dashes."""
    rows = [[one.title, *_row(_need(one, points), columns)] for one in scenarios]
    return [["load", *(head for head, _ in columns)], *rows]


def table(points: Points) -> str:
    """Returns the cells for a terminal: a column for each scenario, by number."""
    by_number = [Scenario(f"({number})", one.load) for number, one in enumerate(SCENARIOS, 1)]
    names = [f"({number}) {one.title}" for number, one in enumerate(SCENARIOS, 1)]
    store = tuple((f"store: {head}", of) for head, of in STORE)
    across = cells(points, MACHINES + store, by_number)
    across[0][0] = ""
    return "\n".join([*names, "", aligned([list(column) for column in zip(*across, strict=True)])])


def _row(need: Need | None, columns: Sequence[Column]) -> list[str]:
    return ["-" if need is None else rounded(of(need)) for _, of in columns]


def _need(scenario: Scenario, points: Points) -> Need | None:
    try:
        match scenario.load:
            case Listeners() as load:
                return listeners(constants.events(points), load)
            case Runs() as load:
                return runs(constants.chat(points), load)
            case Voices() as load:
                return voices(constants.audio(points), load)
    except (NotMeasured, OverflowError):
        return None
