"""What a deploy under load came to, as one row of a table, and how evenly its reconnects were spread."""

import math
from collections.abc import Sequence
from typing import NamedTuple

HEADINGS = ("case", "runs", "failed", "events lost", "doubled", "finals lost", "5xx", "reconnects", "KS p", "seconds")


class Row(NamedTuple):
    """One case of `make deploy-test`."""

    case: str
    runs: int
    failed: int
    events_lost: int
    doubled: int
    finals_lost: int
    faults: int
    reconnects: int
    evenness: float
    """The p-value of `evenness`."""
    seconds: float


def evenness(places: Sequence[float]) -> float:
    """Returns the p-value of the Kolmogorov-Smirnov test that `places` are spread evenly from 0 to 1.

    By Kolmogorov's limit with Stephens' correction for few (1970), right to some per cent from 5 places on.
    """
    count = len(places)
    if count == 0:
        return 0.0
    ranked = sorted(min(1.0, max(0.0, place)) for place in places)
    distance = max(max((n + 1) / count - place, place - n / count) for n, place in enumerate(ranked))
    scaled = distance * (math.sqrt(count) + 0.12 + 0.11 / math.sqrt(count))
    terms = [(-1) ** (k - 1) * math.exp(-2 * (k * scaled) ** 2) for k in range(1, 101)]
    return 1.0 if scaled < 0.2 else min(1.0, max(0.0, 2 * sum(terms)))


def table(rows: Sequence[Row]) -> str:
    """Returns the rows as a table of Markdown."""
    lines = [HEADINGS, ["---"] * len(HEADINGS)]
    for row in rows:
        lines.append([f"{cell:.2g}" if isinstance(cell, float) and cell <= 1 else _shown(cell) for cell in row])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _shown(cell: object) -> str:
    return f"{cell:.0f}" if isinstance(cell, float) else str(cell)
