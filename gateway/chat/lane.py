"""The chat lane opens and closes its parts together, and answers in two ways: a chat's stream, or a completion.

The one module of the lane that knows both the domain and its dialects.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import msgspec
from msgspec import Raw

from events.log.cursor import decode_cursor
from gateway.access.grants import Principal
from gateway.chat.agents.agents import Agents
from gateway.chat.agui_lane import AguiLane
from gateway.chat.approvals import Approvals
from gateway.chat.chat_streams import ChatStreams
from gateway.chat.chats import AcceptedRun, Chats, WholeEncoderOf
from gateway.chat.completion_lane import CompletionLane
from gateway.chat.dialects import ui_message
from gateway.chat.dialects.ui_message import DONE, UIFrames, whole_frames
from gateway.chat.due import DueSchedules
from gateway.chat.legacy import adopt_format
from gateway.chat.live_lane import LiveLane
from gateway.chat.lone_runs import LoneRuns
from gateway.chat.members import Members
from gateway.chat.message_lane import MessageLane
from gateway.chat.next_turn import NextTurns
from gateway.chat.old_chats import OldChats
from gateway.chat.passing import Passing
from gateway.chat.response_lane import ResponseLane
from gateway.chat.run_start import AttachedReader, RunStarter
from gateway.chat.run_webhook import run_webhooks
from gateway.chat.runs import Runs
from gateway.chat.schedules import Schedules
from gateway.chat.sending import Parked, Sending, Steered, WaitingReader
from gateway.chat.steering import Steering
from gateway.chat.submission import SendRequest, extra_fields
from gateway.chat.sweeper import Sweeper
from gateway.chat.tool_sign_in import ToolSignIn
from gateway.chat.tools.toolbox import NO_TOOLS, Toolbox
from gateway.chat.topics import run_id_of
from gateway.chat.upstreams.failover import Upstreams
from gateway.chat.whole_answer import AsgiAnswer
from gateway.core.process import Core
from gateway.core.quota_client import WorkTurn
from gateway.errors import TrilaneError
from gateway.serving.bodies import HeldBody
from gateway.serving.refusals import send_problem
from gateway.serving.sse import EventStream
from gateway.serving.whole import send_json, while_connected


class ChatLane:
    """The part of a unit that the routes of the chat lane call."""

    def __init__(
        self, core: Core, upstreams: Upstreams, toolbox: Toolbox = NO_TOOLS, agents: Agents | None = None
    ) -> None:
        self.settings, self.upstreams, self._toolbox = core.settings, upstreams, toolbox
        settings, metrics, limiter = core.settings, core.metrics, core.limiter
        self.runs = Runs(core.log, upstreams, settings, metrics, core.prices, toolbox, core.tracer, agents, limiter)
        self.agents = self.runs.agents
        self.chats = Chats(core.log, core.hub, self.runs, core.memberships, core.settings)
        starter = RunStarter(core.hub, self.runs, limiter, settings)
        next_turns = NextTurns(core.log, self.runs, starter, core.keys.is_revoked)
        self.runs.follow = next_turns.after
        self.approvals = Approvals(core.log, self.chats, self.runs, starter, UIFrames)
        self.steering = Steering(core.log, self.chats, self.runs, next_turns, core.limiter, UIFrames, core.settings)
        self.sending = Sending(
            core.log, core.hub, self.chats, self.runs, self.steering, starter, self.approvals, core.settings
        )
        self.members = Members(core.log, self.chats, core.memberships, core.limiter)
        self.tool_sign_in = ToolSignIn(self.chats, self.approvals, toolbox)
        self.schedules = Schedules(core.log, core.limiter, core.settings)
        turn = WorkTurn(core.limiter.client, "schedules")
        due = DueSchedules(core.log, turn, self.chats, self.runs, self.sending, UIFrames, core.keys.is_revoked)
        old_chats = OldChats(core.log, limiter.client, settings.retention_chats_s)
        self._works = [Sweeper(core.log, core.hub, self.runs), old_chats, due, *run_webhooks(core)]
        core.fleet.runs, core.fleet.oldest_runs = self.runs.__len__, self.runs.oldest
        self.limiter, self.bodies = limiter, core.bodies
        self._log, self._hub = core.log, core.hub
        self._streams = core.streams.of("chat")
        self.streams = ChatStreams(core, self._streams, self.runs)
        self.agui = AguiLane(self.chats, self.sending, self.runs, self.streams)
        lone_runs = LoneRuns(core, self._streams, self.runs)
        self.passing = Passing(core, lone_runs, self.runs)
        self.completions = CompletionLane(core.settings, lone_runs, self.runs)
        self.messages = MessageLane(core.settings, lone_runs, self.runs)
        self.live = LiveLane(core, self._streams, self.chats, self.runs, self.sending)
        self.responses = ResponseLane(core, self._streams, lone_runs, self.runs, self.chats.in_memory)

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[None]:
        await adopt_format(self._log)
        self._toolbox.start()
        await self.agents.start(self._log, self._hub)
        for work in self._works:
            work.start()
        try:
            async with self.live.opened():
                yield
        finally:
            for work in reversed(self._works):
                await work.close()
            await self.runs.close()
            await self.upstreams.aclose()
            await self.agents.aclose()
            await self._toolbox.aclose()

    async def drain(self) -> None:
        """Takes no new run, and returns when every run of this process has ended."""
        self.agents.desk.leave()
        await self.runs.drain()
        await self.live.drain()

    # Chats, in the dialect of the AI SDK

    async def send(
        self, who: Principal, request: SendRequest, key: str, fields: dict[str, Raw], body: HeldBody, ui: int
    ) -> EventStream | bytes:
        """Returns a run's stream, or all frames of one that only says where the answer is.

        `key`: the client's own name for the request, or empty; `fields`: all of its body; `ui`: the version of the AI
        SDK that reads, 0 when the client names none.
        """
        encoder_of = partial(UIFrames, ui=ui or self.settings.ui)
        attached = await self.sending.send(who, request, key, extra_fields(fields), encoder_of)
        if isinstance(attached, Parked):
            return ui_message.parked(attached.message_id, attached.results)
        if isinstance(attached, Steered):
            return DONE
        if attached.run is not None:
            body.keep_until(attached.run.verdict)
        return await self._stream(who, attached)

    async def accept(
        self, who: Principal, request: SendRequest, key: str, fields: dict[str, Raw], body: HeldBody
    ) -> AcceptedRun:
        """Starts the run that a request asks for, or finds it, and leaves it to itself; takes what `send` takes."""
        attached = await self.sending.send(who, request, key, extra_fields(fields), UIFrames, has_stream=False)
        if isinstance(attached, Parked | Steered):
            return AcceptedRun.of(request.id, "")
        if attached.run is not None:
            body.keep_until(attached.run.verdict)
        attached.reader.close()
        run_id = "" if isinstance(attached, WaitingReader) else run_id_of(attached.reader.topic)
        return AcceptedRun.of(request.id, run_id)

    def snapshot(self, who: Principal, chat_id: str) -> AsgiAnswer:
        """Returns an answer with the chat as it stands, which counts as being read until the client has it."""

        async def answer(scope: Any, receive: Any, send: Any) -> None:
            with self.chats.in_memory.hold() as held:
                try:
                    body = msgspec.json.encode(await self.chats.snapshot(who, chat_id, held))
                except TrilaneError as err:
                    await send_problem(err, scope, send)
                    return
                await while_connected(receive, send_json(body, send))

        return answer

    async def follow(self, who: Principal, chat_id: str, cursor: str | None, ui: int) -> EventStream | None:
        """Returns the stream of a chat; None when nothing is active and no cursor says what else to read."""
        encoder_of = partial(whole_frames, ui=ui or self.settings.ui)
        if cursor is None:
            attached = await self.chats.follow(who, chat_id, None, encoder_of)
        else:
            attached = await self._resumed(who, chat_id, cursor, encoder_of)
        return await self._stream(who, attached) if attached is not None else None

    async def _resumed(
        self, who: Principal, chat_id: str, cursor: str, encoder_of: WholeEncoderOf
    ) -> AttachedReader | None:
        """Returns what `Chats.follow` does, and measures what became of the cursor."""
        try:
            attached = await self.chats.follow(who, chat_id, cursor, encoder_of)
        except TrilaneError as err:
            self.runs.figures.note_resume(err.code)
            raise
        _, position = decode_cursor(cursor)
        missed = attached.reader.ring.head - position.offset if attached is not None else None
        self.runs.figures.note_resume("recovered", missed)
        return attached

    async def _stream(self, who: Principal, attached: AttachedReader | WaitingReader) -> EventStream:
        return await self.streams.open(
            who,
            attached,
            attached.reader,
            headers=ui_message.HEADERS,
            verdict=attached.run.verdict if attached.run else None,
            end=DONE,
            farewell=ui_message.farewell,
            apology=ui_message.apology,
            notice=ui_message.expiry_notice,
        )
