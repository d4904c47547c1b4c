"""A run that three producers write one after another: each a step of its own, and one end whatever happens."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

from gateway.chat.abandoned import end_run
from gateway.chat.ending import Aborted, Failed, Finished
from gateway.chat.journal import HEARTBEAT_S, MAX_UNACKNOWLEDGED
from gateway.chat.producers.fake import FakeProducer, Line, Wait
from gateway.chat.producers.producer import Producer
from gateway.errors import TrilaneError, UpstreamTimeout
from tests.support.readers import settle
from tests.support.run_stage import Stage
from tests.support.virtual_time import simulated

LONG = Wait(60.0)


class Three(Iterator[Producer]):
    """Three producers, each made when the run wants it."""

    def __init__(self, *scripts: tuple[Line, ...], **settings: Any) -> None:
        self.used: list[FakeProducer] = []
        self._scripts = list(scripts)
        self._settings = settings

    def __next__(self) -> FakeProducer:
        if len(self.used) == len(self._scripts):
            raise StopIteration
        number = len(self.used)
        self.used.append(FakeProducer(*self._scripts[number], model=f"m{number}", **self._settings))
        return self.used[-1]

    @property
    def calls(self) -> list[list[str]]:
        return [producer.calls for producer in self.used]


async def started(three: Three, **settings: float) -> Stage:
    stage = Stage(producers=three, **settings)
    await stage.start()
    return stage


def texts(finished: Any) -> list[str | None]:
    """Returns the text of each part of the message; None is the border of two steps."""
    return [json.loads(bytes(part)).get("text") for part in finished.message.parts]


@simulated
async def test_three_producers_write_three_steps_of_one_answer() -> None:
    three = Three(("a", "b"), ("c",), ("d",))
    stage = await started(three)
    finished = await stage.over()
    kinds = [data["type"] for name, data in await stage.events() if name == "chunk"]
    assert [kinds.count(kind) for kind in ("start", "start-step", "finish-step", "finish")] == [1, 3, 3, 1]
    assert texts(finished) == ["ab", None, "c", None, "d"]
    assert stage.run.outcome == Finished("stop")
    assert finished.usage.total_tokens == 3 * 2
    [(_, row)] = await stage.events("usage/me")
    assert (row["model"], row["upstream"]) == ("m2", "fake")
    assert three.calls == [["produce", "aclose"], ["produce", "aclose"], ["produce", "abort", "aclose"]]


@simulated
async def test_a_producer_is_wanted_only_when_the_one_before_has_ended() -> None:
    three = Three(("a", LONG), ("b",), ("c",))
    stage = await started(three)
    await asyncio.sleep(30)
    assert len(three.used) == 1
    await stage.over()
    assert len(three.used) == 3


@simulated
async def test_a_stop_during_the_second_ends_the_run_there_and_keeps_what_both_wrote() -> None:
    three = Three(("a",), ("b", LONG, "never"), ("c",))
    stage = await started(three)
    await asyncio.sleep(1)
    stage.run.stop(Aborted("stopped"))
    assert "abort" in three.used[1].calls, "what it holds open elsewhere is closed before this returns"
    finished = await stage.over()
    assert (finished.outcome, finished.text, texts(finished)) == ("abort", "stopped", ["a", None, "b"])
    assert len(three.used) == 2
    assert three.used[1].calls[-1] == "aclose"
    assert finished.usage.total_tokens == 2 * 2
    kinds = [data["type"] for name, data in await stage.events() if name == "chunk"]
    assert kinds[-3:] == ["text-end", "message-metadata", "abort"]


@simulated
async def test_a_failure_of_the_second_fails_the_run_and_keeps_what_both_wrote() -> None:
    three = Three(("a",), ("b", TrilaneError("broken", code="upstream_x")), ("c",))
    stage = await started(three)
    await stage.run.verdict
    finished = await stage.over()
    assert (finished.outcome, finished.code, texts(finished)) == ("error", "upstream_x", ["a", None, "b"])
    assert len(three.used) == 2
    assert (await stage.log.read("run/r", 0)).closed


@simulated
async def test_silence_of_the_second_is_judged_by_its_own_deadline_and_not_that_of_the_first() -> None:
    three = Three(("a",), (LONG, "never"), ("c",), limit_s=3.0)
    stage = await started(three)
    await asyncio.sleep(2.9)
    assert "expire" not in three.used[1].calls
    await asyncio.sleep(0.2)
    assert "expire" in three.used[1].calls
    await stage.over()


@simulated
async def test_all_of_them_together_have_the_time_of_one_run() -> None:
    stage = await started(Three(*[("a", Wait(8.0))] * 3), run_s=20.0)
    await asyncio.sleep(20.1)
    await stage.over()
    assert isinstance(stage.run.outcome, Failed)
    assert isinstance(stage.run.outcome.error, UpstreamTimeout)


@simulated
async def test_a_log_that_is_behind_pauses_whichever_writes_and_lets_it_go_on() -> None:
    three = Three(("a",), ("b",) * 2 * MAX_UNACKNOWLEDGED, ("c",))
    stage = Stage(producers=three)
    await stage.start()
    stage.log.is_slow = True
    await asyncio.sleep(1)
    assert [producer.is_paused for producer in three.used] == [False, True]
    stage.log.is_slow = False
    while stage.log.waiting:
        await stage.log.acknowledge(len(stage.log.waiting))
    finished = await stage.over()
    assert texts(finished) == ["a", None, "b" * 2 * MAX_UNACKNOWLEDGED, None, "c"]
    assert three.used[1].calls == ["produce", "pause", "resume", "aclose"]


@simulated
async def test_a_run_whose_process_dies_in_the_third_is_ended_by_another_as_its_own_would_have() -> None:
    three = Three(("a",), ("b",), ("c", LONG, "never"))
    stage = await started(three)
    await asyncio.sleep(2 * HEARTBEAT_S + 1)
    gone = TrilaneError("the process that wrote this answer is gone", code="interrupted", retryable=True)
    assert await end_run(stage.log, "r", Failed(gone))
    assert not await end_run(stage.log, "r", Failed(gone)), "there is one end"
    stored = await stage.events()
    [finished] = [data for name, data in await stage.events(stage.chat) if name == "run-finished"]
    assert (finished["outcome"], finished["code"]) == ("error", "interrupted")
    assert [part.get("text") for part in finished["message"]["parts"]] == ["a", None, "b", None, "c"]
    kinds = [data["type"] for name, data in stored if name == "chunk"]
    assert [kinds.count("start-step"), kinds.count("finish-step")] == [3, 2]
    assert kinds[-3:] == ["text-end", "message-metadata", "error"]
    # The dead process wakes, and can add nothing.
    assert await stage.over() is None
    assert await stage.events() == stored
    assert len(await stage.events("usage/me")) == 1
    await settle()
