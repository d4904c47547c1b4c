"""The route of the audio lane's own dialect: one WebSocket, audio in, messages out."""

from typing import Any

from litestar import WebSocket, websocket

from audio.dialects.trilane import ClientMessage, serve
from audio.lane import AudioLane
from audio.messages import ServerMessage
from gateway.access.grants import Principal
from gateway.serving.client_socket import ClientSocket
from routes.operation import Input, described


@websocket(
    "/api/audio",
    opt=described(
        body=ClientMessage,
        answer=ServerMessage,
        inputs=(
            Input("session", "A session to resume, where `start` names none"),
            Input("cursor", "The cursor after which to resume it, where `start` names none"),
        ),
    ),
)
async def listen(socket: WebSocket[Principal, Any, Any], audio: AudioLane) -> None:
    """Transcribes speech live, in the messages of `trilane.audio.v1`; audio goes as binary messages."""
    client = ClientSocket(socket.scope, socket.receive, socket.send)
    await serve(audio, client, socket.user, socket.query_params)


ROUTES = [listen]
