"""`python -m loadtests.bench [PART] [--quick] ...` measures a part alone, or chat, events and audio one after the
other.

Each module says what it measures; `harness/rounds.py` what all of them may be told.
"""

import sys
from importlib import import_module

from loadtests.bench.harness import rounds
from loadtests.bench.harness.part import LeftOut, Part

PARTS = {"chat": "chat.part", "events": "events.part", "audio": "audio.part"}
OTHERS = {
    "scale": "events.scale",
    "engines": "engines.part",
    "tools": "tools.part",
    "agents": "agents.part",
    "growth": "growth.parts",
    "figures": "figures",
    "limits": "limits",
    "voice": "audio.voice",
    "regress": "regress.check",
    "peers": "harness.peers",
}
"""Parts that are measured or made only when named."""


def part(name: str) -> Part | LeftOut:
    """Returns a part, unless a package that it needs is not installed."""
    try:
        return import_module(f"loadtests.bench.{PARTS[name]}").PART
    except ModuleNotFoundError as err:
        if (err.name or "").startswith("loadtests"):
            raise
        return LeftOut(name, f"the package {err.name} is not installed; it comes with: pip install -e '.[all]'")


def main(argv: list[str]) -> int:
    """Runs what is named first, or all parts."""
    name, rest = (argv[0], argv[1:]) if argv and not argv[0].startswith("-") else ("", argv)
    if not name:
        return rounds.main([part(each) for each in PARTS], rest)
    modules = PARTS | OTHERS
    if name not in modules:
        print(f"no part is called {name!r}; there are {', '.join(modules)}", file=sys.stderr)
        return 2
    return import_module(f"loadtests.bench.{modules[name]}").main(rest)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
