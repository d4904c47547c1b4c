"""Pages keep blocks of figures between markers, so that no number in them is written by hand.

A block stands between `<!-- figures: NAME -->` and `<!-- /figures -->`. `expected` maps each file, pages and plots, to
what it must hold.
"""

import difflib
import re
import sys
from collections.abc import Collection, Mapping
from pathlib import Path

BLOCK = re.compile(r"(<!-- figures: (?P<name>[\w-]+) -->\n).*?(<!-- /figures -->)", re.DOTALL)


def block_names(page: Path, blocks: Collection[str]) -> list[str]:
    """Returns the blocks that a page asks for. Raises ValueError where one of them is not known."""
    names = [block["name"] for block in BLOCK.finditer(page.read_text())]
    if strangers := [name for name in names if name not in blocks]:
        raise ValueError(f"{page.name}: no figures are called {strangers[0]!r}; there are {', '.join(blocks)}")
    return names


def filled(text: str, blocks: Mapping[str, str]) -> str:
    """Returns the text with these blocks between their markers."""
    return BLOCK.sub(
        lambda block: "\n".join([block[1].rstrip(), *filter(None, [blocks[block["name"]]]), block[3]]), text
    )


def write(expected: Mapping[Path, str]) -> None:
    """Writes the files that differ, and says which."""
    for path in differing(expected):
        path.write_text(expected[path])
        print(f"wrote {path.name}")


def check(expected: Mapping[Path, str]) -> int:
    """Returns 1 when a file differs from what it must hold; says how."""
    paths = differing(expected)
    for path in paths:
        before = path.read_text().splitlines() if path.exists() else []
        after = expected[path].splitlines()
        diff = difflib.unified_diff(before, after, path.name, "from the results", lineterm="", n=0)
        print("\n".join(line[:300] for line in diff), file=sys.stderr)
    if paths:
        names = ", ".join(path.name for path in paths)
        print(f"{names}: not what the results say; run: python -m loadtests.bench figures", file=sys.stderr)
    return 1 if paths else 0


def differing(expected: Mapping[Path, str]) -> list[Path]:
    """Returns the files that do not hold what they must."""
    return [path for path, text in expected.items() if not path.exists() or path.read_text() != text]
