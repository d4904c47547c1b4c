"""Takes over topics of another log as they are: epochs, offsets and times, so that every cursor stays good."""

from events.log.port import Commit, Slice
from events.log.rules import continuation
from events.log.sqlite.plan import PlannedTopic
from events.log.sqlite.store import Store

ADD = """
INSERT INTO blocks (topic_id, first, count, total, time_ms, closing, name, data) VALUES (?, ?, ?, ?, ?, 0, ?, ?)
"""


def adopt(store: Store, name: str, part: Slice, now_ms: int) -> list[Commit]:
    """Writes what a topic lacks of a slice, in a transaction; returns news of what other processes have changed.

    Raises LogConflict, SqlError.
    """
    with store.change():
        news = store.catch_up()
        topic = store.fetch([name]).get(name)
        if topic is None:
            topic = PlannedTopic(name, part.epoch, part.owner, head=part.oldest - 1, oldest=part.oldest)
            store.create([topic], now_ms)
            store.db.execute("UPDATE topics SET oldest = ? WHERE id = ?", (topic.oldest, topic.id))
        for block in continuation(part, topic):
            data = b"\n".join(block.data)
            topic.head, topic.total = block.last, topic.total + sum(map(len, block.data))
            values = (topic.id, block.first, len(block.data), topic.total, block.time_ms, block.name, data)
            store.db.execute(ADD, values)
        is_closed = part.closed and topic.head == part.head
        if is_closed and not topic.closed:
            store.db.execute("UPDATE topics SET closed = 1 WHERE id = ?", (topic.id,))
        store.topics.pop(name, None)
        store.mark(topic, is_closed, now_ms)
    return news
