"""The routes of OpenAI's Realtime API, as far as it transcribes."""

from typing import Any

from litestar import WebSocket, post, websocket

from audio.dialects.realtime.messages import RealtimeEvent
from audio.dialects.realtime.server import ClientSecret, SecretRequest, issue_secret, serve
from audio.lane import AudioLane
from gateway.access.grants import Principal
from gateway.access.signin import REALTIME
from gateway.core.limits import TICKET
from gateway.core.process import Core
from gateway.serving.client_socket import ClientSocket
from routes.operation import Input, described
from routes.requests import AnyRequest, body_of, decode


@websocket(
    "/v1/realtime",
    opt=described(
        body=RealtimeEvent,
        inputs=(
            Input("intent", "`transcription`", schema={"const": "transcription"}, is_required=True),
            Input("model", "The model that transcribes"),
            Input("session", "A session to resume"),
            Input("cursor", "The cursor after which to resume it"),
            Input("extensions", "`1`: send types of events that are not OpenAI's, too"),
        ),
    ),
)
async def realtime(socket: WebSocket[Principal, Any, Any], audio: AudioLane) -> None:
    """Transcribes speech in OpenAI's Realtime events."""
    client = ClientSocket(socket.scope, socket.receive, socket.send)
    await serve(audio, client, socket.user, socket.query_params)


@post(
    f"{REALTIME}/client_secrets",
    status_code=200,
    summary="A key for one Realtime connection of a browser",
    opt=described(
        body=SecretRequest,
        is_body_required=False,
        examples={"a minute": {"expires_after": {"anchor": "created_at", "seconds": 60}}},
    ),
)
async def client_secret(request: AnyRequest, core: Core) -> ClientSecret:
    """Issues a key that, unlike OpenAI's, is good for one connection and at most four minutes."""
    request.user.require_audio()
    body = decode(await body_of(request, core.bodies), SecretRequest)
    await core.limiter.admit(request.user, TICKET)
    return await issue_secret(core.tickets, request.user, body)


ROUTES = [realtime, client_secret]
