"""The errors of the gateway, and the one table of what a client sees of each.

Owns the tree below and its translation into problem documents (RFC 9457), chunks and WebSocket closes.
Refuses to carry secrets: a message holds the offending value's name, the limit and what to do, never a token.

TrilaneError
├── BadRequest · Unauthorized · Forbidden · NotFound · Gone · TooLarge · Overloaded
├── ConfigurationError          a setting that cannot be used; only ever raised at start
├── LogError                    the log could not do what was asked
│   ├── LogConflict             `expect` did not hold, or the topic is closed
│   ├── WrongOwner              the topic belongs to someone else
│   └── LogUnavailable          disk full, file gone, engine stopped
└── UpstreamError               the model's side failed
    ├── UpstreamRefused         it answered with a status of 400 or more, or with no stream
    ├── UpstreamTimeout         no headers, no first token, or no further token in time
    ├── UpstreamCut             the stream ended without saying that it was complete
    └── UpstreamUnreachable     no connection
"""

from typing import NamedTuple

import msgspec


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
    ) -> None:
        self.detail = detail or (type(self).__doc__ or "").strip()
        super().__init__(self.detail)
        row = TABLE[type(self)]
        self.code = code or row.code
        self.status = status or row.status
        self.retryable = row.retryable if retryable is None else retryable
        self.retry_after = retry_after
        self.extra = extra or {}


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


class LogUnavailable(LogError):
    """The log cannot be written or read right now."""


class UpstreamError(TrilaneError):
    """The model's side failed."""


class UpstreamRefused(UpstreamError):
    """The upstream refused the request."""


class UpstreamTimeout(UpstreamError):
    """The upstream did not answer in time."""


class UpstreamCut(UpstreamError):
    """The upstream's stream ended before it was complete."""


class UpstreamUnreachable(UpstreamError):
    """The upstream cannot be reached."""


class ErrorRow(NamedTuple):
    """What a client sees of one class of error."""

    status: int
    code: str
    title: str
    retryable: bool
    ws_close: int


TABLE: dict[type[TrilaneError], ErrorRow] = {
    TrilaneError: ErrorRow(500, "internal", "Something went wrong here", True, 1011),
    BadRequest: ErrorRow(400, "bad_request", "The request is not valid", False, 4500),
    Unauthorized: ErrorRow(401, "unauthorized", "Not signed in", False, 1008),
    Forbidden: ErrorRow(403, "forbidden", "Not allowed", False, 1008),
    NotFound: ErrorRow(404, "not_found", "Not found", False, 4502),
    Gone: ErrorRow(410, "gone", "This history is no longer kept", False, 4502),
    TooLarge: ErrorRow(413, "too_large", "Too large", False, 1009),
    Overloaded: ErrorRow(503, "overloaded", "The gateway is full", True, 1013),
    ConfigurationError: ErrorRow(500, "configuration", "The configuration cannot be used", False, 1011),
    LogError: ErrorRow(500, "log_failed", "The log failed", True, 1011),
    LogConflict: ErrorRow(409, "conflict", "Another writer was first", True, 4503),
    WrongOwner: ErrorRow(403, "forbidden", "Not allowed", False, 1008),
    LogUnavailable: ErrorRow(503, "log_unavailable", "The log cannot be reached", True, 1013),
    UpstreamError: ErrorRow(502, "upstream_failed", "The model's side failed", True, 1011),
    UpstreamRefused: ErrorRow(502, "upstream_refused", "The upstream refused the request", False, 1011),
    UpstreamTimeout: ErrorRow(504, "upstream_timeout", "The upstream did not answer in time", True, 1011),
    UpstreamCut: ErrorRow(502, "upstream_cut", "The upstream's answer was cut", True, 1011),
    UpstreamUnreachable: ErrorRow(502, "upstream_unreachable", "The upstream cannot be reached", True, 1011),
}


def problem(error: TrilaneError, request_id: str) -> tuple[int, bytes, dict[str, str]]:
    """The status, body and headers of `error` as `application/problem+json` (RFC 9457).

    Two things are for the OpenAI SDKs: they show `message`, and repeat every 5xx unless told that it cannot help.
    """
    document: dict[str, str | int | bool | None] = {
        "type": "about:blank",
        "title": TABLE[type(error)].title,
        "status": error.status,
        "detail": error.detail,
        "message": error.detail,
        "code": error.code,
        "retryable": error.retryable,
        "request_id": request_id,
        **error.extra,
    }
    headers = {"x-should-retry": "true" if error.retryable else "false"}
    if error.retry_after is not None:
        headers["retry-after"] = error.retry_after
    elif error.status in (429, 503):
        headers["retry-after"] = "2"
    if error.status == 401:
        headers["www-authenticate"] = "Bearer"
    return error.status, msgspec.json.encode(document), headers
