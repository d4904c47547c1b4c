"""A run shows its progress in lines for people, read from what `loadtests.timeline` writes; free of Locust."""

import json
from pathlib import Path
from statistics import median
from typing import Any

from loadtests.outcome import count_of

Interval = dict[str, Any]
"""A line of the timeline, which says what happened since the line before."""
SHOWN = (
    ("chat/first token", "answer", "first token"),
    ("events/publish to receive", "delivery", ""),
    ("audio/final", "final", ""),
)
"""Measures that a line shows of each lane: how many, and how fast."""


class Progress:
    """Tells what happened since the last call of `line`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0
        """Characters of the file that were read."""

    def line(self) -> str:
        """Returns a line; empty when nothing is known yet."""
        new = self._news()
        if not new:
            return ""
        last = new[-1]
        parts = [text for row in SHOWN if (text := _lane_text(new, *row))]
        faults = f"FAULTS: {last['faults']:,}" if last["faults"] else "no faults"
        return "   ".join([f"  {clock(last['at_s'])}", f"{last['users']:3} users", *parts, faults])

    def _news(self) -> list[Interval]:
        """Returns whole lines that were not read yet."""
        if not self._path.exists():
            return []
        text = self._path.read_text()[self._read :]
        whole = text[: text.rfind("\n") + 1]
        self._read += len(whole)
        return [json.loads(line) for line in whole.splitlines()]


def read_timeline(path: Path) -> list[Interval]:
    """Returns what `loadtests.timeline` wrote; nothing, when it wrote nothing."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def clock(seconds: float) -> str:
    """Returns seconds as a watch shows them: 1:05."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def figure(value: float, name: str = "") -> str:
    """Returns a measure for people: milliseconds or seconds, or per cent where the name says so."""
    if name.endswith("%"):
        return f"{value:.0f} %"
    if value < 10:
        return f"{value:.1f} ms"
    return f"{value:.0f} ms" if value < 1000 else f"{value / 1000:.2f} s"


def _lane_text(new: list[Interval], name: str, what: str, how: str) -> str:
    figures_seen = [line["measures"][name] for line in new if name in line["measures"]]
    if not figures_seen:
        return ""
    typical = figure(median(one["p50"] for one in figures_seen))
    return f"{count_of(sum(one['count'] for one in figures_seen), what)} ({f'{how} ' if how else ''}{typical})"
