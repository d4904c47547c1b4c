"""The routes of a chat's members: who they are, and who of them is typing.

A member stands in the path. A path takes no slash and no dots alone, not even encoded, because proxies resolve them; so
any name can stand in the query instead.
"""

import msgspec
from litestar import delete, post, put
from msgspec import ValidationError

from gateway.access.grants import Sub
from gateway.chat.lane import ChatLane
from gateway.chat.members import ChatMembers, RoleRequest
from gateway.chat.topics import check_id
from gateway.errors import BadRequest
from routes.operation import Input, described
from routes.requests import AnyRequest, body_of, caller, decode

UNREADABLE, UNREADABLE_SENT = "\ufffd", b"%ef%bf%bd"
"""What the framework puts for bytes that are no UTF-8, and how a client writes it that means it."""
SUB = Input("sub", "The user's name, of whatever characters", is_required=True)


@put(
    "/api/chat/{chat_id:str}/members/{sub:str}",
    status_code=200,
    summary="Make somebody a member of a chat, or give them another role",
    opt=described(
        body=RoleRequest,
        examples={"editor": {"role": "editor"}},
        answer=ChatMembers,
        errors=(404, 409),
    ),
)
async def put_member(request: AnyRequest, chat_id: str, sub: str, chat: ChatLane) -> ChatMembers:
    return await _put(request, chat_id, sub, chat)


@put(
    "/api/chat/{chat_id:str}/members",
    status_code=200,
    summary="Make a user of any name a member of a chat, or give them another role",
    opt=described(
        body=RoleRequest,
        examples={"editor": {"role": "editor"}},
        answer=ChatMembers,
        inputs=(SUB,),
        errors=(404, 409),
    ),
)
async def put_member_of_any_name(request: AnyRequest, chat_id: str, chat: ChatLane) -> ChatMembers:
    return await _put(request, chat_id, _queried(request), chat)


async def _put(request: AnyRequest, chat_id: str, sub: str, chat: ChatLane) -> ChatMembers:
    who = caller(request)
    role = decode(await body_of(request, chat.bodies), RoleRequest).role
    return await chat.members.put(who, check_id("chat id", chat_id), _checked(request, sub), role)


@delete(
    "/api/chat/{chat_id:str}/members/{sub:str}",
    summary="Take a member out of a chat; everybody may leave by themselves",
    opt=described(errors=(404, 409)),
)
async def remove_member(request: AnyRequest, chat_id: str, sub: str, chat: ChatLane) -> None:
    await _remove(request, chat_id, sub, chat)


@delete(
    "/api/chat/{chat_id:str}/members",
    summary="Take a member of any name out of a chat; everybody may leave by themselves",
    opt=described(inputs=(SUB,), errors=(404, 409)),
)
async def remove_member_of_any_name(request: AnyRequest, chat_id: str, chat: ChatLane) -> None:
    await _remove(request, chat_id, _queried(request), chat)


async def _remove(request: AnyRequest, chat_id: str, sub: str, chat: ChatLane) -> None:
    who = caller(request)
    await chat.members.remove(who, check_id("chat id", chat_id), _checked(request, sub))


@post(
    "/api/chat/{chat_id:str}/typing",
    status_code=204,
    summary="Tell the members of a chat, on its presence topic, that the caller is typing",
    opt=described(errors=(404,)),
)
async def typing(request: AnyRequest, chat_id: str, chat: ChatLane) -> None:
    who = caller(request)
    await chat.members.note_typing(who, check_id("chat id", chat_id))


def _queried(request: AnyRequest) -> str:
    names = request.query_params.getall("sub", [])
    if len(names) != 1:
        raise BadRequest(f"{len(names)} members in ?sub=: want the name of one user", code="bad_sub")
    return names[0]


def _checked(request: AnyRequest, sub: str) -> str:
    sent: bytes = request.scope["raw_path"] + request.scope["query_string"]
    if UNREADABLE in sub and UNREADABLE_SENT not in sent.lower():
        raise BadRequest(f"the member {sub[:40]!r} is not a user's name: its bytes are no UTF-8", code="bad_sub")
    try:
        return msgspec.convert(sub, Sub)
    except ValidationError as err:
        raise BadRequest(f"the member {sub[:40]!r} is not a user's name: {err}", code="bad_sub") from err


ROUTES = [put_member, put_member_of_any_name, remove_member, remove_member_of_any_name, typing]
