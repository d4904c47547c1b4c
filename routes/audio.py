"""The audio lane's own dialect: one WebSocket, frames in, messages out."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from litestar import WebSocket, websocket

from audio import messages
from audio.attachment import Attachment, SocketClose
from audio.decoders.formats import Decoder, decoder
from audio.lane import AudioLane
from audio.live_session import LiveSession
from audio.messages import MAX_FRAME_BYTES, SUBPROTOCOL, Failure, Flush, Keepalive, Mark, Start, Stop
from gateway.access.auth import Principal
from gateway.errors import TABLE, BadRequest, TooLarge, TrilaneError
from gateway.serving.websocket import ABORT

START_S = 10.0
"""How long a connection may wait before it says `start`."""
SEND_S = 20.0
"""How long one message may wait for a client that does not read."""
GONE = SocketClose(1006, "")
CLOSES = {"bad_audio": 4501, "too_much_audio": 4504, "too_many_messages": 4504}

Socket = WebSocket[Principal, Any, Any]


@websocket("/api/audio")
async def listen(socket: Socket, audio: AudioLane) -> None:
    """Opens or resumes a session, then hears and speaks until either side has had enough."""
    await socket.accept(subprotocols=SUBPROTOCOL if SUBPROTOCOL in socket.scope["subprotocols"] else None)
    try:
        start = await _start(socket)
        if start is None:
            return
        live, attachment = await audio.open(socket.user, start)
    except TrilaneError as err:
        await refuse(socket, err)
        return
    ears = decoder(start.encoding, start.sample_rate, start.channels, first=live.samples(live.position))
    try:
        await converse(socket, attachment.next, lambda: _hear(socket, live, attachment, ears))
    finally:
        ears.close()
        live.detach(attachment)


async def _start(socket: Socket) -> Start | None:
    """The first message; None when the client left instead. Raises BadRequest."""
    try:
        async with asyncio.timeout(START_S):
            message: Any = await socket.receive()
    except TimeoutError:
        raise BadRequest(f"no `start` within {START_S:g} s", code="bad_start") from None
    if message["type"] == "websocket.disconnect":
        return None
    text: str | None = message.get("text")
    said = _decode(text) if text is not None else None
    if not isinstance(said, Start):
        raise BadRequest("the first message must be `start`, as text", code="bad_start")
    query = socket.query_params
    named = {name: query[name] for name in ("session", "cursor") if name in query and getattr(said, name) is None}
    return msgspec.structs.replace(said, **named)


async def converse(socket: Socket, say: Callable[[], Awaitable[str | SocketClose]], hear: Callable[[], Any]) -> None:
    """Hears and speaks side by side; the connection is over when all is said."""
    async with asyncio.TaskGroup() as group:
        hearing = group.create_task(hear())
        await _speak(socket, say)
        hearing.cancel()


async def _speak(socket: Socket, say: Callable[[], Awaitable[str | SocketClose]]) -> None:
    while True:
        said = await say()
        if said is GONE:
            return
        try:
            async with asyncio.timeout(SEND_S):
                if isinstance(said, SocketClose):
                    await socket.send({"type": "websocket.close", "code": said.code, "reason": said.reason[:120]})
                    return
                await socket.send({"type": "websocket.send", "text": said, "bytes": None})
        except TimeoutError:
            abort(socket)
            return


def abort(socket: Socket) -> None:
    """Cuts a connection whose client does not read: not even a close would reach it."""
    extensions: Any = socket.scope["extensions"]
    if ABORT in extensions:
        extensions[ABORT]()


async def _hear(socket: Socket, live: LiveSession, attachment: Attachment, ears: Decoder) -> None:
    try:
        while True:
            message: Any = await socket.receive()
            if message["type"] == "websocket.disconnect":
                attachment.end(GONE, at_once=True)
                return
            frame: bytes | None = message.get("bytes")
            if frame is not None:
                if len(frame) > MAX_FRAME_BYTES:
                    raise TooLarge(f"a frame of {len(frame)} bytes: at most {MAX_FRAME_BYTES} are taken")
                samples = await ears.feed(frame)
                live.meter.count(len(samples))
                await live.hear(samples, attachment)
                continue
            live.meter.count_message()
            if live.attachment is not attachment or await _obey(_decode(message["text"]), live, attachment, ears):
                return
    except TrilaneError as err:
        attachment.fail(failure(err), SocketClose(close_code(err), err.detail))


async def _obey(said: messages.ClientMessage, live: LiveSession, attachment: Attachment, ears: Decoder) -> bool:
    """Does what a text message says; True when it was the last."""
    match said:
        case Flush():
            live.flush()
        case Mark():
            live.mark(said.id)
        case Keepalive():
            pass  # that it came is all there is to it
        case Stop():
            while len(rest := await ears.end()):
                await live.hear(rest, attachment)
            live.stop()
            return True
        case Start():
            raise BadRequest("the session is open: `start` comes once, first", code="bad_start")
    return False


def _decode(text: str) -> messages.ClientMessage:
    try:
        return messages.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError) as err:
        raise BadRequest(f"the message is not one of this protocol: {err}", code="bad_message") from err


def failure(err: TrilaneError) -> Failure:
    return Failure(code=err.code, message=err.detail, retryable=err.retryable)


def close_code(err: TrilaneError) -> int:
    return CLOSES.get(err.code, TABLE[type(err)].ws_close)


async def refuse(socket: Socket, err: TrilaneError) -> None:
    """Says why there is no session, and closes."""
    await socket.send({"type": "websocket.send", "text": messages.encode(failure(err), 1), "bytes": None})
    await socket.send({"type": "websocket.close", "code": close_code(err), "reason": err.detail[:120]})


ROUTES = [listen]
