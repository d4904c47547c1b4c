"""From the variables of an environment to a frozen struct, by the struct's declaration alone.

A field's variable is its encoded name (see `prefixed`); its type says how the text is read, and `msgspec.Meta` what is
permitted and what the setting means. What is unknown or cannot be used is refused by name. Only the value of a number
is repeated: a text may be a secret.
"""

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import NoneType
from typing import Annotated, NamedTuple, TypeVar, cast, get_args, get_origin

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import FieldInfo

from gateway.errors import ConfigurationError

PREFIX = "TRILANE_"
MAX_NUMBER = 1e15
"""Every whole number below it is exact as a float."""
MAX_SHOWN = 40
"""Characters of a bad number that its error repeats."""
TYPE_NAMES: dict[object, str] = {
    int: "whole number",
    float: "number",
    str: "text",
    Path: "path",
    list: "list of texts",
}

StructT = TypeVar("StructT", bound=Struct)


class Notation(Struct, frozen=True):
    """How a setting is written and read when its type alone does not say; stands in the field's `Annotated`."""

    permitted: str
    read: Callable[[Mapping[str, str], str], object]
    """Makes the value from the environment and the variable's name; raises ConfigurationError."""


class Variable(NamedTuple):
    """One setting, as the table in the README shows it."""

    name: str
    permitted: str
    default: object
    meaning: str


def prefixed(prefix: str) -> Callable[[str], str]:
    """Names variables after fields, as a struct's `rename`: `TRILANE_PING_S` for `ping_s`, with prefix `TRILANE_`."""
    return lambda field: prefix + field.upper()


def read(struct: type[StructT], environ: Mapping[str, str]) -> StructT:
    """The struct with every field as its variable says, or its default. Raises ConfigurationError."""
    return struct(**{field.name: _value(field, environ) for field in msgspec.structs.fields(struct)})


def variables(struct: type[Struct]) -> Iterator[Variable]:
    """Every variable of a struct and of the structs within it, in the order of declaration."""
    for field in msgspec.structs.fields(struct):
        declared = _declared(field.type)
        if issubclass(declared.kind, Struct):
            yield from variables(declared.kind)
        else:
            yield Variable(field.encode_name, declared.permitted, _default(field), declared.meaning)


def refuse_unknown(environ: Mapping[str, str], known: Iterable[str]) -> None:
    """Raises ConfigurationError for a variable of ours that is not known, with the nearest name that is."""
    settings = {variable.removeprefix(PREFIX) for variable in known if variable.startswith(PREFIX)}
    for variable in environ:
        setting = variable.removeprefix(PREFIX)
        if setting != variable and setting not in settings:
            nearest = difflib.get_close_matches(setting.upper(), settings, n=1)
            hint = f"did you mean {PREFIX}{nearest[0]}?" if nearest else "see the table of settings in the README"
            raise ConfigurationError(f"unknown setting {variable}: {hint}")


def read_list(environ: Mapping[str, str], variable: str) -> list[str]:
    """The texts between a variable's commas, without the empty ones."""
    return [item.strip() for item in environ.get(variable, "").split(",") if item.strip()]


class _Declared(NamedTuple):
    """What a field's annotation says."""

    kind: type[object]
    notation: Notation | None
    low: float | None
    high: float | None
    meaning: str

    @property
    def permitted(self) -> str:
        if self.notation is not None:
            return self.notation.permitted
        name = TYPE_NAMES[self.kind]
        if self.high is not None:
            return f"{name} from {_digits(self.low or 0)} to {_digits(self.high)}"
        return name if self.low is None else f"{name} of {_digits(self.low)} or more"


def _declared(annotation: object) -> _Declared:
    marks: list[object] = []
    while (origin := get_origin(annotation)) is Annotated or NoneType in get_args(annotation):
        annotation, *more = get_args(annotation)  # of `X | None`, X
        marks += more if origin is Annotated else []
    metas = [mark for mark in marks if isinstance(mark, Meta)]
    return _Declared(
        get_origin(annotation) or cast("type[object]", annotation),
        next((mark for mark in marks if isinstance(mark, Notation)), None),
        next((meta.ge for meta in metas if meta.ge is not None), None),
        next((meta.le for meta in metas if meta.le is not None), None),
        next((meta.description for meta in metas if meta.description), ""),
    )


def _value(field: FieldInfo, environ: Mapping[str, str]) -> object:
    declared = _declared(field.type)
    if declared.notation is not None:
        return declared.notation.read(environ, field.encode_name)
    if issubclass(declared.kind, Struct):
        return read(declared.kind, environ)
    text = environ.get(field.encode_name, "")
    if not text.strip():
        return _default(field)
    if issubclass(declared.kind, int | float):
        return _number(field, text)
    return Path(text) if declared.kind is Path else text


def _number(field: FieldInfo, text: str) -> object:
    shown = f"{field.encode_name}={text[:MAX_SHOWN]!r}"
    try:
        number = float(text)
        if number >= MAX_NUMBER:
            raise ConfigurationError(f"{shown} is too large: want less than {MAX_NUMBER:g}")
        return msgspec.convert(int(number) if number.is_integer() else number, field.type)
    except (ValueError, msgspec.ValidationError) as err:
        raise ConfigurationError(f"{shown} is not a {_declared(field.type).permitted}") from err


def _default(field: FieldInfo) -> object:
    if field.default_factory is not msgspec.NODEFAULT:
        return cast("Callable[[], object]", field.default_factory)()
    return field.default


def _digits(number: float) -> str:
    return str(int(number)) if number == int(number) else str(number)
