"""Reads environment variables into a frozen struct, by the struct's declaration alone.

A field's variable is its encoded name (see `prefixed`); its type says how the text is read, and `msgspec.Meta` what is
permitted and what the setting means. A variable that is unknown or cannot be used is refused by name. An error repeats
the value of a number only: a text may be a secret.
"""

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import NoneType
from typing import Annotated, Literal, NamedTuple, TypeVar, cast, get_args, get_origin

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import FieldInfo

from gateway.errors import ConfigurationError

PREFIX = "TRILANE_"
MAX_NUMBER = 1e15
"""Upper bound of a number: every whole number below it is exact as a float."""
MAX_REPEATED = 40
"""Maximum characters of a bad number that its error repeats."""
TYPE_NAMES: dict[object, str] = {
    int: "whole number",
    float: "number",
    str: "text",
    Path: "path",
    list: "list of texts",
    dict: "table of texts",
}

StructT = TypeVar("StructT", bound=Struct)


class Notation(Struct, frozen=True):
    """The notation and the reading of a setting whose type alone does not say them; part of the field's `Annotated`."""

    permitted: str
    read: Callable[[Mapping[str, str], str], object]
    """Returns the value, from the environment and the variable's name; raises ConfigurationError."""


class Variable(NamedTuple):
    """One setting, as the table in the README shows it."""

    name: str
    permitted: str
    default: object
    meaning: str


def prefixed(prefix: str) -> Callable[[str], str]:
    """Returns a struct's `rename` that names variables after fields: `ping_s` is `TRILANE_PING_S` with `TRILANE_`."""
    return lambda field: prefix + field.upper()


def read(struct: type[StructT], environ: Mapping[str, str]) -> StructT:
    """Returns the struct with every field as its variable says, or its default. Raises ConfigurationError."""
    return struct(**{field.name: _value(field, environ) for field in msgspec.structs.fields(struct)})


def variables(struct: type[Struct]) -> Iterator[Variable]:
    """Yields every variable of a struct and of the structs within it, in the order of declaration."""
    for field in msgspec.structs.fields(struct):
        declaration = _declaration(field.type)
        if issubclass(declaration.kind, Struct):
            yield from variables(declaration.kind)
        elif declaration.meaning:  # without one it reads more of what another setting names
            yield Variable(field.encode_name, declaration.permitted, _default(field), declaration.meaning)


def refuse_unknown(environ: Mapping[str, str], names: Iterable[str]) -> None:
    """Raises ConfigurationError for a variable of ours that is not among `names`, with the nearest one that is."""
    settings = {variable.removeprefix(PREFIX) for variable in names if variable.startswith(PREFIX)}
    for variable in environ:
        setting = variable.removeprefix(PREFIX)
        if setting != variable and setting not in settings:
            nearest = difflib.get_close_matches(setting.upper(), settings, n=1)
            hint = f"did you mean {PREFIX}{nearest[0]}?" if nearest else "see the table of settings in the README"
            raise ConfigurationError(f"unknown setting {variable}: {hint}")


def read_list(environ: Mapping[str, str], variable: str) -> list[str]:
    """Returns the texts between a variable's commas, without the empty ones."""
    return [item.strip() for item in environ.get(variable, "").split(",") if item.strip()]


def number_or_auto(largest: int) -> Notation:
    """Returns the notation of a number from 1 to `largest`, or `auto`; None stands for neither."""

    def read_either(environ: Mapping[str, str], variable: str) -> int | Literal["auto"] | None:
        text = environ.get(variable, "").strip().lower()
        if not text:
            return None
        if text == "auto":
            return "auto"
        if text.isascii() and text.isdecimal() and len(text) <= len(str(largest)) and 1 <= int(text) <= largest:
            return int(text)
        raise ConfigurationError(f"{variable}={text[:MAX_REPEATED]!r} is not a {permitted}")

    permitted = f"whole number from 1 to {largest}, or `auto`"
    return Notation(permitted, read_either)


def one_of(word: str) -> Notation:
    """Returns the notation of a setting that is `word` or unset; None stands for unset."""

    def read_word(environ: Mapping[str, str], variable: str) -> str | None:
        text = environ.get(variable, "").strip().lower()
        if text and text != word:
            raise ConfigurationError(f"{variable}={text[:MAX_REPEATED]!r} is not {word!r}: leave it unset otherwise")
        return text or None

    return Notation(f"`{word}`", read_word)


class _Declaration(NamedTuple):
    """A field as its annotation declares it."""

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


def _declaration(annotation: object) -> _Declaration:
    marks: list[object] = []
    while (origin := get_origin(annotation)) is Annotated or NoneType in get_args(annotation):
        annotation, *more = get_args(annotation)  # of `X | None`, X
        marks += more if origin is Annotated else []
    metas = [mark for mark in marks if isinstance(mark, Meta)]
    origin = str if get_origin(annotation) is Literal else get_origin(annotation)
    return _Declaration(
        origin or cast("type[object]", annotation),
        next((mark for mark in marks if isinstance(mark, Notation)), None),
        next((meta.ge for meta in metas if meta.ge is not None), None),
        next((meta.le for meta in metas if meta.le is not None), None),
        next((meta.description for meta in metas if meta.description), ""),
    )


def _value(field: FieldInfo, environ: Mapping[str, str]) -> object:
    declaration = _declaration(field.type)
    if declaration.notation is not None:
        return declaration.notation.read(environ, field.encode_name)
    if issubclass(declaration.kind, Struct):
        return read(declaration.kind, environ)
    text = environ.get(field.encode_name, "")
    if not text.strip():
        return _default(field)
    if issubclass(declaration.kind, int | float):
        return _number(field, text)
    return Path(text) if declaration.kind is Path else text


def _number(field: FieldInfo, text: str) -> object:
    assignment = f"{field.encode_name}={text[:MAX_REPEATED]!r}"
    try:
        number = float(text)
        if number >= MAX_NUMBER:
            raise ConfigurationError(f"{assignment} is too large: want less than {MAX_NUMBER:g}")
        return msgspec.convert(int(number) if number.is_integer() else number, field.type)
    except (ValueError, msgspec.ValidationError) as err:
        raise ConfigurationError(f"{assignment} is not a {_declaration(field.type).permitted}") from err


def _default(field: FieldInfo) -> object:
    if field.default_factory is not msgspec.NODEFAULT:
        return cast("Callable[[], object]", field.default_factory)()
    return field.default


def _digits(number: float) -> str:
    return str(int(number)) if number == int(number) else str(number)
