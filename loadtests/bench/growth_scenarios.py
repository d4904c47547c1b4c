"""What large loads need, as a table; for your own loads and prices:

python -m loadtests.bench.growth_scenarios [--listeners N --readers R --events PER_S] [--runs N] [--voices N]
                                           [--vcpu-hour $ --gib-hour $ --gb-out $]
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from loadtests.bench import growth_constants
from loadtests.bench.growth_bill import Listeners, Need, Prices, Runs, Voices, listeners, runs, voices
from loadtests.bench.growth_model import NotMeasured
from loadtests.bench.growth_points import RESULTS, Points, read
from loadtests.bench.layout import aligned
from loadtests.bench.rounding import rounded


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
Column = tuple[str, Callable[[Need, Prices], float]]
MACHINES: tuple[Column, ...] = (
    ("processes", lambda need, _: need.processes),
    ("cores reserved", lambda need, _: need.reserved_cores),
    ("cores used", lambda need, _: need.cores),
    ("memory, GiB", lambda need, _: need.memory_gib),
    ("network out, MB/s", lambda need, _: need.out_mb_s),
    ("network in, MB/s", lambda need, _: need.in_mb_s),
    ("machines, $/hour", lambda need, prices: need.machines_per_hour(prices)),
    ("traffic out, $/hour", lambda need, prices: need.traffic_per_hour(prices)),
)
STORE: tuple[Column, ...] = (
    ("events appended/s", lambda need, _: need.store_events_per_s),
    ("writes that carry them/s", lambda need, _: need.store_writes_per_s),
    ("events told to other processes/s", lambda need, _: need.store_told_per_s),
)


def need(scenario: Scenario, points: Points) -> Need:
    """Raises NotMeasured, OverflowError."""
    match scenario.load:
        case Listeners() as load:
            return listeners(growth_constants.events(points), load)
        case Runs() as load:
            return runs(growth_constants.chat(points), load)
        case Voices() as load:
            return voices(growth_constants.audio(points), load)


def cells(scenarios: Sequence[Scenario], points: Points, prices: Prices, columns: Sequence[Column]) -> list[list[str]]:
    """The header, and a row for each load; one that cannot be told has dashes."""
    rows = [[one.title, *_row(_need(one, points), prices, columns)] for one in scenarios]
    return [["load", *(head for head, _ in columns)], *rows]


def table(scenarios: Sequence[Scenario], points: Points, prices: Prices) -> str:
    """For the terminal: a column for each load, by number."""
    named = [Scenario(f"({number})", one.load) for number, one in enumerate(scenarios, 1)]
    names = [f"({number}) {one.title}" for number, one in enumerate(scenarios, 1)]
    store = tuple((f"store: {head}", of) for head, of in STORE)
    across = cells(named, points, prices, MACHINES + store)
    across[0][0] = ""
    return "\n".join([*names, "", aligned([list(column) for column in zip(*across, strict=True)])])


def _row(need: Need | None, prices: Prices, columns: Sequence[Column]) -> list[str]:
    return ["-" if need is None else rounded(of(need, prices)) for _, of in columns]


def _need(scenario: Scenario, points: Points) -> Need | None:
    try:
        return need(scenario, points)
    except (NotMeasured, OverflowError):
        return None


def main(argv: list[str]) -> int:
    """Print the table; 2 where it has not been measured yet."""
    args = _arguments(argv)
    points = read(Path(args.results))
    if not points:
        print(f"{args.results} has no points; run: make bench PART=growth", file=sys.stderr)
        return 2
    prices = Prices(args.vcpu_hour, args.gib_hour, args.gb_out)
    chosen = _asked(args) or SCENARIOS
    print(table(chosen, points, prices))
    return 0


def _asked(args: argparse.Namespace) -> list[Scenario]:
    asked: list[Scenario] = []
    if args.listeners:
        for by_topic, where in ((False, "readers anywhere"), (True, "a topic's readers in one process")):
            load = Listeners(streams=args.listeners, readers=args.readers, events_per_s=args.events, by_topic=by_topic)
            asked.append(Scenario(f"{args.listeners:,} listeners, topics of {args.readers:,}, {where}", load))
    if args.runs:
        load = Runs(runs=args.runs, tokens_per_s=args.tokens_per_s, answer_tokens=args.answer)
        asked.append(Scenario(f"{args.runs:,} runs, {args.tokens_per_s:g} tokens/s", load))
    if args.voices:
        asked.append(Scenario(f"{args.voices:,} voices", Voices(voices=args.voices, speaking=args.speaking)))
    return asked


def _arguments(argv: list[str]) -> argparse.Namespace:
    prices = Prices()
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench.growth_scenarios", description="What loads need.")
    add = parser.add_argument
    add("--listeners", type=int, default=0, help="open event streams")
    add("--readers", type=int, default=1000, help="of each topic (1000)")
    add("--events", type=float, default=1.0, metavar="PER_S", help="of each topic (1)")
    add("--runs", type=int, default=0, help="answers being written")
    add("--tokens-per-s", type=float, default=50.0, help="of each run (50)")
    add("--answer", type=float, default=500.0, metavar="TOKENS", help="in an answer (500)")
    add("--voices", type=int, default=0, help="audio sessions")
    add("--speaking", type=float, default=1.0, metavar="SHARE", help="of the time that each speaks (1)")
    add("--vcpu-hour", type=float, default=prices.vcpu_hour, metavar="$", help=f"({prices.vcpu_hour})")
    add("--gib-hour", type=float, default=prices.gib_hour, metavar="$", help=f"({prices.gib_hour})")
    add("--gb-out", type=float, default=prices.gb_out, metavar="$", help=f"traffic to the internet ({prices.gb_out})")
    add("--results", default=str(RESULTS), metavar="FILE", help="points to read the model's constants from")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
