"""A worker does what its supervisor says, tells its figures, and leaves when that one is gone."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any, cast

import msgspec
import pytest

from gateway.core.telemetry import Metrics
from gateway.errors import Overloaded
from gateway.workers import worker
from gateway.workers.channel import (
    Channel,
    CutOrder,
    FiguresRequest,
    LeaveOrder,
    SumsAnswer,
    SumsRequest,
    WorkerFigures,
    WorkerMessage,
)
from gateway.workers.worker import SupervisorLink, WorkerServer

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class FakeServer:
    """Keeps what it is told to do."""

    def __init__(self) -> None:
        self.orders = asyncio.Queue[str]()

    def leave(self, *, is_alone: bool) -> None:
        self.orders.put_nowait("leave alone" if is_alone else "leave with all")

    def cut_now(self) -> None:
        self.orders.put_nowait("cut")


class LinkStage:
    """A link that obeys, and the supervisor's end of its channel in a test's hands."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self.metrics = Metrics()
        self.tokens = self.metrics.counter("chat_tokens", "Tokens", "direction")
        self.server = FakeServer()
        self.link = SupervisorLink(theirs, self.metrics)
        self.supervisor: Channel[WorkerMessage] = Channel(msgspec.json.Decoder(WorkerMessage), ours)

    async def open(self) -> None:
        await self.link.open()
        await self.supervisor.open()
        self.messages = self.supervisor.messages()
        self.tasks = [asyncio.create_task(self.link.obey(cast(WorkerServer, self.server)))]

    async def hear(self) -> Any:
        async with asyncio.timeout(10):
            return await anext(self.messages)


@pytest.fixture
async def stage() -> AsyncIterator[LinkStage]:
    stage = LinkStage()
    await stage.open()
    yield stage
    for task in stage.tasks:
        task.cancel()
    await stage.link.farewell()
    await stage.supervisor.close()


async def test_orders_are_obeyed_and_a_supervisor_that_is_gone_is_one(stage: LinkStage) -> None:
    for order in (LeaveOrder(is_alone=True), LeaveOrder(is_alone=False), CutOrder()):
        stage.supervisor.send(order)
    await stage.supervisor.close()
    async with asyncio.timeout(10):
        orders = [await stage.server.orders.get() for _ in range(4)]
    assert orders == ["leave alone", "leave with all", "cut", "leave alone"]


async def test_figures_are_told_when_they_are_asked_for(stage: LinkStage) -> None:
    stage.tokens.labels("out").inc(3)
    stage.supervisor.send(FiguresRequest(5))
    answer = await stage.hear()
    assert isinstance(answer, WorkerFigures)
    assert answer.answer_to == 5
    [tokens] = [family for family in answer.figures if family.name == "trilane_chat_tokens"]
    assert ("trilane_chat_tokens_total", {"direction": "out"}, 3.0) in tokens.samples


async def test_figures_are_told_unasked_when_they_have_changed(
    stage: LinkStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first are told, and then nothing until something has happened."""
    monkeypatch.setattr(worker, "TELL_S", 0.001)
    stage.tasks.append(asyncio.create_task(stage.link.tell_changes()))
    first = await stage.hear()
    stage.supervisor.send(FiguresRequest(5))
    assert (await stage.hear()).answer_to == 5
    stage.tokens.labels("out").inc()
    second = await stage.hear()
    assert (first.answer_to, second.answer_to) == (0, 0)
    assert first.figures != second.figures


async def test_the_figures_of_all_come_from_the_supervisor(stage: LinkStage) -> None:
    texts = [asyncio.create_task(stage.metrics.text()) for _ in range(2)]
    numbers = [cast(SumsRequest, await stage.hear()).number for _ in texts]
    for number in reversed(numbers):
        stage.supervisor.send(SumsAnswer(f"of {number}", number))
    assert [await text for text in texts] == [f"of {number}".encode() for number in numbers]


async def test_figures_of_one_alone_are_never_told_for_all(stage: LinkStage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "SUMS_S", 0.05)
    with pytest.raises(Overloaded, match="supervisor does not tell"):
        await stage.metrics.text()
