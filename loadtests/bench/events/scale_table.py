"""The table shows many idle streams over minutes: one column per layout, and all that was not as it must be."""

import statistics
from typing import Any

from loadtests.bench.harness.records import Record
from loadtests.bench.report.text import aligned

PING_S = (13.5, 16.5)
SLACK_S = 0.25
"""Seconds by which arrival may differ from sending: both processes have many others to look after."""
GOAL_KIB = 5.0
CREEP = 1.02
"""Largest ratio of a stream's memory at the end to that after the first third, until when one-off work may come due."""
NOISE_KIB = 1024
"""KiB that a process takes and gives back by itself without creeping."""


def look_line(row: dict[str, float]) -> str:
    """Returns one line while a layout is watched."""
    pings = f"{row['pings']:,.0f} pings after {row['ping_min_s']:.2f} to {row['ping_max_s']:.2f} s of silence"
    return (
        f"  {row['after_s']:4.0f} s | {row['streams']:,.0f} streams | {row['kib']:.2f} KiB each"
        f" | server core {row['core']:.3f} | {pings if row['pings'] else 'no ping yet'}"
    )


def progress(record: Record) -> str:
    """Returns one line when a layout was measured."""
    outcome = record.get("error") or ", ".join(record["faults"]) or "everything as it must be"
    return f"{record['case']:14} {record['took_s']:5.0f} s | {outcome}"


def render(records: list[Record], absent: dict[str, str]) -> str:
    """Returns the table; what is wrong was printed while it ran, and is repeated below."""
    good = [record for record in records if "figures" in record]
    columns = [column(record) for record in good]
    lines = [["streams x processes", *(record["case"].removeprefix("scale-") for record in good)]]
    lines += [[label, *(one[label] for one in columns)] for label in (columns[0] if columns else {})]
    remarks = {record["case"]: [record["error"]] if "error" in record else record["faults"] for record in records}
    wrong = [f"{case}: {fault}" for case, faults in remarks.items() for fault in faults]
    return "\n".join([aligned(lines), *(wrong or ["everything as it must be"]), *absent.values()])


def wrongs(figures: dict[str, Any]) -> list[str]:
    """Returns a sentence for each thing that must not be."""
    rows = figures["rows"]
    last, rows_with_pings = rows[-1], [row for row in rows if row["pings"]]
    wrong: list[str] = []
    if last["streams"] < figures["wanted"]:
        wrong.append(f"{last['streams']:,.0f} of {figures['wanted']:,} streams are left")
    if figures["reached"] < figures["wanted"]:
        wrong.append(f"the last event reached {figures['reached']:,} of {figures['wanted']:,}")
    if last["kib"] > GOAL_KIB:
        wrong.append(f"{last['kib']:.2f} KiB each, at most {GOAL_KIB:g} wanted")
    reference = rows[len(rows) // 3]
    more_kib = (last["kib"] - reference["kib"]) * last["streams"]
    if last["kib"] > reference["kib"] * CREEP and more_kib > NOISE_KIB:
        wrong.append(f"memory creeps: from {reference['kib']:.3f} to {last['kib']:.3f} KiB each")
    if any(
        row["ping_min_s"] < PING_S[0] - SLACK_S or row["ping_max_s"] > PING_S[1] + SLACK_S for row in rows_with_pings
    ):
        wrong.append(f"pings outside of {PING_S[0]:g} to {PING_S[1]:g} s of silence")
    return wrong


def column(record: Record) -> dict[str, str]:
    """Returns the figures of one layout."""
    figures = record["figures"]
    rows = figures["rows"]
    third = max(1, len(rows) // 3)
    first, last = rows[1 : third + 1] or rows, rows[-third:]
    rows_with_pings = [row for row in rows if row["pings"]] or rows
    return {
        "processes before, MiB": f"{figures['base_mib']:.1f}",
        "open after, s": f"{figures['open_s']:.1f}",
        "KiB each, first look": f"{rows[0]['kib']:.2f}",
        "  last look": f"{rows[-1]['kib']:.2f}",
        "server core, with pings": f"{mean(rows_with_pings, 'core'):.3f}",
        "  first third, last third": f"{mean(first, 'core'):.3f}, {mean(last, 'core'):.3f}",
        "pings": f"{sum(row['pings'] for row in rows):,.0f}",
        "  after s of silence, least": f"{min(row['ping_min_s'] for row in rows_with_pings):.2f}",
        "  median, first and last third": f"{mean(first, 'ping_p50_s'):.2f}, {mean(last, 'ping_p50_s'):.2f}",
        "  most": f"{max(row['ping_max_s'] for row in rows_with_pings):.2f}",
        "last event reached": f"{figures['reached']:,}",
    }


def mean(rows: list[dict[str, float]], name: str) -> float:
    """Returns the mean of one figure over all looks."""
    return statistics.fmean(row[name] for row in rows)
