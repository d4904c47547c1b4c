"""A chat whose model calls tools of the gateway, on a stage of its own: a log in memory, and a script for the model."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import msgspec

from events.log.memory import MemoryLog
from events.log.port import EventLog
from events.log.topics import stored, user_topic
from gateway.access.grants import Principal
from gateway.chat.agents.agents import Agents
from gateway.chat.approvals import ApprovalAnswer, ApprovalResult
from gateway.chat.chats import ChatSnapshot
from gateway.chat.dialects.ui_message import UIFrames
from gateway.chat.lane import ChatLane
from gateway.chat.records.messages import UIMessage
from gateway.chat.run_start import AttachedReader
from gateway.chat.submission import SendRequest
from gateway.chat.tools.fake import FakeToolbox
from gateway.chat.topics import chat_topic, run_id_of
from gateway.chat.upstreams.failover import Upstreams
from gateway.core.process import Core
from gateway.settings import Settings
from tests.support.chats import message, user
from tests.support.completions import chunk, frames
from tests.support.followers import LOCAL
from tests.support.scripted_upstream import ScriptedBody, ScriptedUpstream


def says(text: str) -> ScriptedBody:
    """Returns an answer of the model that is a text."""
    body = ScriptedBody(frames(chunk({"role": "assistant", "content": text}), chunk(finish="stop"), b"[DONE]"))
    body.end()
    return body


def calls(*named: tuple[str, str, dict[str, Any]]) -> ScriptedBody:
    """Returns an answer of the model that calls tools, each by its call's id, its name and arguments."""
    tool_calls = [
        {
            "index": place,
            "id": call_id,
            "type": "function",
            "function": {"name": name, "arguments": json.dumps(arguments)},
        }
        for place, (call_id, name, arguments) in enumerate(named)
    ]
    body = ScriptedBody(frames(chunk({"tool_calls": tool_calls}), chunk(finish="tool_calls"), b"[DONE]"))
    body.end()
    return body


class ToolStage:
    """Chat `c` of one user, in one process."""

    def __init__(
        self,
        toolbox: FakeToolbox,
        *answers: ScriptedBody,
        log: EventLog | None = None,
        agents: Agents | None = None,
        **settings: Any,
    ) -> None:
        self.toolbox = toolbox
        self.upstream = ScriptedUpstream(*answers)
        self.core = Core(log or MemoryLog(), Settings(**settings))
        self.lane = ChatLane(self.core, Upstreams([self.upstream], 60.0), toolbox, agents)
        self._count = 0

    async def send(self, request: SendRequest, ui: int = 6, who: Principal = LOCAL) -> list[dict[str, Any]]:
        """Sends a request, and returns all records of its answer, once that has ended."""
        attached = await self.lane.sending.send(who, request, "", {}, partial(UIFrames, ui=ui))
        if not isinstance(attached, AttachedReader):
            return []
        attached.reader.close()
        return await self.follow(run_id_of(attached.reader.topic), ui)

    async def say(self, text: str, **more: Any) -> list[dict[str, Any]]:
        self._count += 1
        return await self.send(SendRequest(id="c", message=user(f"u{self._count}", text), **more))

    async def post(self, answer: UIMessage, ui: int = 6) -> list[dict[str, Any]]:
        """Posts an answer as its client holds it, as AI SDK clients do once they have results."""
        return await self.send(SendRequest(id="c", message=answer), ui)

    async def approve(self, approval_id: str, approved: bool | None = True, **more: Any) -> ApprovalResult:
        given = msgspec.json.decode(msgspec.json.encode({"approved": approved, **more}), type=ApprovalAnswer)
        return await self.lane.approvals.answer(LOCAL, "c", approval_id, given)

    async def follow(self, run_id: str, ui: int = 6) -> list[dict[str, Any]]:
        """Reads a run from its start to its end."""
        run = self.lane.runs.get(run_id)
        if run is not None:
            await run.over()
        part = await self.core.log.read(f"run/{run_id}", 0)
        encode = UIFrames(run_id, ui)
        return records(b"".join(frame for block in part.blocks for frame in encode(part.epoch, block)))

    async def snapshot(self) -> ChatSnapshot:
        with self.lane.chats.in_memory.hold() as held:
            return await self.lane.chats.snapshot(LOCAL, "c", held)

    async def answer(self) -> UIMessage:
        """Returns the last message."""
        return (await self.snapshot()).messages[-1]

    async def parts(self, kind: str = "dynamic-tool") -> list[dict[str, Any]]:
        """Returns the parts of one type of the last message."""
        parts = [json.loads(bytes(part)) for part in (await self.answer()).parts]
        return [part for part in parts if part["type"] == kind]

    async def chat_events(self) -> list[tuple[str, Any]]:
        part = await self.core.log.read(chat_topic(LOCAL.sub, "c"), 0)
        return [(block.name, json.loads(data)) for block in part.blocks for data in block.data]

    async def notices(self) -> list[str]:
        part = await self.core.log.read(stored(user_topic(LOCAL.sub)), 0)
        return [block.name for block in part.blocks for _ in block.data]


@asynccontextmanager
async def staged(
    toolbox: FakeToolbox,
    *answers: ScriptedBody,
    log: EventLog | None = None,
    agents: Agents | None = None,
    **settings: Any,
) -> AsyncIterator[ToolStage]:
    stage = ToolStage(toolbox, *answers, log=log, agents=agents, **settings)
    async with stage.core.opened(), stage.lane.opened():
        yield stage


def records(frames_data: bytes) -> list[dict[str, Any]]:
    lines = frames_data.decode().split("\n")
    return [json.loads(line[6:]) for line in lines if line.startswith("data: {")]


def responded(answer: UIMessage, approval_id: str, *, approved: bool, **more: Any) -> UIMessage:
    """Returns an answer as the client holds it on which somebody has answered one ask."""
    parts: list[dict[str, Any]] = []
    for raw in answer.parts:
        part = json.loads(bytes(raw))
        if part.get("approval", {}).get("id") == approval_id:
            part |= {"state": "approval-responded", "approval": {"id": approval_id, "approved": approved}} | more
        parts.append(part)
    return message(answer.id, "assistant", *parts)
