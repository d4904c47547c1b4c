"""An upstream reports failures in many shapes, instead of a stream and inside one; all become our errors. Pure."""

import msgspec
from msgspec import UNSET, Raw, UnsetType

from gateway.errors import UpstreamError, UpstreamRefused

SHOWN_CHARS = 300


class UpstreamErrorBody(msgspec.Struct):
    message: str = ""
    code: int | str | None = None
    type: str | None = None


class _Wrapped(msgspec.Struct):
    error: Raw | UnsetType = UNSET


def refusal(status: int, message: str, retry_after: str | None = None) -> UpstreamRefused:
    """Returns the error that a status of 400 or more from an upstream is for our client.

    429 stays 429 with its `retry-after`; the rest is our 502. The text of a 401 or 403 is not passed on: some
    providers repeat part of the key in it.
    """
    if status == 429:
        name, retryable, ours = "rate_limited", True, 429
    elif status in (401, 403):
        name, retryable, ours, message = "auth", False, 502, "the upstream does not accept the gateway's key"
    elif status == 404:
        name, retryable, ours = "not_found", False, 502
    elif status < 500:
        name, retryable, ours = "bad_request", False, 502
    else:
        name, retryable, ours = "unavailable", True, 502
    detail = message[:SHOWN_CHARS] or f"the upstream answered {status}"
    return UpstreamRefused(detail, code=f"upstream_{name}", status=ours, retryable=retryable, retry_after=retry_after)


def error_body(text: bytes) -> UpstreamErrorBody:
    """Returns what an error says in any of its shapes: `{"error": {...}}`, a flat object, a bare string, or no JSON."""
    try:
        wrapped = msgspec.json.decode(text, type=_Wrapped).error
    except (msgspec.DecodeError, RecursionError):
        wrapped = UNSET
    try:
        body = msgspec.json.decode(text if isinstance(wrapped, UnsetType) else wrapped, type=UpstreamErrorBody | str)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        body = text.decode("utf-8", "replace")
    return UpstreamErrorBody(message=body) if isinstance(body, str) else body


def in_band_error(text: bytes) -> UpstreamError:
    """Returns the error that a frame of a stream reports."""
    body = error_body(text)
    code = int(body.code) if isinstance(body.code, str) and body.code.isdecimal() else body.code
    if isinstance(code, int) and 400 <= code < 600:
        return refusal(code, body.message)
    if "rate_limit" in f"{code} {body.type}".lower():
        return refusal(429, body.message)
    detail = body.message[:SHOWN_CHARS] or "the upstream reported an error"
    return UpstreamError(detail, code="upstream_error")


def without_key(secret: str, error: UpstreamError) -> UpstreamError:
    """Returns the error, its text less our own key: some servers repeat it."""
    if secret and secret in error.detail:
        error.detail = error.detail.replace(secret, "…")
    return error
