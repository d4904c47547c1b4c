"""Steers and queues on a `ToolStage`: an answer that has begun, and what becomes of messages that come meanwhile."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

from gateway.chat.steering import SteerRequest, SteerResult
from gateway.chat.submission import SendRequest
from tests.support.chats import user
from tests.support.completions import chunk, frames
from tests.support.followers import LOCAL
from tests.support.readers import settle
from tests.support.scripted_upstream import ScriptedBody
from tests.support.tool_stage import ToolStage


def opening(text: str) -> ScriptedBody:
    """Returns an answer of the model that has begun."""
    return ScriptedBody(frames(chunk({"role": "assistant", "content": text})))


def rest(body: ScriptedBody, text: str = "") -> None:
    body.send(frames(*([chunk({"content": text})] if text else []), chunk(finish="stop"), b"[DONE]"))
    body.end()


async def steer(stage: ToolStage, message_id: str, text: str = "and?", **more: Any) -> SteerResult:
    otherwise = more.pop("otherwise", "queue")
    request = SteerRequest(message=user(message_id, text), otherwise=otherwise, **more)
    return await stage.lane.steering.steer(LOCAL, "c", request)


async def begun(stage: ToolStage, text: str = "hello", message_id: str = "u1") -> "asyncio.Task[list[dict[str, Any]]]":
    """Sends a message; returns the task that follows its answer, which has begun."""
    task = asyncio.ensure_future(stage.send(SendRequest(id="c", message=user(message_id, text))))
    await until(lambda: len(stage.lane.runs) > 0)
    await settle()
    return task


async def until(is_so: Callable[[], bool], within_s: float = 60) -> None:
    async with asyncio.timeout(within_s):
        while not is_so():  # noqa: ASYNC110 - what is waited for sets no event
            await asyncio.sleep(0.01)


async def over(stage: ToolStage) -> None:
    """Waits until nothing is being written."""
    await settle()
    await until(lambda: not len(stage.lane.runs))


def asked(stage: ToolStage, number: int) -> list[tuple[str, Any]]:
    """Returns what the model was sent the nth time."""
    request, _ = stage.upstream.requests[number]
    return [(turn["role"], turn["content"]) for turn in request["messages"]]  # type: ignore[index,union-attr]


async def shown(stage: ToolStage) -> list[tuple[str, list[str]]]:
    """Returns the chat's messages: each role, and its texts and what it has taken."""
    messages = (await stage.snapshot()).messages
    told = [(message.role, [json.loads(bytes(part)) for part in message.parts]) for message in messages]
    return [
        (role, [part.get("text") or part.get("id") or part["type"] for part in parts if part["type"] != "step-start"])
        for role, parts in told
    ]


async def events(stage: ToolStage, *names: str) -> list[Any]:
    return [data for name, data in await stage.chat_events() if name in names]
