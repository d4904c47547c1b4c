"""OpenAI's Realtime API, as far as it transcribes: its WebSocket, and the keys that its browser clients are given."""

import secrets
import time
from typing import Annotated, Any, Literal

import msgspec
from litestar import WebSocket, post, websocket
from msgspec import Meta

from audio.attachment import SocketClose
from audio.dialects.realtime import messages
from audio.dialects.realtime.client import RealtimeClient, error_event, open_client
from audio.dialects.realtime.events import SESSION
from audio.dialects.realtime.messages import SessionChange, TranscriptionSession
from audio.dialects.realtime.terms import changed, noted, recalled
from audio.lane import AudioLane
from audio.messages import Start
from gateway.access.auth import Principal
from gateway.access.signin import EPHEMERAL, REALTIME
from gateway.access.tickets import MAX_TICKET_S
from gateway.core.process import Core
from gateway.errors import BadRequest, Forbidden, TrilaneError
from routes.audio import GONE, close_code, converse, failure
from routes.requests import AnyRequest, body_of, decode

SUBPROTOCOL = "realtime"
DONE = 1000

Socket = WebSocket[Principal, Any, Any]


@websocket("/v1/realtime")
async def realtime(socket: Socket, audio: AudioLane) -> None:
    """Opens or resumes a session, then hears and speaks until either side has had enough."""
    await socket.accept(subprotocols=SUBPROTOCOL if SUBPROTOCOL in socket.scope["subprotocols"] else None)
    try:
        client = await open_client(audio, socket.user, _start(socket), _asked(socket), secrets.token_hex(4))
    except TrilaneError as err:
        await _refuse(socket, err)
        return
    try:
        await converse(socket, client.next, lambda: _hear(socket, client))
    finally:
        client.close()
        client.live.detach(client.attachment)


def _start(socket: Socket) -> Start:
    query = socket.query_params
    intent = query.get("intent")
    if intent != "transcription":
        asked = "no intent" if intent is None else f"the intent {intent[:80]!r}"
        raise BadRequest(f"this route transcribes: connect with ?intent=transcription, not with {asked}", code="intent")
    session = query.get("session")
    return Start(session=session.removeprefix(SESSION) if session else None, cursor=query.get("cursor") or None)


def _asked(socket: Socket) -> TranscriptionSession:
    """What a new session begins with: what its key was made for, or the defaults."""
    session = recalled(socket.user.note) or TranscriptionSession()
    model = socket.query_params.get("model")
    if not model:
        return session
    change = {"audio": {"input": {"transcription": {"model": model}}}}
    return changed(session, msgspec.convert(change, SessionChange))


async def _hear(socket: Socket, client: RealtimeClient) -> None:
    attachment = client.attachment
    try:
        while True:
            message: Any = await socket.receive()
            if message["type"] == "websocket.disconnect":
                attachment.end(GONE, at_once=True)
                if message.get("code") == DONE:
                    client.live.leave(attachment)
                return
            await client.obey(message.get("text") or "")
    except TrilaneError as err:
        attachment.fail(failure(err), SocketClose(close_code(err), err.detail))


async def _refuse(socket: Socket, err: TrilaneError) -> None:
    """Says why there is no session, and closes: with a code on which the SDKs come back when that may help."""
    text = messages.encode(error_event(err), f"event_{secrets.token_hex(4)}")
    await socket.send({"type": "websocket.send", "text": text, "bytes": None})
    await socket.send({"type": "websocket.close", "code": close_code(err), "reason": err.detail[:120]})


class Expiry(msgspec.Struct, frozen=True):
    anchor: Literal["created_at"] = "created_at"
    seconds: Annotated[int, Meta(ge=10, le=7200)] = MAX_TICKET_S


class SecretRequest(msgspec.Struct, frozen=True):
    expires_after: Expiry = Expiry()
    session: SessionChange = SessionChange()


class Secret(msgspec.Struct, frozen=True):
    value: str
    expires_at: int
    session: TranscriptionSession


@post(f"{REALTIME}/client_secrets", status_code=200, summary="A key for one Realtime connection of a browser")
async def client_secret(request: AnyRequest, core: Core) -> Secret:
    """Unlike OpenAI's it is good for one connection, and for four minutes at most."""
    if not request.user.grants.audio:
        raise Forbidden("this token does not allow the audio lane")
    wanted = decode(await body_of(request, core.settings.limits.body_bytes), SecretRequest)
    session = changed(TranscriptionSession(), wanted.session)
    lasts_s = min(wanted.expires_after.seconds, MAX_TICKET_S)
    ticket = await core.tickets.issue(request.user, REALTIME, lasts_s=lasts_s, note=noted(session))
    return Secret(f"{EPHEMERAL}{ticket}", int(time.time()) + lasts_s, session)


ROUTES = [realtime, client_secret]
