"""AG-UI, for clients that speak to agents: parse, call the lane, answer with a stream."""

from litestar import post
from litestar.types import ASGIApp

from gateway.chat.dialects.agui_request import RunAgentInput
from gateway.chat.lane import ChatLane
from routes.operation import CURSOR_INPUTS, described
from routes.requests import AnyRequest, caller, cursor, decode, read_body
from routes.streams import nothing, whole

STREAM_EXAMPLE = """: ok
data: {"type":"RUN_STARTED","threadId":"c1","runId":"r1"}
id: 5tB1.9f2c.2

data: {"type":"TEXT_MESSAGE_START","messageId":"msg-5tB1.1","role":"assistant"}

data: {"type":"TEXT_MESSAGE_CONTENT","messageId":"msg-5tB1.1","delta":"Hello"}
id: 5tB1.9f2c.5

data: {"type":"RUN_FINISHED","threadId":"c1","runId":"r1","outcome":{"type":"success"}}
id: 5tB1.9f2c.8

"""
EXAMPLE = {
    "threadId": "c1",
    "runId": "r1",
    "messages": [{"id": "m1", "role": "user", "content": "Hello!"}],
    "tools": [],
    "context": [],
}


@post(
    "/agui",
    status_code=200,
    summary="Start a run of a thread, as AG-UI has it; the same runId again is the same run",
    opt=described(
        body=RunAgentInput,
        examples={"message": EXAMPLE},
        stream=STREAM_EXAMPLE,
        inputs=CURSOR_INPUTS,
        statuses={204: "All that the cursor's run will ever send was read"},
        errors=(404, 409, 410, 422, 502, 504),
    ),
)
async def run(request: AnyRequest, chat: ChatLane) -> ASGIApp:
    who = caller(request)
    with chat.bodies.hold() as body:
        asked = decode(await read_body(request, body), RunAgentInput)
        after = cursor(request)
        if after is not None:
            return await chat.agui.resume(who, asked, after) or nothing()
        answer = await chat.agui.run(who, asked, body)
        return whole(answer) if isinstance(answer, bytes) else answer


ROUTES = [run]
"""Its handler, for the chat unit."""
