"""README's tables of settings are made from the declarations in `gateway/settings.py`.

.venv/bin/python -m tests.readme_settings    # writes them into README.md
"""

import re
from collections.abc import Iterable
from pathlib import Path

import msgspec

from gateway.environment import Variable, variables
from gateway.settings import VARIABLES
from gateway.tool_settings import McpSettings, ToolSettings
from gateway.upstream_settings import PriceSettings, UpstreamSettings

README = Path(__file__).resolve().parent.parent / "README.md"
COMMAND = ".venv/bin/python -m tests.readme_settings"
TABLES = {
    "settings": VARIABLES,
    "upstream settings": list(variables(UpstreamSettings)),
    "price settings": list(variables(PriceSettings)),
    "mcp settings": list(variables(McpSettings)),
    "tool settings": list(variables(ToolSettings)),
}
UNITS = {"_bytes": [(1 << 30, "GiB"), (1 << 20, "MiB")], "_s": [(86_400, "days")]}


def with_tables(text: str) -> str:
    """Returns a README's text with every table as the code has it. Raises ValueError unless its markers are found
    once.
    """
    for name, rows in TABLES.items():
        between = re.compile(f"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        text, count = between.subn(lambda match, rows=rows: match[1] + table(rows) + match[2], text)
        if count != 1:
            raise ValueError(f"README.md has {count} tables between <!-- {name} --> and <!-- /{name} -->: want one")
    return text


def table(rows: Iterable[Variable]) -> str:
    lines = ["| variable | default | what it is | permitted |", "|---|---|---|---|"]
    lines += [f"| `{row.name}` | {default(row)} | {row.meaning} | {row.permitted} |" for row in rows]
    return "".join(f"{line}\n" for line in lines)


def default(row: Variable) -> str:
    """Returns a setting's default; many bytes or seconds also in a unit that people can read."""
    match row.default:
        case msgspec.NODEFAULT:
            return "required"
        case None | "" | b"" | [] | {}:
            return ""
        case bool() as flag:
            return f"`{str(flag).lower()}`"
        case int() | float() as number:
            return f"{number:g}" if number < 1000 else f"{number:.0f}{in_larger_unit(row.name, number)}"
        case tuple() as words:
            return ", ".join(f"`{word}`" for word in words)
        case other:
            return f"`{other}`"


def in_larger_unit(name: str, number: float) -> str:
    units = next((units for end, units in UNITS.items() if name.lower().endswith(end)), [])
    return next((f" ({number // size:g} {unit})" for size, unit in units if number >= size), "")


if __name__ == "__main__":
    README.write_text(with_tables(README.read_text()))
