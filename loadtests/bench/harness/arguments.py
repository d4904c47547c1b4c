"""Arguments of the command line that every part of the benchmark takes, and the cases and targets they choose."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from loadtests.bench.harness.part import Case, Part, group

OUT = Path("build") / "bench"


def parse(parts: Sequence[Part], argv: list[str]) -> argparse.Namespace:
    """Parses the arguments of these parts; ends the process where they make no sense."""
    parser = _parser(parts)
    args = parser.parse_args(argv)
    args.targets = [name for name in args.targets.split(",") if name]
    args.cases = [name for name in args.cases.split(",") if name]
    targets = list(dict.fromkeys(name for part in parts for name in part.targets))
    cases = [name for part in parts for case in part.cases for name in (group(case), case.name)]
    for name in args.targets:
        if name not in targets:
            parser.error(f"unknown target {name!r}; there are {', '.join(targets)}")
    for name in args.cases:
        if name not in cases and not any(part.named(name) for part in parts):
            parser.error(f"unknown load {name!r}; there are {', '.join(dict.fromkeys(cases))}")
    for pair in args.env:
        if "=" not in pair:
            parser.error(f"--env {pair!r}: NAME=VALUE is wanted")
    if len(parts) > 1 and Path(args.out).suffix == ".jsonl":
        parser.error(f"--out {args.out}: for several parts, name a folder")
    return args


def cases_of(part: Part, args: argparse.Namespace) -> list[Case]:
    """Returns the loads to measure: those asked for by name or group, else all that mean something."""
    if args.cases:
        listed = [case for case in part.cases if {case.name, group(case)} & set(args.cases)]
        named = [part.named(name) for name in args.cases]
        return [*listed, *(case for case in named if case is not None)]
    left_out = {*(() if args.peers else part.beside), *(() if args.long else part.lengthy)}
    return [case for case in part.cases if group(case) not in left_out]


def targets_of(part: Part, args: argparse.Namespace) -> list[str]:
    """Returns the targets to measure: those asked for, else ours, and with `--peers` the others."""
    if args.targets:
        return [name for name in args.targets if name in part.targets]
    beside = args.peers or any(group(case) in part.beside for case in cases_of(part, args))
    return [*part.ours, *(part.peers if beside else ())]


def _parser(parts: Sequence[Part]) -> argparse.ArgumentParser:
    alone = parts[0] if len(parts) == 1 else None
    parser = argparse.ArgumentParser(
        prog=f"python -m loadtests.bench{f' {alone.name}' if alone else ''}",
        description=alone.says if alone else "Every part, one after the other: " + ", ".join(p.name for p in parts),
        epilog="\n".join(_known(part) for part in parts),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--rounds", type=int, default=5, help="how often each target is measured (5)")
    add("--quick", action="store_true", help="one short round: an indication, not a measurement")
    add("--long", action="store_true", help="longer loads, where a part has them: minutes for each")
    add("--peers", action=argparse.BooleanOptionalAction, default=False, help="also what others run, where installed")
    add("--targets", default="", metavar="NAME,...", help="instead: exactly these")
    add("--cases", default="", metavar="NAME,...", help="some of the loads, by name or group (all)")
    add("--env", action="append", default=[], metavar="NAME=VALUE", help="a setting for Trilane")
    quiet = "wait up to so many seconds for other work to end, and repeat what it disturbed (0)"
    add("--quiet", type=float, default=0, metavar="S", help=quiet)
    add("--port", type=int, default=0, help="the first port to listen on (each part has its own)")
    add("--out", default=str(OUT), help=f"folder or .jsonl file where raw results are appended ({OUT})")
    for part in parts:
        part.arguments(parser)
    return parser


def _known(part: Part) -> str:
    """Returns the names of a part's targets and loads, for --help."""
    more = [*part.peers, *part.extras]
    targets = ", ".join(part.ours) + (f"; with --peers or when named {', '.join(more)}" if more else "")
    return f"{part.name}: targets {targets}\n    loads {', '.join(case.name for case in part.cases)}"
