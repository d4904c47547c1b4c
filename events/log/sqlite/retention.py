"""Trims the SQLite log in the writer's thread, a few milliseconds at a time.

`events.log.rules` decides what goes; the statements here find it without reading the blocks.

A topic that was just written is trimmed within a second or so once it is over a limit by more than SLACK; all topics
are looked at every minute, and then trimmed to the block.
"""

import time
from collections.abc import Callable, Iterable

import msgspec
import structlog

from events.log.port import Commit, Retention
from events.log.rules import KEY_MS, exceeds, has_expired, trim_bounds
from events.log.sqlite.file import NEWEST, SqlError, is_damage
from events.log.sqlite.plan import PlannedTopic
from events.log.sqlite.store import LOAD_COLUMNS, Store, topic_of

log = structlog.get_logger("log")

PASS_S = 1.0
"""Seconds between two passes while nothing is left over."""
SWEEP_S = 60.0
"""Seconds between two looks at all topics."""
BUDGET_S = 0.003
"""Maximum seconds for which one pass holds up appends."""
PAUSE_S = 0.012
"""Seconds after which the next pass takes up what one has left over."""
SLACK = 1 / 16
"""Fraction by which a topic may exceed its limits between sweeps: trimming a hot one at each pass would cost more."""
TRIM_ROWS = 200
"""Maximum blocks of one topic dropped at once."""
PRUNE_ROWS = 2000
"""Maximum expired keys dropped at once."""
MARKER_MS = 3_600_000
"""Milliseconds for which markers are kept.

A process that sleeps for longer finds out when it next reads or writes the topic.
"""

SLICE = f"""
SELECT {LOAD_COLUMNS}, coalesce(b.time_ms, t.updated_ms),
    (SELECT time_ms FROM blocks WHERE topic_id = t.id ORDER BY first LIMIT 1)
FROM topics t LEFT JOIN blocks b ON b.seq = {NEWEST} WHERE t.id > ? ORDER BY t.id LIMIT ?
"""
NEXT_ID = "SELECT min(id) FROM topics WHERE id > ?"
KEEP_FROM = """
SELECT first, total - length(data) + count - 1 FROM blocks
WHERE topic_id = ? AND first + count - 1 > ? AND total > ? AND time_ms >= ? ORDER BY first LIMIT 1
"""
STOP_AT = f"""
SELECT first, total - length(data) + count - 1 FROM blocks
WHERE topic_id = ? AND first < ? ORDER BY first LIMIT 1 OFFSET {TRIM_ROWS}
"""
MOVE_OLDEST = f"""
UPDATE topics AS t SET oldest = ?, base = ?, closed = closed OR coalesce(
    (SELECT closing FROM blocks WHERE seq = {NEWEST}), 0), updated_ms = coalesce(
    (SELECT time_ms FROM blocks WHERE seq = {NEWEST}), updated_ms)
WHERE id = ?
"""
PRUNE_KEYS = f"""
DELETE FROM keys WHERE (topic_id, key) IN (
    SELECT topic_id, key FROM keys WHERE time_ms < ? ORDER BY time_ms LIMIT {PRUNE_ROWS})
"""
PRUNE_MARKERS = "DELETE FROM blocks WHERE topic_id = 0 AND time_ms < ?"


class Sweep(msgspec.Struct):
    """The progress of a look at all topics."""

    after_id: int = 0
    slice_topics: int = 100
    """Maximum topics that it looks at at once; one where some are damaged."""
    has_seen_all: bool = False
    is_done: bool = False


class Retainer:
    """Trims topics and deletes old ones. `retention` is called in the writer's thread."""

    def __init__(self, store: Store, retention: Callable[[str], Retention], now_ms: Callable[[], int]) -> None:
        self._store = store
        self._retention = retention
        self._now_ms = now_ms
        self._changed_topics: dict[str, PlannedTopic] = {}
        self._due_names: dict[str, None] = {}
        self._sweep = Sweep(is_done=True)
        self.next_pass = time.monotonic() + PASS_S
        """The time at which `work` is due again, by the monotonic clock."""
        self._next_sweep = time.monotonic() + SWEEP_S

    def note_change(self, topics: Iterable[PlannedTopic]) -> None:
        """Notes topics that were just appended to, to look at in the next pass."""
        for topic in topics:
            self._changed_topics[topic.name] = topic

    def work(self) -> list[Commit]:
        """Makes one bounded pass; returns the commits to announce."""
        now = time.monotonic()
        if now >= self._next_sweep and self._sweep.is_done:
            self._next_sweep = now + SWEEP_S
            self._sweep = Sweep()
        self.next_pass = now + PASS_S
        news = self._work(now + BUDGET_S)
        if self._due_names or not self._sweep.is_done:
            self.next_pass = time.monotonic() + PAUSE_S
        return news

    def sweep_all(self) -> list[Commit]:
        """Trims everything that is due, however long it takes; returns the commits to announce."""
        self._sweep = Sweep()
        news = self._work(float("inf"))
        while self._due_names or not self._sweep.is_done:  # it has met damage, and stepped over it
            news += self._work(float("inf"))
        return news

    def _work(self, deadline: float) -> list[Commit]:
        self._due_names |= {
            name: None for name, topic in self._changed_topics.items() if exceeds(topic, self._retention(name), SLACK)
        }
        self._changed_topics.clear()
        if self._sweep.is_done and not self._due_names:
            return []
        trimmed_names: dict[str, None] = {}
        try:
            with self._store.change():
                news = self._store.catch_up()
                while time.monotonic() < deadline and (self._due_names or not self._sweep.is_done):
                    if not self._due_names:
                        news += self._sweep_slice()
                    elif self._trim(name := next(iter(self._due_names))):
                        trimmed_names[name] = self._due_names.pop(name)
        except SqlError as err:
            if not is_damage(err):
                raise
            self._store.topics.clear()  # what the pass has noted there was undone
            self._step_over_damage()
            self._due_names = trimmed_names | self._due_names
            return []
        return news

    def _step_over_damage(self) -> None:
        """Leaves out what the last pass failed at; the next goes on behind it."""
        sweep = self._sweep
        if self._due_names:
            name = next(iter(self._due_names))
            del self._due_names[name]
            log.error("a topic cannot be trimmed: the log is damaged", topic=name)
        elif sweep.has_seen_all:
            sweep.is_done = True
            log.error("old idempotency keys cannot be dropped: the log is damaged")
        elif sweep.slice_topics > 1:
            sweep.slice_topics = 1
        else:
            sweep.after_id = self._store.db.execute(NEXT_ID, (sweep.after_id,)).fetchone()[0]
            log.error("the age of a topic cannot be known: the log is damaged", id=sweep.after_id)

    def defer(self) -> None:
        """Puts off what failed to the next sweep."""
        self._due_names.clear()
        self._sweep.is_done = True
        self.next_pass = time.monotonic() + PASS_S

    def _trim(self, name: str) -> bool:
        """Drops blocks that lie beyond a limit as a whole; returns False when some are left for the next pass."""
        topic = self._store.fetch([name]).get(name)
        if topic is None:
            return True
        bounds, db = trim_bounds(topic, self._retention(name), self._now_ms()), self._store.db
        start: tuple[int, int] = db.execute(KEEP_FROM, (topic.id, *bounds)).fetchone() or (topic.head + 1, topic.total)
        stop: tuple[int, int] | None = db.execute(STOP_AT, (topic.id, start[0])).fetchone()
        self._drop_before(topic, *(stop or start))
        return stop is None

    def _drop_before(self, topic: PlannedTopic, oldest: int, base: int) -> None:
        db = self._store.db
        if oldest == topic.oldest:
            return
        db.execute(MOVE_OLDEST, (oldest, base, topic.id))
        db.execute("DELETE FROM blocks WHERE topic_id = ? AND first < ?", (topic.id, oldest))
        planned = self._store.topics.get(topic.name)
        if planned is not None:
            planned.oldest, planned.base = oldest, base
        if oldest > topic.head:  # no row is left that would show another process how far it had come
            self._store.mark(topic, topic.closed, self._now_ms())

    def _sweep_slice(self) -> list[Commit]:
        """Looks at the next topics by id; after the last, at keys and markers."""
        news: list[Commit] = []
        rows = self._store.db.execute(SLICE, (self._sweep.after_id, self._sweep.slice_topics)).fetchall()
        now_ms = self._now_ms()
        for *columns, updated_ms, oldest_ms in rows:
            topic = topic_of(columns)
            retention = self._retention(topic.name)
            has_old_events = oldest_ms is not None and oldest_ms < trim_bounds(topic, retention, now_ms).time_ms
            if has_expired(topic, retention, updated_ms, now_ms):
                news.append(self._store.drop(topic, now_ms))
            elif has_old_events or exceeds(topic, retention):
                self._due_names[topic.name] = None
            self._sweep.after_id = topic.id
        if not rows:
            self._sweep.has_seen_all = True
            self._sweep.is_done = self._prune()
        return news

    def _prune(self) -> bool:
        now_ms = self._now_ms()
        self._store.db.execute(PRUNE_MARKERS, (now_ms - MARKER_MS,))
        return self._store.db.execute(PRUNE_KEYS, (now_ms - KEY_MS,)).rowcount < PRUNE_ROWS
