"""The blocks of figures in the README: for each its table, its plot, and the command that measures it again."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtests.bench import plot
from loadtests.bench import records as recorded
from loadtests.bench.chat_table import added, memory, served
from loadtests.bench.figure_tables import Block, Line, by_target, cell, markdown, median, provenance
from loadtests.bench.figure_voices import strain, voices, whisper_live, words
from loadtests.bench.layout import Record, Round, at, values
from loadtests.bench.plot import Bar, Range
from loadtests.bench.rounding import rounded

RESULTS = Path(__file__).resolve().parents[1] / "results"


def _share(rounds: Sequence[Round], target: str) -> str:
    """Who does not serve all tokens in time is not only late."""
    found = values(served, rounds, target)
    share = sum(found) / len(found)
    return "" if share > 0.98 else f" ({100 * share:.0f} % of the tokens)"


CHAT_TITLES = {
    "trilane": "Trilane",
    "nginx": "nginx, relaying bytes",
    "litestar": "plain relay",
    "fastapi": "FastAPI + sse-starlette",
    "ai-sdk": "AI SDK on Node",
    "litellm": "LiteLLM",
}
CHAT = (
    Line(
        "added to the first token, 1 stream, p50 / p99, ms", "one", [added("one", "ttft_ms", q) for q in ("p50", "p99")]
    ),
    Line(
        "added to the first token, 100 streams of 50 tokens/s, p50 / p99, ms",
        "hundred",
        [added("hundred", "ttft_ms", q) for q in ("p50", "p99")],
    ),
    Line("burst, 20 streams, tokens/s", "burst", [at("burst", "tokens_per_s")]),
    Line(
        "added to each token, 300 streams of 50 tokens/s, p99, ms",
        "paced",
        [added("paced", "lag_ms", "p99")],
        remark=_share,
    ),
    Line("CPU per token there, µs", "paced", [at("paced", "server_us_per_token")]),
    Line("memory, idle, MB", "paced", [memory("rss_idle_mb")]),
)


def chat(records: list[Record]) -> Block:
    """What a gateway adds to a token."""
    rows: list[Range] = []
    for case, group in (("one", "1 stream"), ("hundred", "100 streams of 50 tokens/s")):
        for name, title in CHAT_TITLES.items():
            ends = [median(added(case, "ttft_ms", q), records, case, name) for q in ("p50", "p99")]
            if any(record["target"] == name for record in records):
                note = cell(Line("", case, []), records, name)
                rows.append(Range(title, ends[0], ends[1], group, note, ours=name == "trilane"))
    svg = plot.ranges("Added to the first token: half of them (full dots), 99 % (open)", rows, "milliseconds")
    return Block(by_target(CHAT, records, CHAT_TITLES), svg)


EVENTS_TITLES = {
    "trilane": "Trilane",
    "plain": "Trilane on plain ASGI",
    "nchan": "nginx + Nchan",
    "fastapi": "FastAPI + sse-starlette",
    "litestar": "Litestar channels",
}
IN_TIME = "deliveries/s to {:,} readers, p99 below 100 ms"


def _fan(readers: int) -> Line:
    case = f"fan-{readers}"
    return Line(IN_TIME.format(readers), case, [at(case, "best", "deliveries_per_s")], lacking="none in time")


EVENTS = (
    Line("memory of an idle stream, 10,000 open, KiB", "idle", [at("idle", "kib", "10000")]),
    Line("new streams per second", "idle", [at("idle", "accepts_per_s")]),
    _fan(1000),
    Line("CPU of a delivery there, µs", "fan-1000", [at("fan-1000", "best", "us_per_delivery")]),
    _fan(5000),
    Line("5,000 readers who lost their connection at once are up to date after, s", "storm", [at("storm", "up_s")]),
    Line("publish to socket, 200 events/s, p50, ms", "publish", [at("publish", "single", "delay_ms", "p50")]),
    Line(
        "publishing in lists of 100, 15,000 events/s, p50 to the socket, ms",
        "publish",
        [at("publish", "batched", "delay_ms", "p50")],
    ),
    Line("replay from memory, events/s", "replay", [at("replay", "memory")]),
    Line("replay from the log, events/s", "replay", [at("replay", "log")]),
)


def events(records: list[Record]) -> Block:
    """What streams and deliveries cost."""
    rows: list[Bar] = []
    for readers in (1000, 5000):
        line = _fan(readers)
        for name, title in EVENTS_TITLES.items():
            if said := cell(line, records, name):
                value = median(line.figures[0], records, line.case, name)
                rows.append(Bar(title, value, f"{readers:,} readers", said, ours=name == "trilane"))
    svg = plot.bars("Deliveries per second, while 99 % arrive within 100 ms", rows, "deliveries/s")
    return Block(by_target(EVENTS, records, EVENTS_TITLES), svg)


def scale(records: list[Record]) -> Block:
    """Minutes of silence: a column for each layout."""
    found = {record["case"]: record for record in sorted(records, key=lambda r: r["time"]) if "figures" in record}
    columns = [_silence(record) for record in found.values()]
    rows = [[label, *(column[label] for column in columns)] for label in columns[0]]
    return Block(markdown(["", *(_streams(name) for name in found)], rows))


def _streams(case: str) -> str:
    streams, _, processes = case.removeprefix("scale-").partition("x")
    return f"{int(streams):,} streams, {processes} {'process' if processes == '1' else 'processes'}"


def _silence(record: Record) -> dict[str, str]:
    figures = record["figures"]
    rows = figures["rows"]
    pinged = [row for row in rows if row["pings"]]
    first, last = min(row["ping_min_s"] for row in pinged), max(row["ping_max_s"] for row in pinged)
    core = sum(row["core"] for row in pinged) / len(pinged)
    minutes = f"{rows[-1]['after_s'] / 60:.0f}"
    return {
        f"memory of a stream after {minutes} minutes, KiB": rounded(rows[-1]["kib"]),
        "of a core, pings included": rounded(core),
        "pings, and the silence before them, s": f"{sum(r['pings'] for r in rows):,.0f}, {first:.1f} to {last:.1f}",
        "the event after it reached": f"{min(figures['reached'], figures['wanted']):,} of {figures['wanted']:,}",
    }


@dataclass(frozen=True)
class Source:
    """A block, the file it is made from, and the command that makes that anew."""

    block: Callable[[list[Record]], Block]
    file: str
    command: str
    alt: str = ""
    """What the plot shows, for those who do not see it."""


SOURCES = {
    "chat": Source(
        chat, "chat.jsonl", 'make bench PART=chat ARGS="--long --peers"', "What each server adds to the first token"
    ),
    "events": Source(events, "events.jsonl", 'make bench PART=events ARGS="--long --peers"', "Deliveries per second"),
    "scale": Source(scale, "events-scale.jsonl", "make bench PART=scale"),
    "voices": Source(
        voices, "audio.jsonl", 'make bench PART=audio ARGS="--long"', "Delay of words by number of sessions"
    ),
    "voices-strain": Source(strain, "audio.jsonl", 'make bench PART=audio ARGS="--long"'),
    "voices-beside": Source(whisper_live, "audio.jsonl", 'make bench PART=audio ARGS="--long --cases peers"'),
    "words": Source(words, "audio.jsonl", 'make bench PART=audio ARGS="--long --cases accuracy"'),
}


def made(folder: Path, name: str) -> Block:
    """A block with its plot, table and provenance; empty while there are no results."""
    source = SOURCES[name]
    path = folder / source.file
    if not path.exists():
        return Block("")
    records = recorded.read(path)
    block = source.block(records)
    if not block.text:
        return block
    image = f"![{source.alt}](loadtests/results/{name}.svg)\n\n" if block.svg else ""
    return Block(f"{image}{block.text}\n\n{provenance(records, source.file, source.command)}", block.svg)
