"""The routes at which workers elsewhere run agents: a claim, what they post, and what they are told.

`deploy/clients/agent/README.md` describes the protocol. A worker is no user: it needs the grant `worker` with the
agent's name, and the lease that its claim was given.
"""

from typing import Any

from litestar import get, post
from litestar.types import ASGIApp

from gateway.chat.lane import ChatLane
from gateway.chat.workers.protocol import WorkClaim, WorkJob, WorkPost, WorkTaken
from gateway.chat.workers.session import agent_of, numbered
from gateway.errors import BadRequest, NotFound, TrilaneError
from gateway.serving.refusals import send_problem
from gateway.serving.whole import send_json, while_connected
from routes.operation import Input, Schema, described
from routes.requests import AnyRequest, body_of, decode
from routes.streams import nothing

CLAIM_S = 30.0
COMMANDS_S = 25.0
COMMANDS: Schema = {
    "title": "WorkCommands",
    "type": "object",
    "required": ["commands"],
    "properties": {"commands": {"type": "array", "items": {"type": "object", "required": ["n", "type"]}}},
}


@post(
    "/api/agents/{name:str}/claim",
    status_code=200,
    summary="Claim a run of an agent; waits for one",
    opt=described(
        body=WorkClaim,
        is_body_required=False,
        examples={"any": {}},
        answer=WorkJob,
        statuses={204: "There was none within 30 s"},
        errors=(404,),
    ),
)
async def claim(request: AnyRequest, name: str, chat: ChatLane) -> ASGIApp:
    request.user.require_worker(name)
    decode(await body_of(request, chat.bodies), WorkClaim)
    if not chat.agents.has_worker_of(name):
        raise NotFound(f"no upstream of the kind `worker` has the name {name[:64]!r}", code="agent_not_found")

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        async def work() -> None:
            session = await chat.agents.desk.claim(name, CLAIM_S)
            if session is None:
                await nothing()(scope, receive, send)
                return
            try:
                await send_json(session.encoded_job, send)
            except BaseException:
                session.close()
                raise

        await _answered(scope, receive, send, work)

    return answer


@post(
    "/api/runs/{run_id:str}/chunks",
    status_code=200,
    summary="Post what an agent does; 409: stop, the run is not yours any more",
    opt=described(
        body=WorkPost,
        examples={"text": {"lease": "5f0c", "expect": 1, "chunks": [{"type": "text-delta", "id": "t", "delta": "Hi"}]}},
        answer=WorkTaken,
        errors=(409,),
    ),
)
async def chunks(request: AnyRequest, run_id: str, chat: ChatLane) -> WorkTaken:
    request.user.require_worker()
    told = decode(await body_of(request, chat.bodies), WorkPost)
    request.user.require_worker(agent_of(told.lease))
    session = chat.agents.claimed(run_id, told.lease)
    return WorkTaken(await session.post(told.expect, told.chunks))


@get(
    "/api/runs/{run_id:str}/commands",
    summary="What a worker is told; waits for it",
    opt=described(
        answer=COMMANDS,
        inputs=(Input("lease", "The claim's lease"), Input("after", "Number of the last command that was read")),
        errors=(409,),
    ),
)
async def commands(request: AnyRequest, run_id: str, chat: ChatLane) -> ASGIApp:
    request.user.require_worker()
    after = request.query_params.get("after", "0")
    if not (after.isascii() and after.isdecimal() and len(after) <= 15):
        raise BadRequest(f"after={after[:16]!r}: want the number of a command", code="bad_after")
    lease = request.query_params.get("lease", "")
    request.user.require_worker(agent_of(lease))
    session = chat.agents.claimed(run_id, lease)

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        async def work() -> None:
            waiting = await session.commands(int(after), COMMANDS_S)
            await send_json(b'{"commands":[%b]}' % b",".join(numbered(*one) for one in waiting), send)

        await _answered(scope, receive, send, work)

    return answer


async def _answered(scope: Any, receive: Any, send: Any, work: Any) -> None:
    """Does what an answer waits for, as long as its client is there."""
    try:
        await while_connected(receive, work())
    except TrilaneError as err:
        await send_problem(err, scope, send)


ROUTES = [claim, chunks, commands]
