"""Silence tells that the process which wrote a run is gone. Pure: the times are the caller's own monotonic clock."""

from collections.abc import Mapping

SILENCE_S = 15.0
"""Seconds without a sign of life after which the writer of a run counts as gone."""
LATE_S = 6.0
"""Seconds between two looks past which silence begins anew.

Whatever kept us from looking - the log was away, or this process was stopped - may have kept the writer from writing.
"""


class SilenceWatch:
    """Finds, by one look after another, the topics whose heads have not moved for SILENCE_S.

    Whoever looks leaves out the topics that it writes itself.
    """

    def __init__(self) -> None:
        self._heads: dict[str, tuple[int, float]] = {}
        """The head of each topic at the last look, and since when it has been that."""
        self._looked_at = 0.0

    def look(self, heads: Mapping[str, int], now: float) -> list[str]:
        """Takes the heads of all topics that are open at `now`, in seconds; returns those that have been silent."""
        if now - self._looked_at > LATE_S:
            self._heads = {}
        self._looked_at = now
        earlier, self._heads = self._heads, {}
        for topic, head in heads.items():
            known, since = earlier.get(topic, (head, now))
            self._heads[topic] = (head, since if known == head else now)
        return [topic for topic, (_, since) in self._heads.items() if now - since >= SILENCE_S]
