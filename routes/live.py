"""A chat over one socket: its commands are calls of `routes.chat`, each a class and a line of a table."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, NamedTuple, cast

import msgspec
import structlog
from litestar import WebSocket, websocket
from msgspec import Meta, Raw

from gateway.access.grants import Principal
from gateway.chat.approvals import ApprovalAnswer
from gateway.chat.dialects import live as dialect
from gateway.chat.lane import ChatLane
from gateway.chat.steering import SteerRequest
from gateway.chat.submission import SendRequest, extra_fields
from gateway.chat.topics import check_id
from gateway.core.json_shape import check_shape
from gateway.errors import BadRequest, TrilaneError
from gateway.serving.bodies import HeldBody
from gateway.serving.client_socket import ClientSocket
from routes.chat import StopRequest, StopResult
from routes.operation import Input, described
from routes.requests import cursor, decode_with_fields, ui_version

log = structlog.get_logger("live")

Ref = Annotated[str, Meta(max_length=128)] | int | None
"""The client's own name for a command, which stands in the answer."""


class LiveSend(SendRequest, kw_only=True, rename="camel", tag_field="type", tag="send"):
    """What `POST /api/chat` takes, less what the address says."""

    ref: Ref = None
    id: str = ""


class LiveStop(StopRequest, kw_only=True, rename="camel", tag_field="type", tag="stop", forbid_unknown_fields=True):
    ref: Ref = None


class LiveApprove(
    ApprovalAnswer, kw_only=True, rename="camel", tag_field="type", tag="approve", forbid_unknown_fields=True
):
    ref: Ref = None
    approval_id: str


class LiveSteer(SteerRequest, kw_only=True, rename="camel", tag_field="type", tag="steer", forbid_unknown_fields=True):
    ref: Ref = None


class LiveTyping(
    msgspec.Struct, kw_only=True, rename="camel", tag_field="type", tag="typing", forbid_unknown_fields=True
):
    """Tells the other members of a shared chat, for some seconds; of one that is not shared, nobody."""

    ref: Ref = None


LiveCommand = LiveSend | LiveStop | LiveApprove | LiveSteer | LiveTyping


class NothingMore(msgspec.Struct):
    """The answer to a command that is done, and of which there is nothing to say."""


class LiveCall(NamedTuple):
    """One command, and what it needs to be done."""

    chat: ChatLane
    who: Principal
    chat_id: str
    command: Any
    fields: dict[str, Raw]
    """All fields of the frame, as they came."""
    body: HeldBody


async def send(call: LiveCall) -> msgspec.Struct:
    command: LiveSend = call.command
    if command.id not in ("", call.chat_id):
        raise BadRequest(f"id={command.id[:40]!r}: this socket is on the chat {call.chat_id!r}", code="bad_id")
    request = msgspec.structs.replace(command, id=call.chat_id)
    extra = extra_fields({name: value for name, value in call.fields.items() if name not in ("type", "ref")})
    return await call.chat.live.send(call.who, request, extra, call.body)


async def stop(call: LiveCall) -> msgspec.Struct:
    command: LiveStop = call.command
    run_id = await call.chat.chats.stop(call.who, call.chat_id, command.active_stream_id)
    return StopResult(run_id is not None, run_id)


async def approve(call: LiveCall) -> msgspec.Struct:
    command: LiveApprove = call.command
    return await call.chat.approvals.answer(call.who, call.chat_id, command.approval_id, command)


async def steer(call: LiveCall) -> msgspec.Struct:
    return await call.chat.steering.steer(call.who, call.chat_id, call.command)


async def typing(call: LiveCall) -> msgspec.Struct:
    await call.chat.members.note_typing(call.who, call.chat_id)
    return NothingMore()


COMMANDS: dict[type, Callable[[LiveCall], Awaitable[msgspec.Struct]]] = {
    LiveSend: send,
    LiveStop: stop,
    LiveApprove: approve,
    LiveSteer: steer,
    LiveTyping: typing,
}
"""What each command does, and what it is answered with."""


class Named(msgspec.Struct):
    """A command, as far as its answer needs it."""

    ref: Ref = None


class LiveDesk:
    """Does the commands of one socket."""

    def __init__(self, chat: ChatLane, who: Principal, chat_id: str, request_id: str) -> None:
        self._chat = chat
        self._who = who
        self._chat_id = chat_id
        self._request_id = request_id

    async def obey(self, frame: str) -> str:
        """Returns the answer. The boundary of a command: whatever happens to it, the socket goes on."""
        ref: str | int | None = None
        try:
            raw = frame.encode()
            ref = ref_of(raw)
            with self._chat.bodies.hold() as body:
                body.add(raw)
                await check_shape(raw)
                command, fields = await decode_with_fields(raw, cast("type[LiveCommand]", LiveCommand))
                call = LiveCall(self._chat, self._who, self._chat_id, command, fields, body)
                return dialect.answer(ref, await COMMANDS[type(command)](call))
        except TrilaneError as err:
            return dialect.refusal(ref, err, self._request_id)
        except Exception as err:
            log.error("a command failed", request_id=self._request_id, exc_info=err)
            unexpected = TrilaneError("an unexpected error; its request_id is in the gateway's log")
            return dialect.refusal(ref, unexpected, self._request_id)

    def refuse(self, frame: str, error: TrilaneError) -> str:
        return dialect.refusal(ref_of(frame.encode(errors="replace")), error, self._request_id)


def ref_of(frame: bytes) -> str | int | None:
    """Returns the client's name for a command, if that much of it can be read."""
    try:
        return msgspec.json.decode(frame, type=Named).ref
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


SERVER_MESSAGES = {
    "description": (
        "`{cursor, chunk}` of the event stream, `{event, data}`, `{gap, snapshot}` for what is not told, "
        "`{ref, ok}` or `{ref, problem, retryAfter?}` for each command"
    ),
    "type": "object",
    "properties": {
        "cursor": {"type": "string", "description": "Come back with the last one as `after`"},
        "chunk": {"type": "object", "description": "A chunk of the AI SDK's UI message stream"},
        "event": {"type": "string"},
        "data": {},
        "gap": {"type": "string", "description": "Why a part of the chat is not told"},
        "snapshot": {"type": "string", "description": "The path of the chat as it stands"},
        "ref": {"type": ["string", "integer", "null"]},
        "ok": {"const": True},
        "problem": {"$ref": "#/components/schemas/Problem"},
        "retryAfter": {"type": "integer", "description": "Seconds after which to try again"},
    },
}


@websocket(
    "/api/chat/{chat_id:str}/live",
    opt=described(
        body=LiveCommand,
        answer=SERVER_MESSAGES,
        inputs=(
            Input("after", "The cursor of a chunk, strictly after which to go on"),
            Input("ui", "The AI SDK version that reads, 5, 6 or 7: asks are told as it knows them"),
        ),
    ),
)
async def live(socket: WebSocket[Principal, Any, Any], chat_id: str, chat: ChatLane) -> None:
    """Follows a chat, and takes what is sent to it, over one connection."""
    request_id: str = cast("dict[str, Any]", socket.scope).get("request_id", "")
    client = ClientSocket(socket.scope, socket.receive, socket.send)
    desk = LiveDesk(chat, socket.user, chat_id, request_id)
    try:
        check_id("chat id", chat_id)
        await chat.live.serve(socket.user, client, desk, chat_id, cursor(socket), ui_version(socket))
    except TrilaneError as err:
        await client.accept(dialect.SUBPROTOCOL)
        await client.refuse(dialect.opening_refusal(err, request_id), err)


ROUTES = [live]
