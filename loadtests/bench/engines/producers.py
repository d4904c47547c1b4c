"""The load of the append measurements, the same for our engines and for the bare servers; and its summary."""

from collections.abc import Sequence

from loadtests.bench.harness.records import Figures

PRODUCERS = (1, 10, 100)
"""Numbers of producers, each of which waits for its append."""
TOPICS = [f"bench/{n:04}" for n in range(1000)]
EVENT = b'"' + b"x" * 98 + b'"'
"""An event of 100 bytes."""
NAME = "message"


def groups(size: int) -> list[list[str]]:
    """Returns all topics in groups of that size, so that the bare server has as many in a request as ours has."""
    return [TOPICS[first : first + size] for first in range(0, len(TOPICS), size)]


def summary(took_s: Sequence[float], seconds: float) -> Figures:
    """Returns the rate, and half and 99 % of the times in ms."""
    ordered = sorted(took_s)
    return {
        "appends": len(ordered),
        "per_s": len(ordered) / seconds,
        "p50_ms": ordered[len(ordered) // 2] * 1e3,
        "p99_ms": ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] * 1e3,
    }
