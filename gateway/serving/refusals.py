"""Takes note of what this process refuses: counts it by its reason, and logs each refused sign-in.

Whoever answers a request or a socket with an error calls `note_refusal`, once, wherever that is: the framework's
handlers, a stream that has not begun, a socket that is open. The scope says whom to tell.
"""

import time
from collections.abc import Callable, MutableMapping
from typing import Any

import structlog

from gateway.errors import TABLE, TrilaneError, Unauthorized, UpstreamError, problem

REFUSALS = "trilane.refusals"
"""Key of the scope under which a request finds the `Refusals` of its process."""
WINDOW_S = 10.0
"""Seconds for which MAX_LINES are counted."""
MAX_LINES = 50
"""Maximum lines about refused sign-ins in a window; how many more there were is said in the next."""
SIGN_IN_CODES = ("bad_origin", "bad_host")
"""Codes of refusals that are no Unauthorized, but show that a page of another site tried."""
UNSAID = "-"

log = structlog.get_logger("access")


class Refusals:
    """The refusals of one process. `clock` gives seconds."""

    def __init__(self, count: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        """`count` is called with the reason of each refusal, one of the codes in our sources."""
        self._count = count
        self._clock = clock
        self._window_ends_at = 0.0
        self._lines = self._unlogged = 0

    def note(self, error: TrilaneError, scope: MutableMapping[str, Any] | None = None) -> None:
        """Takes note of an error that is the answer to a request; `scope` is that of ASGI, if there is one."""
        self._count(reason_of(error))
        if scope is not None and (isinstance(error, Unauthorized) or error.code in SIGN_IN_CODES):
            self._log_sign_in(error, scope)

    def _log_sign_in(self, error: TrilaneError, scope: MutableMapping[str, Any]) -> None:
        now = self._clock()
        if now >= self._window_ends_at:
            self._window_ends_at, self._lines = now + WINDOW_S, 0
            unlogged, self._unlogged = self._unlogged, 0
            if unlogged:
                log.warning("more sign-ins were refused than are logged one by one", count=unlogged)
        if self._lines >= MAX_LINES:
            self._unlogged += 1
            return
        self._lines += 1
        client: tuple[str, int] | None = scope.get("client")
        log.warning(
            "a sign-in was refused",
            code=error.code,
            address=client[0] if client else UNSAID,
            method=scope.get("method", "WEBSOCKET"),
            path=scope["path"][:200],
            request_id=scope.get("request_id", UNSAID),
        )


def reason_of(error: TrilaneError) -> str:
    """Returns the reason under which an error is counted; what an upstream calls it could be anything."""
    return TABLE[type(error)].code if isinstance(error, UpstreamError) else error.code


def note_refusal(error: TrilaneError, scope: MutableMapping[str, Any]) -> None:
    """Tells the process that serves `scope` of an error that is its answer."""
    refusals: Refusals | None = scope.get(REFUSALS)
    if refusals is not None:
        refusals.note(error, scope)


async def send_problem(error: TrilaneError, scope: Any, send: Any) -> None:
    """Answers with the problem document of `error`."""
    note_refusal(error, scope)
    status, body, headers = problem(error, scope.get("request_id", ""), scope["path"])
    fields = [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
    fields += [(b"content-type", b"application/problem+json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})
