"""A chat over one WebSocket: what happens in it goes down, commands come up, and each of them is answered.

For a drain, a revoked key or a log that failed it is one more open stream. Everything is bounded: what a client has not
read stays in the log, a command is a small frame, and only so many are done at once and in a second. What a command
does is the caller's: this module knows none of them.
"""

import asyncio
from collections.abc import Callable
from math import inf
from typing import Protocol

from gateway.access.grants import Principal
from gateway.chat.live import LiveChat
from gateway.errors import BadRequest, CloseCode, NotFound, RateLimited, TooLarge, TrilaneError
from gateway.serving.client_socket import DRAINING, LOST, ClientSocket, SocketClose, close_of
from gateway.serving.open_streams import EXPIRY_NOTICE_S, Audience, LaneStreams, StreamState

MAX_FRAME_BYTES = 262_144
"""Maximum bytes of one command. What is larger is posted over HTTP, and told here like everything else."""
MAX_UNDER_WAY = 8
"""Maximum commands of one socket that are done at once."""
COMMANDS_PER_S = 20
"""Commands a client may send per second, in the long run."""
ALLOWANCE_S = 10.0
"""Seconds whose commands may come at once."""
LAST_ANSWERS_S = 5.0
"""Seconds for which a socket that is to close waits for the answers to commands that are being done."""
TURN_LINES = 64
"""Messages sent before other connections have their turn."""
EXPIRED = SocketClose(CloseCode.TOKEN_EXPIRED, "the token has expired: come back with a new one")


class CommandDesk(Protocol):
    """Does what the commands of one client say."""

    async def obey(self, frame: str) -> str:
        """Returns the answer to a command; what is wrong with it is an answer too."""
        ...

    def refuse(self, frame: str, error: TrilaneError) -> str:
        """Returns the answer to a command that is not even begun."""
        ...


class LiveSocket:
    """One client's socket on a chat, as `OpenStreams` keeps it."""

    __slots__ = (
        *("key_id", "_who", "_socket", "_chat", "_streams", "_desk", "_farewell", "_notice"),
        *("_asides", "_commands", "_ending", "_wake", "_full_at", "leaves_cleanly"),
    )
    resumable = True

    def __init__(
        self,
        who: Principal,
        socket: ClientSocket,
        chat: LiveChat,
        streams: LaneStreams,
        desk: CommandDesk,
        notice: Callable[[int], str],
        farewell: Callable[[TrilaneError | None], str],
    ) -> None:
        """`notice` and `farewell` are as in the dialect."""
        self.key_id = who.key_id
        self.leaves_cleanly = True
        self._who = who
        self._socket = socket
        self._chat = chat
        self._streams = streams
        self._desk = desk
        self._notice = notice
        self._farewell = farewell
        self._asides: list[str] = []
        """Messages of the gateway's own, which go before what the chat tells: one at most, but for the last."""
        self._commands: set[asyncio.Task[None]] = set()
        self._ending: SocketClose | None = None
        self._wake: Callable[[], object] = _nobody
        self._full_at = 0.0
        """The time at which the allowance for commands is full again."""

    # As an open stream

    @property
    def lane(self) -> str:
        return self._streams.lane

    @property
    def audience(self) -> Audience:
        return Audience(self._who.sub, (self._chat.topic,))

    @property
    def state(self) -> StreamState:
        return "replaying" if self._chat.is_late else "live"

    def leave(self) -> None:
        """Ends soon, behind the answers to its commands, because this process leaves."""
        if self._ending is None:
            self._asides.append(self._farewell(None))
        self._end(DRAINING)

    def fail(self, error: TrilaneError) -> None:
        """Ends soon, with words about an error of the log, or of its credential."""
        if self._ending is None and (last := self._farewell(error)):
            self._asides.append(last)
        self._end(close_of(error))

    def _end(self, ending: SocketClose) -> None:
        if self._ending is None or ending is LOST:
            self._ending = ending
        self._wake()

    # The conversation

    async def serve(self, subprotocol: str) -> None:
        """Accepts the connection, talks until either side leaves, and closes the chat."""
        self._streams.add(self)
        timers = self._expiry_timers()
        try:
            await self._socket.accept(subprotocol)
            async with asyncio.TaskGroup() as group:
                listening = group.create_task(self._listen(group))
                try:
                    await self._speak()
                finally:
                    listening.cancel()
                    self._chat.close()
                await self._part()
        finally:
            self._chat.close()
            self._streams.discard(self)
            for timer in timers:
                timer.cancel()

    def _expiry_timers(self) -> list[asyncio.TimerHandle]:
        """Has the client told that its credential expires, and the socket closed when it has."""
        remaining_s = self._who.remaining_s()
        if remaining_s == inf:
            return []
        loop, notice_s = asyncio.get_running_loop(), max(0.0, remaining_s - EXPIRY_NOTICE_S)
        return [
            loop.call_later(notice_s, self._tell, self._notice(round(remaining_s - notice_s))),
            loop.call_later(remaining_s, self._end, EXPIRED),
        ]

    def _tell(self, aside: str) -> None:
        self._asides.append(aside)
        self._wake()

    # Down

    async def _speak(self) -> None:
        """Sends what is due until there is a reason to end."""
        loop = asyncio.get_running_loop()
        while self._ending is None:
            news = loop.create_future()
            self._wake = self._chat.on_wake = _setter(news)
            if self._asides:
                await self._say(self._asides.pop(0))
                continue
            lines = self._chat.poll()
            if lines is None:
                await self._catch_up()
            elif lines:
                await self._say_all(lines)
            elif self._chat.ended:
                self.fail(NotFound("this chat was deleted"))
            else:
                await news

    async def _catch_up(self) -> None:
        try:
            await self._chat.catch_up()
        except TrilaneError as err:
            self.fail(err)

    async def _say_all(self, lines: list[bytes]) -> None:
        for count, line in enumerate(lines, 1):
            await self._say(line[:-1].decode())
            if self._ending is not None:
                return
            if count % TURN_LINES == 0:
                await asyncio.sleep(0)
        await asyncio.sleep(0)  # a client that reads as fast as this must not have the loop for itself

    async def _say(self, text: str) -> None:
        try:
            await self._socket.send(text)
        except TimeoutError:
            self._socket.abort()
            self._end(LOST)

    async def _part(self) -> None:
        """Says the last words, once the commands under way are answered, and closes."""
        if self._commands and self._ending is not LOST:
            await asyncio.wait(self._commands, timeout=LAST_ANSWERS_S)
        ending = self._ending
        if ending is None or ending is LOST:
            return
        try:
            for aside in self._asides:
                await self._socket.send(aside)
            await self._socket.close(ending)
        except TimeoutError:
            self._socket.abort()

    # Up

    async def _listen(self, group: asyncio.TaskGroup) -> None:
        try:
            while (message := await self._socket.receive())["type"] != "websocket.disconnect":
                self._count_command()
                await self._take(message.get("text"), group)
            self._end(LOST)
        except TrilaneError as err:
            self._socket.note(err)
            self._end(close_of(err))

    async def _take(self, frame: str | None, group: asyncio.TaskGroup) -> None:
        """Begins to do what a frame says, or says why not; a client that does not read the answers is not heard.

        What comes when the socket is to close is not done: its client may not any more, or, when this process leaves,
        sends it again to the next, which it had better do at once.
        """
        if self._ending is not None or self._streams.draining:
            self.leave()
        elif frame is None:
            await self._say(self._desk.refuse("", BadRequest("a binary frame: a command is text", code="bad_frame")))
        elif (size := len(frame) if frame.isascii() else len(frame.encode())) > MAX_FRAME_BYTES:
            detail = f"a frame of {size} bytes: at most {MAX_FRAME_BYTES} are taken here; POST /api/chat takes more"
            await self._say(self._desk.refuse(frame, TooLarge(detail)))
        elif len(self._commands) >= MAX_UNDER_WAY:
            detail = f"{MAX_UNDER_WAY} commands of this socket are being done: wait for the answer to one"
            error = RateLimited(detail, code="too_many_commands", retry_after="1")
            await self._say(self._desk.refuse(frame, error))
        else:
            command = group.create_task(self._obey(frame))
            self._commands.add(command)
            command.add_done_callback(self._commands.discard)

    async def _obey(self, frame: str) -> None:
        await self._say(await self._desk.obey(frame))

    def _count_command(self) -> None:
        """Raises TooLarge with code `too_many_messages` when commands come faster than the allowance permits."""
        now = asyncio.get_running_loop().time()
        self._full_at = max(self._full_at, now) + 1 / COMMANDS_PER_S
        if self._full_at > now + ALLOWANCE_S:
            raise TooLarge(f"more than {COMMANDS_PER_S} commands a second, for too long", code="too_many_messages")


def _nobody() -> None:
    """Does nothing: nobody is waiting."""


def _setter(future: "asyncio.Future[None]") -> Callable[[], object]:
    return lambda: future.done() or future.set_result(None)
