"""A user is forgotten on every engine: nothing of theirs is left, all of everybody else, and the sums of usage."""

import asyncio
import json
from collections.abc import Iterable
from typing import Any

import pytest

from events.log.hub import Hub
from events.log.port import Append, Block, EventLog, Position, Slice
from events.log.topics import stored, user_topic
from gateway.chat.closing import Closing
from gateway.chat.ending import Finished, RunEnding
from gateway.chat.history import read_history
from gateway.chat.inbox import Inbox
from gateway.chat.journal import Journal
from gateway.chat.records.chat_record import ChatCreated, RunInfo, RunStarted, StopCommand, encode_event
from gateway.chat.records.recorder import Recorder
from gateway.chat.records.run_end import RunEnd, run_end_append
from gateway.chat.topics import chat_topic
from gateway.commands.forget import ROUNDS, forget_all
from gateway.core.personal import give_usage_to_pseudonym, personal_topics
from gateway.core.usage import Usage, UsageRow, reserved, settled, token_quantities, usage_topic
from gateway.errors import LogUnavailable
from tests.contract.engines import Engine, flat, put, scenario, whole
from tests.support.chats import user

NAMES = ("alice", "bob", "al", "alice/x", "é\n*")
USAGE = Usage(input_tokens=3, output_tokens=4, total_tokens=7)
QUANTITIES = token_quantities(USAGE)
ROW: dict[str, Any] = {"lane": "chat", "kind": "run", "outcome": "finish", "model": "m", "quantities": QUANTITIES}


@pytest.fixture(autouse=True)
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits for a process that obeys only where there is one."""
    monkeypatch.setattr("gateway.commands.forget.STOP_S", 0.2)


def nobody(failure: object) -> None:
    """Hears of nothing."""


async def begin_run(log: EventLog, sub: str, run_id: str, chat_id: str = "") -> Journal:
    journal = Journal(RunInfo(run_id=run_id, sub=sub, message_id="a", chat_id=chat_id), log, nobody)
    await log.append(*journal.opening(Recorder().start("a")), reserved(sub, run_id))
    return journal


async def live(log: EventLog, sub: str) -> None:
    """Leaves what a user leaves: a chat, an answer that is being written, a session, notices, usage of two answers."""
    topic = chat_topic(sub, "c1")
    events = [ChatCreated(id="c1"), user("m1", f"secret of {sub}"), RunStarted(run_id=f"r{hash(sub)}", message_id="a")]
    for name, data in map(encode_event, events):
        await put(log, topic, data, name=name, owner=sub)
    await begin_run(log, sub, f"r{hash(sub)}", "c1")
    await put(log, "audio/s" + sub, b"{}", owner=sub)
    await put(log, stored("audio/s" + sub), b'"words"', owner=sub)
    await put(log, stored(user_topic(sub)), b'"notice"', name="run-finished")
    row = UsageRow(id="old", chat_id="my-diary", **ROW)
    ended = RunEnd(run_id="old", chat_id="my-diary", message_id="a", sub=sub, outcome="finish", ended_ms=1, usage=USAGE)
    await log.append(reserved(sub, "old"), settled(sub, row), run_end_append(ended))


async def fill(log: EventLog, names: Iterable[str] = NAMES) -> None:
    for name in names:
        await live(log, name)
    await put(log, stored("team/a"), b'"by alice"')


async def everything(log: EventLog, names: Iterable[str]) -> dict[str, list[tuple[int, str, bytes]]]:
    topics = {name: [info.topic for info in await personal_topics(log, name)] for name in names}
    assert all(topics.values())
    return {topic: await whole(log, topic) for owned in topics.values() for topic in owned}


async def rows(log: EventLog, topic: str) -> list[dict[str, Any]]:
    return [json.loads(data) for _, name, data in await whole(log, topic) if name == "settled"]


@scenario
async def test_nothing_of_a_user_is_left_and_all_of_the_others(shared_engine: Engine) -> None:
    async with shared_engine.open() as log:
        await fill(log)
        for number, name in enumerate(NAMES):
            others = await everything(log, NAMES[number + 1 :]) if number + 1 < len(NAMES) else {}
            tally = await forget_all(log, name)
            assert tally.is_done
            assert tally.stopped == 1
            assert await personal_topics(log, name) == []
            assert {topic: await whole(log, topic) for topic in others} == others
        assert await whole(log, stored("team/a")) == [(1, "message", b'"by alice"')]
        left = [data for topic in await log.names("", 1000) for _, _, data in await whole(log, topic)]
        assert not any(b"secret" in data or b"words" in data or b"diary" in data for data in left)


@scenario
async def test_usage_stays_under_a_pseudonym_with_its_sums_and_times(shared_engine: Engine) -> None:
    async with shared_engine.open() as log:
        await fill(log, ["alice"])
        times = [block.time_ms for block in (await log.read(usage_topic("alice"), 0)).blocks]
        shared_engine.clock.now_s += 3600
        tally = await forget_all(log, "alice")
        assert tally.pseudonym.startswith("forgotten-")
        kept = await rows(log, usage_topic(tally.pseudonym))
        assert len(kept) == tally.rows == 2, "the answer that was stopped has its row too"
        assert kept[0]["quantities"]["outputTokens"] == 4
        assert not any("chatId" in row for row in kept)
        blocks = (await log.read(usage_topic(tally.pseudonym), 0)).blocks
        assert blocks[0].time_ms == times[0]
        assert all(info.owner == tally.pseudonym for info in await log.topics("usage/"))
        again = await forget_all(log, "alice")
        assert (again.is_done, again.pseudonym, again.topics) == (True, "", set())


@scenario
async def test_a_move_of_usage_that_was_broken_off_goes_on_under_the_same_pseudonym(shared_engine: Engine) -> None:
    class TornLog:
        """A log that is read in parts, and fails once it has taken one."""

        taken = 0

        def __getattr__(self, name: str) -> Any:
            return getattr(log, name)

        async def read(self, topic: str, after: int, **limits: int) -> Slice:
            return await log.read(topic, after, **{"max_events": 21, **limits})

        async def adopt(self, topic: str, part: Slice) -> None:
            if self.taken:
                raise LogUnavailable("cut")
            self.taken += 1
            await log.adopt(topic, part)

    async with shared_engine.open() as log:
        for number in range(30):
            row = UsageRow(id=f"r{number}", **ROW)
            await log.append(reserved("alice", f"r{number}"), settled("alice", row))
        with pytest.raises(LogUnavailable):
            await give_usage_to_pseudonym(TornLog(), "alice")  # type: ignore[arg-type]
        (begun,) = [info.owner for info in await log.topics("usage/forgotten")]
        assert 0 < len(await rows(log, usage_topic(begun))) < 30
        assert await give_usage_to_pseudonym(log, "alice") == (begun, 30)
        kept = await rows(log, usage_topic(begun))
        assert len({row["id"] for row in kept}) == len(kept) == 30
        assert not {row["id"] for row in kept} & {f"r{number}" for number in range(30)}
        events = await whole(log, usage_topic(begun))
        admitted = [json.loads(data) for _, name, data in events if name == "reserved"]
        assert [row["id"] for row in admitted] == [row["id"] for row in kept]
        assert [info.topic for info in await log.topics("usage/")] == [usage_topic(begun)]


@scenario
async def test_an_answer_of_a_process_that_obeys_is_stopped_by_it(
    shared_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.commands.forget.STOP_S", 10)
    async with shared_engine.open() as log, shared_engine.open() as elsewhere:
        await live(log, "alice")
        chat = await log.read(chat_topic("alice", "c1"), 0)
        (run,) = await log.topics("run/")
        endings: list[asyncio.Task[object]] = []

        def obey(block: Block) -> None:
            if block.name == StopCommand.event:
                endings.append(asyncio.ensure_future(put(log, run.topic, b"{}", name="record", close=True)))

        hub = Hub(log)
        hub.watch(chat_topic("alice", "c1"), Position(chat.epoch, chat.head), obey)
        assert (await forget_all(elsewhere, "alice")).is_done
        assert len(endings) == 1
        await endings[0]
        assert await log.topics("run/") == []
        await hub.close()


@scenario
async def test_an_answer_that_is_still_written_cannot_come_to_life_again(shared_engine: Engine) -> None:
    async with shared_engine.open() as log, shared_engine.open() as elsewhere:
        journal = await begin_run(log, "alice", "r1")
        await forget_all(elsewhere, "alice")
        info = RunInfo(run_id="r1", sub="alice", message_id="a")
        closing = Closing(RunEnding(info, Finished("stop"), Recorder(), USAGE), Inbox(info, log), None)
        assert await journal.settle(closing) is None
        assert await personal_topics(log, "alice") == []


@scenario
async def test_a_user_who_goes_on_is_told_of_and_not_waited_for(shared_engine: Engine) -> None:
    class BusyLog:
        """A log in which a topic of the user's comes back whenever one is deleted."""

        def __getattr__(self, name: str) -> Any:
            return getattr(log, name)

        async def delete(self, topic: str) -> bool:
            deleted = await log.delete(topic)
            await put(log, topic, b"1", owner="alice")
            return deleted

    async with shared_engine.open() as log:
        await put(log, "chat/1", b"1", owner="alice")
        tally = await forget_all(BusyLog(), "alice")  # type: ignore[arg-type]
        assert not tally.is_done
        assert tally.topics == {"chat/1"}
    assert ROUNDS < 20


@scenario
async def test_what_is_broken_off_is_finished_by_the_next_call(shared_engine: Engine) -> None:
    class FailingLog:
        """A log that fails after a number of deletions."""

        def __init__(self, deletions: int) -> None:
            self.left = deletions

        def __getattr__(self, name: str) -> Any:
            return getattr(log, name)

        async def delete(self, topic: str) -> bool:
            if not self.left:
                raise LogUnavailable("cut")
            self.left -= 1
            return await log.delete(topic)

    async with shared_engine.open() as log:
        await live(log, "alice")
        for deletions in range(3):
            with pytest.raises(LogUnavailable):
                await forget_all(FailingLog(deletions), "alice")  # type: ignore[arg-type]
        assert (await forget_all(log, "alice")).is_done
        (book,) = await log.topics("usage/")
        assert len(await rows(log, book.topic)) == 2
        assert (await read_history(log, "alice", "c1")).epoch == ""
        assert flat(await log.read(stored(user_topic("alice")), 0)) == []
        await log.append(Append(topic=chat_topic("alice", "c1"), data=[b"1"], owner="alice", expect=1))
