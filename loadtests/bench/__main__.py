"""`python -m loadtests.bench chat|events|audio [--quick] ...`: each module says what it measures."""

import sys

from loadtests.bench import audio, chat, events

BENCHES = {"chat": chat.main, "events": events.main, "audio": audio.main}


def main() -> int:
    """Run the benchmark named first."""
    name, rest = (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 else ("", [])
    if name not in BENCHES:
        print(f"usage: python -m loadtests.bench {{{','.join(BENCHES)}}} [--help]", file=sys.stderr)
        return 2
    return BENCHES[name](rest)


if __name__ == "__main__":
    sys.exit(main())
