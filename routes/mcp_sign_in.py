"""The routes by which a user's browser goes to the authorization server of a server of tools, and comes back.

Both are asked for by a browser that is signed in here: with the cookie of `POST /api/session`, where sign-in is
required. The user who comes back is the one who went, so nobody's tokens come to be another's.
"""

from litestar import Response, get

from gateway.chat.lane import ChatLane
from gateway.chat.tools.sign_ins import SignInAnswer
from routes.operation import TEXT, Input, described
from routes.requests import AnyRequest, caller

DONE = "You are signed in to {name}. This page can be closed.\n"
NO_STORE = {"cache-control": "no-store", "referrer-policy": "no-referrer"}


@get(
    "/api/mcp/{name:str}/sign-in",
    summary="Send a browser to where its user signs in to a server of tools",
    opt=described(
        answer=TEXT,
        answer_media_type="text/plain",
        inputs=(Input("chat", "The chat that waits for it: it goes on once the user is signed in"),),
        statuses={302: "To the authorization server"},
        errors=(400, 403, 404, 502),
    ),
)
async def sign_in(request: AnyRequest, name: str, chat: ChatLane) -> Response[str]:
    address = await chat.tool_sign_in.begin(caller(request), name, request.query_params.get("chat") or "")
    if not address:
        return _text(DONE.format(name=name))
    return Response("", status_code=302, media_type="text/plain", headers={**NO_STORE, "location": address})


@get(
    "/api/mcp/{name:str}/callback",
    summary="Take a browser back from where its user has signed in to a server of tools",
    opt=described(
        answer=TEXT,
        answer_media_type="text/plain",
        inputs=(
            Input("state", "What the sign-in was begun with", is_required=True),
            Input("code", "The authorization server's code"),
            Input("iss", "The authorization server"),
            Input("error", "Why it signs nobody in"),
        ),
        errors=(400, 403, 404, 410, 502),
    ),
)
async def callback(request: AnyRequest, name: str, chat: ChatLane) -> Response[str]:
    query = request.query_params
    answer = SignInAnswer(
        state=query.get("state") or "",
        code=query.get("code") or "",
        issuer=query.get("iss"),
        error=query.get("error") or "",
    )
    await chat.tool_sign_in.finish(caller(request), name, answer)
    return _text(DONE.format(name=name))


def _text(text: str) -> Response[str]:
    return Response(text, media_type="text/plain", headers=NO_STORE)


ROUTES = [sign_in, callback]
