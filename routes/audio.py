"""The route of the audio lane's own dialect: one WebSocket, audio in, messages out."""

from typing import Any

from litestar import WebSocket, websocket

from audio.dialects.conversation import ClientSocket
from audio.dialects.trilane import serve
from audio.lane import AudioLane
from gateway.access.grants import Principal


@websocket("/api/audio")
async def listen(socket: WebSocket[Principal, Any, Any], audio: AudioLane) -> None:
    client = ClientSocket(socket.scope, socket.receive, socket.send)
    await serve(audio, client, socket.user, socket.query_params)


ROUTES = [listen]
