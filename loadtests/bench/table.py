"""The figures of a chat benchmark as text: one row per figure, one column per target, the goal beside it.

"Added" is the difference to `direct` of the same round, "of nginx" the ratio to nginx of the same round.
"""

from typing import Any

from loadtests.bench.layout import NOISY_CORES, Figure, Record, Round, Row, aligned, line


def _plain(case: str, *path: str) -> Figure:
    def figure(turn: Round, target: str) -> float | None:
        value: Any = turn[target]["cases"][case]
        for name in path:
            value = value[name]
        return value

    return figure


def _added(case: str, kind: str, quantile: str) -> Figure:
    plain = _plain(case, kind, quantile)

    def figure(turn: Round, target: str) -> float | None:
        if target == "direct" or "direct" not in turn:
            return None
        value, bare = plain(turn, target), plain(turn, "direct")
        return None if value is None or bare is None else value - bare

    return figure


def _of_nginx(turn: Round, target: str) -> float | None:
    if "nginx" not in turn or target in ("nginx", "direct"):
        return None
    rate = _plain("burst", "tokens_per_s")
    return (rate(turn, target) or 0) / (rate(turn, "nginx") or 1)


def _of_relay(case: str, quantile: str) -> Figure:
    """What the gateway adds, as a part of what a plain relay adds in the same round."""
    added = _added(case, "ttft_ms", quantile)

    def figure(turn: Round, target: str) -> float | None:
        if "litestar" not in turn or target in ("litestar", "direct"):
            return None
        ours, relay = added(turn, target), added(turn, "litestar")
        return None if ours is None or not relay else ours / relay

    return figure


def _tokens_per_frame(turn: Round, target: str) -> float | None:
    case = turn[target]["cases"]["burst"]
    return case["tokens"] / case["frames"] if case["frames"] else None


def _memory(name: str) -> Figure:
    return lambda turn, target: turn[target][name] or None


ROWS = (
    Row("first token, 1 stream, p50 ms", _plain("one", "ttft_ms", "p50")),
    Row("  added p50 ms", _added("one", "ttft_ms", "p50")),
    Row("  added p99 ms", _added("one", "ttft_ms", "p99")),
    Row("  added p50, of a plain relay", _of_relay("one", "p50"), goal=0.75),
    Row("first token, 100 streams, p50 ms", _plain("hundred", "ttft_ms", "p50")),
    Row("  added p50 ms", _added("hundred", "ttft_ms", "p50"), goal=1.5),
    Row("  added p99 ms", _added("hundred", "ttft_ms", "p99"), goal=8.0),
    Row("  added p50, of a plain relay", _of_relay("hundred", "p50"), goal=0.75),
    Row("  server CPU µs/token", _plain("hundred", "server_us_per_token"), "{:.1f}"),
    Row("burst, 20 streams, upstream chunks/s", _plain("burst", "tokens_per_s"), "{:,.0f}", goal=25_000, at_most=False),
    Row("  tokens in one SSE event", _tokens_per_frame),
    Row("  of nginx", _of_nginx, "{:.3f}", goal=0.12, at_most=False),
    Row("  server CPU µs/token", _plain("burst", "server_us_per_token"), "{:.1f}"),
    Row("300 streams, token lag p50 ms", _plain("paced", "lag_ms", "p50")),
    Row("  token lag p99 ms", _plain("paced", "lag_ms", "p99")),
    Row("  added lag p99 ms", _added("paced", "lag_ms", "p99"), goal=25.0),
    Row("  tokens/s (15,000 wanted)", _plain("paced", "tokens_per_s"), "{:,.0f}"),
    Row("  server CPU µs/token", _plain("paced", "server_us_per_token"), "{:.1f}"),
    Row("  server core", _plain("paced", "server_core")),
    Row("memory idle, MB", _memory("rss_idle_mb"), "{:.1f}", goal=90.0),
    Row("memory after, MB", _memory("rss_after_mb"), "{:.1f}"),
)


def render(records: list[Record], absent: dict[str, str]) -> str:
    """The whole table, and below it what a reader must know before believing it."""
    good = [record for record in records if "error" not in record]
    names = list(dict.fromkeys(record["target"] for record in good))
    head = ["", *names, *absent, "goal", ""]
    body = [line(row, names, absent, _by_round(good)) for row in ROWS]
    bad = ["bad streams", *(str(sum(bad_streams(r) for r in good if r["target"] == n)) for n in names)]
    body.append([*bad, *("-" for _ in absent), "0", ""])
    return "\n".join([aligned([head, *body]), *_notes(records, absent)])


def progress(record: Record) -> str:
    """One line while the benchmark runs."""
    start = f"round {record['round'] + 1} {record['target']:10}"
    if "error" in record:
        return f"{start} {record['error']}"
    cases = record["cases"]
    first, hundred = (_number(cases[name]["ttft_ms"]["p50"]) for name in ("one", "hundred"))
    return (
        f"{start} first token {first} / {hundred} ms | burst {cases['burst']['tokens_per_s']:,.0f}/s"
        f" | lag p99 {_number(cases['paced']['lag_ms']['p99'])} ms | {record['rss_idle_mb']:.0f} MB"
        f" | bad {bad_streams(record)} | other work {_foreign(record):.2f} cores"
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def bad_streams(record: Record) -> int:
    """Streams with a token lost, doubled or out of order, refused, or without their end."""
    return sum(case["bad"] for case in record.get("cases", {}).values())


def _foreign(record: Record) -> float:
    return max(case["foreign_cores"] for case in record["cases"].values())


def _by_round(records: list[Record]) -> list[Round]:
    rounds: dict[int, Round] = {}
    for record in records:
        rounds.setdefault(record["round"], {})[record["target"]] = record
    return list(rounds.values())


def _notes(records: list[Record], absent: dict[str, str]) -> list[str]:
    notes = [f"{name}: {why} (Debian: apt install nginx-light)" for name, why in absent.items()]
    noisy = [r for r in records if "error" not in r and _foreign(r) > NOISY_CORES]
    if noisy:
        notes.append(
            f"{len(noisy)} of {len(records)} measurements shared the machine with other work of more than "
            f"{NOISY_CORES} cores: repeat on a quiet one before believing the tails."
        )
    return notes
