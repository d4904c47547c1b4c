"""Values of the fields of a chunk, read from whatever type they come as. Pure."""

from typing import Any, cast

from gateway.core.loose_json import strict_json, whole_text
from gateway.core.usage import TokenDetails, UpstreamUsage

JsonFields = dict[str, object]
JsonObject = dict[str, Any]
"""The fields of an object whose types are looked at where they are read."""
CODES = ("code", "status_code", "status", "statusCode")
"""Fields of an error that hold its number."""
CHUNK_FIELDS = {"choices", "usage", "error", "object", "created", "obfuscation"}
MAX_COUNT = 2**53


def object_of(value: object) -> JsonFields:
    """Returns an object's fields; none of what is no object."""
    return cast(JsonFields, value) if isinstance(value, dict) else {}


def facts_of(fields: JsonFields) -> JsonFields:
    """Returns what a chunk says of the whole answer, beside its text: all its fields but those that we read."""
    return others_of(fields, CHUNK_FIELDS)


def others_of(fields: JsonFields, known: set[str]) -> JsonFields:
    """Returns the fields that are not known; `null` is a field that is not there."""
    return {name: value for name, value in fields.items() if name not in known and value is not None}


def objects_of(value: object) -> list[JsonFields]:
    """Returns the objects of a list, or the one that stands in the place of a list."""
    values = cast(list[object], value) if isinstance(value, list) else [value]
    return [cast(JsonFields, item) for item in values if isinstance(item, dict)]


def first_of(*places: JsonFields, names: tuple[str, ...]) -> object:
    return next((place[name] for place in places for name in names if place.get(name) is not None), None)


def first_text(*places: JsonFields, names: tuple[str, ...]) -> str | None:
    text = first_of(*places, names=names)
    return text if isinstance(text, str) else None


def finish_word(value: object) -> str | None:
    """Returns a reason to finish, in whatever it is wrapped."""
    match value:
        case str():
            return whole_text(value)
        case {"type": str(word)} | {"reason": str(word)}:
            return whole_text(word)
        case _:
            return None


def whole_number(value: object) -> int | None:
    """Returns a number that counts something, also when it came as a float or as text; None for any other value."""
    if isinstance(value, str) and value.strip().isdecimal():
        value = int(value) if len(value) < 16 else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_COUNT:
        return None
    return int(value) if value == int(value) else None


def usage_figures(value: object) -> UpstreamUsage | None:
    """Returns a provider's figures; None when they are not whole numbers, so that they are estimated."""
    figures = object_of(value)

    def figure(*names: str) -> int | None:
        return whole_number(first_of(figures, names=names))

    usage = UpstreamUsage(
        prompt_tokens=figure("prompt_tokens", "input_tokens"),
        completion_tokens=figure("completion_tokens", "output_tokens"),
        total_tokens=figure("total_tokens"),
        prompt_tokens_details=TokenDetails(
            cached_tokens=whole_number(object_of(figures.get("prompt_tokens_details")).get("cached_tokens"))
        ),
        completion_tokens_details=TokenDetails(
            reasoning_tokens=whole_number(object_of(figures.get("completion_tokens_details")).get("reasoning_tokens"))
        ),
    )
    return None if usage.prompt_tokens is None or usage.completion_tokens is None else usage


def error_of(fields: JsonFields) -> JsonFields | None:
    """Returns the error object that a chunk or a body reports, its `message` as text; None when it reports none."""
    error = fields.get("error")
    if isinstance(error, dict | list):
        error = next((one for one in objects_of(cast(object, error)) if any(one.values())), None)
    if isinstance(error, str) and error.lower() in ("null", "none"):
        error = None
    if not error and not _is_error(fields):
        return None
    reported = object_of(error) or (fields if not error else {"message": cast(object, error)})
    message = first_of(reported, names=("message", "detail", "msg", "error"))
    code = first_of(reported, fields, names=CODES)
    kind = first_text(reported, names=("type",))
    return {
        **reported,
        "message": message if isinstance(message, str) else strict_json(message or reported).decode(),
        "code": code if isinstance(code, str) else whole_number(code),
        "type": kind,
    }


def _is_error(fields: JsonFields) -> bool:
    """Returns whether an object is an error by itself: it says so, or it has the text and the code of one."""
    if fields.get("object") == "error" or fields.get("type") == "error":
        return True
    if fields.get("choices"):
        return False
    if isinstance(fields.get("message"), str) and (fields.get("code") or fields.get("type")):
        return True
    number = whole_number(first_of(fields, names=CODES)) or 0
    return 400 <= number < 600 and first_text(fields, names=("detail", "msg")) is not None
