"""A log of format 1 becomes one of format 2: nothing is lost, whoever is killed at whatever moment."""

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from events.log.hub import Hub
from events.log.memory import MemoryLog
from events.log.port import Append, Appended, EventLog
from gateway.access.grants import Principal
from gateway.access.memberships import Memberships
from gateway.chat.abandoned import end_run
from gateway.chat.ending import Failed
from gateway.chat.history import read_history
from gateway.chat.legacy import FORMAT, FORMAT_TOPIC, adopt_format
from gateway.chat.listing import list_chats
from gateway.chat.records.chat_record import ChatEvent, RunFinished, RunInfo, RunStarted, encode_event
from gateway.chat.records.record import HEARTBEAT, RECORD, RUN
from gateway.chat.records.recorder import Recorder
from gateway.chat.titles import Titles
from gateway.chat.topics import CHATS, chat_topic, run_topic
from gateway.core.usage import Usage
from gateway.errors import ConfigurationError, LogUnavailable, TrilaneError
from tests.contract.engines import Clock, Engine, put, scenario
from tests.support.chats import answer, brief, user

ALICE, BOB = Principal(sub="alice"), Principal(sub="bob")
DIGEST = "0123456789abcdef0123456789abcdef01234567"
"""A chat's id that looks like the name of a topic of format 2."""
OWNERS = {"first": ALICE, "second": BOB, DIGEST: ALICE, "last": ALICE}
COST = Usage(input_tokens=1, output_tokens=1, total_tokens=2)


class RunningClock(Clock):
    """A clock that goes on by itself."""

    def __call__(self) -> float:
        return self.now_s + time.monotonic()


async def append_old(log: EventLog, owner: str, chat_id: str, *events: ChatEvent) -> None:
    """Appends as the older release did: to a topic that is named by the chat's id alone."""
    for name, data in map(encode_event, events):
        await log.append(Append(topic=CHATS + chat_id, owner=owner, name=name, data=[data]))


def question_and_answer(chat_id: str) -> list[ChatEvent]:
    started = RunStarted(run_id=f"run-{chat_id}", message_id="a", key="k")
    finished = RunFinished(
        run_id=started.run_id, outcome="finish", usage=COST, message=answer("a", f"answer of {chat_id}")
    )
    return [user("q", f"question of {chat_id}"), started, finished]


async def write_format_1(log: EventLog, clock: Clock) -> None:
    for chat_id, owner in OWNERS.items():
        await append_old(log, owner.sub, chat_id, *question_and_answer(chat_id))
        clock.now_s += 1


async def shown(log: EventLog) -> dict[str, list[str]]:
    """Returns the messages of each chat, read as its owner reads them."""
    histories = {chat_id: await read_history(log, owner.sub, chat_id) for chat_id, owner in OWNERS.items()}
    return {chat_id: brief(history.messages) for chat_id, history in histories.items()}


EVERYTHING = {chat_id: [f"q:question of {chat_id}", f"a:answer of {chat_id}"] for chat_id in OWNERS}


@pytest.fixture(params=["memory", "sqlite"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    return Engine(request.param, tmp_path, RunningClock())


# What is moved


@scenario
async def test_every_chat_of_format_1_is_found_under_its_owner_afterwards(engine: Engine) -> None:
    async with engine.open() as log:
        await write_format_1(log, engine.clock)
        assert await adopt_format(log) == len(OWNERS)
        assert await shown(log) == EVERYTHING
        names = {info.topic for info in await log.topics(CHATS, limit=100)}
        assert names == {chat_topic(owner.sub, chat_id) for chat_id, owner in OWNERS.items()}, "no old topic is left"


@scenario
async def test_lists_show_the_same_chats_in_the_same_order_as_before(engine: Engine) -> None:
    async with engine.open() as log:
        await write_format_1(log, engine.clock)
        await adopt_format(log)
        nobody = Memberships(log, Hub(log), are_kept=False)
        page = await list_chats(log, Titles(log), nobody, ALICE.sub, None)
        assert [(chat.id, chat.title) for chat in page.chats] == [
            (chat_id, f"question of {chat_id}") for chat_id in ("last", DIGEST, "first")
        ]
        assert [chat.id for chat in (await list_chats(log, Titles(log), nobody, BOB.sub, None)).chats] == ["second"]


@scenario
async def test_a_request_that_is_repeated_after_the_move_is_still_the_same_run(engine: Engine) -> None:
    async with engine.open() as log:
        await write_format_1(log, engine.clock)
        await adopt_format(log)
        known = (await read_history(log, ALICE.sub, "first")).run_of("k")
        assert known is not None
        assert known.run_id == "run-first"


@scenario
async def test_a_new_log_has_nothing_to_move_and_says_its_format(engine: Engine) -> None:
    async with engine.open() as log:
        assert await adopt_format(log) == 0
        [block] = (await log.read(FORMAT_TOPIC, 0)).blocks
        assert msgspec.json.decode(block.data[0]) == {"format": FORMAT}


@scenario
async def test_a_file_of_format_1_is_one_of_format_2_once_it_was_opened(tmp_path: Path) -> None:
    engine = Engine("sqlite", tmp_path)
    async with engine.open() as log:
        await write_format_1(log, engine.clock)
    with closing(sqlite3.connect(engine.path)) as db:
        db.execute("PRAGMA user_version = 1")
    async with engine.open() as log:
        assert await adopt_format(log) == len(OWNERS)
        assert await shown(log) == EVERYTHING
    with closing(sqlite3.connect(engine.path)) as db:
        assert db.execute("PRAGMA user_version").fetchone()[0] == FORMAT, "the older release refuses it from now on"


# Moving again


@pytest.mark.parametrize("is_marked", [True, False])
@scenario
async def test_moving_twice_moves_once(engine: Engine, is_marked: bool) -> None:
    async with engine.open() as log:
        await write_format_1(log, engine.clock)
        await adopt_format(log)
        if not is_marked:
            await log.delete(FORMAT_TOPIC)
        before = await log.topics("", limit=100)
        assert await adopt_format(log) == 0
        after = [info for info in await log.topics("", limit=100) if is_marked or info.topic != FORMAT_TOPIC]
        assert after == before
        assert await shown(log) == EVERYTHING


@scenario
async def test_two_processes_that_start_at_once_move_each_chat_once(tmp_path: Path) -> None:
    engine = Engine("sqlite", tmp_path)
    async with engine.open() as one, engine.open() as other:
        await write_format_1(one, engine.clock)
        moved = await asyncio.gather(adopt_format(one), adopt_format(other))
        assert sum(moved) == len(OWNERS)
        assert await shown(one) == await shown(other) == EVERYTHING


# Being killed


class Killed(BaseException):
    """The process ends here: no clean-up runs."""


class MortalLog:
    """A log of a process that dies when it writes for the n-th time, before that write or right after it."""

    def __init__(self, log: EventLog, writes: int, *, is_done: bool) -> None:
        self._log = log
        self._left = writes
        self._is_done = is_done

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def append(self, *appends: Append) -> list[Appended]:
        return await self._write(lambda: self._log.append(*appends))

    async def delete(self, topic: str) -> None:
        await self._write(lambda: self._log.delete(topic))

    async def _write(self, write: Callable[[], Awaitable[Any]]) -> Any:
        self._left -= 1
        if self._left < 0 and not self._is_done:
            raise Killed
        result = await write()
        if self._left < 0:
            raise Killed
        return result


MOMENTS = [(writes, is_done) for writes in range(2 * len(OWNERS) + 1) for is_done in (False, True)]
"""Every write of a move (a copy and a deletion for each chat, and the mark), before it and after it."""


@pytest.mark.parametrize(("writes", "is_done"), MOMENTS)
@scenario
async def test_who_is_killed_at_any_moment_of_a_move_loses_nothing(engine: Engine, writes: int, is_done: bool) -> None:
    async with engine.open() as log:
        await write_format_1(log, engine.clock)
        with pytest.raises(Killed):
            await adopt_format(MortalLog(log, writes, is_done=is_done))  # type: ignore[arg-type]
        await adopt_format(log)
        assert await shown(log) == EVERYTHING
        assert len(await log.topics(CHATS, limit=100)) == len(OWNERS)
        assert await adopt_format(log) == 0


# What cannot be moved


class FullLog(MemoryLog):
    """A log that takes no copy of one chat."""

    full_topic: str | None = None

    def append(self, *appends: Append, patient: bool = False) -> "asyncio.Future[list[Appended]]":
        if any(append.topic == self.full_topic for append in appends):
            refused: asyncio.Future[list[Appended]] = asyncio.get_running_loop().create_future()
            refused.set_exception(LogUnavailable("no space"))
            return refused
        return super().append(*appends, patient=patient)


@scenario
async def test_a_chat_that_cannot_be_moved_stops_no_other_and_is_tried_again_at_the_next_start() -> None:
    log = FullLog()
    await log.open()
    await write_format_1(log, Clock())
    log.full_topic = chat_topic(BOB.sub, "second")
    assert await adopt_format(log) == len(OWNERS) - 1
    assert await shown(log) == EVERYTHING | {"second": []}
    log.full_topic = None
    assert await adopt_format(log) == 1
    assert await shown(log) == EVERYTHING


@scenario
async def test_a_chat_begun_anew_before_the_old_one_could_be_moved_replaces_none_of_it() -> None:
    log = FullLog()
    await log.open()
    await write_format_1(log, Clock())
    log.full_topic = chat_topic(BOB.sub, "second")
    await adopt_format(log)
    log.full_topic = None
    name, data = encode_event(user("q", "something else"))
    await put(log, chat_topic(BOB.sub, "second"), b'{"id":"second"}', name="chat", owner=BOB.sub)
    await put(log, chat_topic(BOB.sub, "second"), data, name=name, owner=BOB.sub)
    assert await adopt_format(log) == 0
    assert await shown(log) == EVERYTHING | {"second": ["q:something else"]}
    assert (await log.read(CHATS + "second", 0)).head == 3, "what nobody has a copy of is not deleted"


@pytest.mark.parametrize("later", [FORMAT + 1, 99])
@scenario
async def test_a_log_of_a_later_format_is_refused_with_both_numbers(engine: Engine, later: int) -> None:
    async with engine.open() as log:
        await put(log, FORMAT_TOPIC, b'{"format":%d}' % later, name="format")
        await append_old(log, ALICE.sub, "untouched", user("q", "hello"))
        with pytest.raises(ConfigurationError) as refused:
            await adopt_format(log)
        assert f"format {later}" in refused.value.detail
        assert f"up to {FORMAT}" in refused.value.detail
        assert (await log.read(CHATS + "untouched", 0)).head == 1


# A run in flight


@scenario
async def test_a_run_that_was_being_written_at_the_move_is_ended_in_the_chat_that_was_moved(engine: Engine) -> None:
    """Its process died with the older release, so whoever sweeps next ends it as that release would have."""
    info = RunInfo(run_id="r", sub=ALICE.sub, message_id="a", chat_id="first", model="m", prompt_bytes=4)
    recorder = Recorder()
    records = recorder.start("a")
    recorder.text("text", "half of an ", records)
    recorder.text("text", "answer", records)
    async with engine.open() as log:
        await append_old(log, ALICE.sub, "first", user("q", "hello"), RunStarted(run_id="r", message_id="a"))
        await put(log, run_topic("r"), msgspec.json.encode(info), name=RUN, owner=ALICE.sub)
        await put(log, run_topic("r"), *records, name=RECORD)
        await put(log, run_topic("r"), b"{}", name=HEARTBEAT)
        assert await adopt_format(log) == 1
        active = (await read_history(log, ALICE.sub, "first")).active
        assert active is not None
        assert active.run_id == "r"
        assert await end_run(log, "r", Failed(TrilaneError("gone", code="interrupted", retryable=True)))
        history = await read_history(log, ALICE.sub, "first")
        assert history.active is None
        assert brief(history.messages) == ["q:hello", "a:half of an answer"]
        assert (await log.read(run_topic("r"), 0)).closed
        assert not (await log.read(CHATS + "first", 0)).epoch
