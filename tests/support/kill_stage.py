"""Kills processes in the middle of runs with tools, and tells what another process makes of their chats.

It is a program: `python -m tests.support.kill_stage FOLDER URL COUNT SILENCE_S [POINT EFFECT]`. For each point and
effect it forks COUNT processes. Each runs one chat on the log in FOLDER, with tools of the `counting_server` at URL,
and gets SIGKILL at its point. Then this process opens the log, takes SILENCE_S for a sign that a writer is gone, goes
on with all chats, answers what they ask, and writes a JSON list of `KilledChat` to FOLDER/chats.json.
"""

import asyncio
import gc
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, cast

import msgspec
from msgspec import Raw, UnsetType

from events.log.port import Append, Appended, EventLog
from gateway.chat import silence, sweeper
from gateway.chat.approvals import ApprovalAnswer
from gateway.chat.chats import ChatSnapshot
from gateway.chat.dialects.ui_message import UIFrames
from gateway.chat.lane import ChatLane
from gateway.chat.records.record import EFFECT_STARTED, RECORD, RUN
from gateway.chat.submission import SendRequest
from gateway.chat.tools.mcp_toolbox import open_toolbox
from gateway.chat.tools.toolbox import OnProgress, Tool, Toolbox, ToolResult
from gateway.chat.upstreams.failover import Upstreams
from gateway.core.engines import make_log
from gateway.core.process import Core
from gateway.settings import Settings
from gateway.tool_settings import McpSettings, ToolServers, ToolSettings
from tests.support.chats import user
from tests.support.followers import LOCAL
from tests.support.scripted_upstream import ScriptedBody, ScriptedUpstream
from tests.support.tool_stage import calls, says

EFFECTS = ("read", "idempotent", "once")
AT_APPEND = {
    "opened": (RUN, b"", True),
    "model-cut": (RECORD, b'"tool-input-delta"', True),
    "call-recorded": (EFFECT_STARTED, b"", False),
    "before-ask": ("run-finished", b"", False),
    "parked": ("run-finished", b"", True),
    "answered": ("answered", b"", True),
    "effect-unacknowledged": (EFFECT_STARTED, b"", True),
    "output-recorded": (RECORD, b'"tool-output-available"', True),
}
"""Points at an append: its event's name, what is in it, and whether it is in the log by then."""
POINTS = (*AT_APPEND, "effect-acknowledged", "request-left", "acted", "answer-received")
ASKING = ("before-ask", "parked", "answered")
"""Points of calls that need somebody's leave."""
AT_ONCE = 4
"""Processes that run at once."""
CHILD_S = 60.0
SETTLED_S = 120.0
MAX_ANSWERS = 1000


class KilledChat(msgspec.Struct):
    """What became of the chat of a process that was killed."""

    chat: str
    point: str
    effect: str
    killed_at: float = 0.0
    """By the monotonic clock, which all processes of a machine share."""
    settled_s: float = 0.0
    """Seconds in which it was killed and the other process there, until nothing ran or was to be taken over."""
    outcome: str = ""
    code: str = ""
    state: str = ""
    """The state of the call's part; empty where there is none."""
    asks: list[str] = []
    """The kinds of asks that are open at the end."""


def settings_of(folder: str, url: str, servers: Sequence[str]) -> Settings:
    mcp = [
        McpSettings(
            name=approve,
            url=url,
            tools={name: ToolSettings(approve=cast(Any, approve), effect=cast(Any, name)) for name in EFFECTS},
        )
        for approve in servers
    ]
    return Settings(log=f"sqlite:///{folder}/trilane.db", tools=ToolServers(mcp=mcp))


# The process that is killed


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class KillingLog:
    """A log whose process ends at one of its appends."""

    def __init__(self, log: EventLog, point: str) -> None:
        self._log = log
        self._name, self._content, self._is_written = AT_APPEND.get(point, ("", b"", True))
        self._last: asyncio.Future[list[Appended]] | None = None
        self._death: asyncio.Task[None] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def append(self, *appends: Append, patient: bool = False) -> "asyncio.Future[list[Appended]]":
        loop = asyncio.get_running_loop()
        if self._death is not None:
            return loop.create_future()
        is_here = any(
            one.name == self._name and (not self._content or any(self._content in data for data in one.data))
            for one in appends
        )
        if not is_here or self._is_written:
            self._last = self._log.append(*appends, patient=patient)
        if not is_here and self._last is not None:
            return self._last
        self._death = loop.create_task(self._die(self._last))
        return loop.create_future()

    async def _die(self, last: "asyncio.Future[list[Appended]] | None") -> None:
        if last is not None:
            await last  # what came before is in the log
        die()


class KillingToolbox:
    """A toolbox whose process ends when a call begins, or when it has its answer."""

    def __init__(self, toolbox: Toolbox, point: str) -> None:
        self._toolbox = toolbox
        self._point = point
        self.start, self.known, self.offered = toolbox.start, toolbox.known, toolbox.offered
        self.aclose = toolbox.aclose

    async def call(self, tool: Tool, arguments: Raw, *, key: str, sub: str, on_progress: OnProgress) -> ToolResult:
        if self._point == "effect-acknowledged":
            die()
        result = await self._toolbox.call(tool, arguments, key=key, sub=sub, on_progress=on_progress)
        if self._point == "answer-received":
            die()
        return result


def answers_of(point: str, effect: str, chat: str) -> list[ScriptedBody]:
    server = "ask" if point in ASKING else "auto"
    call = ("k1", f"{server}__{effect}", {"chat": chat, "pid": os.getpid(), "point": point})
    match point:
        case "opened":
            return [ScriptedBody()]
        case "model-cut":
            first_frame, end, _ = calls(call)._pieces[0].partition(b"\n\n")
            return [ScriptedBody(first_frame + end)]
        case _:
            return [calls(call), ScriptedBody()]


async def live(folder: str, url: str, point: str, effect: str, chat: str) -> None:
    """Runs a chat until this process is killed."""
    settings = settings_of(folder, url, ["ask" if point in ASKING else "auto"])
    core = Core(cast(EventLog, KillingLog(make_log(settings), point)), settings)
    upstream = ScriptedUpstream(*answers_of(point, effect, chat))
    lane = ChatLane(core, Upstreams([upstream], 60.0), KillingToolbox(open_toolbox(settings), point))
    async with asyncio.timeout(CHILD_S), core.opened(), lane.opened():
        request = SendRequest(id=chat, message=user("u1", "go"))
        await lane.sending.send(LOCAL, request, "", {}, partial(UIFrames, ui=6))
        while point == "answered":
            if pending := (await snapshot_of(lane, chat)).pending:
                await lane.approvals.answer(LOCAL, chat, pending[0].approval_id, ApprovalAnswer(approved=True))
            await asyncio.sleep(0.01)
        await asyncio.sleep(CHILD_S)


def fork(folder: str, url: str, killed: KilledChat) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        asyncio.run(live(folder, url, killed.point, killed.effect, killed.chat))
    except BaseException:
        traceback.print_exc()
    os._exit(1)


def kill_all(folder: str, url: str, chats: Sequence[KilledChat]) -> None:
    """Lets each chat run in a process of its own, until that is killed. Raises RuntimeError for one that is not."""
    living: dict[int, KilledChat] = {}
    for killed in chats:
        living[fork(folder, url, killed)] = killed
        while len(living) >= (AT_ONCE if killed is not chats[-1] else 1):
            pid, status = os.wait()
            ended = living.pop(pid)
            ended.killed_at = time.monotonic()
            if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
                raise RuntimeError(f"{ended.chat} was not killed: {status}")


# The process that goes on


async def snapshot_of(lane: ChatLane, chat: str) -> ChatSnapshot:
    with lane.chats.in_memory.hold() as held:
        return await lane.chats.snapshot(LOCAL, chat, held)


async def go_on(folder: str, url: str, await_chats: Callable[[], list[KilledChat]]) -> bytes:
    """Goes on with chats from when `await_chats` returns them, in a thread, and returns what became of them."""
    settings = settings_of(folder, url, ["auto", "ask"])
    core = Core(make_log(settings), settings)
    upstream = ScriptedUpstream(*[says("Done.") for _ in range(MAX_ANSWERS)])
    lane = ChatLane(core, Upstreams([upstream], 60.0), open_toolbox(settings))
    async with core.opened(), lane.opened():
        chats = await asyncio.to_thread(await_chats)
        began = time.monotonic()
        await settle(lane, chats, began)
        asking = [killed for killed in chats if killed.asks == ["approval"]]
        for killed in asking:
            [ask] = (await snapshot_of(lane, killed.chat)).pending
            await lane.approvals.answer(LOCAL, killed.chat, ask.approval_id, ApprovalAnswer(approved=True))
        await settle(lane, asking, began)
    return msgspec.json.encode(chats)


async def settle(lane: ChatLane, chats: Sequence[KilledChat], began: float) -> None:
    """Notes how each chat stands as soon as nothing runs in it."""
    left = list(chats)
    async with asyncio.timeout(SETTLED_S):
        while left:
            for killed in list(left):
                snapshot = await snapshot_of(lane, killed.chat)
                if snapshot.active_run is None:
                    left.remove(killed)
                    note(killed, snapshot)
                    killed.settled_s = killed.settled_s or time.monotonic() - max(killed.killed_at, began)
            await asyncio.sleep(0.1)


def note(killed: KilledChat, snapshot: ChatSnapshot) -> None:
    killed.asks = [ask.kind for ask in snapshot.pending]
    answer = snapshot.messages[-1]
    metadata = answer.metadata
    facts: dict[str, Any] = {} if isinstance(metadata, UnsetType) else msgspec.json.decode(metadata)
    killed.outcome, killed.code = facts.get("outcome", ""), facts.get("code", "")
    parts = [msgspec.json.decode(part) for part in answer.parts]
    killed.state = next((part["state"] for part in parts if part["type"] == "dynamic-tool"), "")


def cells(count: int, wanted: Sequence[str]) -> Iterator[KilledChat]:
    for point, effect, number in product(POINTS, EFFECTS, range(count)):
        if not wanted or [point, effect] == list(wanted):
            yield KilledChat(f"{point}-{effect}-{number}", point, effect)


def main(folder: str, url: str, count: str, silence_s: str, *wanted: str) -> None:
    chats = list(cells(int(count), wanted))
    open_toolbox(settings_of(folder, url, ["auto"]))  # loads the package that each of them needs
    gc.freeze()
    if float(silence_s) == silence.SILENCE_S:
        go_on_beside(folder, url, chats)
        return
    kill_all(folder, url, chats)  # with less silence, the other process would take those that live for dead
    silence.SILENCE_S = float(silence_s)
    sweeper.SWEEP_S = sweeper.WRITERS_TURN_S = 0.1
    Path(folder, "chats.json").write_bytes(asyncio.run(go_on(folder, url, lambda: chats)))


def go_on_beside(folder: str, url: str, chats: list[KilledChat]) -> None:
    """Kills processes while the other one is there already."""
    reads, writes = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(writes)
        with os.fdopen(reads, "rb") as pipe:
            went_on = go_on(folder, url, lambda: msgspec.json.decode(pipe.read(), type=list[KilledChat]))
            Path(folder, "chats.json").write_bytes(asyncio.run(went_on))
        os._exit(0)
    os.close(reads)
    kill_all(folder, url, chats)
    with os.fdopen(writes, "wb") as pipe:
        pipe.write(msgspec.json.encode(chats))
    if os.waitpid(pid, 0)[1]:
        raise RuntimeError("the process that goes on has failed")


if __name__ == "__main__":
    main(*sys.argv[1:])
