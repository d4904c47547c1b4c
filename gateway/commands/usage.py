"""`trilane usage`: prints what was used, summed up, from the log itself; no server needs to run."""

import csv
import io
import json
from typing import Literal

import click
import msgspec

from gateway.core.engines import check_is_there, opened_log
from gateway.core.prices import Prices
from gateway.core.usage_report import UsageGroup, UsageQuery, UsageReport, UsageReports
from gateway.settings import Settings

UsageFormat = Literal["table", "csv", "json"]
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""Beginnings of a cell that a spreadsheet takes for a formula (CWE-1236)."""
KEY_WIDTH = 27
"""Characters of the first column: the table has 80."""
COUNTS = ("inputTokens", "cachedTokens", "outputTokens", "reasoningTokens", "audioMs", "spokenMs")
OUTCOMES = ("finish", "abort", "error", "interrupted")


async def usage(settings: Settings, query: UsageQuery, format_: UsageFormat) -> None:
    """Prints a report of the log that the settings name. Raises ConfigurationError when there is none, and LogError."""
    check_is_there(settings)
    async with opened_log(settings) as log:
        report = await UsageReports(log, Prices(settings.pricing.prices)).report(query)
    printers = {"table": as_table, "csv": as_csv, "json": as_json}
    click.echo(printers[format_](report), nl=False)
    if report.unreadable:
        click.echo(f"{report.unreadable} entries are missing: the log is damaged", err=True)


def as_json(report: UsageReport) -> str:
    return json.dumps(msgspec.to_builtins(report), indent=2, ensure_ascii=False) + "\n"


def as_csv(report: UsageReport) -> str:
    """Returns a line for each group; text that a spreadsheet would run as a formula begins with an apostrophe."""
    currencies = sorted(report.total.cost)
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    costs = [f"cost {currency}" for currency in currencies]
    writer.writerow([report.by, "rows", *OUTCOMES, *COUNTS, "estimated", *costs, "unpriced"])
    for group in report.groups:
        key = group.key or ""
        writer.writerow(
            [
                f"'{printable(key)}" if key.startswith(FORMULA) else printable(key),
                group.rows,
                *[group.outcomes.get(name, 0) for name in OUTCOMES],
                *[group.quantities.get(name, 0) for name in COUNTS],
                group.estimated,
                *[group.cost.get(currency, "0.00") for currency in currencies],
                group.unpriced,
            ]
        )
    return file.getvalue()


def as_table(report: UsageReport) -> str:
    """Returns a table of 80 columns, with a line for each group and for all, and what is to be known about it."""
    groups = [*report.groups, report.total] if len(report.groups) != 1 else report.groups
    lines = [
        click.style(f"{report.since} to {report.until}", bold=True),
        "",
        _line(report.by, "rows", "in", "out", "audio", "cost"),
        "-" * len(_line("", "", "", "", "", "")),
        *[line for group in groups for line in _group_lines(group, "(none)" if group is not report.total else "total")],
    ]
    return "\n".join([*lines, *_remarks(report.total)]) + "\n"


def _group_lines(group: UsageGroup, unnamed: str) -> list[str]:
    """Returns the line of a group, and one more for each further currency."""
    counts = group.quantities
    tokens = [short(counts.get(name, 0)) for name in ("inputTokens", "outputTokens")]
    cost, *others = [f"{_places(amount)} {currency}" for currency, amount in group.cost.items()] or ["-"]
    first = _line(group.key or unnamed, f"{group.rows:,}", *tokens, length(counts), cost)
    return [first, *[_line("", "", "", "", "", other) for other in others]]


def _line(key: str, *cells: str) -> str:
    name = printable(key)
    name = name if len(name) <= KEY_WIDTH else name[: KEY_WIDTH - 3] + "..."
    widths = (7, 7, 7, 8, 15)
    return f"{name:<{KEY_WIDTH}}" + "".join(f" {cell:>{width}}" for cell, width in zip(cells, widths, strict=True))


def printable(key: str) -> str:
    """Returns a name without what could move a cursor or begin a line."""
    return "".join(char if char.isprintable() else "?" for char in key)


def _remarks(total: UsageGroup) -> list[str]:
    if not total.rows:
        return ["Nothing was used in this time."]
    ends = ", ".join(f"{total.outcomes[name]:,} {name}" for name in OUTCOMES if name in total.outcomes)
    remarks = [f"Ends: {ends}."]
    if total.estimated:
        remarks.append(f"{total.estimated:,} rows have estimates: their model's server gave no figures.")
    if total.unpriced:
        remarks.append(f"{total.unpriced:,} rows have no price, and are in no cost: see [[price]] in the README.")
    return ["", *remarks]


def short(count: int) -> str:
    """Returns a count in at most 7 characters."""
    if count < 1_000_000:
        return f"{count:,}"
    for size, letter in ((10**6, "M"), (10**9, "G"), (10**12, "T")):
        if count < size * 1000:
            return f"{count / size:.1f}{letter}"
    return ">999T"


def length(quantities: dict[str, int]) -> str:
    """Returns the audio heard in hours, minutes and seconds."""
    seconds = quantities.get("audioMs", 0) // 1000
    if not seconds:
        return "-"
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def _places(amount: str) -> str:
    """Returns an amount with four places, which a table has room for; CSV and JSON have all."""
    return f"{float(amount):,.4f}"
