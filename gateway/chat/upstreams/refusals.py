"""An upstream reports failures in many shapes, instead of a stream and inside one; all become our errors. Pure.

What the request caused is passed on, with the upstream's own status, `code`, `type` and `param`. What the upstream or
the gateway's account there caused is ours to answer for.
"""

import re
from typing import cast

import msgspec

from gateway.chat.upstreams.loose_fields import JsonFields, error_of, object_of, objects_of, whole_number
from gateway.core.loose_json import UNREADABLE, loose_json, strict_json
from gateway.errors import UpstreamError, UpstreamRefused

SHOWN_CHARS = 2_000
"""Maximum length of an upstream's text that is passed on."""
MAX_REPORTED_BYTES = 16_384
"""Maximum size of an upstream's error object; of a larger one, `code`, `type` and `param` are passed on."""
PASSED_ON = (400, 402, 404, 409, 413, 415, 422)
"""Statuses that are the client's too: the request caused them, or it fails until somebody pays a bill."""
NOT_FINAL = (402, 404, 413)
"""Those of them that another upstream, with other models, limits and accounts, may not answer with."""
OURS: dict[int, tuple[str, bool, int]] = {
    408: ("upstream_timeout", True, 504),
    425: ("upstream_unavailable", True, 502),
    429: ("upstream_rate_limited", True, 429),
    498: ("upstream_unavailable", True, 502),
}
"""What other statuses below 500 are to our client: code, whether the same request may work later, and our status."""
OVERFLOW = "context_length_exceeded"
NO_QUOTA = "insufficient_quota"
_RETRY_AFTER = re.compile(r"\d{1,9}(\.\d{1,6})?|[A-Z][a-z]{2}, [A-Za-z0-9: ]{20,24} GMT", re.ASCII)
"""Seconds, whole or not, or a date (RFC 9110 §10.2.3). Anything else would be a header that we made up."""
_OWN_CODE = re.compile(r"[A-Za-z][\w.:-]{0,63}", re.ASCII)
_AUTH_NAMES = re.compile(r"invalid_api_key|authentication|unauthenticated|unauthorized")
_AUTH_WORDS = re.compile(
    r"(incorrect|invalid|expired|missing|wrong) api[ _-]?key"
    r"|api[ _-]?key (is |was )?(not valid|incorrect|invalid|expired|missing)"
)
_QUOTA_NAMES = re.compile(
    r"(insufficient|exceeded|exhausted|not_enough)\w*(quota|balance|credit|funds|budget)"
    r"|(quota|credits?|balance|budget)\w*(exceeded|exhausted|insufficient|not_enough|too_low)"
    r"|billing|arrear|overdue|payment_required|spend\w*_limit"
)
_QUOTA_WORDS = re.compile(
    r"credit balance|insufficient (account )?(balance|credit|funds|quota)|quota (has been |is )?exhausted"
    r"|(out|run out) of credits|all available credits|(hard|spending) limit|余额不足|欠费"
)
_RATE_NAMES = re.compile(r"rate_?limit|too_?many_?requests|resource_?exhausted|per_(second|minute|hour)")
_REQUEST_NAMES = re.compile(
    r"invalid_?request|bad_?request|invalid_?argument|invalid_?prompt|content_?(filter|policy)|validation"
)
_OVERFLOW_NAMES = re.compile(r"context_(length|window|size|limit)\w*exceed|exceed\w*context_(size|length|window|limit)")
_OVERFLOW_WORDS = re.compile(
    r"(max|maximum|model's) (model |context |prompt |input )+(length|window|limit)|too many tokens"
    r"|(exceed|than)\w* (the |this |its )?(\S+ )?context|context \w+ (has been |is |was )?exceeded"
    r"|(prompt|input) is too long|input tokens exceed"
    r"|exceeds the maximum number of tokens|tokens \+ \W?max_new_tokens|range of input length"
)
_UNFIT_WORDS = re.compile(r"(image|audio|video|file) input is not supported|failed to parse (tools|messages|grammar)")
"""What llama.cpp says, with 500, to a request that it will never take."""
_NAMES_OF_STATUS = (
    (429, _QUOTA_NAMES),
    (400, _OVERFLOW_NAMES),
    (429, _RATE_NAMES),
    (401, _AUTH_NAMES),
    (403, re.compile(r"permission|forbidden")),
    (404, re.compile(r"not_?found")),
    (413, re.compile(r"(request|entity|payload|content)_?too_?large")),
    (422, re.compile(r"unprocessable")),
    (400, _REQUEST_NAMES),
)
"""Statuses by the names of an error, the more exact first: OpenAI calls most of them `invalid_request_error`."""


def refusal(status: int, reported: JsonFields | str, retry_after: str | None = None) -> UpstreamRefused:
    """Returns the error that a status of 400 or more from an upstream is for our client.

    `reported` is the upstream's error object, or its text. 429 stays 429 with its `retry-after`; PASSED_ON stay as they
    are; the rest is our 502. What is no `retry-after` is left out. The text of a 401 or 403 is not passed on: some
    providers repeat part of the key in it.
    """
    fields: JsonFields = {"message": reported} if isinstance(reported, str) else reported
    retry_after = retry_after if retry_after is not None and _RETRY_AFTER.fullmatch(retry_after) else None
    if status < 500 and _is_quota(status, fields):
        return _out_of_quota(status, fields, retry_after)
    if status in (401, 403) or (status in PASSED_ON and _is_about_the_key(fields)):
        return UpstreamRefused("the upstream does not accept the gateway's key", code="upstream_auth")
    if status in PASSED_ON:
        return _of_the_request(status, fields)
    if status >= 500 and _is_unfit(fields):
        return _of_the_request(400, fields, elsewhere=True)
    otherwise = ("upstream_unavailable", True, 502) if status >= 500 else ("upstream_bad_request", False, 502)
    code, retryable, ours = OURS.get(status, otherwise)
    told = _kind_and_param(fields)
    return UpstreamRefused(
        _detail(fields, status), code=code, status=ours, retryable=retryable, retry_after=retry_after, reported=told
    )


def _of_the_request(status: int, fields: JsonFields, *, elsewhere: bool = False) -> UpstreamRefused:
    """Returns the error of a request that its sender must change; `elsewhere` it may be good as it is."""
    detail, code, told = _detail(fields, status), _own_code(fields), _told(fields)
    is_overflow = _is_overflow(fields)
    if is_overflow:
        code = OVERFLOW
        told["code"] = OVERFLOW
    code = code or ("upstream_not_found" if status == 404 else "upstream_bad_request")
    error = UpstreamRefused(detail, code=code, status=status, reported=told)
    error.is_final = not (is_overflow or elsewhere or status in NOT_FINAL)
    return error


def _out_of_quota(status: int, fields: JsonFields, retry_after: str | None) -> UpstreamRefused:
    """Returns the error of an account that has nothing left to spend, whatever its provider calls that."""
    own_code = _own_code(fields)
    code = own_code if own_code and _QUOTA_NAMES.search(_spelled(own_code)) else NO_QUOTA
    if status in (401, 403):
        error = UpstreamRefused("the gateway's account at the upstream has nothing left to spend", code=code)
    else:
        ours = status if status in PASSED_ON else 429
        told = {**_told(fields), "code": code}
        detail = _detail(fields, status)
        error = UpstreamRefused(detail, code=code, status=ours, retry_after=retry_after, reported=told)
    error.is_of_account = True
    return error


def _detail(fields: JsonFields, status: int) -> str:
    return str(fields.get("message") or "")[:SHOWN_CHARS] or f"the upstream answered {status}"


def _told(fields: JsonFields) -> JsonFields:
    """Returns an error object less its text, to be passed on as it came.

    Its `null` says that there is no type or code, unless it has neither: then they are ours.
    """
    told = {name: value for name, value in fields.items() if name != "message"}
    if len(strict_json(told)) > MAX_REPORTED_BYTES:
        told = {name: fields.get(name) for name in ("type", "param", "code")}
    is_named = bool(told.get("type")) or isinstance(told.get("code"), str)
    return told if is_named else {name: value for name, value in told.items() if value is not None}


def _kind_and_param(fields: JsonFields) -> JsonFields:
    return {name: fields[name] for name in ("type", "param") if isinstance(fields.get(name), str)}


def error_body(text: bytes) -> JsonFields:
    """Returns the error object that a body says in any of its shapes, with its text as `message`.

    The shapes: `{"error": {...}}`, a list of those, a flat object, `{"detail": ...}`, a bare string, or no JSON.
    """
    try:
        value = loose_json(text)
    except UNREADABLE:
        return {"message": text.decode("utf-8", "replace")}
    if isinstance(value, str):
        return {"message": value}
    fields = next(iter(objects_of(value)), JsonFields())
    reported = error_of(fields) or (error_of({"error": fields}) if fields else None)
    return _readable(reported or {"message": ""})


def in_band_error(reported: JsonFields) -> UpstreamError:
    """Returns the error that a frame of a stream reports as `reported`, an error object of `error_of`."""
    fields = _readable(reported)
    status = _status(fields)
    if status is not None:
        return refusal(status, fields)
    detail = str(fields.get("message") or "")[:SHOWN_CHARS] or "the upstream reported an error"
    return UpstreamError(detail, code="upstream_error", reported=_kind_and_param(fields))


def _status(fields: JsonFields) -> int | None:
    """Returns the status that an error stands for: by its number, else by its names."""
    for name in ("code", "status_code", "status"):
        number = whole_number(fields.get(name))
        if number is not None and 400 <= number < 600:
            return number
    names = _names(fields)
    return next((status for status, pattern in _NAMES_OF_STATUS if pattern.search(names)), None)


def _is_quota(status: int, fields: JsonFields) -> bool:
    """Returns whether there is nothing left to spend, which waiting does not change."""
    names = _names(fields)
    has_words = _QUOTA_WORDS.search(str(fields.get("message") or "").lower())
    return status == 402 or (not _RATE_NAMES.search(names) and bool(has_words or _QUOTA_NAMES.search(names)))


def _is_overflow(fields: JsonFields) -> bool:
    """Returns whether the request is longer than the model's context."""
    code = _own_code(fields)
    is_vague = code is None or _REQUEST_NAMES.search(code) is not None
    has_words = is_vague and _OVERFLOW_WORDS.search(str(fields.get("message") or "").lower())
    return bool(has_words or _OVERFLOW_NAMES.search(_names(fields)))


def _is_unfit(fields: JsonFields) -> bool:
    """Returns whether what is told as a fault of the server is one of the request."""
    return _is_overflow(fields) or bool(_UNFIT_WORDS.search(str(fields.get("message") or "").lower()))


def _is_about_the_key(fields: JsonFields) -> bool:
    """Returns whether an error is about the gateway's credentials, for which some providers answer 400."""
    has_words = _AUTH_WORDS.search(str(fields.get("message") or "").lower())
    return bool(has_words or _AUTH_NAMES.search(_names(fields)))


def _names(fields: JsonFields) -> str:
    """Returns what an error calls itself: `code`, then `type`."""
    texts = [text for name in ("code", "type") if isinstance(text := fields.get(name), str)]
    return _spelled(" ".join(texts))


def _spelled(name: str) -> str:
    """Returns a name in lower case, its words parted by `_`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|-", "_", name).lower()


def _own_code(fields: JsonFields) -> str | None:
    code = fields.get("code")
    return code if isinstance(code, str) and _OWN_CODE.fullmatch(code) else None


def _readable(fields: JsonFields) -> JsonFields:
    """Returns the fields as strict JSON holds them, without a half of a surrogate pair."""
    return object_of(cast(object, msgspec.json.decode(strict_json(fields))))


def without_key(secret: str, error: UpstreamError) -> UpstreamError:
    """Returns the error, its text less our own key: some servers repeat it."""
    if secret and secret in error.detail:
        error.detail = error.detail.replace(secret, "…")
    if secret and secret.encode() in (told := msgspec.json.encode(error.reported)):
        error.reported = msgspec.json.decode(told.replace(secret.encode(), "…".encode()))
    return error
