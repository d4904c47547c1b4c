"""OpenAI's Realtime API, as far as it transcribes: its WebSocket, and the keys that its browser clients are given."""

import secrets
import time
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from audio.dialects.conversation import converse
from audio.dialects.realtime.client import RealtimeClient, error_event, open_client
from audio.dialects.realtime.events import SESSION
from audio.dialects.realtime.messages import SessionChange, TranscriptionSession, encode
from audio.dialects.realtime.terms import apply_change, decode_notes, encode_notes
from audio.lane import AudioLane
from gateway.access.grants import Principal
from gateway.access.signin import EPHEMERAL, REALTIME
from gateway.access.tickets import MAX_TICKET_S, Tickets
from gateway.errors import BadRequest, TrilaneError
from gateway.serving.client_socket import ClientSocket

SUBPROTOCOL = "realtime"


async def serve(lane: AudioLane, socket: ClientSocket, who: Principal, query: Mapping[str, Any]) -> None:
    """Opens or resumes a session, then talks with its client until either side has had enough."""
    await socket.accept(SUBPROTOCOL)
    try:
        client = await _open(lane, who, query)
    except TrilaneError as err:
        # The SDKs come back on the code of the close, when that may help.
        await socket.refuse(encode(error_event(err), f"event_{secrets.token_hex(4)}"), err)
        return
    await converse(socket, who, client)


async def _open(lane: AudioLane, who: Principal, query: Mapping[str, Any]) -> RealtimeClient:
    intent = query.get("intent")
    if intent != "transcription":
        problem = "`intent` is missing" if intent is None else f"intent={intent[:40]!r}"
        detail = f"{problem}: this route transcribes; connect to /v1/realtime?intent=transcription"
        raise BadRequest(detail, code="intent", extra={"param": "intent"})
    session: str | None = query.get("session")
    return await open_client(
        lane,
        who,
        _fresh_session(who, query.get("model")),
        secrets.token_hex(4),
        session_name=session.removeprefix(SESSION) if session else None,
        cursor=query.get("cursor") or None,
        has_extensions=query.get("extensions") in ("1", "true"),
    )


def _fresh_session(who: Principal, model: str | None) -> TranscriptionSession:
    """Returns the settings of a new session: those that its key was made for, or the defaults."""
    session = decode_notes(who.note) or TranscriptionSession()
    if not model:
        return session
    change = {"audio": {"input": {"transcription": {"model": model}}}}
    return apply_change(session, msgspec.convert(change, SessionChange))


class Expiry(msgspec.Struct, frozen=True):
    anchor: Literal["created_at"] = "created_at"
    seconds: Annotated[int, Meta(ge=10, le=7200)] = MAX_TICKET_S


class SecretRequest(msgspec.Struct, frozen=True):
    expires_after: Expiry = Expiry()
    session: SessionChange = SessionChange()


class ClientSecret(msgspec.Struct, frozen=True):
    value: str
    expires_at: int
    session: TranscriptionSession


async def issue_secret(tickets: Tickets, who: Principal, request: SecretRequest) -> ClientSecret:
    """Returns a key for a browser, good for one connection, and for four minutes at most, unlike OpenAI's.

    The caller must have checked that `who` may use the audio lane.
    """
    session = apply_change(TranscriptionSession(), request.session)
    duration_s = min(request.expires_after.seconds, MAX_TICKET_S)
    ticket = await tickets.issue(who, REALTIME, lasts_s=duration_s, note=encode_notes(session))
    return ClientSecret(f"{EPHEMERAL}{ticket}", int(time.time()) + duration_s, session)
