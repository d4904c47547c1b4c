"""An agent that a worker runs, on a stage without processes: the package that users import, and a wire to the desk."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from msgspec import Raw
from trilane_agent.context import AgentFunction
from trilane_agent.worker import Answer, Command, Fenced, Job

from gateway.chat.agents.agents import Agents
from gateway.chat.workers.agent import WorkAgent
from gateway.chat.workers.desk import WorkDesk
from gateway.chat.workers.session import numbered
from gateway.errors import TrilaneError
from gateway.upstream_settings import UpstreamSettings
from tests.support.scripted_upstream import ScriptedBody
from tests.support.tool_stage import FakeToolbox, ToolStage, staged

NAME = "helper"


class DeskWire:
    """A Wire to a desk in the same process; every message is JSON on its way."""

    def __init__(self, desk: WorkDesk) -> None:
        self._desk = desk
        self.is_cut = False
        """Whether nothing comes through any more, either way."""

    async def claim(self) -> Job | None:
        session = await self._desk.claim(NAME, None)
        return json.loads(session.encoded_job) if session is not None else None

    async def post(self, job: Job, expect: int, chunks: Sequence[str]) -> None:
        await self._until_whole()
        try:
            session = self._desk.session(job["runId"], job["lease"])
            await session.post(expect, [Raw(chunk.encode()) for chunk in chunks])
        except TrilaneError as err:
            raise Fenced(err.code) from err

    async def commands(self, job: Job, after: int) -> Sequence[Command]:
        try:
            waiting = await self._desk.session(job["runId"], job["lease"]).commands(after, None)
        except TrilaneError as err:
            raise Fenced(err.code) from err
        await self._until_whole()
        return [json.loads(numbered(*one)) for one in waiting]

    def beat(self, job: Job) -> None: ...

    async def _until_whole(self) -> None:
        if self.is_cut:
            await asyncio.get_running_loop().create_future()


class WorkStage:
    """A chat whose model is an agent, and workers of it."""

    def __init__(self, tools: ToolStage, desk: WorkDesk) -> None:
        self.tools = tools
        self.desk = desk
        self.wires: list[DeskWire] = []
        self._workers: list[asyncio.Task[None]] = []

    def work(self, function: AgentFunction) -> None:
        """Starts a worker, which runs one answer after the other."""
        wire = DeskWire(self.desk)
        self.wires.append(wire)
        self._workers.append(asyncio.ensure_future(self._work(function, wire)))

    async def _work(self, function: AgentFunction, wire: DeskWire) -> None:
        while (job := await wire.claim()) is not None:
            await Answer(job, function, wire).live()

    def kill(self) -> None:
        """Kills the oldest worker that lives: nobody is told."""
        self.wires.pop(0).is_cut = True
        self._workers.pop(0).cancel()

    async def close(self) -> None:
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)

    async def say(self, text: str = "Hi") -> list[dict[str, Any]]:
        return await self.tools.say(text, model=NAME)

    async def brief(self) -> list[str]:
        """Returns the last answer: its texts, and each call by its name and state."""
        parts = [json.loads(bytes(part)) for part in (await self.tools.answer()).parts]
        return [
            part["text"] if part["type"] == "text" else f"{part['toolName']}: {part['state']}"
            for part in parts
            if part["type"] in ("text", "dynamic-tool")
        ]

    async def ended(self) -> dict[str, Any]:
        """Returns how the last run has ended."""
        return [data for name, data in await self.tools.chat_events() if name == "run-finished"][-1]


@asynccontextmanager
async def work_staged(
    *answers: ScriptedBody, toolbox: FakeToolbox | None = None, log: Any = None, **settings: Any
) -> AsyncIterator[WorkStage]:
    desk = WorkDesk()
    agents = Agents([WorkAgent(UpstreamSettings(name=NAME, kind="worker"), desk)], 60.0)
    async with staged(toolbox or FakeToolbox(), *answers, log=log, agents=agents, **settings) as tools:
        stage = WorkStage(tools, desk)
        try:
            yield stage
        finally:
            await stage.close()
