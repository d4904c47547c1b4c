"""The desk decides whose task the model works on next."""

import asyncio

import numpy as np
import pytest

from audio.model.desk import NARROWEST_S, WIDER, WIDEST_S, Desk, step_s
from audio.model.fake import FakeTranscriber
from audio.model.transcriber import Transcription, TranscriptionTask
from tests.support.virtual_time import simulated

TASK = TranscriptionTask(audio=np.zeros(1600, np.float32))


class ScriptedClient:
    """A ScriptedClient has a list of tasks, each with its urgency."""

    def __init__(self, name: str, urgencies: list[int], turns: list[str]) -> None:
        self.name = name
        self.urgencies = urgencies
        self.turns = turns
        self.is_busy = False
        self.failures = 0

    def urgency(self, step_s: float) -> int | None:
        return None if self.is_busy or not self.urgencies else self.urgencies[0]

    def take_task(self) -> TranscriptionTask:
        assert not self.is_busy
        self.is_busy = True
        self.turns.append(f"{self.name}{self.urgencies.pop(0)}")
        return TASK

    def complete(self, task: TranscriptionTask, answer: Transcription) -> None:
        self.is_busy = False

    def fail(self) -> None:
        self.is_busy = False
        self.failures += 1


async def settle(model: FakeTranscriber, rounds: int = 50) -> None:
    for _ in range(rounds):
        model.release()
        await asyncio.sleep(0)


@simulated
async def test_finals_go_before_partials_and_guesses_come_last() -> None:
    turns: list[str] = []
    model = FakeTranscriber(holds=True)
    desk = Desk(model)
    for name, urgency in (("busy", 1), ("guess", 2), ("partial", 1), ("final", 0)):
        desk.enqueue(ScriptedClient(name, [urgency], turns))
    await settle(model)
    assert turns == ["busy1", "final0", "partial1", "guess2"]


@simulated
async def test_sessions_take_turns() -> None:
    turns: list[str] = []
    model = FakeTranscriber(holds=True)
    desk = Desk(model)
    for client in [ScriptedClient(name, [1, 1, 1], turns) for name in "abc"]:
        desk.enqueue(client)
    await settle(model)
    assert [name[0] for name in turns] == list("abcabcabc")


@simulated
async def test_repeated_requests_give_a_client_one_place() -> None:
    turns: list[str] = []
    model = FakeTranscriber(holds=True)
    desk = Desk(model)
    first, other, eager = (ScriptedClient(name, [1], turns) for name in ("first", "other", "eager"))
    desk.enqueue(first)
    for _ in range(100):
        desk.enqueue(eager)
    desk.enqueue(other)
    await settle(model)
    assert turns == ["first1", "eager1", "other1"]


@simulated
async def test_a_task_that_became_stale_is_never_begun() -> None:
    turns: list[str] = []
    model = FakeTranscriber(holds=True)
    desk = Desk(model)
    desk.enqueue(ScriptedClient("first", [1], turns))
    stale = ScriptedClient("stale", [1], turns)
    desk.enqueue(stale)
    stale.urgencies = []
    await settle(model)
    assert turns == ["first1"]


@simulated
async def test_a_partial_that_became_a_final_while_it_waited_goes_first() -> None:
    turns: list[str] = []
    model = FakeTranscriber(holds=True)
    desk = Desk(model)
    desk.enqueue(ScriptedClient("first", [1], turns))
    desk.enqueue(ScriptedClient("other", [1], turns))
    client = ScriptedClient("client", [1], turns)
    desk.enqueue(client)
    client.urgencies = [0]
    desk.enqueue(client)
    await settle(model)
    assert turns == ["first1", "client0", "other1"]


@simulated
async def test_no_more_calls_than_workers() -> None:
    model = FakeTranscriber(workers=2, holds=True)
    desk = Desk(model)
    for name in "abcd":
        desk.enqueue(ScriptedClient(name, [1], []))
    assert len(model.calls) == 2


@simulated
async def test_a_batch_takes_what_is_alike_from_several_sessions() -> None:
    turns: list[str] = []
    model = FakeTranscriber(batch=3, holds=True)
    desk = Desk(model)
    desk.enqueue(ScriptedClient("first", [1], turns))
    for name in "abcd":
        desk.enqueue(ScriptedClient(name, [1], turns))
    desk.enqueue(ScriptedClient("final", [0], turns))
    await settle(model)
    assert [len(call) for call in model.calls] == [1, 1, 3, 1]
    assert turns[1] == "final0"


@simulated
async def test_a_client_that_left_is_not_served() -> None:
    turns: list[str] = []
    model = FakeTranscriber(holds=True)
    desk = Desk(model)
    desk.enqueue(ScriptedClient("first", [1], turns))
    absent = ScriptedClient("gone", [1], turns)
    desk.enqueue(absent)
    desk.remove(absent)
    await settle(model)
    assert turns == ["first1"]


@simulated
async def test_a_failed_call_is_reported_to_its_clients_and_the_next_is_served() -> None:
    turns: list[str] = []
    model = FakeTranscriber()
    model.failing = 1
    desk = Desk(model)
    unlucky, next_ = ScriptedClient("unlucky", [1], turns), ScriptedClient("next", [1], turns)
    desk.enqueue(unlucky)
    desk.enqueue(next_)
    await settle(model)
    assert (unlucky.failures, next_.failures) == (1, 0)
    assert turns == ["unlucky1", "next1"]


@simulated
async def test_the_step_widens_while_the_workers_are_busy() -> None:
    now = 0.0
    model = FakeTranscriber(holds=True)
    desk = Desk(model, lambda: now)
    desk.enqueue(ScriptedClient("busy", [1] * 20, []))
    for _ in range(15):
        now += 1.5
        model.release()
        await asyncio.sleep(0)
    assert desk.step_s == 2.0
    assert desk.busy > 0.9
    assert desk.is_full
    for _ in range(20):
        model.release()
        await asyncio.sleep(0)
    now += 2.0
    assert not desk.is_full  # though nobody asked for anything meanwhile


def test_the_step_widens_under_load_and_narrows_after() -> None:
    assert step_s(1.0, busy=0.95) == 1.0 * WIDER
    assert step_s(1.0, busy=0.8) == 1.0
    assert step_s(1.0, busy=0.6) == 1.0 / WIDER
    assert step_s(WIDEST_S, busy=1.0) == WIDEST_S
    assert step_s(NARROWEST_S, busy=0.0) == NARROWEST_S


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 1.5, 3.0])
def test_the_step_comes_to_rest_where_the_workers_are_busy_but_not_too_busy(share: float) -> None:
    """`share` of the workers' time is used by partials a second apart: half as often costs half as much."""
    step, steps = WIDEST_S, []
    for _ in range(40):
        step = step_s(step, busy=min(1.0, share / step))
        steps.append(step)
    assert len(set(steps[-10:])) == 1
    assert share / step <= 0.9 or step == WIDEST_S
    assert share / step >= 0.7 or step == NARROWEST_S
