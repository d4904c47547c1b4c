"""The chat lane's sockets: each follows one chat as a whole, and what its client sends is done as over HTTP.

Like `gateway.chat.lane` it knows both the domain and a dialect. There is no other road to a chat than that module's.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from functools import partial

import msgspec
from msgspec import Raw

from gateway.access.grants import Principal
from gateway.chat.chats import Chats
from gateway.chat.dialects import live
from gateway.chat.live import LiveChat, LiveDialect, LiveSources
from gateway.chat.live_people import LivePeople
from gateway.chat.live_socket import CommandDesk, LiveSocket
from gateway.chat.run_start import AttachedReader
from gateway.chat.runs import Runs
from gateway.chat.sending import Sending, WaitingReader
from gateway.chat.submission import SendRequest
from gateway.chat.topics import run_id_of
from gateway.core.process import Core
from gateway.errors import TrilaneError
from gateway.serving.bodies import HeldBody
from gateway.serving.client_socket import ClientSocket
from gateway.serving.open_streams import LaneStreams


class SendResult(msgspec.Struct, frozen=True, rename="camel"):
    """The answer to a message that was sent over a socket, which tells the run itself."""

    run_id: str | None
    """The run that answers it; None when the answer goes on with nothing, because other asks are still open."""


class LiveLane:
    """All sockets of one process on chats."""

    def __init__(self, core: Core, streams: LaneStreams, chats: Chats, runs: Runs, sending: Sending) -> None:
        self._settings = core.settings
        self._limiter = core.limiter
        self._streams = streams
        self._people = LivePeople(core.log, core.hub)
        self._has_members = core.memberships.are_kept
        self._sources = LiveSources(core.log, core.hub, chats, runs, self._people)
        self._sending = sending
        self._sockets: set[LiveSocket] = set()
        self._departure = asyncio.Event()

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[None]:
        """Knows who looks at shared chats elsewhere; where nobody signs in, none is shared."""
        if not self._has_members:
            yield
            return
        await self._people.presence.open()
        try:
            yield
        finally:
            await self._people.presence.close()

    async def serve(
        self, who: Principal, socket: ClientSocket, desk: CommandDesk, chat_id: str, cursor: str | None, ui: int
    ) -> None:
        """Follows a chat until either side leaves. The handshake is answered once nothing of it can be missed.

        `cursor`: that of a chunk, to go on strictly after it, or None; `ui`: the AI SDK version that reads, or 0.
        Raises TrilaneError, before the handshake is answered.
        """
        who.require_chat()
        frames_of = partial(live.live_frames, ui=ui or self._settings.ui)
        dialect = LiveDialect(frames_of, live.event_line, live.people_line, live.gap_line)
        chat = LiveChat(self._sources, who, chat_id, dialect)
        self._streams.admit()
        leave = await self._limiter.admit_stream(who)
        try:
            await chat.begin(cursor)
            self._streams.admit()  # a drain may have begun
            words = (live.expiry_notice, live.farewell)
            await self._keep(LiveSocket(who, socket, chat, self._streams, desk, *words))
        finally:
            chat.close()
            leave()

    async def _keep(self, socket: LiveSocket) -> None:
        self._sockets.add(socket)
        try:
            await socket.serve(live.SUBPROTOCOL)
        finally:
            self._sockets.discard(socket)
            self._departure.set()

    async def drain(self) -> None:
        """Returns when every socket is closed; `OpenStreams` sends them away."""
        while self._sockets:
            self._departure.clear()
            await self._departure.wait()

    async def send(self, who: Principal, request: SendRequest, extra: Mapping[str, Raw], body: HeldBody) -> SendResult:
        """Does what `ChatLane.send` does, for a client that is told the answer anyway; waits as long for the verdict.

        Raises what that would be answered with.
        """
        encoder_of = partial(live.LiveFrames, ui=self._settings.ui)
        attached = await self._sending.send(who, request, "", dict(extra), encoder_of, has_stream=False)
        if isinstance(attached, WaitingReader):
            attached.reader.close()  # its run is told when it begins, as every run of this chat
        if not isinstance(attached, AttachedReader):
            return SendResult(None)
        run_id, run = run_id_of(attached.reader.topic), attached.run
        attached.reader.close()
        if run is not None:
            body.keep_until(run.verdict)
            await asyncio.wait((run.verdict,), timeout=self._settings.prime_s)
            refusal = run.verdict.exception() if run.verdict.done() and not run.verdict.cancelled() else None
            if isinstance(refusal, TrilaneError):
                raise refusal
        return SendResult(run_id)
