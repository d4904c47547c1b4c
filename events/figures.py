"""Measures the events lane: what becomes of cursors, what is published, and how late it reaches the sockets."""

from events.feed.feeds import Feeds
from events.publish import Receipt
from gateway.core.telemetry import COUNTS, SHORT_S, Metrics

RESUMED = ("recovered", "unknown_cursor", "evicted", "epoch_changed", "malformed", "replay_limit")
"""What becomes of a cursor: all after it comes, or the reason why not, as `hello` tells it."""
GAPS = ("evicted", "damaged", "epoch_changed")


class EventsFigures:
    """The metrics of the events lane."""

    def __init__(self, metrics: Metrics, feeds: Feeds) -> None:
        self._resumes = metrics.counter(
            "events_resumes", "Streams that came with a cursor, by what became of it", "outcome", RESUMED
        )
        self._replay = metrics.histogram(
            "events_replay_events", "Events that a stream with a cursor was sent of what it had missed", COUNTS
        )
        self._published = metrics.counter(
            "events_published", "Events published here, by result", "result", ("new", "duplicate")
        )
        gaps = metrics.counter(
            "events_gaps", "Holes that streams were told of while connected, by reason", "reason", GAPS
        )
        lag = metrics.histogram(
            "events_fanout_lag_seconds",
            "From when the log took an event until the last of its readers who keep up was written it, by the clocks "
            "of both machines; one event in a while is measured",
            SHORT_S,
        )
        metrics.gauge("events_open_feeds", "Subscriptions that someone follows here", lambda: len(feeds))
        feeds.meter.on_gap = lambda reason: gaps.labels(reason).inc()
        feeds.meter.on_lag = lag.observe

    def note_resume(self, outcome: str, replay: int) -> None:
        self._resumes.labels(outcome).inc()
        self._replay.observe(replay)

    def note_published(self, receipt: Receipt) -> None:
        duplicates = sum(event.duplicate for event in receipt.events)
        self._published.labels("new").inc(len(receipt.events) - duplicates)
        self._published.labels("duplicate").inc(duplicates)
