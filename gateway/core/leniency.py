"""Reads JSON of clients that write `null` for a field that is not there, or `16000.0` for 16000: JSON has one number.

The strict decoder is tried first. Only what it refuses is mended, by the declared type, and decoded again: a `null`
that the type has no room for is left out, and a number without a fraction becomes an integer where the type wants one.
Half of a surrogate pair in a text is U+FFFD. All else stays as it came, byte for byte, in parts of any type too.
"""

from collections.abc import Callable, Iterator, Mapping, Sized
from functools import cache
from itertools import islice, repeat
from typing import Any

import msgspec
from msgspec import Raw, inspect

from gateway.core.loose_json import with_whole_pairs

NULL = b"null"
MAX_DIGITS = 30
"""Maximum characters of a number that is mended."""
MAX_MENDED = 10_000
"""Maximum fields and items of a text that are looked at, which takes some 20 ms; all behind them stays as it came."""


def lenient_decoder(kind: Any) -> Callable[[str | bytes], Any]:
    """Returns a function that decodes a text as `kind`, a type or a union; it raises as msgspec's own does."""
    strict: Callable[[str | bytes], Any] = msgspec.json.Decoder(kind).decode

    def decode(text: str | bytes) -> Any:
        try:
            return strict(text)
        except RecursionError as err:
            raise msgspec.DecodeError("it is nested too deep") from err
        except msgspec.DecodeError as err:
            raw = text.encode() if isinstance(text, str) else text
            whole = with_whole_pairs(raw)
            if whole == raw and not isinstance(err, msgspec.ValidationError):
                raise
            mended = mend(whole, kind)
            if mended is None and whole == raw:
                raise
            return strict(whole if mended is None else mended)

    return decode


def mend(text: str | bytes, kind: Any) -> bytes | None:
    """Returns a valid JSON text as the strict decoder of `kind` wants it; None when there is nothing to mend."""
    raw = text.encode() if isinstance(text, str) else text
    mended = _mended(raw.strip(), _type_of(kind), repeat(1, MAX_MENDED))
    return None if mended == raw.strip() else mended


@cache
def _type_of(kind: Any) -> inspect.Type:
    return inspect.type_info(kind)


def _mended(raw: bytes, kind: inspect.Type, more: Iterator[int]) -> bytes:
    """Returns a value as `kind` wants it; `more` has a turn for each field and item that may yet be looked at."""
    kinds = kind.types if isinstance(kind, inspect.UnionType) else (kind,)
    if any(isinstance(each, inspect.AnyType | inspect.RawType) for each in kinds):
        return raw
    first = raw[:1]
    if first == b"{":
        return _object(raw, kinds, more)
    if first == b"[":
        return _array(raw, kinds, more)
    if first in b"-0123456789" and _wants_integer(kinds):
        return _integer(raw)
    return raw


def _object(raw: bytes, kinds: tuple[inspect.Type, ...], more: Iterator[int]) -> bytes:
    members = msgspec.json.decode(raw, type=dict[str, Raw])
    if not _may_look_at(members, more):
        return raw
    structs = [each for each in kinds if isinstance(each, inspect.StructType) and not each.array_like]
    struct = _chosen(members, structs)
    if struct is not None:
        fields = {field.encode_name: field.type for field in struct.fields}
        return _encode(dict(_members(members, fields, struct, more)))
    tables = [each for each in kinds if isinstance(each, inspect.DictType)]
    if tables and not structs:
        return _encode({name: _mended(bytes(value), tables[0].value_type, more) for name, value in members.items()})
    return raw


def _members(
    members: Mapping[str, Raw], fields: Mapping[str, inspect.Type], struct: inspect.StructType, more: Iterator[int]
) -> Iterator[tuple[str, bytes]]:
    """Yields the members of an object that are there, mended."""
    for name, value in members.items():
        field, raw = fields.get(name), bytes(value)
        is_there = raw != NULL or (_has_room_for_null(field) if field is not None else not struct.forbid_unknown_fields)
        if is_there:
            yield name, raw if field is None else _mended(raw, field, more)


def _chosen(members: Mapping[str, Raw], structs: list[inspect.StructType]) -> inspect.StructType | None:
    """Returns the struct that an object is: the only one, or the one whose tag it carries."""
    if len(structs) == 1:
        return structs[0]
    for struct in structs:
        if struct.tag_field is not None and bytes(members.get(struct.tag_field, b"")) == msgspec.json.encode(
            struct.tag
        ):
            return struct
    return None


def _array(raw: bytes, kinds: tuple[inspect.Type, ...], more: Iterator[int]) -> bytes:
    lists = [each for each in kinds if isinstance(each, inspect.ListType | inspect.VarTupleType)]
    if not lists or isinstance(lists[0].item_type, inspect.AnyType | inspect.RawType):
        return raw
    items = msgspec.json.decode(raw, type=list[Raw])
    if not _may_look_at(items, more):
        return raw
    return _encode([_mended(bytes(item), lists[0].item_type, more) for item in items])


def _may_look_at(values: Sized, more: Iterator[int]) -> bool:
    return sum(islice(more, len(values))) == len(values)


def _wants_integer(kinds: tuple[inspect.Type, ...]) -> bool:
    if any(isinstance(each, inspect.FloatType) for each in kinds):
        return False
    return any(
        isinstance(each, inspect.IntType)
        or (isinstance(each, inspect.LiteralType) and any(isinstance(value, int) for value in each.values))
        for each in kinds
    )


def _integer(raw: bytes) -> bytes:
    """Returns a number without a fraction in digits alone, and any other as it came."""
    if len(raw) > MAX_DIGITS or raw.lstrip(b"-").isdigit():
        return raw
    number = float(raw)
    return b"%d" % number if number.is_integer() else raw


def _has_room_for_null(kind: inspect.Type) -> bool:
    kinds = kind.types if isinstance(kind, inspect.UnionType) else (kind,)
    return any(isinstance(each, inspect.NoneType | inspect.AnyType | inspect.RawType) for each in kinds)


def _encode(value: Mapping[str, bytes] | list[bytes]) -> bytes:
    """Returns the JSON text of an object or array of texts."""
    if isinstance(value, list):
        return b"[%b]" % b",".join(value)
    return b"{%b}" % b",".join([b"%b:%b" % (msgspec.json.encode(name), text) for name, text in value.items()])
