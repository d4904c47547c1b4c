"""The routes of a chat's members: who they are, and who of them is typing."""

import msgspec
from litestar import delete, post, put
from msgspec import ValidationError

from gateway.access.grants import Sub
from gateway.chat.lane import ChatLane
from gateway.chat.members import ChatMembers, RoleRequest
from gateway.chat.topics import check_id
from gateway.errors import BadRequest
from routes.operation import described
from routes.requests import AnyRequest, body_of, caller, decode


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
    who = caller(request)
    role = decode(await body_of(request, chat.bodies), RoleRequest).role
    return await chat.members.put(who, check_id("chat id", chat_id), _checked(sub), role)


@delete(
    "/api/chat/{chat_id:str}/members/{sub:str}",
    summary="Take a member out of a chat; everybody may leave by themselves",
    opt=described(errors=(404, 409)),
)
async def remove_member(request: AnyRequest, chat_id: str, sub: str, chat: ChatLane) -> None:
    who = caller(request)
    await chat.members.remove(who, check_id("chat id", chat_id), _checked(sub))


@post(
    "/api/chat/{chat_id:str}/typing",
    status_code=204,
    summary="Tell the members of a chat, on its presence topic, that the caller is typing",
    opt=described(errors=(404,)),
)
async def typing(request: AnyRequest, chat_id: str, chat: ChatLane) -> None:
    who = caller(request)
    await chat.members.note_typing(who, check_id("chat id", chat_id))


def _checked(sub: str) -> str:
    try:
        return msgspec.convert(sub, Sub)
    except ValidationError as err:
        raise BadRequest(f"the member {sub[:40]!r} is not a user's name: {err}", code="bad_sub") from err


ROUTES = [put_member, remove_member, typing]
