"""Messages that are sent to a chat later: made, shown and removed."""

import msgspec
from litestar import delete, get, post

from gateway.chat.lane import ChatLane
from gateway.chat.records.schedule_record import ScheduleRequest, ScheduleView
from routes.operation import described
from routes.requests import AnyRequest, body_of, caller, decode

MESSAGE = {"id": "digest", "role": "user", "parts": [{"type": "text", "text": "What is new?"}]}


class ScheduleList(msgspec.Struct):
    schedules: list[ScheduleView]


@post(
    "/api/chat/{chat_id:str}/schedules",
    status_code=200,
    summary="Have a message sent later, once or again and again; the same message id is the same schedule",
    opt=described(
        body=ScheduleRequest,
        examples={"every": {"message": MESSAGE, "every": "P1D"}},
        errors=(409,),
    ),
)
async def add_schedule(request: AnyRequest, chat_id: str, chat: ChatLane) -> ScheduleView:
    who = caller(request)
    body = await body_of(request, chat.bodies)
    return await chat.schedules.add(who, chat_id, decode(body, ScheduleRequest))


@get("/api/chat/{chat_id:str}/schedules", summary="The schedules of a chat, the next one first")
async def schedules(request: AnyRequest, chat_id: str, chat: ChatLane) -> ScheduleList:
    return ScheduleList(await chat.schedules.of_chat(caller(request), chat_id))


@delete(
    "/api/chat/{chat_id:str}/schedules/{schedule_id:str}",
    summary="Remove a schedule; what it has started goes on",
    opt=described(errors=(404,)),
)
async def remove_schedule(request: AnyRequest, chat_id: str, schedule_id: str, chat: ChatLane) -> None:
    await chat.schedules.remove(caller(request), chat_id, schedule_id)


ROUTES = [add_schedule, schedules, remove_schedule]
