"""What the doctor finds, and how a terminal shows it: a line each, what to do below it, and a count at the end."""

import itertools
import shutil
import sys
import textwrap
from collections import Counter
from typing import Literal, NamedTuple

import click

COLOURS = {"ok": "green", "warn": "yellow", "FAIL": "red", "skip": "cyan"}
MIN_COLUMNS, MAX_COLUMNS = 60, 110
"""Columns between which lines are broken, on a terminal; elsewhere a finding is one line."""

Level = Literal["ok", "warn", "FAIL", "skip"]


class Finding(NamedTuple):
    """One thing that was looked at."""

    level: Level
    text: str
    advice: str = ""
    """What to do about it; empty where nothing is wrong."""


class DoctorReport:
    """Prints findings as they come."""

    def __init__(self) -> None:
        self._counts = Counter[Level]()

    def add(self, finding: Finding) -> None:
        self._counts[finding.level] += 1
        click.echo(f"{click.style(f'{finding.level:4}', fg=COLOURS[finding.level])} {_lines(finding.text)}")
        if finding.advice:
            click.echo(f"     {_lines(finding.advice)}")

    def conclude(self) -> int:
        """Prints the last line; returns the exit code, 0 when nothing has failed."""
        failures, warnings = self._counts["FAIL"], self._counts["warn"]
        parts = [f"{failures} to mend"] * bool(failures) + [f"{warnings} to think about"] * bool(warnings)
        click.echo(f"\n{', '.join(parts) or 'Nothing is wrong'}.")
        return 1 if failures else 0


def _lines(text: str) -> str:
    """Returns a text as it stands beside the column of levels."""
    margin = f"\n{' ' * 5}"
    if not sys.stdout.isatty():
        return text.replace("\n", margin)
    columns = max(MIN_COLUMNS, min(MAX_COLUMNS, shutil.get_terminal_size().columns)) - 5
    broken = [textwrap.wrap(line, columns, break_long_words=False, break_on_hyphens=False) for line in text.split("\n")]
    return margin.join(itertools.chain.from_iterable(broken))
