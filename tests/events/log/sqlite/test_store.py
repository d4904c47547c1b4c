"""The writer's store remembers the topics that may still grow, and no others: a process makes millions of them."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from events.log.port import Append
from events.log.sqlite.file import prepare
from events.log.sqlite.plan import AppendCall
from events.log.sqlite.store import Store
from gateway.errors import LogConflict


def write(store: Store, *appends: Append) -> object:
    """Writes one call as the writer does; returns its outcome."""

    async def call() -> object:
        future = asyncio.get_running_loop().create_future()
        plan, _ = store.write([AppendCall(future, appends, 1)], 1000)
        return plan.outcomes[0][1]

    return asyncio.run(call())


def last(topic: str, *data: bytes) -> Append:
    return Append(topic=topic, data=list(data), close=True)


@pytest.mark.parametrize(
    "closing", [[last("run", b"end")], [last("run")], [Append(topic="chat", data=[b"x"]), last("run", b"end")]]
)
def test_a_topic_is_forgotten_once_it_is_closed_and_takes_nothing_all_the_same(
    tmp_path: Path, closing: Sequence[Append]
) -> None:
    prepare(tmp_path / "log.db")
    store = Store(tmp_path / "log.db", set, 1.0)
    try:
        write(store, Append(topic="run", data=[b"start"]), Append(topic="chat", data=[b"x"]))
        write(store, Append(topic="run", data=[b"more"]))
        assert set(store.topics) == {"run", "chat"}
        write(store, *closing)
        assert set(store.topics) == {"chat"}
        for _ in range(2):
            outcome = write(store, Append(topic="run", data=[b"late"]))
            assert isinstance(outcome, LogConflict)
            assert outcome.closed
        assert store.fetch(["run"])["run"].closed
    finally:
        store.close()
