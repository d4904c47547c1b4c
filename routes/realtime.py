"""The routes of OpenAI's Realtime API, as far as it transcribes."""

from typing import Any

from litestar import WebSocket, post, websocket

from audio.dialects.conversation import ClientSocket
from audio.dialects.realtime.server import ClientSecret, SecretRequest, issue_secret, serve
from audio.lane import AudioLane
from gateway.access.grants import Principal
from gateway.access.signin import REALTIME
from gateway.core.process import Core
from routes.requests import AnyRequest, body_of, decode


@websocket("/v1/realtime")
async def realtime(socket: WebSocket[Principal, Any, Any], audio: AudioLane) -> None:
    client = ClientSocket(socket.scope, socket.receive, socket.send)
    await serve(audio, client, socket.user, socket.query_params)


@post(f"{REALTIME}/client_secrets", status_code=200, summary="A key for one Realtime connection of a browser")
async def client_secret(request: AnyRequest, core: Core) -> ClientSecret:
    """Issues a key that, unlike OpenAI's, is good for one connection and at most four minutes."""
    request.user.require_audio()
    body = decode(await body_of(request, core.bodies), SecretRequest)
    return await issue_secret(core.tickets, request.user, body)


ROUTES = [realtime, client_secret]
