"""The README's figures, made from the committed results: no number is written there by hand.

    python -m loadtests.bench figures            # writes the tables into README.md, and the plots beside the results
    python -m loadtests.bench figures --check    # writes nothing; 1 and a diff when they differ from the results

A table stands between `<!-- figures: NAME -->` and `<!-- /figures -->`; `figure_blocks.py` has the names.
"""

import argparse
import difflib
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from loadtests.bench.figure_blocks import RESULTS, SOURCES, made
from loadtests.bench.processes import ROOT

README = ROOT / "README.md"
BLOCK = re.compile(r"(<!-- figures: (?P<name>[\w-]+) -->\n).*?(<!-- /figures -->)", re.DOTALL)


def main(argv: list[str]) -> int:
    """Write, or with `--check` say what is not as the results have it."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench figures", description="The README's figures.")
    parser.add_argument("--check", action="store_true", help="write nothing; 1 and a diff when something differs")
    from loadtests.bench import growth_page  # which imports this module

    wanted = files(README, RESULTS) | growth_page.files(growth_page.PAGE, growth_page.RESULTS)
    if parser.parse_args(argv).check:
        return check(wanted)
    for path, text in wanted.items():
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            print(f"wrote {path.relative_to(ROOT)}")
    return 0


def files(readme: Path, results: Path) -> dict[Path, str]:
    """What each file must hold. Raises ValueError where a marker of the README names no block."""
    text = readme.read_text()
    names = [found["name"] for found in BLOCK.finditer(text)]
    if unknown := [name for name in names if name not in SOURCES]:
        raise ValueError(f"{readme.name}: no figures are called {unknown[0]!r}; there are {', '.join(SOURCES)}")
    blocks = {name: made(results, name) for name in names}
    plots = {results / f"{name}.svg": block.svg for name, block in blocks.items() if block.svg}
    return {readme: filled(text, {name: block.text for name, block in blocks.items()}), **plots}


def filled(text: str, blocks: Mapping[str, str]) -> str:
    """The text with these blocks between their markers."""
    return BLOCK.sub(
        lambda found: "\n".join([found[1].rstrip(), *filter(None, [blocks[found["name"]]]), found[3]]), text
    )


def check(wanted: Mapping[Path, str]) -> int:
    """1 when a file differs from what it must hold; says how."""
    differing = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    for path in differing:
        before = path.read_text().splitlines() if path.exists() else []
        diff = difflib.unified_diff(before, wanted[path].splitlines(), path.name, "from the results", lineterm="", n=0)
        print("\n".join(line[:300] for line in diff), file=sys.stderr)
    if differing:
        names = ", ".join(path.name for path in differing)
        print(f"{names}: not what the results say; run: python -m loadtests.bench figures", file=sys.stderr)
    return 1 if differing else 0
