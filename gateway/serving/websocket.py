"""uvicorn's WebSocket protocol, for clients that do not play by the rules.

- uvicorn parses at once whatever one read brought: of pings that is seconds of work, and everyone else waits. Here a
  read is parsed in turns, the event loop has its own between two, and the next begins when the application has taken
  what was in the last. Every frame and byte is charged to the connection's `FrameMeter`, whatever it means.
- It answers every ping into a buffer without a bound. Here a client that does not read is owed the newest pong alone
  (RFC 6455 §5.5.3), and is cut when it has read nothing for a while.
- It closes the connection behind a close frame, and what the client was still sending makes the system reset it: the
  client loses the frame that says why. Here such bytes are read for a moment and thrown away.
- It lets a client go when what it wrote is flushed, which for one that does not read is never. Here every close has a
  deadline, and an application that knows better finds `transport.abort` in the scope's extensions under ABORT.

With a server that does none of this an application works the same, only not as well.
"""

import asyncio
from asyncio import Handle, TimerHandle
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.protocol import State

from gateway.serving.frame_meter import BYTES_PER_S, FRAMES_PER_S, FrameMeter

ABORT = "trilane.abort"
MAX_PIECE_BYTES = 4096
"""Parsed in one step, where frames are large;"""
MIN_PIECE_BYTES = 256
"""and where they are small, which is some forty frames and less than a millisecond of work."""
TURN_FRAMES = 32
"""Frames after which others have their turn."""
TURN_MESSAGES = 16
"""Messages that the application is given before others have theirs."""
MAX_FRAGMENTS = 2048
"""Frames of one message, of which the largest has a mebibyte: pieces of 512 bytes are the smallest that are taken."""
TOO_MUCH = 4504
TOO_LARGE = 1009
RESTARTING = 1012
STALL_S = 20.0
"""How long a client may leave the buffer of what it is sent full."""
UNDER_WAY_BYTES = 65_536
"""Bytes after a close among which the client's answer is looked for."""
LINGER_S = 1.0
"""How long a client that goes on after that has to read why, until its connection is cut;"""
LINGER_BYTES = 4_194_304
"""how much of what it sends meanwhile is read and thrown away: the rest of any message. What follows is not read."""
BAD_HANDSHAKE = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class SocketProtocol(WebSocketsSansIOProtocol):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._meter = FrameMeter()
        self._piece_bytes = MIN_PIECE_BYTES
        self._unparsed = memoryview(b"")
        """The rest of one read; reading is paused while there is some."""
        self._turn: Handle | None = None
        """The next turn of parsing it, when it waits for nothing but other connections' turns."""
        self._in_a_row = 0
        """Messages that the application took without waiting for them."""
        self._late_bytes = 0
        """That came after a close."""
        self._is_lingering = False
        self._stalled: TimerHandle | None = None

    # The handshake

    def handle_connect(self, event: Any) -> None:
        super().handle_connect(event)
        if self.handshake_initiated and hasattr(self, "scope"):
            self.scope["extensions"][ABORT] = self.transport.abort  # pyright: ignore - its type knows two extensions
            self._pause()  # no frame is taken before the application has accepted

    def _shake(self, data: bytes) -> None:
        """Takes the head of the request, whole as HTTP has read it, and answers one that websockets refuses."""
        self.conn.receive_data(data)
        if self.conn.handshake_exc is None:
            self.handle_events()
            return
        self.transport.write(b"".join(self.conn.data_to_send()) or BAD_HANDSHAKE)
        self.handshake_complete = self.close_sent = True
        self._linger()

    # What comes in

    def data_received(self, data: bytes) -> None:
        if self.close_sent:
            self._come_late(data)
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
        """Parses for one turn, and reads on when nothing is left."""
        self._turn = None
        frames = 0
        while self._unparsed and self._is_wanted and frames < TURN_FRAMES:
            size = self._piece_bytes
            piece, self._unparsed = self._unparsed[:size], self._unparsed[size:]
            frames += self._feed(bytes(piece))
        if self._is_lingering or not self._is_wanted:
            return
        if self._unparsed:
            self._pause()
            self._turn = self.loop.call_soon(self._go_on)
        elif self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()

    @property
    def _is_wanted(self) -> bool:
        """What is parsed next can be made use of: the application has taken all before it."""
        return (self.close_sent or self.queue.empty()) and not self.transport.is_closing()

    def _pause(self) -> None:
        if not self.read_paused:
            self.read_paused = True
            self.transport.pause_reading()

    def _feed(self, data: bytes) -> int:
        """Parses, charges and handles; the number of frames that ended in `data`."""
        conn = self.conn
        conn.receive_data(data)
        frames = len(conn.events)
        if frames > TURN_FRAMES:
            self._piece_bytes = MIN_PIECE_BYTES
        elif self._piece_bytes < MAX_PIECE_BYTES:
            self._piece_bytes *= 2
        if not self._meter.take(frames, len(data), self.loop.time()):
            conn.events_received()
            self._refuse(TOO_MUCH, f"more than {FRAMES_PER_S} frames or {BYTES_PER_S} bytes a second, for too long")
        elif conn.parser_exc is not None:
            self.handle_parser_exception()
        else:
            self.handle_events()
        return frames

    def handle_cont(self, event: Any) -> None:
        if len(self.frames) < MAX_FRAGMENTS:
            super().handle_cont(event)
        else:
            self._refuse(TOO_LARGE, f"a message of more than {MAX_FRAGMENTS} fragments")

    def handle_ping(self) -> None:
        if self.close_sent:
            self.conn.data_to_send()
        elif self.writable.is_set() or self.conn.state is not State.OPEN:
            super().handle_ping()
        else:
            del self.conn.writes[:-1]

    # What goes out

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled = self.loop.call_later(STALL_S, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._forget_stall()
        if self.conn.writes and not self.close_sent:
            self.transport.write(b"".join(self.conn.data_to_send()))

    def _forget_stall(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

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
        """Reads on, or parses what was read: not at once, or one who takes messages without waiting would have all."""
        if not self._unparsed:
            self.read_paused = False
            self.transport.resume_reading()
        elif self._turn is None:
            self._turn = self.loop.call_soon(self._go_on)

    async def send(self, message: Any) -> None:
        is_accepted, is_closed = self.handshake_complete, self.close_sent
        await super().send(message)
        if self.close_sent and not is_closed:
            self._await_answer()
        elif not is_accepted and self.read_paused and self.queue.empty():
            self._ask_for_more()

    # The end

    def _await_answer(self) -> None:
        """The application has closed, and what comes is looked through for the client's own close."""
        if self.close_timer is not None:
            self.close_timer.cancel()
            self.close_timer = self.loop.call_later(self.close_timeout, self.transport.abort)
        data, self._unparsed = bytes(self._unparsed), memoryview(b"")
        self._come_late(data)

    def _come_late(self, data: bytes) -> None:
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
        self._refuse(1011, "keepalive ping timeout")

    def shutdown(self) -> None:
        if self.handshake_complete:
            self._refuse(RESTARTING, "")
        else:
            super().shutdown()

    def _refuse(self, code: int, reason: str) -> None:
        """Closes, unless that was done: then only the client's answer is not waited for any longer."""
        if self.close_sent:
            self._linger()
        elif not self.transport.is_closing():
            self.conn.fail(code, reason)
            self._part(code, reason)

    def _part(self, code: int, reason: str) -> None:
        """Behind the last frame, which websockets has written: neither side has more to say."""
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = self.disconnected = True
        self._linger()

    def _linger(self) -> None:
        """Says that nothing follows, and throws away what still comes, until the client hangs up or is cut."""
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
