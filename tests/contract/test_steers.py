"""Steers come at random instants around the ends of answers, from processes of one log, one of which dies now and then.

Each that was acknowledged is in exactly one place in the end: taken by an answer, answered by one of its own, or
removed. `LONG_TESTS=1` sends 10,000.
"""

import asyncio
import contextlib
import json
import random
from collections import Counter
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest

from events.log.port import Append, Appended, EventLog
from gateway.chat.abandoned import end_run
from gateway.chat.ending import Failed
from gateway.chat.history import History, read_history
from gateway.chat.records.chat_record import SteerAt
from gateway.chat.steering import SteerRequest
from gateway.chat.submission import SendRequest
from gateway.chat.tools.fake import FakeToolbox
from gateway.chat.topics import chat_topic
from gateway.chat.upstreams.upstream import Generation, Request
from gateway.errors import NotFound, TrilaneError
from tests.contract.engines import LONG, Engine, whole
from tests.support.chats import user
from tests.support.completions import chunk, frames
from tests.support.followers import LOCAL
from tests.support.loop_failures import run_watched
from tests.support.scripted_upstream import ScriptedBody, ScriptedUpstream, generation
from tests.support.tool_stage import ToolStage, staged

CHATS = 1000 if LONG else 10
STEERS = 10
"""Steers of each chat."""
AT_ONCE = 5
"""Chats that are busy at one time."""
DIES_EVERY = 10
"""Rounds of which the first process dies in one, and in the last of all."""
SPREAD_S = 0.15
DEADLINE_S = 3600 if LONG else 240
T = TypeVar("T")
TURNS: list[SteerAt] = ["step", "step", "now", "turn"]


class Mortal:
    """A log as one process sees it, until that dies: from then on nothing of it comes to the log."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self.died = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("listener", "interest", "on_written"):
            setattr(self._log, name, value)
        else:
            object.__setattr__(self, name, value)

    def append(self, *appends: Append, patient: bool = False) -> "asyncio.Future[list[Appended]]":
        if self.died.is_set():
            return asyncio.get_running_loop().create_future()
        return self._log.append(*appends, patient=patient)


class DiedError(Exception):
    """Nobody hears from a process what it did."""


async def heard(stage: ToolStage, doing: Coroutine[Any, Any, T]) -> T:
    """Returns what a process answers. Raises DiedError when it dies meanwhile."""
    task = asyncio.ensure_future(doing)
    if not isinstance(stage.core.log, Mortal):
        return await task
    died = asyncio.ensure_future(stage.core.log.died.wait())
    await asyncio.wait({task, died}, return_when=asyncio.FIRST_COMPLETED)
    died.cancel()
    if not task.done():
        task.cancel()
        raise DiedError
    return task.result()


class Speaker(ScriptedUpstream):
    """A model that says three words within some milliseconds, each time that it is asked."""

    def __init__(self, seed: random.Random) -> None:
        super().__init__()
        self._random = seed

    async def open(self, request: Request, model: str, trace: bytes = b"") -> Generation:
        loop, body = asyncio.get_running_loop(), ScriptedBody(frames(chunk({"role": "assistant", "content": "a "})))
        due = 0.0
        for word in ("b ", "c "):
            due += self._random.uniform(0, SPREAD_S / 6)
            loop.call_later(due, body.send, frames(chunk({"content": word})))
        loop.call_later(due, body.send, frames(chunk(finish="stop"), b"[DONE]"))
        loop.call_later(due, body.end)
        return generation(body, self)


class Play:
    """What happens in one chat."""

    def __init__(self, chat_id: str, stages: list[ToolStage], seed: random.Random) -> None:
        self.chat_id = chat_id
        self.acknowledged: set[str] = set()
        self.removed: set[str] = set()
        self.kept: set[str] = set()
        """Ids of those that somebody was told are taken."""
        self._stages = stages
        self._random = seed

    async def run(self) -> None:
        request = SendRequest(id=self.chat_id, message=user("u0", "hello"))
        with contextlib.suppress(DiedError):
            sent = await heard(self._stages[0], self._stages[0].lane.sending.send(LOCAL, request, "", {}, _silent))
            cast(Any, sent).reader.close()
        await asyncio.gather(*[self._steer(f"s{number}") for number in range(STEERS)])

    async def _steer(self, message_id: str) -> None:
        await asyncio.sleep(self._random.uniform(0, SPREAD_S))
        stage = self._random.choice(self._stages)
        request = SteerRequest(message=user(message_id, message_id), at=self._random.choice(TURNS))
        with contextlib.suppress(DiedError, NotFound):  # the chat may have died with its process
            await heard(stage, stage.lane.steering.steer(LOCAL, self.chat_id, request))
            self.acknowledged.add(message_id)
        if self._random.random() < 0.2:
            await asyncio.sleep(self._random.uniform(0, SPREAD_S / 4))
            await self._remove(message_id)

    async def _remove(self, message_id: str) -> None:
        stage = self._random.choice(self._stages)
        try:
            await heard(stage, stage.lane.steering.remove(LOCAL, self.chat_id, message_id))
            self.removed.add(message_id)
        except (DiedError, NotFound):
            pass
        except TrilaneError as err:
            if err.code != "already_taken":
                raise
            self.kept.add(message_id)

    async def finish(self, stage: ToolStage) -> History:
        """Does what the sweeper does for the run of a dead process, and goes on until nothing waits."""
        async with asyncio.timeout(60):
            while True:
                history = await read_history(stage.core.log, LOCAL.sub, self.chat_id)
                active = history.active
                if active is None and not history.queue.waiting:
                    return history
                dead = self._stages[0]
                is_dead = cast(Mortal, dead.core.log).died.is_set()
                if active is not None and is_dead and dead.lane.runs.get(active.run_id) is not None:
                    await end_run(stage.core.log, active.run_id, Failed(TrilaneError("gone", code="interrupted")))
                elif active is None:
                    await stage.lane.steering.resume(LOCAL, self.chat_id)
                await asyncio.sleep(0.02)

    async def check(self, log: EventLog, history: History) -> dict[str, int]:
        """Returns how many were acknowledged, and in which place they are."""
        events = [(name, json.loads(data)) for _, name, data in await whole(log, chat_topic(LOCAL.sub, self.chat_id))]
        own = Counter(data["id"] for name, data in events if name == "message" and data["role"] == "user")
        took = Counter(taken for name, data in events if name == "run-finished" for taken in data.get("took", []))
        recorded = Counter[str]()
        for name, data in events:
            if name == "run-started":
                records = [
                    json.loads(line) for _, kind, line in await whole(log, f"run/{data['runId']}") if kind == "chunk"
                ]
                recorded.update(record["id"] for record in records if record["type"] == "data-steer")
        gone = Counter(data["id"] for name, data in events if name == "unqueued")
        assert took == recorded, "an answer holds what it has taken"
        places = own + took + gone
        assert max(places.values()) == 1, f"in two places: {places}"
        assert not self.acknowledged - places.keys(), "lost"
        assert self.removed <= gone.keys()
        assert self.kept <= own.keys() | took.keys()
        shown = Counter(part["id"] for part in _parts(history) if part["type"] == "data-steer")
        shown.update(message.id for message in history.messages if message.role == "user")
        assert shown == own + took
        places_by_kind = {"taken": took, "answered on their own": own, "removed": gone}
        steers_by_kind = {kind: len(places.keys() - {"u0"}) for kind, places in places_by_kind.items()}
        return {"acknowledged": len(self.acknowledged), **steers_by_kind}


def _parts(history: History) -> list[Any]:
    return [json.loads(bytes(part)) for message in history.messages for part in message.parts]


def _silent(run_id: str) -> Any:
    return lambda epoch, block: [b""] * len(block.data)


@pytest.mark.timeout(DEADLINE_S + 10)
def test_no_steer_is_lost_or_taken_twice_whoever_dies(tmp_path: Path) -> None:
    async def play() -> None:
        async with asyncio.timeout(DEADLINE_S):
            await _play(Engine("sqlite", tmp_path))

    run_watched(asyncio.new_event_loop, play())


async def _play(engine: Engine) -> None:
    number = random.randrange(1 << 30)
    print("seed", number)
    seed = random.Random(number)
    mortal = Mortal(engine.make())
    logs = [cast(EventLog, mortal), engine.make(), engine.make()]
    async with contextlib.AsyncExitStack() as stack:
        stages = [await stack.enter_async_context(staged(FakeToolbox(), log=log)) for log in logs]
        for stage in stages:
            speaker = Speaker(seed)
            stage.upstream.open = speaker.open  # type: ignore[method-assign]
        totals, deaths = Counter[str](), 0
        plays = [Play(f"c{place}", stages, seed) for place in range(CHATS)]
        for first in range(0, len(plays), AT_ONCE):
            batch = plays[first : first + AT_ONCE]
            if first + AT_ONCE >= len(plays) or first // AT_ONCE % DIES_EVERY == DIES_EVERY - 1:
                asyncio.get_running_loop().call_later(seed.uniform(0, SPREAD_S), mortal.died.set)
            await asyncio.gather(*[play.run() for play in batch])
            histories = await asyncio.gather(*[play.finish(stages[1]) for play in batch])
            for play, history in zip(batch, histories, strict=True):
                totals.update(await play.check(stages[1].core.log, history))
            deaths += mortal.died.is_set()
            mortal.died.clear()  # it wakes, and finds that others have ended what it wrote
        print(f"{CHATS * STEERS} steers, {deaths} deaths: {dict(totals)}")
