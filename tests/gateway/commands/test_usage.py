"""`trilane usage` prints sums as a table of 80 columns, as CSV that is safe to open, and as JSON."""

import asyncio
import csv
import io
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from events.log.sqlite.engine import SqliteLog
from gateway.cli import main
from gateway.commands.usage import as_csv, as_table, length, short
from gateway.core.engines import retention_policy
from gateway.core.usage import UsageRow, settled
from gateway.core.usage_report import UsageGroup, UsageReport
from gateway.settings import Settings

NOON_MS = 1_700_000_000_000
TOKENS = {"inputTokens": 1_234_567, "outputTokens": 45, "cachedTokens": 3}
COST = {"EUR": "12345.000000001", "USD": "0.5"}


def report(*groups: UsageGroup) -> UsageReport:
    ends = {"finish": 4, "error": 1}
    total = UsageGroup(rows=5, outcomes=ends, quantities=TOKENS, cost=COST, estimated=1, unpriced=2)
    return UsageReport(
        since="2026-11-01T00:00:00Z", until="2026-12-01T00:00:00Z", by="model", groups=[*groups], total=total
    )


LONG = UsageGroup(
    key="a-model-with-a-very-long-name-\x1b[31m-indeed", rows=3, quantities={"audioMs": 3_725_000}, cost=COST
)
BARE = UsageGroup(key="", rows=2, quantities=TOKENS)


def test_a_table_fits_80_columns_whatever_is_in_it() -> None:
    lines = as_table(report(LONG, BARE)).splitlines()
    assert max(map(len, lines[2:])) <= 80
    assert [line.split()[0] for line in lines[4:8]] == ["a-model-with-a-very-long...", "0.5000", "(none)", "total"]
    assert "1:02:05" in lines[4]
    assert "12,345.0000 EUR" in lines[4]
    assert "1.2M" in lines[6]
    assert "4 finish, 1 error" in lines[-3]
    assert "1 rows have estimates" in lines[-2]
    assert "2 rows have no price" in lines[-1]
    assert "\x1b[31m" not in "".join(lines[2:])


def test_one_group_needs_no_total_and_none_is_said() -> None:
    assert "total" not in as_table(report(BARE))
    empty = UsageReport(since="a", until="b", by="model", groups=[], total=UsageGroup())
    assert "Nothing was used" in as_table(empty)


KEYS = {
    "=1+1": "'=1+1",
    "+1": "'+1",
    "-1": "'-1",
    "@SUM(A1)": "'@SUM(A1)",
    "\t=1": "'?=1",
    "\r=1": "'?=1",
    "a,b": "a,b",
    'say "x"': 'say "x"',
    "a\nb": "a?b",
}


@pytest.mark.parametrize("key", KEYS)
def test_no_cell_of_csv_is_a_formula(key: str) -> None:
    header, line = csv.reader(io.StringIO(as_csv(report(UsageGroup(key=key, rows=1, cost=COST))), newline=""))
    cells = dict(zip(header, line, strict=True))
    assert cells["model"] == KEYS[key]
    assert (cells["cost EUR"], cells["cost USD"], cells["rows"]) == ("12345.000000001", "0.5", "1")


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0"), (999_999, "999,999"), (1_000_000, "1.0M"), (10**15, ">999T"), (10**10, "10.0G")]
)
def test_a_large_count_is_short(count: int, text: str) -> None:
    assert short(count) == text


def test_a_length_is_said_in_hours_minutes_and_seconds() -> None:
    assert [length({"audioMs": ms}) for ms in (0, 1000, 36_061_999)] == ["-", "0:00:01", "10:01:01"]


# The whole command


def run(folder: Path, *args: str) -> Result:
    return CliRunner(env={"TRILANE_DATA_DIR": str(folder)}).invoke(main, ["usage", *args])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    async def fill() -> None:
        log = SqliteLog(str(tmp_path / "trilane.db"), retention_policy(Settings()))
        await log.open()
        for number, sub in enumerate(("alice", "bob", "bob")):
            row = UsageRow(
                id=f"r{number}",
                lane="chat",
                kind="run",
                outcome="finish",
                model="gpt",
                ended_ms=NOON_MS,
                quantities={"inputTokens": 10},
            )
            await log.append(settled(sub, row))
        await log.close()

    asyncio.run(fill())
    return tmp_path


def test_the_command_sums_up_the_log(folder: Path) -> None:
    result = run(folder, "--since", "2023-11-01", "--until", "2023-12-01", "--by", "sub", "--format", "json")
    assert result.exit_code == 0, result.output
    groups = json.loads(result.output)["groups"]
    assert [(group["key"], group["quantities"]) for group in groups] == [
        ("bob", {"inputTokens": 20}),
        ("alice", {"inputTokens": 10}),
    ]
    assert "Nothing was used" in run(folder, "--since", "7d", "--sub", "bob").output
    assert run(folder, "--since", "2023-11-01", "--format", "csv").output.splitlines()[1].startswith("gpt,3,3,0,0,0,30")


def test_a_bad_time_and_a_log_that_is_not_there_are_sentences(tmp_path: Path) -> None:
    for args, said in (("--since", "soon"), "want an ISO date"), ((), "there is no log at"):
        result = run(tmp_path, *args)
        assert result.exit_code == 1
        assert said in result.output
    assert list(tmp_path.iterdir()) == []
