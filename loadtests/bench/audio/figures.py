"""The README's figures of the audio lane show delays, many sessions, a hostile client, WhisperLive, and words wrong."""

from collections.abc import Callable, Sequence

from loadtests.bench.harness import records as recorded
from loadtests.bench.harness.records import Record
from loadtests.bench.report import plot
from loadtests.bench.report.blocks import Block, BlockRow, cell
from loadtests.bench.report.plot import Axis
from loadtests.bench.report.rows import Figure, at, percent
from loadtests.bench.report.text import markdown

VOICES = (
    ("first text after speech begins, p50, s", [("first_s", "p50")]),
    ("a word is stable after it ends, p50 / p90, s", [("stable_s", "p50"), ("stable_s", "p90")]),
    ("the final after speech ends, 0.5 s of silence included, p50 / p90, s", [("final_s", "p50"), ("final_s", "p90")]),
    ("CPU for a second of speech, s", [("cpu_per_audio_s",)]),
)


def voices(records: list[Record]) -> Block:
    """Shows how late words are: a column for each number of speakers."""
    cases = {"latency-1": "1 speaks", "latency-8": "8 speak at once"}
    rows = [
        [label, *(cell(BlockRow("", case, [at(case, *path) for path in paths]), records, "trilane") for case in cases)]
        for label, paths in VOICES
    ]
    return Block(markdown(["", *cases.values()], rows), _capacity(records))


def _capacity(records: list[Record]) -> str:
    """Plots more and more sessions; empty when they were not measured."""
    attempts = recorded.calmest(recorded.last_run(records, "capacity", "trilane"))
    steps = [step for record in attempts if record["case"] == "capacity" for step in record["figures"]["steps"]]
    if not steps:
        return ""
    sessions = sorted({step["sessions"] for step in steps})

    def line(quantile: str, colour: int) -> plot.Line:
        points = [(count, max(s["stable_s"][quantile] for s in steps if s["sessions"] == count)) for count in sessions]
        return plot.Line(quantile, points, colour)

    x, y = Axis("sessions that speak all the time"), Axis("seconds from the end of a word until it is stable")
    series = [line("p90", 0), line("p50", plot.OTHERS)]
    return plot.lines(
        "How late a word is, by how many speak at once", series, x, y, limit=(2.0, "2 s: too late"), height=320
    )


def words(records: list[Record]) -> Block:
    """Shows the words that are wrong, live and with the whole file at hand: a column for each kind of recording."""
    place = ("accuracy", "trilane")
    record = next((r for r in reversed(records) if (r["case"], r["target"]) == place and "figures" in r), None)
    if record is None:
        return Block("")
    kinds = sorted(record["figures"]["wer"], key=lambda kind: (kind == "all", -record["figures"]["wer"][kind]["words"]))
    head = [f"{kind} ({record['figures']['wer'][kind]['words']:,} words)" for kind in kinds]
    titles = {"trilane": "live", "offline": "the same model on whole files, beam 5"}
    rows = [[title, *(_wrong(records, kind, name) for kind in kinds)] for name, title in titles.items()]
    return Block(markdown(["words wrong, %", *head], rows))


def _wrong(records: list[Record], kind: str, target: str) -> str:
    rate: Figure = percent(at("accuracy", "wer", kind, "rate"))
    return cell(BlockRow("", "accuracy", [rate]), records, target)


PEER_CLIENTS = (1, 4, 8)
BESIDE: tuple[tuple[str, Callable[[str], Sequence[Figure]]], ...] = (
    ("first text, p50, s", lambda case: [at(case, "first_s", "p50")]),
    ("word there for good, p50 / p90, s", lambda case: [at(case, "word_s", q) for q in ("p50", "p90")]),
    ("final after speech, p50 / p90, s", lambda case: [at(case, "final_s", q) for q in ("p50", "p90")]),
    ("recordings never final", lambda case: [at(case, "without_final")]),
    ("words wrong, %", lambda case: [percent(at(case, "wer", "all", "rate"))]),
    ("CPU for a second of speech, s", lambda case: [at(case, "cpu_per_audio_s")]),
)


def whisper_live(records: list[Record]) -> Block:
    """Shows the same recordings on WhisperLive and on Trilane; empty while they were not measured."""
    if not any(record["target"] == "whisperlive" and "figures" in record for record in records):
        return Block("")
    names = {"trilane": "Trilane", "whisperlive": "WhisperLive"}
    cases = [f"peers-{count}" for count in PEER_CLIENTS]
    rows = [
        [label, *(cell(BlockRow(label, case, figures(case)), records, name) for case in cases for name in names)]
        for label, figures in BESIDE
    ]
    head = [f"{name}, {count} at once" for count in PEER_CLIENTS for name in names.values()]
    return Block(f"Beside WhisperLive, with the same model:\n\n{markdown(['', *head], rows)}")


def strain(records: list[Record]) -> Block:
    """Shows what sessions keep, and what too many of them or a hostile one do to others; empty while not measured."""
    lines = [
        BlockRow("open session, after 3 s of audio, KiB", "memory", [at("memory", "kib_heard")]),
        BlockRow("closed sessions leave behind, % of memory", "memory", [percent(at("memory", "left"))]),
        BlockRow("an hour's file takes, s", "upload", [at("upload", "file_took_s")]),
        BlockRow("it leaves behind, % of memory", "upload", [percent(at("upload", "file_left"))]),
        BlockRow("a hostile client makes words of others later by, %", "hostile", [percent(at("hostile", "change"))]),
        BlockRow("too many want to speak: admitted", "overload", [at("overload", "admitted")]),
        BlockRow("a refusal comes after, p90, s", "overload", [at("overload", "refused_s", "p90")]),
        BlockRow("a word of those admitted is stable after, p90, s", "overload", [at("overload", "stable_s", "p90")]),
    ]
    rows = [[line.label, text] for line in lines if (text := cell(line, records, "trilane"))]
    return Block(markdown(["", "Trilane"], rows) if rows else "")
