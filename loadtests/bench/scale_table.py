"""What many idle streams looked like over minutes: one column per layout, and all that was not as it must be."""

import statistics
from typing import Any

from loadtests.bench.layout import aligned

PING_S = (13.5, 16.5)
SLACK_S = 0.25
"""What the time of arrival may differ from the time of sending: both processes have many others to look after."""
GOAL_KIB = 5.0
CREEP = 1.02
"""Memory of a stream at the end, of that after the first third: until then one-off work may come due."""


def progress(row: dict[str, float]) -> str:
    """One line while it runs."""
    pings = f"{row['pings']:,.0f} pings after {row['ping_min_s']:.2f} to {row['ping_max_s']:.2f} s of silence"
    return (
        f"  {row['after_s']:4.0f} s | {row['streams']:,.0f} streams | {row['kib']:.2f} KiB each"
        f" | server core {row['core']:.3f} | {pings if row['pings'] else 'no ping yet'}"
    )


def render(records: list[dict[str, Any]]) -> str:
    """The table, and below it what is wrong."""
    columns = [_column(record) for record in records if "error" not in record]
    names = [record["case"].removeprefix("scale-") for record in records if "error" not in record]
    lines = [["streams x processes", *names]]
    lines += [[label, *(column[label] for column in columns)] for label in (columns[0] if columns else {})]
    wrong = [f"{record['case']}: {said}" for record in records for said in wrongs(record)]
    return "\n".join([aligned(lines), *(wrong or ["everything as it must be"])])


def wrongs(record: dict[str, Any]) -> list[str]:
    """Each thing that must not be, as a sentence."""
    if "error" in record:
        return [record["error"]]
    figures, rows = record["figures"], record["rows"]
    last, pinged = rows[-1], [row for row in rows if row["pings"]]
    said = list(record["faults"])
    if last["streams"] < figures["wanted"]:
        said.append(f"{last['streams']:,.0f} of {figures['wanted']:,} streams are left")
    if figures["reached"] < figures["wanted"]:
        said.append(f"the last event reached {figures['reached']:,} of {figures['wanted']:,}")
    if last["kib"] > GOAL_KIB:
        said.append(f"{last['kib']:.2f} KiB each, at most {GOAL_KIB:g} wanted")
    settled = rows[len(rows) // 3]
    if last["kib"] > settled["kib"] * CREEP:
        said.append(f"memory creeps: from {settled['kib']:.3f} to {last['kib']:.3f} KiB each")
    if any(row["ping_min_s"] < PING_S[0] - SLACK_S or row["ping_max_s"] > PING_S[1] + SLACK_S for row in pinged):
        said.append(f"pings outside of {PING_S[0]:g} to {PING_S[1]:g} s of silence")
    return said


def _column(record: dict[str, Any]) -> dict[str, str]:
    figures, rows = record["figures"], record["rows"]
    third = max(1, len(rows) // 3)
    first, last = rows[1 : third + 1] or rows, rows[-third:]
    pinged = [row for row in rows if row["pings"]] or rows
    return {
        "processes before, MiB": f"{figures['base_mib']:.1f}",
        "open after, s": f"{figures['open_s']:.1f}",
        "KiB each, first look": f"{rows[0]['kib']:.2f}",
        "  last look": f"{rows[-1]['kib']:.2f}",
        "server core, with pings": f"{_mean(pinged, 'core'):.3f}",
        "  first third, last third": f"{_mean(first, 'core'):.3f}, {_mean(last, 'core'):.3f}",
        "pings": f"{sum(row['pings'] for row in rows):,.0f}",
        "  after s of silence, least": f"{min(row['ping_min_s'] for row in pinged):.2f}",
        "  median, first and last third": f"{_mean(first, 'ping_p50_s'):.2f}, {_mean(last, 'ping_p50_s'):.2f}",
        "  most": f"{max(row['ping_max_s'] for row in pinged):.2f}",
        "last event reached": f"{figures['reached']:,}",
    }


def _mean(rows: list[dict[str, float]], name: str) -> float:
    return statistics.fmean(row[name] for row in rows)
