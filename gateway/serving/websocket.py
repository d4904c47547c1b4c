"""Extends uvicorn's WebSocket protocol for clients that do not play by the rules.

- uvicorn parses at once whatever one read brought: of pings that is seconds of work, and everyone else waits. Here a
  read is parsed in turns, between which the event loop has its own, and the next begins when the application has taken
  what was in the last. Every frame and byte is charged to the connection's `FrameMeter`, whatever it means.
- It answers every ping into a buffer without a bound. Here a client that does not read is owed the newest pong alone
  (RFC 6455 §5.5.3), and is cut when it has read nothing for a while.
- It closes the connection behind a close frame, and what the client was still sending makes the system reset it: the
  client loses the frame that says why. Here such bytes are read for a moment and thrown away.
- It lets a client go when its buffer is flushed, which for a client that does not read is never. Here every close has
  a deadline, and an application that knows better finds `transport.abort` in the scope's extensions under ABORT.

On a server that does none of this an application works too, only not as well.
"""

import asyncio
import contextlib
from asyncio import Handle, TimerHandle
from typing import Any

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.protocol import State

from gateway.errors import CloseCode
from gateway.serving.client_socket import ABORT
from gateway.serving.frame_meter import BYTES_PER_S, FRAMES_PER_S, FrameMeter

MAX_PIECE_BYTES = 4096
"""Maximum bytes parsed in one step, where frames are large."""
MIN_PIECE_BYTES = 256
"""Maximum bytes parsed in one step, where frames are small: some forty frames, less than a millisecond of work."""
TURN_FRAMES = 32
"""Frames parsed before other connections have their turn."""
TURN_MESSAGES = 16
"""Messages handed to the application in a row before other connections have their turn."""
MAX_FRAGMENTS = 2048
"""Maximum fragments of one message: a message of a mebibyte can come in pieces of 512 bytes, not of fewer."""
STALL_S = 20.0
"""Seconds for which a client may leave the buffer of what it is sent full, until it is cut."""
UNDER_WAY_BYTES = 65_536
"""Bytes after a close in which the client's answering close is looked for."""
LINGER_S = 1.0
"""Seconds that a client has to read why it was closed, until its connection is cut."""
LINGER_BYTES = 4_194_304
"""Maximum bytes read and thrown away meanwhile: the rest of any message. What follows is not read."""
BAD_HANDSHAKE = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class SocketProtocol(WebSocketsSansIOProtocol):
    """One WebSocket connection: reads in turns, meters all of it, and closes within a deadline."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # In a drain every answer says `Connection: close`; a handshake's says what it is for: `Connection: Upgrade`.
        self.default_headers = [header for header in self.default_headers if header[0] != b"connection"]
        self._meter = FrameMeter()
        self._piece_bytes = MIN_PIECE_BYTES
        self._unparsed = memoryview(b"")
        """The rest of the last read; reading is paused while there is some."""
        self._turn: Handle | None = None
        """The next turn of parsing, while it waits only for the turns of other connections."""
        self._in_a_row = 0
        """Messages that the application took in a row, without waiting for one."""
        self._late_bytes = 0
        """Bytes that came after a close."""
        self._is_lingering = False
        self._stall_timer: TimerHandle | None = None

    # The handshake

    def handle_connect(self, event: Any) -> None:
        super().handle_connect(event)
        if self.handshake_initiated and hasattr(self, "scope"):
            self.scope["extensions"][ABORT] = self.transport.abort  # pyright: ignore - its type knows two extensions
            self._pause()  # no frame is taken before the application has accepted

    def _shake(self, data: bytes) -> None:
        """Takes the head of the request, which HTTP has read whole; answers one that websockets refuses."""
        self.conn.receive_data(data)
        if self.conn.handshake_exc is None:
            self.handle_events()
            return
        self.transport.write(b"".join(self.conn.data_to_send()) or BAD_HANDSHAKE)
        self.handshake_complete = self.close_sent = True
        self._linger()

    # Reading

    def data_received(self, data: bytes) -> None:
        if self.close_sent:
            self._take_late(data)
        elif not self.handshake_initiated:
            self._shake(data)
        elif len(data) <= self._piece_bytes and not self._unparsed:
            self._feed(data)
        else:
            self._keep(data)

    def _keep(self, data: bytes) -> None:
        self._unparsed = memoryview(bytes(self._unparsed) + data)
        if self._turn is None:
            self._go_on()

    def _go_on(self) -> None:
        """Parses for one turn, and resumes reading when nothing is left."""
        self._turn = None
        frames = 0
        while self._unparsed and self._is_parsing_useful and frames < TURN_FRAMES:
            size = self._piece_bytes
            piece, self._unparsed = self._unparsed[:size], self._unparsed[size:]
            frames += self._feed(bytes(piece))
        if self._is_lingering or not self._is_parsing_useful:
            return
        if self._unparsed:
            self._pause()
            self._turn = self.loop.call_soon(self._go_on)
        elif self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()

    @property
    def _is_parsing_useful(self) -> bool:
        """Returns whether the next frame can be handled now: the application has taken all before it."""
        return (self.close_sent or self.queue.empty()) and not self.transport.is_closing()

    def _pause(self) -> None:
        if not self.read_paused:
            self.read_paused = True
            self.transport.pause_reading()

    def _feed(self, data: bytes) -> int:
        """Parses, charges and handles `data`; returns the number of frames that ended in it."""
        conn = self.conn
        conn.receive_data(data)
        frames = len(conn.events)
        if frames > TURN_FRAMES:
            self._piece_bytes = MIN_PIECE_BYTES
        elif self._piece_bytes < MAX_PIECE_BYTES:
            self._piece_bytes *= 2
        if not self._meter.take(frames, len(data), self.loop.time()):
            conn.events_received()
            limits = f"{FRAMES_PER_S} frames or {BYTES_PER_S} bytes a second"
            self._refuse(CloseCode.TOO_MUCH, f"more than {limits}, for too long")
        elif conn.parser_exc is not None:
            self.handle_parser_exception()
        else:
            self.handle_events()
        return frames

    def handle_cont(self, event: Any) -> None:
        if len(self.frames) < MAX_FRAGMENTS:
            super().handle_cont(event)
        else:
            self._refuse(CloseCode.TOO_LARGE, f"a message of more than {MAX_FRAGMENTS} fragments")

    def handle_ping(self) -> None:
        if self.close_sent:
            self.conn.data_to_send()
        elif self.writable.is_set() or self.conn.state is not State.OPEN:
            super().handle_ping()
        else:
            del self.conn.writes[:-1]

    # Writing

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stall_timer = self.loop.call_later(STALL_S, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._forget_stall()
        if self.conn.writes and not self.close_sent:
            self.transport.write(b"".join(self.conn.data_to_send()))

    def _forget_stall(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

    # The application

    async def receive(self) -> Any:
        message = await self.queue.get()
        if not self.queue.empty():
            self._in_a_row += 1
            if self._in_a_row % TURN_MESSAGES == 0:
                await asyncio.sleep(0)
        elif self.read_paused and self.handshake_complete:
            self._ask_for_more()
        return message

    def _ask_for_more(self) -> None:
        """Resumes reading, or schedules what was read: others would starve if one who never waits had it at once."""
        if not self._unparsed:
            self.read_paused = False
            self.transport.resume_reading()
        elif self._turn is None:
            self._turn = self.loop.call_soon(self._go_on)

    async def send(self, message: Any) -> None:
        """Sends a message; to a client that has left, nothing, as the application hears from `receive`."""
        was_accepted, was_closed = self.handshake_complete, self.close_sent
        with contextlib.suppress(ClientDisconnected):
            await super().send(message)
        if self.close_sent and not was_closed:
            self._expect_answer()
        elif not was_accepted and self.read_paused and self.queue.empty():
            self._ask_for_more()

    # The end

    def _expect_answer(self) -> None:
        """Looks through what comes for the client's own close, now that the application has closed."""
        if self.close_timer is not None:
            self.close_timer.cancel()
            self.close_timer = self.loop.call_later(self.close_timeout, self.transport.abort)
        data, self._unparsed = bytes(self._unparsed), memoryview(b"")
        self._take_late(data)

    def _take_late(self, data: bytes) -> None:
        self._late_bytes += len(data)
        if self._is_lingering:
            if self._late_bytes > LINGER_BYTES:
                self.transport.pause_reading()
        elif self._late_bytes > UNDER_WAY_BYTES:
            self._linger()
        elif data:
            self._keep(data)

    def handle_close(self, event: Any) -> None:
        if self.close_sent:
            super().handle_close(event)
        elif self.conn.close_rcvd is not None:
            self._part(self.conn.close_rcvd.code, self.conn.close_rcvd.reason)

    def handle_parser_exception(self) -> None:
        assert self.conn.close_sent is not None
        self._part(self.conn.close_sent.code, self.conn.close_sent.reason)

    def keepalive_timeout(self) -> None:
        self.pong_timer = None
        self._refuse(CloseCode.INTERNAL, "keepalive ping timeout")

    def shutdown(self) -> None:
        if self.handshake_complete:
            self._refuse(CloseCode.DRAINING, "")
        else:
            super().shutdown()

    def _refuse(self, code: int, reason: str) -> None:
        """Closes; if that is done already, stops waiting for the client's answer."""
        if self.close_sent:
            self._linger()
        elif not self.transport.is_closing():
            self.conn.fail(code, reason)
            self._part(code, reason)

    def _part(self, code: int, reason: str) -> None:
        """Ends the connection behind the last frame, which websockets has written: neither side has more to say."""
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = self.disconnected = True
        self._linger()

    def _linger(self) -> None:
        """Ends the sending side, and throws away what still comes, until the client hangs up or is cut."""
        if self._is_lingering or self.transport.is_closing():
            return
        self._is_lingering = True
        self._unparsed = memoryview(b"")
        self.stop_keepalive()
        if self.close_timer is not None:
            self.close_timer.cancel()
        self.close_timer = self.loop.call_later(LINGER_S, self.transport.abort)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_stall()
        super().connection_lost(exc)
        self.conn.parser.close()  # it holds what holds it, as an error's frames do: they would wait for the collector
        self.conn.parser_exc = self.conn.handshake_exc = None
