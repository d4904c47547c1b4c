"""Tells operators from all others, for what an operator alone may read: figures of every user's traffic.

An operator is a program on this machine that calls the gateway itself, such as Prometheus beside it, or whoever signs
in with the grant `operator`. A connection from a loopback address is no proof of the first: a proxy on this machine
brings callers from everywhere. So a request that a proxy has passed on, trusted or not, is never a local one: it has a
header that only proxies write, a public name as `Host`, or the HTTP/1.0 that nginx speaks unless told otherwise.
"""

from collections.abc import Iterable
from typing import Any

from gateway.access.hosts import is_local, is_loopback
from gateway.access.signin import SignIn
from gateway.errors import Forbidden

PROXY_HEADERS = frozenset(
    {b"forwarded", b"via", b"x-real-ip", b"x-client-ip", b"true-client-ip", b"cf-connecting-ip", b"x-cluster-client-ip"}
)
"""Headers that say who called a proxy, beside those that begin with X_FORWARDED or end with FORWARDED_FOR."""
X_FORWARDED = b"x-forwarded"
FORWARDED_FOR = b"forwarded-for"


async def admit_operator(scope: Any, sign_in: SignIn, *, requires_sign_in: bool) -> None:
    """Raises Unauthorized or Forbidden unless an operator sends this request.

    Without sign-in everybody is the same user, so nobody but a local program is an operator.
    """
    if is_local_call(scope):
        return
    if not requires_sign_in:
        raise Forbidden("this is for callers on this machine that no proxy stands before")
    who = await sign_in(scope)
    if not who.grants.operator:
        raise Forbidden("this is for operators: it takes a token or key with the grant `operator`")


def is_local_call(scope: Any) -> bool:
    """Returns whether a program on this machine sends this request by itself."""
    client = scope.get("client")
    if not client or not is_loopback(client[0]) or scope.get("http_version") == "1.0":
        return False
    headers: Iterable[tuple[bytes, bytes]] = scope["headers"]
    return not any(_is_of_proxy(name) or (name == b"host" and not is_local(value)) for name, value in headers)


def _is_of_proxy(name: bytes) -> bool:
    return name in PROXY_HEADERS or name.startswith(X_FORWARDED) or name.endswith(FORWARDED_FOR)
