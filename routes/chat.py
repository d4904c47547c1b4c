"""The chat lane's own dialect: parse, call the domain, answer with a stream."""

import msgspec
from litestar import delete, get, post
from litestar.types import ASGIApp
from msgspec import UNSET, Raw, UnsetType

from gateway.chat.approvals import ApprovalAnswer, ApprovalResult
from gateway.chat.chats import AcceptedRun, ChatSnapshot
from gateway.chat.lane import ChatLane
from gateway.chat.listing import ChatPage
from gateway.chat.submission import SendRequest
from gateway.chat.topics import check_id
from routes.operation import CURSOR_INPUTS, IDEMPOTENCY_KEY, Input, described
from routes.requests import (
    AnyRequest,
    body_of,
    caller,
    cursor,
    decode,
    decode_with_fields,
    header,
    read_body,
    ui_version,
)
from routes.streams import accepted, nothing, whole

RUN_ID = Input("X-Run-Id", "The same as `Idempotency-Key`", "header")
UI_INPUT = Input("ui", "The AI SDK version that reads, 5, 6 or 7: asks are told as it knows them")
STREAM_EXAMPLE = """: ok
data: {"type":"start","messageId":"m2"}
id: 5tB1.9f2c.1

data: {"type":"text-delta","id":"t1","delta":"Hello"}
id: 5tB1.9f2c.4

data: {"type":"finish"}
id: 5tB1.9f2c.7

data: [DONE]

"""
SEND_EXAMPLE = {
    "id": "c1",
    "messages": [{"id": "m1", "role": "user", "parts": [{"type": "text", "text": "Hello!"}]}],
    "trigger": "submit-message",
}


class StopRequest(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    active_stream_id: str | None = None
    assistant_message: Raw | UnsetType = UNSET
    """Sent by front ends that follow the AI SDK's guide; what the message holds is in the log already."""


class StopResult(msgspec.Struct, rename="camel"):
    stopped: bool
    run_id: str | None


@post(
    "/api/chat",
    status_code=200,
    summary="Start a run and stream it; the same request again is the same run",
    opt=described(
        body=SendRequest,
        examples={"message": SEND_EXAMPLE, "in the background": {**SEND_EXAMPLE, "background": True}},
        accepted=AcceptedRun,
        stream=STREAM_EXAMPLE,
        inputs=(
            IDEMPOTENCY_KEY,
            Input("X-Run-Id", "The same as `Idempotency-Key`", "header"),
            UI_INPUT,
            *CURSOR_INPUTS,
        ),
        statuses={204: "All that the cursor's run will ever send was read"},
        errors=(404, 409, 410, 422, 502, 504),
    ),
)
async def send(request: AnyRequest, chat: ChatLane) -> ASGIApp:
    who = caller(request)
    with chat.bodies.hold() as body:
        submitted, fields = await decode_with_fields(await read_body(request, body), SendRequest)
        after = cursor(request)
        ui = ui_version(request)
        if after is not None:
            return await chat.follow(who, submitted.id, after, ui) or nothing()
        key = header(request, b"idempotency-key") or header(request, b"x-run-id") or ""
        if key:
            check_id("idempotency key", key)
        if submitted.background:
            return accepted(msgspec.json.encode(await chat.accept(who, submitted, key, fields, body)))
        answer = await chat.send(who, submitted, key, fields, body, ui)
        return whole(answer) if isinstance(answer, bytes) else answer


@get(
    "/api/chat/{chat_id:str}/stream",
    summary="Follow the active run, or continue strictly after a cursor",
    opt=described(
        stream=STREAM_EXAMPLE,
        inputs=(UI_INPUT, *CURSOR_INPUTS),
        statuses={204: "Nothing is active, and no cursor is given"},
        errors=(410,),
    ),
)
async def follow(request: AnyRequest, chat_id: str, chat: ChatLane) -> ASGIApp:
    who = caller(request)
    return await chat.follow(who, chat_id, cursor(request), ui_version(request)) or nothing()


@get("/api/chat/{chat_id:str}", summary="The chat as it stands", opt=described(answer=ChatSnapshot, errors=(404,)))
async def snapshot(request: AnyRequest, chat_id: str, chat: ChatLane) -> ASGIApp:
    return chat.snapshot(caller(request), check_id("chat id", chat_id))


@get(
    "/api/chats",
    summary="The caller's chats, newest first",
    opt=described(inputs=(Input("cursor", "The cursor that the page before has given"),)),
)
async def chats(request: AnyRequest, chat: ChatLane, cursor: str | None = None) -> ChatPage:
    who = caller(request)
    return await chat.chats.page(who, cursor)


@delete("/api/chat/{chat_id:str}", summary="Remove a chat and its runs for good", opt=described(errors=(404,)))
async def remove(request: AnyRequest, chat_id: str, chat: ChatLane) -> None:
    who = caller(request)
    await chat.chats.delete(who, chat_id)
    await chat.schedules.remove_all(who, chat_id)


@delete(
    "/api/chat/{chat_id:str}/messages/{message_id:str}",
    summary="Remove one message for good",
    opt=described(errors=(404, 409)),
)
async def remove_message(request: AnyRequest, chat_id: str, message_id: str, chat: ChatLane) -> None:
    who = caller(request)
    await chat.chats.delete_message(who, chat_id, message_id)


@post(
    "/api/chat/{chat_id:str}/stop",
    status_code=200,
    summary="Stop the active run, from any device",
    opt=described(
        body=StopRequest,
        is_body_required=False,
        examples={"any run": {}, "one run": {"activeStreamId": "r_4fd1"}},
        errors=(404,),
    ),
)
async def stop(request: AnyRequest, chat_id: str, chat: ChatLane) -> StopResult:
    who = caller(request)
    body = await body_of(request, chat.bodies)
    run_id = await chat.chats.stop(who, chat_id, decode(body, StopRequest).active_stream_id)
    return StopResult(run_id is not None, run_id)


@post(
    "/api/chat/{chat_id:str}/approvals/{approval_id:str}",
    status_code=200,
    summary="Answer what a parked answer asks; the first answer counts",
    opt=described(
        body=ApprovalAnswer,
        examples={"yes": {"approved": True}, "no": {"approved": False, "reason": "too expensive"}},
        answer=ApprovalResult,
        errors=(404, 409, 410),
    ),
)
async def approve(request: AnyRequest, chat_id: str, approval_id: str, chat: ChatLane) -> ApprovalResult:
    who = caller(request)
    body = await body_of(request, chat.bodies)
    return await chat.approvals.answer(who, check_id("chat id", chat_id), approval_id, decode(body, ApprovalAnswer))


ROUTES = [send, follow, snapshot, chats, remove, remove_message, stop, approve]
