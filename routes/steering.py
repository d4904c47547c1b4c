"""Messages for an answer that is being written, and those that wait: parse, call the domain, answer."""

from litestar import delete, post

from gateway.chat.lane import ChatLane
from gateway.chat.steering import ResumeResult, SteerRequest, SteerResult
from gateway.chat.topics import check_id
from routes.operation import described
from routes.requests import AnyRequest, body_of, caller, decode

STEER_EXAMPLE = {
    "message": {"id": "u7", "role": "user", "parts": [{"type": "text", "text": "In metric units, please."}]},
    "at": "step",
}


@post(
    "/api/chat/{chat_id:str}/steer",
    status_code=202,
    summary="Send a message to the answer that is being written; the same message again is the same steer",
    opt=described(
        body=SteerRequest, examples={"message": STEER_EXAMPLE}, answer=SteerResult, errors=(404, 409, 413, 422)
    ),
)
async def steer(request: AnyRequest, chat_id: str, chat: ChatLane) -> SteerResult:
    who = caller(request)
    body = await body_of(request, chat.bodies)
    return await chat.steering.steer(who, check_id("chat id", chat_id), decode(body, SteerRequest))


@post(
    "/api/chat/{chat_id:str}/queue/resume",
    status_code=200,
    summary="Go on with the messages that wait, after an answer that failed or was stopped",
    opt=described(answer=ResumeResult, errors=(404,)),
)
async def resume(request: AnyRequest, chat_id: str, chat: ChatLane) -> ResumeResult:
    who = caller(request)
    return await chat.steering.resume(who, check_id("chat id", chat_id))


@delete(
    "/api/chat/{chat_id:str}/queue/{message_id:str}",
    summary="Remove a message that waits",
    opt=described(errors=(404, 409)),
)
async def unqueue(request: AnyRequest, chat_id: str, message_id: str, chat: ChatLane) -> None:
    who = caller(request)
    await chat.steering.remove(who, check_id("chat id", chat_id), check_id("message id", message_id))


ROUTES = [steer, resume, unqueue]
