"""Finds the line of the operator's file at which something is wrong, for the error that says so. Pure.

The parser of TOML tells no lines of what it has read, so they are looked for: the n-th `[[upstream]]` is the n-th table
of that name. A file that is written in another way has errors without lines.
"""

import re
from typing import cast

import msgspec

PATH = re.compile(r"`\$\[(\d+)\]([^`]*)`")
"""Where msgspec finds an error, such as `$[1].headers[...]`: the number of the table, and the way in it."""
FIELD = re.compile(r"field `([^`]+)`")
HEADER = re.compile(r"[ \t]*\[\[?[ \t]*([\w.-]+)[ \t]*\]\]?[ \t]*(#.*)?")


def place_of(text: str, kind: str, number: int, field: str = "") -> str:
    """Returns `line 12: ` for a field of the table `[[kind]]` of a number, from 0; or its header, or nothing."""
    lines = text.splitlines()
    headers = [(line, match[1]) for line, text in enumerate(lines) if (match := HEADER.fullmatch(text))]
    tables = [line for line, name in headers if name == kind and lines[line].lstrip().startswith("[[")]
    if number >= len(tables):
        return ""
    first = tables[number]
    last = next((line for line, name in headers if line > first and not name.startswith(f"{kind}.")), len(lines))
    assignment = re.compile(rf"[ \t]*\"?{re.escape(field)}\"?[ \t]*[=.]")
    found = next((line for line in range(first, last) if field and assignment.match(lines[line])), first)
    return f"line {found + 1}: "


def name_of(tables: object, number: int) -> str:
    """Returns `'openai' ` for the table of a number, by its `name`; nothing for one without."""
    rows = cast("list[object]", tables) if isinstance(tables, list) else []
    row = rows[number] if number < len(rows) else None
    fields = cast("dict[str, object]", row) if isinstance(row, dict) else {}
    name = fields.get("name", fields.get("model"))
    return f"{name!r} " if isinstance(name, str) else ""


def explained(err: Exception, text: str, kind: str, tables: object) -> str:
    """Returns what is wrong with a file, with line and name of the table where that is known."""
    message = str(err)
    found = PATH.search(message)
    if not isinstance(err, msgspec.ValidationError) or found is None:
        return message
    number, way = int(found[1]), re.findall(r"\w+", found[2])
    field = FIELD.search(message)
    wanted = field[1] if field else next(iter(way), "")
    return f"{place_of(text, kind, number, wanted)}[[{kind}]] {name_of(tables, number)}{message}"
