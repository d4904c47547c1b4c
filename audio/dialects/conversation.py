"""A WebSocket as a conversation: both sides talk at once, and a client that does not read is cut off.

A dialect owns what is said, and `gateway.serving.client_socket` how it travels; this module owns its two sides, the
failure that ends a connection, and what is freed after.
"""

import asyncio
from math import inf
from typing import Protocol

from audio.attachment import Attachment
from audio.decoders.formats import Decoder
from audio.live_session import LiveSession
from audio.messages import Auth, Failure
from gateway.access.grants import Principal
from gateway.errors import CloseCode, TrilaneError
from gateway.serving.client_socket import LOST, ClientSocket, SocketClose, close_of
from gateway.serving.open_streams import EXPIRY_NOTICE_S

EXPIRED = SocketClose(CloseCode.TOKEN_EXPIRED, "the token has expired: come back to this session with a new one")


class Peer(Protocol):
    """The gateway's side of a conversation, as a dialect implements it for one connection.

    The methods that take a client's message raise TrilaneError to end the connection.
    """

    live: LiveSession
    attachment: Attachment
    decoder: Decoder

    async def next(self) -> str | bytes | SocketClose:
        """Returns the next message for the client, text or binary, or how the connection ends."""
        ...

    async def take_frame(self, frame: bytes) -> None:
        """Takes a binary message."""
        ...

    async def take_text(self, text: str) -> bool:
        """Takes a text message. Returns True when the client sends no more after it."""
        ...

    def leave(self, code: int) -> None:
        """Notes that the client has closed the connection, with a close code."""
        ...


async def converse(socket: ClientSocket, who: Principal, peer: Peer) -> None:
    """Listens and speaks side by side, until all is said, the client has left or its token has expired.

    Then it frees what the peer holds; the session waits for its client to come back.
    """
    timers = _expiry_timers(who.remaining_s(), peer.attachment)
    try:
        async with asyncio.TaskGroup() as group:
            listening = group.create_task(_listen(socket, peer))
            await _speak(socket, peer)
            listening.cancel()
    finally:
        for timer in timers:
            timer.cancel()
        peer.decoder.close()
        peer.live.detach(peer.attachment)


def _expiry_timers(remaining_s: float, attachment: Attachment) -> list[asyncio.TimerHandle]:
    """Has a connection told that its token expires, and ended when it has."""
    if remaining_s == inf:
        return []
    loop, notice_s = asyncio.get_running_loop(), max(0.0, remaining_s - EXPIRY_NOTICE_S)
    return [
        loop.call_later(notice_s, attachment.put, Auth(expires_in=round(remaining_s - notice_s))),
        loop.call_later(remaining_s, attachment.end, EXPIRED),
    ]


async def _speak(socket: ClientSocket, peer: Peer) -> None:
    try:
        while not isinstance(message := await peer.next(), SocketClose):
            await socket.send(message)
        if message is not LOST:
            await socket.close(message)
    except TimeoutError:
        socket.abort()


async def _listen(socket: ClientSocket, peer: Peer) -> None:
    try:
        while (message := await socket.receive())["type"] != "websocket.disconnect":
            frame: bytes | None = message.get("bytes")
            if frame is not None:
                await peer.take_frame(frame)
            elif await peer.take_text(message["text"]):
                return
        peer.attachment.end(LOST, at_once=True)
        peer.leave(message.get("code") or CloseCode.CONNECTION_LOST)
    except TrilaneError as err:
        socket.note(err)
        peer.live.parting = "error"
        peer.attachment.fail(failure_of(err), close_of(err))


def failure_of(error: TrilaneError) -> Failure:
    return Failure(code=error.code, message=error.detail, retryable=error.retryable)
