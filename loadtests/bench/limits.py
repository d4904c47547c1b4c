"""What limits add to a request is measured with two servers side by side, of which one counts.

    python -m loadtests.bench limits [--rounds N] [--env NAME=VALUE] [--port PORT]

Both run on the server's core all the time and are loaded in turn, so that other work on the machine falls on both. Each
figure is the median of the rounds, and a difference the median of the rounds' differences. The one that counts has
limits of each user and of everyone together on all that a chat request takes.

What they add is the same for every request, so it shows best in short answers: the CPU of one of 2 tokens tells it from
the noise, and its share of a longer one follows.
"""

import argparse
import contextlib
import os
import statistics
from collections.abc import Generator, Mapping
from typing import NamedTuple

from loadtests.bench.chat.cases import WARM_UP, ChatCase, ChatPlan, ChatRig, RequestNumbers
from loadtests.bench.chat.servers import TARGETS, Ports, server, upstream
from loadtests.bench.harness import machine
from loadtests.bench.harness.processes import CLIENT_CORE, NotStarted

PORT, PORTS = 18640, 3
KEYS = ("RUNS", "STREAMS", "REQUESTS_PER_MINUTE", "TOKENS_PER_MINUTE")
LIMITS = {f"TRILANE_LIMIT_{whose}{key}": str(10**9) for whose in ("", "USER_") for key in KEYS}
WITHOUT, WITH = "without", "with"
SERVERS: Mapping[str, dict[str, str]] = {WITHOUT: {}, WITH: LIMITS}
ONE = ChatCase("one stream", 1, 2, 20_000, 0.2, 1.2)
MANY = ChatCase("32 at once", 32, 20, 20_000, 0.5, 1.5)
PACED = ChatCase("40 answers of 100 tokens", 40, 100, 20_000, 2.0, 2.0)
DRAIN_S = 10.0
TRIES = 3
"""How often a load is repeated in which no answer began."""


class Measure(NamedTuple):
    """One line of the table."""

    what: str
    case: ChatCase
    is_cpu: bool
    tokens: int = 1
    """Tokens whose CPU is one figure."""

    def of(self, figures: Mapping[str, float]) -> float:
        """Returns milliseconds to the first token, or microseconds of CPU."""
        return figures["cpu_us"] * self.tokens if self.is_cpu else figures["first_ms"]


MEASURES = (
    Measure("first token p50, one stream, ms", ONE, False),
    Measure("first token p50, 32 at once, ms", MANY, False),
    Measure("CPU of an answer of 2 tokens, µs", ONE, True, ONE.tokens),
    Measure("CPU of a token, answers of 20, µs", MANY, True),
    Measure("CPU of a token, answers of 100, µs", PACED, True),
)


@contextlib.contextmanager
def _rigs(port: int, settings: Mapping[str, str]) -> Generator[dict[str, tuple[ChatRig, list[int]]]]:
    """Runs the fake upstream and both servers, warmed up. Raises NotStarted."""
    requests = RequestNumbers()
    with contextlib.ExitStack() as stack:
        upstream_pid = stack.enter_context(upstream(port))
        rigs: dict[str, tuple[ChatRig, list[int]]] = {}
        for place, (name, limits) in enumerate(SERVERS.items(), 1):
            ports = Ports(server=port + place, upstream=port)
            pids = stack.enter_context(server(TARGETS["trilane"], ports, {**settings, **limits}))
            rigs[name] = ChatRig(TARGETS["trilane"], ports, {}, ChatPlan(), upstream_pid, requests), pids
            rigs[name][0].load(WARM_UP, pids, drain_s=1)
        yield rigs


def _load(rig: ChatRig, pids: list[int], case: ChatCase) -> dict[str, float]:
    """Loads one server. Raises NotStarted when any of its streams was not as it must be."""
    for _ in range(TRIES):
        result = rig.load(case, pids, DRAIN_S)
        if result["bad"] or not result["tokens"]:
            raise NotStarted(f"{case.name}: {result['bad']} of {result['requests']} streams were bad")
        if (first_ms := result["ttft_ms"]["p50"]) is not None:
            return {"first_ms": first_ms, "cpu_us": result["server_us_per_token"]}
    raise NotStarted(f"{case.name}: no answer began within {case.dur_s} s, {TRIES} times: the machine is too busy")


def table(rounds: list[dict[tuple[str, str], dict[str, float]]]) -> list[str]:
    """Returns the lines of what was measured: of each round, the figures by server and case."""
    lines = [f"{'':36}{WITHOUT:>10}{WITH:>10}{'added':>10}{'':>4}(quartiles of what was added)"]
    for measure in MEASURES:
        pairs = [tuple(measure.of(figures[name, measure.case.name]) for name in SERVERS) for figures in rounds]
        added = [pair[1] - pair[0] for pair in pairs]
        low, middle, high = statistics.quantiles(added, n=4, method="inclusive") if len(added) > 1 else added * 3
        without, with_limits = (statistics.median(column) for column in zip(*pairs, strict=True))
        share = f" ({100 * middle / without:+.1f} %)" if measure.is_cpu else ""
        figures = f"{without:10.3f}{with_limits:10.3f}{middle:+10.3f}{share:>11}"
        lines.append(f"{measure.what:36}{figures}  ({low:+.3f} to {high:+.3f})")
    return lines


def main(argv: list[str]) -> int:
    """Measures, and prints the table."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench limits", description="What limits add.")
    parser.add_argument("--rounds", type=int, default=9, help="how often each load is measured (9)")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="a setting for both servers")
    parser.add_argument("--port", type=int, default=PORT, help=f"the first of {PORTS} ports ({PORT})")
    args = parser.parse_args(argv)
    if CLIENT_CORE in os.sched_getaffinity(0):
        os.sched_setaffinity(0, {CLIENT_CORE})
    machine.allow_descriptors()
    rounds: list[dict[tuple[str, str], dict[str, float]]] = []
    with _rigs(args.port, dict(pair.split("=", 1) for pair in args.env)) as rigs:
        for number in range(args.rounds):
            order = list(SERVERS) if number % 2 else list(SERVERS)[::-1]
            rounds.append(
                {(name, case.name): _load(*rigs[name], case) for case in (ONE, MANY, PACED) for name in order}
            )
    print("\n".join(table(rounds)))
    return 0
