"""The errors of the gateway, and the one table of what a client sees of each.

Owns the tree below and its translation into problem documents (RFC 9457), chunks and WebSocket closes.
Refuses to carry secrets: a message holds the offending value's name, the limit and what to do, never a token.

TrilaneError
├── BadRequest · Unauthorized · Forbidden · NotFound · Gone · TooLarge
├── Overloaded                  the gateway is full
│   └── RateLimited             the caller, or all callers together, have used up a limit
├── ConfigurationError          a setting cannot be used; only raised at start
├── LogError                    the log could not do what was asked
│   ├── LogConflict             `expect` did not hold, or the topic is closed
│   ├── WrongOwner              the topic belongs to someone else
│   ├── LogDamaged              some of its events cannot be read, now or later
│   └── LogUnavailable          disk full, file gone, engine stopped
├── UpstreamError               the model's side failed
│   ├── UpstreamRefused         it answered with a status of 400 or more, or with no stream
│   ├── UpstreamTimeout         no headers, no first token, or no further token in time
│   ├── UpstreamCut             the stream ended without saying that it was complete
│   └── UpstreamUnreachable     no connection
└── ToolError                   a tool's server failed; of a call that failed nobody knows whether it was made
    ├── ToolTimeout             it did not answer in time; nor of such a call
    └── ToolUnreachable         no connection, so that the call was certainly not made
"""

import re
from collections.abc import Mapping
from enum import IntEnum
from typing import NamedTuple

import msgspec


class CloseCode(IntEnum):
    """Every code with which this gateway closes a WebSocket. Its range tells a client whether to come back.

    1000 ends a connection that both sides are done with. Of the protocol's own codes (RFC 6455), 1011 to 1013 say that
    the same may work later, 1008 and 1009 that it will not. After 4000 to 4499 a client reconnects, after 4500 to 4999
    it does not.
    """

    DONE = 1000
    CONNECTION_LOST = 1006
    """The connection was lost. Never sent, because nobody is left to send it to."""
    NOT_ALLOWED = 1008
    TOO_LARGE = 1009
    INTERNAL = 1011
    DRAINING = 1012
    TRY_LATER = 1013
    TOKEN_EXPIRED = 4001
    IDLE = 4002
    """Nobody has spoken for long, so the place goes to others. The client resumes the session."""
    BAD_REQUEST = 4500
    BAD_AUDIO = 4501
    UNKNOWN_SESSION = 4502
    TAKEN_OVER = 4503
    TOO_MUCH = 4504
    """The client sent more audio or messages than real time and its allowance permit."""


class TrilaneError(Exception):
    """Something went wrong inside the gateway."""

    def __init__(
        self,
        detail: str = "",
        *,
        code: str | None = None,
        status: int | None = None,
        retryable: bool | None = None,
        retry_after: str | None = None,
        extra: dict[str, str | int | None] | None = None,
        reported: Mapping[str, object] | None = None,
    ) -> None:
        """Takes what is more exact than the class's row; `reported` is an upstream's own error object."""
        self.detail = detail or (type(self).__doc__ or "").strip()
        super().__init__(self.detail)
        row = TABLE[type(self)]
        self.code = code or row.code
        self.status = status or row.status
        self.retryable = row.retryable if retryable is None else retryable
        self.retry_after = retry_after
        self.extra = extra or {}
        self.reported = reported or {}
        self.headers: Mapping[str, str] = {}
        """Further headers of an answer that tells it."""


class BadRequest(TrilaneError):
    """The request is not one that this route takes."""


class Unauthorized(TrilaneError):
    """Send `Authorization: Bearer` with an API key or a token."""


class Forbidden(TrilaneError):
    """You may not do this."""


class NotFound(TrilaneError):
    """There is nothing here under that name."""


class Gone(TrilaneError):
    """This history is no longer kept."""


class TooLarge(TrilaneError):
    """The request is larger than the limit."""


class Overloaded(TrilaneError):
    """The gateway is full; come back later."""


class RateLimited(Overloaded):
    """A limit has no room for this now."""


class ConfigurationError(TrilaneError):
    """The configuration cannot be used."""


class LogError(TrilaneError):
    """The log could not do what was asked."""


class LogConflict(LogError):
    """Another writer was first: the topic's next offset is not the expected one, or it is closed."""

    def __init__(self, topic: str, expected: int | None, actual: int, *, closed: bool = False) -> None:
        state = "is closed" if closed else f"has next offset {actual}, not {expected}"
        super().__init__(f"topic {topic!r} {state}", extra={"expected": expected, "actual": actual})
        self.topic = topic
        self.expected = expected
        self.actual = actual
        self.closed = closed


class WrongOwner(LogError):
    """The topic belongs to someone else."""


class LogDamaged(LogError):
    """A part of the log is damaged and cannot be read."""


class LogUnavailable(LogError):
    """The log cannot be written or read right now."""

    is_passing = False
    """Whether it is expected back by itself, so that what is open stays open and waits for it."""


class UpstreamError(TrilaneError):
    """The model's side failed."""


class UpstreamRefused(UpstreamError):
    """The upstream refused the request."""

    is_final = False
    """Whether the request itself is at fault, so that no other upstream would take it."""
    is_of_account = False
    """Whether the gateway's own account there is at fault, whatever the status."""


class UpstreamTimeout(UpstreamError):
    """The upstream did not answer in time."""


class UpstreamCut(UpstreamError):
    """The upstream's stream ended before it was complete."""


class UpstreamUnreachable(UpstreamError):
    """The upstream cannot be reached."""


class ToolError(TrilaneError):
    """The tool failed, and may have done what it was asked or not."""


class ToolTimeout(ToolError):
    """The tool did not answer in time, and may have done what it was asked or not."""


class ToolUnreachable(ToolError):
    """The tool cannot be reached."""


class SignInRequired(ToolUnreachable):
    """The tool is not called for a user who has not signed in to its server, or no longer is."""


class ErrorRow(NamedTuple):
    """One class of error as a client sees it."""

    status: int
    code: str
    title: str
    retryable: bool
    ws_close: CloseCode


TABLE: dict[type[TrilaneError], ErrorRow] = {
    TrilaneError: ErrorRow(500, "internal", "Something went wrong here", True, CloseCode.INTERNAL),
    BadRequest: ErrorRow(400, "bad_request", "The request is not valid", False, CloseCode.BAD_REQUEST),
    Unauthorized: ErrorRow(401, "unauthorized", "Not signed in", False, CloseCode.NOT_ALLOWED),
    Forbidden: ErrorRow(403, "forbidden", "Not allowed", False, CloseCode.NOT_ALLOWED),
    NotFound: ErrorRow(404, "not_found", "Not found", False, CloseCode.UNKNOWN_SESSION),
    Gone: ErrorRow(410, "gone", "This history is no longer kept", False, CloseCode.UNKNOWN_SESSION),
    TooLarge: ErrorRow(413, "too_large", "Too large", False, CloseCode.TOO_LARGE),
    Overloaded: ErrorRow(503, "overloaded", "The gateway is full", True, CloseCode.TRY_LATER),
    RateLimited: ErrorRow(429, "rate_limited", "Too many requests", True, CloseCode.TRY_LATER),
    ConfigurationError: ErrorRow(500, "configuration", "The configuration cannot be used", False, CloseCode.INTERNAL),
    LogError: ErrorRow(500, "log_failed", "The log failed", True, CloseCode.INTERNAL),
    LogConflict: ErrorRow(409, "conflict", "Another writer was first", True, CloseCode.TAKEN_OVER),
    WrongOwner: ErrorRow(403, "forbidden", "Not allowed", False, CloseCode.NOT_ALLOWED),
    LogDamaged: ErrorRow(500, "log_damaged", "A part of the log is damaged", False, CloseCode.INTERNAL),
    LogUnavailable: ErrorRow(503, "log_unavailable", "The log cannot be reached", True, CloseCode.TRY_LATER),
    UpstreamError: ErrorRow(502, "upstream_failed", "The model's side failed", True, CloseCode.INTERNAL),
    UpstreamRefused: ErrorRow(502, "upstream_refused", "The upstream refused the request", False, CloseCode.INTERNAL),
    UpstreamTimeout: ErrorRow(504, "upstream_timeout", "The upstream did not answer in time", True, CloseCode.INTERNAL),
    UpstreamCut: ErrorRow(502, "upstream_cut", "The upstream's answer was cut", True, CloseCode.INTERNAL),
    UpstreamUnreachable: ErrorRow(
        502, "upstream_unreachable", "The upstream cannot be reached", True, CloseCode.INTERNAL
    ),
    ToolError: ErrorRow(502, "tool_failed", "The tool failed", False, CloseCode.INTERNAL),
    ToolTimeout: ErrorRow(504, "tool_timeout", "The tool did not answer in time", False, CloseCode.INTERNAL),
    ToolUnreachable: ErrorRow(502, "tool_unreachable", "The tool cannot be reached", True, CloseCode.INTERNAL),
    SignInRequired: ErrorRow(502, "sign_in_required", "The tool's server wants a sign-in", False, CloseCode.INTERNAL),
}

CLOSE_OF_CODE = {
    "bad_audio": CloseCode.BAD_AUDIO,
    "too_much_audio": CloseCode.TOO_MUCH,
    "too_many_messages": CloseCode.TOO_MUCH,
}
"""Close codes of errors that a socket tells apart by their `code`, not only by their class."""


def close_code(error: TrilaneError) -> CloseCode:
    """Returns the code with which `error` closes a WebSocket."""
    return CLOSE_OF_CODE.get(error.code, TABLE[type(error)].ws_close)


ABOUT_BLANK = "about:blank"
"""The `type` of a problem that has none of its own (RFC 9457 §4.2.1)."""
PROBLEM_TYPE_OF_UPSTREAM = re.compile(r"[A-Za-z][\w.-]{0,63}", re.ASCII)
MESSAGES = "/v1/messages"
"""Beginning of the routes whose errors have Anthropic's form."""
ANTHROPIC_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
OPENAI_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def problem(error: TrilaneError, request_id: str, path: str = "") -> tuple[int, bytes, dict[str, str]]:
    """Returns the status, body and headers of `error` as `application/problem+json` (RFC 9457).

    An error that an upstream told has that one's `type` and `param`. On a `path` under `/v1` the document has OpenAI's
    `error` object too, or Anthropic's. The member `message` and the header `x-should-retry` are for their SDKs, which
    show the one, and repeat every 5xx, 409 and 429 unless the other says no.
    """
    kind, param = error.reported.get("type"), error.reported.get("param")
    document: dict[str, object] = {
        "type": kind if isinstance(kind, str) and PROBLEM_TYPE_OF_UPSTREAM.fullmatch(kind) else ABOUT_BLANK,
        "title": TABLE[type(error)].title,
        "status": error.status,
        "detail": error.detail,
        "message": error.detail,
        "code": error.code,
        "retryable": error.retryable,
        "request_id": request_id,
        **({"param": param} if isinstance(param, str) else {}),
        **error.extra,
    }
    if is_anthropic(path):
        document |= {"type": "error", "error": anthropic_error(error.detail, error.status, error.code)}
    elif f"/{path.lstrip('/')}/".startswith("/v1/"):
        document["error"] = {"message": error.detail, **openai_error_fields(error)}
    headers = {**error.headers, "x-should-retry": "true" if error.retryable else "false"}
    if error.retry_after is not None:
        headers["retry-after"] = error.retry_after
    elif error.status in (429, 503):
        headers["retry-after"] = "2"
    if error.status == 401:
        headers["www-authenticate"] = "Bearer"
    return error.status, msgspec.json.encode(document), headers


def is_anthropic(path: str) -> bool:
    """Returns whether a route speaks Anthropic's format."""
    return f"/{path.lstrip('/')}/".startswith(f"{MESSAGES}/")


def anthropic_error(message: str, status: int, code: str) -> dict[str, object]:
    """Returns Anthropic's `error` object; `code` is ours."""
    kind = ANTHROPIC_TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
    if code == "context_length_exceeded":  # the words at which clients make a conversation shorter
        message = f"prompt is too long: {message}"
    return {"type": kind, "message": message, "code": code}


def openai_error_fields(error: TrilaneError) -> dict[str, object]:
    """Returns what OpenAI's `error` object has beside its `message`: as the upstream said it, where one did."""
    kind = OPENAI_TYPES.get(error.status, "server_error" if error.status >= 500 else "invalid_request_error")
    return {"type": kind, "param": error.extra.get("param"), "code": error.code, **error.reported}
