"""The README's and GROWTH.md's figures are made from the committed results: no number is written there by hand.

    python -m loadtests.bench figures            # writes both pages, and the plots beside the results
    python -m loadtests.bench figures --check    # writes nothing; 1 and a diff when they differ from the results

Each lane's `figures.py` has its tables; SOURCES has the names that stand between the README's markers.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from loadtests.bench.agents import figures as agents
from loadtests.bench.audio import figures as audio
from loadtests.bench.chat import figures as chat
from loadtests.bench.engines import figures as engines
from loadtests.bench.events import figures as events
from loadtests.bench.growth import page as growth
from loadtests.bench.harness import records as recorded
from loadtests.bench.harness.processes import ROOT
from loadtests.bench.harness.records import RESULTS, Record
from loadtests.bench.report.blocks import Block, provenance
from loadtests.bench.report.pages import block_names, check, filled, write

README = ROOT / "README.md"


@dataclass(frozen=True)
class FigureSource:
    """A block of the README, the file it is made from, and the command that measures it anew."""

    block: Callable[[list[Record]], Block]
    file: str
    command: str
    alt: str = ""
    """Text that says what the plot shows, for those who do not see it."""


SOURCES = {
    "chat": FigureSource(
        chat.tokens,
        "chat.jsonl",
        'make bench PART=chat ARGS="--long --peers"',
        "What each server adds to the first token",
    ),
    "events": FigureSource(
        events.deliveries, "events.jsonl", 'make bench PART=events ARGS="--long --peers"', "Deliveries per second"
    ),
    "scale": FigureSource(events.scale, "events-scale.jsonl", "make bench PART=scale"),
    "asks": FigureSource(agents.asks, "agents.jsonl", "make bench PART=agents"),
    "engines": FigureSource(engines.engines, "engines.jsonl", "make bench PART=engines"),
    "voices": FigureSource(
        audio.voices, "audio.jsonl", 'make bench PART=audio ARGS="--long"', "Delay of words by number of sessions"
    ),
    "voices-strain": FigureSource(audio.strain, "audio.jsonl", 'make bench PART=audio ARGS="--long"'),
    "voices-beside": FigureSource(
        audio.whisper_live, "audio.jsonl", 'make bench PART=audio ARGS="--long --cases peers"'
    ),
    "words": FigureSource(audio.words, "audio.jsonl", 'make bench PART=audio ARGS="--long --cases accuracy"'),
}


def main(argv: list[str]) -> int:
    """Writes the pages and plots, or with `--check` says what is not as the results have it."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.bench figures", description="The figures of README.md and GROWTH.md."
    )
    parser.add_argument("--check", action="store_true", help="write nothing; 1 and a diff when something differs")
    check_only = parser.parse_args(argv).check
    expected = readme_files(README, RESULTS) | growth.files(growth.PAGE, growth.POINTS)
    if check_only:
        return check(expected)
    write(expected)
    return 0


def readme_files(readme: Path, results: Path) -> dict[Path, str]:
    """Returns what the README and its plots must hold. Raises ValueError where a marker names no block."""
    blocks = {name: block(results, name) for name in block_names(readme, SOURCES)}
    plots = {results / f"{name}.svg": one.svg for name, one in blocks.items() if one.svg}
    return {readme: filled(readme.read_text(), {name: one.text for name, one in blocks.items()}), **plots}


def block(results: Path, name: str) -> Block:
    """Returns a block with its plot, table and provenance; empty while there are no results."""
    source = SOURCES[name]
    path = results / source.file
    if not path.exists():
        return Block("")
    records = recorded.read(path)
    bare = source.block(records)
    if not bare.text:
        return bare
    image = f"![{source.alt}](loadtests/results/{name}.svg)\n\n" if bare.svg else ""
    origin = provenance(records, f"loadtests/results/{source.file}", source.command)
    return Block(f"{image}{bare.text}\n\n{origin}", bare.svg)
