"""The writer's side of the SQLite file: what it remembers of topics, and the transactions that change them.

Everything that a writer remembers is true as long as `sqlite_sequence` says that no other process has added a row to
`blocks`; whatever changes a topic adds one, a marker at least. So a group that only adds blocks to known topics is
one statement, which checks that and writes: every further statement would let go of the interpreter's lock and wait
for it again, on a busy event loop for milliseconds.
"""

import contextlib
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from events.log import Append, Appended, Commit, Wanted
from events.sqlite_file import SqlError, connect, transaction
from events.sqlite_plan import Call, Keys, Plan, Row, Topic

KEY_MS = 300_000
ROWS_PER_INSERT = 64
MAX_TOPICS = 100_000
"""Topics remembered at most; past that all are forgotten, and those in use are read again."""
CACHE_KIB = 16_384

SEQ = "SELECT seq FROM sqlite_sequence WHERE name = 'blocks'"
NEWEST = "(SELECT seq FROM blocks WHERE topic_id = t.id ORDER BY first DESC LIMIT 1)"
LOAD_COLUMNS = """t.name, t.epoch, t.owner, t.id, coalesce(b.first + b.count, t.oldest) - 1, coalesce(b.total, t.base),
    t.closed, t.oldest, t.base"""
LOAD = f"SELECT {LOAD_COLUMNS} FROM topics t LEFT JOIN blocks b ON b.seq = {NEWEST} WHERE t.name IN "
CHANGED = """
SELECT coalesce(t.name, b.name), coalesce(t.epoch, CAST(b.data AS TEXT)), coalesce(t.closed, 0)
FROM blocks b LEFT JOIN topics t ON t.id = b.topic_id WHERE b.seq > ? AND b.seq <= ?
GROUP BY b.topic_id, iif(b.topic_id, '', b.name) ORDER BY max(b.seq)
"""
MARK = "INSERT INTO blocks (topic_id, first, count, total, time_ms, name, data) VALUES (0, NULL, 0, 0, ?, ?, ?)"
CREATE = "INSERT INTO topics (name, epoch, owner, closed, updated_ms) VALUES (?, ?, ?, ?, ?)"
KEEP_KEY = "INSERT OR REPLACE INTO keys (topic_id, key, first, last, time_ms) VALUES (?, ?, ?, ?, ?)"


@cache
def insert(rows: int) -> str:
    """Adds rows, but only while the newest row of all is the one we know."""
    values = ",".join(["(?,?,?,?,?,?)"] * rows)
    return (
        "INSERT INTO blocks (topic_id, first, count, total, name, data, time_ms)"
        f" SELECT *, ? FROM (VALUES {values}) WHERE ({SEQ}) = ?"
    )


def marks(count: int) -> str:
    return "(" + ",".join("?" * count) + ")"


def topic_of(row: Sequence[Any]) -> Topic:
    """From LOAD_COLUMNS."""
    name, epoch, owner, topic_id, head, total, closed, oldest, base = row
    return Topic(name, epoch, owner, topic_id, head, total, bool(closed), oldest, base)


class Store:
    """One connection, used by the writer's thread alone once it is open."""

    def __init__(self, path: Path, wanted: Callable[[], Wanted]) -> None:
        self.db = connect(path, cache_kib=CACHE_KIB)
        self._path = path
        self._inode = path.stat().st_ino
        self._wanted = wanted
        self.is_lost = False
        self.topics: dict[str, Topic] = {}
        """Also those known not to exist."""
        self.seq: int = self.db.execute(SEQ).fetchone()[0]

    def close(self) -> None:
        self.db.close()

    def check_file(self) -> None:
        """SQLite goes on writing into a file that was deleted or replaced; what it then calls durable is lost."""
        with contextlib.suppress(FileNotFoundError):
            self.is_lost = self._path.stat().st_ino != self._inode
            return
        self.is_lost = True

    def write(self, calls: Sequence[Call], now_ms: int) -> tuple[Plan, list[Commit]]:
        """Writes a group; also gives what other processes were found to have changed. Raises SqlError."""
        if self.is_lost:
            raise SqlError(f"the file {str(self._path)!r} was deleted or replaced; put it back or restart")
        appends = [append for call in calls for append in call.appends]
        seq = self.seq
        try:
            if len(appends) <= ROWS_PER_INSERT and all([self._is_plain(append) for append in appends]):
                plan = plan_of(calls, self.topics, {})
                # A plan without rows proves nothing: that nothing may go in is perhaps no longer true.
                if plan.rows and self._insert(plan.rows, now_ms):
                    return plan, []
                self._forget(appends)
            return self._write_in_transaction(calls, appends, now_ms)
        except BaseException:
            self._forget(appends)
            self.seq = seq
            raise

    def _is_plain(self, append: Append) -> bool:
        """It can do nothing but add a block to a topic that we know."""
        topic = self.topics.get(append.topic)
        return topic is not None and topic.epoch != "" and append.key is None and not append.close

    def _forget(self, appends: Iterable[Append]) -> None:
        """They were planned, and not written: what we remember of their topics is no longer true."""
        for append in appends:
            self.topics.pop(append.topic, None)

    def _insert(self, rows: Sequence[Row], now_ms: int) -> bool:
        """One statement. False: another process was first, and nothing was written."""
        values: list[int | str | bytes] = [now_ms]
        for row in rows:
            lines = row.lines
            values += (row.topic.id, row.first, len(lines), row.total, row.name, b"\n".join(lines))
        values.append(self.seq)
        cursor = self.db.execute(insert(len(rows)), values)
        if cursor.rowcount != len(rows):
            return False
        self.seq = cursor.lastrowid or 0
        return True

    def _write_in_transaction(
        self, calls: Iterable[Call], appends: Iterable[Append], now_ms: int
    ) -> tuple[Plan, list[Commit]]:
        with transaction(self.db):
            news = self.catch_up()
            self._load({append.topic for append in appends})
            plan = plan_of(calls, self.topics, self._keys({(a.topic, a.key) for a in appends if a.key}, now_ms))
            self._create(plan.created.values(), now_ms)
            for start in range(0, len(plan.rows), ROWS_PER_INSERT):
                self._insert(plan.rows[start : start + ROWS_PER_INSERT], now_ms)
            for topic in plan.closed.values():
                self.db.execute("UPDATE topics SET closed = 1 WHERE id = ?", (topic.id,))
            for topic in plan.marked:
                self.mark(topic.name, topic.epoch, now_ms)
            for topic, key, done in plan.keys:
                self.db.execute(KEEP_KEY, (topic.id, key, done.first, done.last, now_ms))
        return plan, news

    def catch_up(self) -> list[Commit]:
        """What other processes changed since we last looked, of the topics that are wanted here."""
        seq: int = self.db.execute(SEQ).fetchone()[0]
        if seq == self.seq:
            return []
        changed = self.db.execute(CHANGED, (self.seq, seq)).fetchall()
        self.seq = seq
        for name, _, _ in changed:
            self.topics.pop(name, None)
        # Asked only now: who wants a topic from here on starts to read later than we did, and sees all of this.
        wanted = self._wanted()
        return [Commit(topic=n, epoch=e, block=None, closed=bool(closed)) for n, e, closed in changed if n in wanted]

    def _load(self, names: Iterable[str]) -> None:
        if len(self.topics) > MAX_TOPICS:
            self.topics.clear()
        missing = [name for name in names if name not in self.topics]
        self.topics |= {name: Topic(name) for name in missing} | self.fetch(missing)

    def fetch(self, names: Sequence[str]) -> dict[str, Topic]:
        """Those of the topics that exist, as the file has them."""
        found: dict[str, Topic] = {}
        for start in range(0, len(names), ROWS_PER_INSERT):
            some = names[start : start + ROWS_PER_INSERT]
            for row in self.db.execute(LOAD + marks(len(some)), some):
                found[row[0]] = topic_of(row)
        return found

    def _keys(self, wanted: set[tuple[str, str]], now_ms: int) -> Keys:
        """The results that keys of the group already had."""
        known: Keys = {}
        for name, key in wanted:
            topic = self.topics[name]
            row = self.db.execute(
                "SELECT first, last FROM keys WHERE topic_id = ? AND key = ? AND time_ms > ?",
                (topic.id, key, now_ms - KEY_MS),
            ).fetchone()
            if row is not None:
                known[name, key] = Appended(topic.epoch, *row)
        return known

    def _create(self, topics: Iterable[Topic], now_ms: int) -> None:
        for topic in topics:
            cursor = self.db.execute(CREATE, (topic.name, topic.epoch, topic.owner, topic.closed, now_ms))
            topic.id = cursor.lastrowid or 0

    def mark(self, name: str, epoch: str, now_ms: int) -> None:
        """Lets other processes see that they must look at this topic."""
        self.seq = self.db.execute(MARK, (now_ms, name, epoch.encode())).lastrowid or 0

    def drop(self, topic: Topic, now_ms: int) -> Commit:
        """Removes a topic, inside a transaction that has caught up."""
        for table, column in (("blocks", "topic_id"), ("keys", "topic_id"), ("topics", "id")):
            self.db.execute(f"DELETE FROM {table} WHERE {column} = ?", (topic.id,))
        self.topics.pop(topic.name, None)
        self.mark(topic.name, topic.epoch, now_ms)
        return Commit(topic=topic.name, epoch=topic.epoch, block=None, closed=topic.closed)

    def delete(self, name: str, now_ms: int) -> tuple[bool, list[Commit]]:
        """Removes a topic, in its own transaction."""
        with transaction(self.db):
            news = self.catch_up()
            topic = self.fetch([name]).get(name)
            if topic is not None:
                news.append(self.drop(topic, now_ms))
        return topic is not None, news


def plan_of(calls: Iterable[Call], topics: dict[str, Topic], keys: Keys) -> Plan:
    plan = Plan(topics, keys)
    for call in calls:
        plan.add(call)
    return plan
