"""The routes by which a page of a browser signs in and out: its credential becomes a cookie that no script can read.

With it `EventSource`, which can send no header, and every other call are signed in as long as the credential is good.
"""

from litestar import Response, delete, post

from gateway.access.signin import SignIn
from routes.operation import described
from routes.requests import AnyRequest


@post(
    "/api/session",
    status_code=204,
    summary="Keep this page signed in: the bearer token or key becomes a cookie",
    opt=described(errors=(400,)),
)
async def enter(request: AnyRequest, sign_in: SignIn) -> Response[None]:
    cookie = sign_in.session_cookie(request.scope, request.user)
    return _answer(cookie)


@delete("/api/session", summary="Sign this page out: the cookie is removed", opt=described(is_open=True, errors=(403,)))
async def leave(request: AnyRequest, sign_in: SignIn) -> Response[None]:
    return _answer(sign_in.no_cookie(request.scope))


def _answer(cookie: str | None) -> Response[None]:
    headers = {"cache-control": "no-store"} | ({"set-cookie": cookie} if cookie is not None else {})
    return Response(None, status_code=204, headers=headers)


ROUTES = [enter, leave]
