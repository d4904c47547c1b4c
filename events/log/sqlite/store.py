"""Holds the writer's side of the SQLite file: its memory of topics, and the transactions that change them.

Everything that a writer remembers is true as long as `sqlite_sequence` says that no other process has added a row to
`blocks`; whatever changes a topic adds one, a marker at least. So a group that only adds blocks to known topics is
one statement, which checks that and writes: every further statement would let go of the interpreter's lock and wait
for it again, on a busy event loop for milliseconds.
"""

import contextlib
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from events.log.port import Append, Appended, Commit, Interest
from events.log.rules import is_key_valid
from events.log.sqlite.damage import delete_blocks, find_topic
from events.log.sqlite.file import NEWEST, SqlError, connect, is_damage, transaction
from events.log.sqlite.names import NameFilter
from events.log.sqlite.plan import AppendCall, BlockRow, Plan, PlannedTopic

EXACT_ROWS = 64
"""Rows up to which each number of them has its own statement; a larger one is filled up to a multiple of it."""
MAX_ROWS = 256
"""Maximum rows of one statement."""
MAX_TOPICS = 100_000
"""Maximum topics that a writer remembers; past that all are forgotten, and those in use are read again."""
CHECK_S = 0.05
"""Seconds after which a write checks again that the file is still the one that was opened."""
CACHE_KIB = 16_384
"""KiB of pages that the writer's connection caches."""

SEQ = "SELECT seq FROM sqlite_sequence WHERE name = 'blocks'"
LOAD_COLUMNS = """t.name, t.epoch, t.owner, coalesce(b.first + b.count, t.oldest) - 1, coalesce(b.total, t.base),
    t.closed OR coalesce(b.closing, 0), t.oldest, t.base, t.id"""
LOAD = f"SELECT {LOAD_COLUMNS} FROM topics t LEFT JOIN blocks b ON b.seq = {NEWEST} WHERE t.name IN "
CHANGED = """
SELECT coalesce(t.name, b.name), coalesce(t.epoch, CAST(b.data AS TEXT)), max(coalesce(t.closed, 0), max(b.closing)),
    count(*)
FROM blocks b LEFT JOIN topics t ON t.id = b.topic_id WHERE b.seq > ? AND b.seq <= ?
GROUP BY b.topic_id, iif(b.topic_id, '', b.name) ORDER BY max(b.seq)
"""
MARK = """
INSERT INTO blocks (topic_id, first, count, total, time_ms, closing, name, data) VALUES (0, NULL, 0, 0, ?, ?, ?, ?)
"""
NO_ROW = (None,) * 7

T = TypeVar("T")
Value = int | str | bytes | None


def repeat(count: int, text: str) -> str:
    return ",".join([text] * count)


def portions(items: Sequence[T]) -> list[Sequence[T]]:
    """Returns slices of at most MAX_ROWS: SQLite bounds the number of values of one statement."""
    return [items[start : start + MAX_ROWS] for start in range(0, len(items), MAX_ROWS)]


@cache
def insert(rows: int) -> str:
    """Returns the statement that adds rows only while the newest row of all is the one we know."""
    return (
        "INSERT INTO blocks (topic_id, first, count, total, closing, name, data, time_ms)"
        f" SELECT *, ? FROM (VALUES {repeat(rows, '(?,?,?,?,?,?,?)')}) WHERE column1 NOTNULL AND ({SEQ}) = ?"
    )


def find_keys(count: int) -> str:
    pairs = repeat(count, "(?,?)")
    return f"SELECT k.* FROM (VALUES {pairs}) CROSS JOIN keys k ON k.topic_id = column1 AND k.key = column2"


def topic_of(row: Sequence[Any]) -> PlannedTopic:
    """Returns the topic that a row of LOAD_COLUMNS describes."""
    name, epoch, owner, head, total, closed, oldest, base, topic_id = row
    return PlannedTopic(name, epoch, owner, head, total, bool(closed), oldest, base, topic_id)


class Store:
    """The writer's connection, used by its thread alone once the log is open."""

    def __init__(
        self, path: Path, interest: Callable[[], Interest], busy_s: float, names: NameFilter | None = None
    ) -> None:
        self.db = connect(path, busy_s=busy_s, cache_kib=CACHE_KIB)
        self._path = path
        self._inode, self._size, self._was_cut_off = path.stat().st_ino, 0, False
        self._interest = interest
        self._names = names
        self.is_lost = False
        self._last_check = 0.0
        self.topics: dict[str, PlannedTopic] = {}
        """The topics that the writer remembers, even those that it knows not to exist."""
        self.seq: int = self.db.execute(SEQ).fetchone()[0]

    def close(self) -> None:
        self.db.close()

    def check_file(self) -> None:
        """Checks that the file was not deleted, replaced or cut off: SQLite would write on into the old one."""
        self._last_check = time.monotonic()
        try:
            status = self._path.stat()
        except OSError:
            self.is_lost = True
            return
        # Nothing here ever makes the file smaller, so somebody else has written over it, and no page can be relied on.
        self._was_cut_off |= status.st_size < self._size
        self.is_lost = self._was_cut_off or status.st_ino != self._inode
        self._size = max(self._size, status.st_size)

    def loss(self) -> SqlError:
        """Returns the error that says that the file is lost."""
        what = "cut off; put a copy in its place and" if self._was_cut_off else "deleted or replaced; put it back or"
        return SqlError(f"the file {str(self._path)!r} was {what} restart")

    @contextlib.contextmanager
    def change(self) -> Generator[None]:
        """Runs a transaction; when it fails, what it learnt about other processes is forgotten with it."""
        seq = self.seq
        try:
            with transaction(self.db):
                yield
        except BaseException:
            self.seq = seq
            raise

    def write(self, calls: Sequence[AppendCall], now_ms: int) -> tuple[Plan, list[Commit]]:
        """Writes a group; returns its plan, and news of what other processes have changed. Raises SqlError."""
        if time.monotonic() - self._last_check > CHECK_S:
            self.check_file()
        if self.is_lost:
            raise self.loss()
        appends = [append for call in calls for append in call.appends]
        try:
            if len(appends) <= MAX_ROWS and all([self._is_plain(append) for append in appends]):
                plan = plan_of(calls, self.topics, {})
                # A plan without rows proves nothing: that nothing may go in is perhaps no longer true.
                if plan.rows and self._insert(plan.rows, now_ms):
                    self._forget_closed(plan)
                    return plan, []
                self._forget(appends)
            return self._write_around_damage(calls, appends, now_ms)
        except BaseException:
            self._forget(appends)
            raise

    def _is_plain(self, append: Append) -> bool:
        """Returns whether an append can do no more than add a block to a topic that we know."""
        topic = self.topics.get(append.topic)
        return topic is not None and topic.epoch != "" and append.key is None and bool(append.data or not append.close)

    def _forget(self, appends: Iterable[Append]) -> None:
        """Forgets topics of appends that were planned but not written: what we remember of them is no longer true."""
        for append in appends:
            self.topics.pop(append.topic, None)

    def _insert(self, rows: Sequence[BlockRow], now_ms: int) -> bool:
        """Adds rows in one statement; returns False when another process was first, and nothing was written."""
        values: list[Value] = [now_ms]
        for row in rows:
            lines = row.lines
            values += (row.topic.id, row.first, len(lines), row.total, row.is_closing, row.name, b"\n".join(lines))
        size = len(rows)
        if size > EXACT_ROWS:
            size = -(-size // EXACT_ROWS) * EXACT_ROWS
            values += NO_ROW * (size - len(rows))
        values.append(self.seq)
        cursor = self.db.execute(insert(size), values)
        if cursor.rowcount != len(rows):
            return False
        self.seq = cursor.lastrowid or 0
        return True

    def _write_around_damage(
        self, calls: Sequence[AppendCall], appends: Sequence[Append], now_ms: int
    ) -> tuple[Plan, list[Commit]]:
        try:
            return self._write_in_transaction(calls, appends, now_ms)
        except SqlError as err:
            if not is_damage(err):
                raise
            self.topics |= self._fetch_around({append.topic for append in appends})
            return self._write_in_transaction(calls, appends, now_ms)

    def _write_in_transaction(
        self, calls: Iterable[AppendCall], appends: Iterable[Append], now_ms: int
    ) -> tuple[Plan, list[Commit]]:
        with self.change():
            news = self.catch_up()
            self._load({append.topic for append in appends})
            results = self._results([(a.topic, a.key) for a in appends if a.key is not None], now_ms)
            plan = plan_of(calls, self.topics, results)
            for topics in portions([*plan.new_topics.values()]):
                self.create(topics, now_ms)
            for rows in portions(plan.rows):
                self._insert(rows, now_ms)
            for topic in plan.eventless_topics:
                self.db.execute("UPDATE topics SET closed = ? WHERE id = ?", (topic.closed, topic.id))
                self.mark(topic, topic.closed, now_ms)
            for keys in portions(plan.keys):
                self._keep_keys(keys, now_ms)
        self._forget_closed(plan)
        return plan, news

    def _forget_closed(self, plan: Plan) -> None:
        """Forgets the topics that a plan has closed: nothing goes in any more, and each run leaves one."""
        for name in plan.closed_topics:
            self.topics.pop(name, None)

    def catch_up(self) -> list[Commit]:
        """Returns news of the topics of interest that other processes have changed since we last looked."""
        seq: int = self.db.execute(SEQ).fetchone()[0]
        if seq == self.seq:
            return []
        changed = self.db.execute(CHANGED, (self.seq, seq)).fetchall()
        if sum(rows for *_, rows in changed) < seq - self.seq:
            self.topics.clear()  # some rows were trimmed before we saw them, and we cannot know whose they were
        self.seq = seq
        for name, *_ in changed:
            self.topics.pop(name, None)
        # Looked up only now: whoever follows a topic from here on reads it later than we did, and sees all of this.
        interest = self._interest()
        return [
            Commit(topic=name, epoch=epoch, block=None, closed=bool(closed))
            for name, epoch, closed, _ in changed
            if name in interest
        ]

    def _load(self, names: Iterable[str]) -> None:
        if len(self.topics) > MAX_TOPICS:
            self.topics.clear()
        new_names = [name for name in names if name not in self.topics]
        self.topics |= {name: PlannedTopic(name) for name in new_names} | self.fetch(new_names)

    def fetch(self, names: Sequence[str]) -> dict[str, PlannedTopic]:
        """Returns those of the topics that exist, as the file has them."""
        topics: dict[str, PlannedTopic] = {}
        for portion in portions(names):
            for row in self.db.execute(f"{LOAD} ({repeat(len(portion), '?')})", portion):
                topics[row[0]] = topic_of(row)
        return topics

    def _fetch_around(self, names: Iterable[str]) -> dict[str, PlannedTopic]:
        """Returns topics of which the newest block may be damaged; those that do not exist come without an epoch.

        It reads by a connection of its own: SQLite fails all later writes of a transaction that has met damage.
        """
        with contextlib.closing(connect(self._path)) as db:
            return {name: find_topic(db, name)[0] for name in names}

    def _results(self, keys: Sequence[tuple[str, str]], now_ms: int) -> dict[tuple[str, str], Appended]:
        """Returns the results that idempotency keys of the group still give."""
        names = {self.topics[name].id: name for name, _ in keys}
        results: dict[tuple[str, str], Appended] = {}
        for portion in portions(keys):
            pairs = [value for name, key in portion for value in (self.topics[name].id, key)]
            for topic_id, key, first, last, time_ms in self.db.execute(find_keys(len(portion)), pairs):
                if is_key_valid(time_ms, now_ms):
                    name = names[topic_id]
                    results[name, key] = Appended(self.topics[name].epoch, first, last)
        return results

    def _keep_keys(self, keys: Sequence[tuple[PlannedTopic, str, Appended]], now_ms: int) -> None:
        values = [value for topic, key, result in keys for value in (topic.id, key, result.first, result.last, now_ms)]
        self.db.execute(f"REPLACE INTO keys VALUES {repeat(len(keys), '(?,?,?,?,?)')}", values)

    def create(self, topics: Sequence[PlannedTopic], now_ms: int) -> None:
        """Makes topics in one statement, in which their ids follow one another."""
        if self._names is not None:
            self._names.add(topic.name for topic in topics)
        values = [value for topic in topics for value in (topic.name, topic.epoch, topic.owner, now_ms)]
        rows = repeat(len(topics), "(?,?,?,?)")
        cursor = self.db.execute(f"INSERT INTO topics (name, epoch, owner, updated_ms) VALUES {rows}", values)
        for topic_id, topic in enumerate(topics, (cursor.lastrowid or 0) + 1 - len(topics)):
            topic.id = topic_id

    def mark(self, topic: PlannedTopic, closed: bool, now_ms: int) -> None:
        """Adds a row that makes other processes look at this topic."""
        values = (now_ms, closed, topic.name, topic.epoch.encode())
        self.seq = self.db.execute(MARK, values).lastrowid or 0

    def drop(self, topic: PlannedTopic, now_ms: int) -> Commit:
        """Removes a topic, inside a transaction that has caught up."""
        self.db.execute("DELETE FROM blocks WHERE topic_id = ?", (topic.id,))
        return self._drop_name(topic, now_ms)

    def _drop_name(self, topic: PlannedTopic, now_ms: int) -> Commit:
        self.db.execute("DELETE FROM keys WHERE topic_id = ?", (topic.id,))
        self.db.execute("DELETE FROM topics WHERE id = ?", (topic.id,))
        self.topics.pop(topic.name, None)
        self.mark(topic, False, now_ms)
        return Commit(topic=topic.name, epoch=topic.epoch, block=None)

    def delete(self, name: str, now_ms: int) -> tuple[bool, list[Commit]]:
        """Removes a topic in its own transaction; returns whether there was one, and news of it and of others."""
        try:
            with self.change():
                news = self.catch_up()
                topic = self.fetch([name]).get(name)
                if topic is not None:
                    news.append(self.drop(topic, now_ms))
        except SqlError as err:
            if not is_damage(err):
                raise
            return self._delete_around(name, now_ms)
        return topic is not None, news

    def _delete_around(self, name: str, now_ms: int) -> tuple[bool, list[Commit]]:
        """Removes a topic that has damaged blocks, and of those as many as can be removed."""
        topic = self._fetch_around([name])[name]
        with self.change():
            news = self.catch_up()
            if topic.epoch:
                news.append(self._drop_name(topic, now_ms))
        delete_blocks(self.db, topic.id)
        return topic.epoch != "", news


def plan_of(
    calls: Iterable[AppendCall], topics: dict[str, PlannedTopic], results: dict[tuple[str, str], Appended]
) -> Plan:
    plan = Plan(topics, results)
    for call in calls:
        plan.add(call)
    return plan
