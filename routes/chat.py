"""The chat lane's own dialect: parse, call the domain, answer with a stream."""

import random

import msgspec
from litestar import delete, get, post
from litestar.types import ASGIApp, Receive, Scope, Send
from msgspec import UNSET, Raw, UnsetType

from gateway.chat.chats import Attached, ChatPage, ChatSnapshot, SendRequest, check_id
from gateway.chat.dialects.ui_message import DONE, HEADERS
from gateway.chat.lane import ChatLane
from gateway.errors import BadRequest, Overloaded
from gateway.serving.sse import EventStream
from routes.requests import AnyRequest, body_of, caller, cursor, decode, header

OURS = {field.encode_name for field in msgspec.structs.fields(SendRequest)}
MAX_EXTRA = 64


class StopRequest(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    active_stream_id: str | None = None
    assistant_message: Raw | UnsetType = UNSET
    """Sent by front ends that follow the AI SDK's guide; what was said is in the log already."""


class Stopped(msgspec.Struct, rename="camel"):
    stopped: bool
    run_id: str | None


@post("/api/chat", status_code=200, summary="Start a run and stream it; the same request again is the same run")
async def send(request: AnyRequest, chat: ChatLane) -> ASGIApp:
    who = caller(request)
    body = await body_of(request, chat.settings.limits.body_bytes)
    parsed = decode(body, SendRequest)
    after = cursor(request)
    if after is not None:
        attached = await chat.chats.follow(who, parsed.id, after)
        assert attached is not None
        return stream(chat, attached)
    key = header(request, b"idempotency-key") or header(request, b"x-run-id") or ""
    if key:
        check_id("idempotency key", key)
    return stream(chat, await chat.chats.send(who, parsed, key, _extra(body)))


@get("/api/chat/{chat_id:str}/stream", summary="Follow the active run, or continue strictly after a cursor")
async def follow(request: AnyRequest, chat_id: str, chat: ChatLane) -> ASGIApp:
    who = caller(request)
    attached = await chat.chats.follow(who, chat_id, cursor(request))
    return stream(chat, attached) if attached else _nothing


@get("/api/chat/{chat_id:str}", summary="The chat as it stands")
async def snapshot(request: AnyRequest, chat_id: str, chat: ChatLane) -> ChatSnapshot:
    who = caller(request)
    return await chat.chats.snapshot(who, chat_id)


@get("/api/chats", summary="The caller's chats, newest first")
async def chats(request: AnyRequest, chat: ChatLane, cursor: str | None = None) -> ChatPage:
    who = caller(request)
    return await chat.chats.page(who, cursor)


@delete("/api/chat/{chat_id:str}", summary="Remove a chat and its runs for good")
async def remove(request: AnyRequest, chat_id: str, chat: ChatLane) -> None:
    who = caller(request)
    await chat.chats.delete(who, chat_id)


@post("/api/chat/{chat_id:str}/stop", status_code=200, summary="Stop the active run, from any device")
async def stop(request: AnyRequest, chat_id: str, chat: ChatLane) -> Stopped:
    who = caller(request)
    body = await body_of(request, chat.settings.limits.body_bytes)
    run_id = await chat.chats.stop(who, chat_id, decode(body, StopRequest).active_stream_id)
    return Stopped(run_id is not None, run_id)


def stream(chat: ChatLane, attached: Attached) -> EventStream:
    """The response that writes a run to one client."""
    run = attached.run
    try:
        chat.streams.admit()
    except Overloaded:
        attached.reader.close()
        raise
    return EventStream(
        attached.reader,
        ping_s=chat.settings.ping_s,
        open_streams=chat.streams,
        headers=HEADERS,
        verdict=run.verdict if run else None,
        prime_s=chat.settings.prime_s,
        end=DONE,
        farewell=_farewell,
        on_close=chat.runs.attached(run) if run else lambda: None,
    )


def _extra(body: bytes) -> dict[str, Raw]:
    """Top-level fields that are not ours: an AI SDK client adds what its application wants to say."""
    extra = {name: value for name, value in decode(body, dict[str, Raw]).items() if name not in OURS}
    if len(extra) > MAX_EXTRA:
        raise BadRequest(f"{len(extra)} extra fields: at most {MAX_EXTRA} are allowed")
    return extra


def _farewell() -> bytes:
    """A transient data chunk, which AI SDK clients show to nobody, so that `retry:` has an event to stand on."""
    retry_ms = random.randint(1000, 4000)
    return b'retry: %d\ndata: {"type":"data-drain","data":{"retry":%d},"transient":true}\n\n' % (retry_ms, retry_ms)


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


ROUTES = [send, follow, snapshot, chats, remove, stop]
