"""The route of the audio lane's own dialect: one WebSocket, audio in, messages out."""

from typing import Any

from litestar import WebSocket, websocket

from audio.dialects.trilane import serve
from gateway.access.grants import Principal
from gateway.serving.client_socket import ClientSocket
from gateway.voice.dialect import AnyServerMessage, ConversationMessage, Conversing
from gateway.voice.lane import VoiceLane
from routes.operation import Input, described


@websocket(
    "/api/audio",
    opt=described(
        body=ConversationMessage,
        answer=AnyServerMessage,
        inputs=(
            Input("session", "A session to resume, where `start` names none"),
            Input("cursor", "The cursor after which to resume it, where `start` names none"),
        ),
    ),
)
async def listen(socket: WebSocket[Principal, Any, Any], voice: VoiceLane) -> None:
    """Transcribes speech live, and answers it where it is a conversation, in the messages of `trilane.audio.v1`.

    Audio goes as binary messages, both ways.
    """
    client = ClientSocket(socket.scope, socket.receive, socket.send)
    await serve(Conversing(voice), client, socket.user, socket.query_params)


ROUTES = [listen]
