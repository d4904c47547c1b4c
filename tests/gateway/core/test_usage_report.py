"""Sums of usage are exact, of the right rows alone, and cost no more than the time that is asked for."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest

from events.log.memory import MemoryLog
from events.log.port import Slice
from gateway.access.grants import OPERATOR, Principal
from gateway.core import usage_report
from gateway.core.prices import Prices
from gateway.core.usage import UsageRow, reserved, settled
from gateway.core.usage_report import UsageKey, UsageQuery, UsageReports, decimal, iso, query_of, time_of
from gateway.core.usage_rows import Interval, RowReader
from gateway.errors import BadRequest, Forbidden, LogDamaged, Overloaded
from gateway.upstream_settings import PriceSettings
from tests.support.virtual_time import simulated

T0 = 1_700_000_000_000
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
ALL = Interval(0, 2 * T0)
ME = Principal(sub="me")
BOSS = Principal(sub="boss", grants=OPERATOR)


class CountingLog(MemoryLog):
    """A log that counts what is read of it, at a time of its own."""

    def __init__(self) -> None:
        self.now_ms = T0
        super().__init__(clock=lambda: self.now_ms / 1000)
        self.reads = 0
        self.damaged: range = range(0)

    async def read(self, topic: str, after: int, *, max_events: int = 1000, max_bytes: int = 262_144) -> Slice:
        self.reads += 1
        if after + 1 in self.damaged:
            raise LogDamaged("a page")
        if after < self.damaged.start:
            max_events = min(max_events, self.damaged.start - after - 1)
        return await super().read(topic, after, max_events=max_events, max_bytes=max_bytes)

    async def next_readable(self, topic: str, after: int, upto: int) -> int:
        return self.damaged.stop


def row(number: int, ended_ms: int, **fields: Any) -> UsageRow:
    defaults: dict[str, Any] = {
        "lane": "chat",
        "kind": "run",
        "outcome": "finish",
        "model": "gpt",
        "quantities": {"inputTokens": number, "outputTokens": 1},
    }
    return UsageRow(id=f"r{number}", ended_ms=ended_ms, **(defaults | fields))


@asynccontextmanager
async def opened() -> AsyncIterator[CountingLog]:
    log = CountingLog()
    await log.open()
    yield log
    await log.close()


async def put(log: CountingLog, sub: str, *rows: UsageRow) -> None:
    """Appends rows, each at the time of its end."""
    for settled_row in rows:
        log.now_ms = settled_row.ended_ms
        await log.append(reserved(sub, settled_row.id))
        await log.append(settled(sub, settled_row))


def reports(log: MemoryLog, *prices: PriceSettings) -> UsageReports:
    return UsageReports(log, Prices(prices))


# Which rows


@simulated
async def test_the_rows_of_an_interval_are_those_that_ended_in_it() -> None:
    rng = random.Random(5)
    async with opened() as log:
        ends = sorted(T0 + rng.randrange(30 * DAY_MS) for _ in range(1500))
        await put(log, "me", *[row(number, end) for number, end in enumerate(ends)])
        for _ in range(40):
            since, until = sorted(rng.choice(ends) + rng.choice((-1, 0, 1)) for _ in range(2))
            reader = RowReader(log, Interval(since, until))
            found = [found.id for rows in [r async for r in reader.rows("usage/me")] for found in rows]
            assert found == [f"r{number}" for number, end in enumerate(ends) if since <= end < until]


@simulated
async def test_a_row_counts_at_its_own_time_though_the_log_took_it_late_or_from_a_slow_clock() -> None:
    async with opened() as log:
        for delay_ms in (-14 * 60_000, 14 * 60_000):
            for number in range(700):
                log.now_ms = T0 + number * 60_000 + (delay_ms if number % 2 else 0)
                await log.append(settled(str(delay_ms), row(number, T0 + number * 60_000)))
            reader = RowReader(log, Interval(T0 + 500 * 60_000, T0 + 510 * 60_000))
            found = [found.id for rows in [r async for r in reader.rows(f"usage/{delay_ms}")] for found in rows]
            assert sorted(found) == [f"r{number}" for number in range(500, 510)]


@simulated
async def test_a_short_time_costs_few_reads_whatever_lies_before_and_after_it() -> None:
    async with opened() as log:
        await put(log, "me", *[row(number, T0 + number * HOUR_MS) for number in range(20_000)])
        log.reads = 0
        reader = RowReader(log, Interval(T0 + 10_000 * HOUR_MS, T0 + 10_001 * HOUR_MS))
        assert sum([len(rows) async for rows in reader.rows("usage/me")]) == 1
        assert log.reads <= 12


@simulated
async def test_a_damaged_part_is_left_out_and_counted() -> None:
    async with opened() as log:
        await put(log, "me", *[row(1, T0 + number) for number in range(10)])
        log.damaged = range(5, 9)
        report = await reports(log).report(UsageQuery(ALL))
        assert report.unreadable == 4
        assert report.total.rows == 8


# Sums


@simulated
async def test_everything_is_summed_up_and_has_its_cost() -> None:
    price = PriceSettings(model="gpt", input=Decimal("0.5"), output=Decimal("2"))
    speech = PriceSettings(model="whisper", currency="EUR", audio=Decimal("0.6"))
    async with opened() as log:
        await put(log, "me", row(1, T0), row(2, T0 + DAY_MS, outcome="abort", estimated=True))
        audio = {"lane": "audio", "kind": "session", "model": "whisper", "quantities": {"audioMs": 1500}}
        await put(log, "you", row(3, T0 + DAY_MS, **audio), row(4, T0 + DAY_MS, model="other"))
        await log.append(reserved("me", "still-running"))
        made = reports(log, price, speech)
        report = await made.report(UsageQuery(ALL))
        assert [(group.key, group.rows) for group in report.groups] == [("gpt", 2), ("other", 1), ("whisper", 1)]
        gpt, other, whisper = report.groups
        assert (gpt.outcomes, gpt.estimated) == ({"finish": 1, "abort": 1}, 1)
        assert (gpt.quantities, gpt.cost) == ({"inputTokens": 3, "outputTokens": 2}, {"USD": "0.0000055"})
        assert (other.cost, other.unpriced, gpt.unpriced) == ({}, 1, 0)
        assert (whisper.quantities, whisper.cost) == ({"audioMs": 1500}, {"EUR": "0.015"})
        assert report.total.rows == 4
        assert report.total.quantities == {"inputTokens": 7, "outputTokens": 3, "audioMs": 1500}
        assert report.total.cost == {"EUR": "0.015", "USD": "0.0000055"}
        keys: dict[UsageKey, list[str]] = {
            "sub": ["me", "you"],
            "lane": ["chat", "audio"],
            "day": ["2023-11-14", "2023-11-15"],
        }
        for by, names in keys.items():
            assert [group.key for group in (await made.report(UsageQuery(ALL, by))).groups] == names
        assert (await made.report(UsageQuery(ALL, "sub", "you"))).total.rows == 2


@simulated
async def test_names_without_number_are_bounded_and_the_total_stays_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage_report, "MAX_GROUPS", 3)
    async with opened() as log:
        await put(log, "me", *[row(1, T0 + number, model=f"m{number}") for number in range(9)])
        report = await reports(log).report(UsageQuery(ALL))
        assert sorted((group.key, group.rows) for group in report.groups) == [
            ("(others)", 6),
            ("m0", 1),
            ("m1", 1),
            ("m2", 1),
        ]
        assert report.total.rows == 9


# Who may ask, and how much


@simulated
async def test_only_an_operator_sees_others() -> None:
    async with opened() as log:
        await put(log, "me", row(1, T0))
        await put(log, "you", row(2, T0))
        made = reports(log)
        assert (await made.asked(ME, UsageQuery(ALL, sub="me"))).total.quantities["inputTokens"] == 1
        assert (await made.asked(BOSS, UsageQuery(ALL))).total.rows == 2
        assert (await made.asked(BOSS, UsageQuery(ALL, sub="you"))).total.quantities["inputTokens"] == 2
        for sub in ("you", None):
            with pytest.raises(Forbidden):
                await made.asked(ME, UsageQuery(ALL, sub=sub))


@simulated
async def test_a_time_with_too_much_in_it_is_refused_and_a_shorter_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage_report, "MAX_EVENTS", 1500)
    monkeypatch.setattr(usage_report, "MAX_USERS", 2)
    async with opened() as log:
        await put(log, "me", *[row(1, T0 + number * HOUR_MS) for number in range(1000)])
        await put(log, "a", row(1, T0 + DAY_MS))
        made = reports(log)
        for query in (UsageQuery(ALL, sub="me"), UsageQuery(ALL)):
            with pytest.raises(BadRequest) as error:
                await made.asked(BOSS, query)
            assert error.value.code == "usage_range_too_large"
        assert (await made.asked(BOSS, UsageQuery(Interval(T0 + 500 * HOUR_MS, 2 * T0)))).total.rows == 500
        assert (await made.report(UsageQuery(ALL))).total.rows == 1001
        await put(log, "b", row(1, T0 + DAY_MS))
        with pytest.raises(BadRequest, match="users were active"):
            await made.asked(BOSS, UsageQuery(Interval(T0, T0 + 1)))


@simulated
async def test_a_process_makes_few_reports_at_once() -> None:
    async with opened() as log:
        made = reports(log)
        started = [asyncio.create_task(made.asked(ME, UsageQuery(ALL, sub="me"))) for _ in range(4)]
        results = await asyncio.gather(*started, return_exceptions=True)
        assert sum(isinstance(result, Overloaded) for result in results) in (0, 2)
        assert (await made.asked(ME, UsageQuery(ALL, sub="me"))).total.rows == 0


# The words of a request

TIMES = {
    "2023-11-14": T0 - T0 % DAY_MS,
    "2023-11-14T22:13:20Z": T0,
    "2023-11-14T22:13:20": T0,
    "2023-11-14T23:13:20+01:00": T0,
    "2023-11-14T23:13:20 01:00": T0,
    "1700000000": T0,
    "1700000000.25": T0 + 250,
    "7d": T0 - 7 * DAY_MS,
    "90m": T0 - 90 * 60_000,
    "999999d": 0,
    "0": 0,
}


@pytest.mark.parametrize("text", TIMES)
def test_a_time_is_a_date_seconds_or_how_long_ago(text: str) -> None:
    assert time_of("since", text, T0) == TIMES[text]


@pytest.mark.parametrize(
    "text", ["yesterday", "-1", "1e9", "nan", "2023-13-01", "0001-01-01", "9" * 400, "7w", "", "٣d"]
)
def test_a_time_that_is_none_is_refused_by_its_name(text: str) -> None:
    with pytest.raises(BadRequest, match="since="):
        time_of("since", text, T0)


def test_a_question_without_words_is_about_thirty_days_until_now() -> None:
    query = query_of("", "", "model", None)
    assert query.interval.until_ms - query.interval.since_ms == 30 * DAY_MS
    assert query_of("", "2023-12-14", "day", "me").interval.since_ms == T0 - T0 % DAY_MS


@pytest.mark.parametrize(
    ("since", "until", "by"), [("2023-11-15", "2023-11-14", "model"), ("5", "5", "model"), ("", "", "colour")]
)
def test_a_question_that_makes_no_sense_is_refused(since: str, until: str, by: str) -> None:
    with pytest.raises(BadRequest):
        query_of(since, until, by, None)


def test_times_and_amounts_are_written_exactly() -> None:
    assert (iso(T0), iso(T0 + 5)) == ("2023-11-14T22:13:20Z", "2023-11-14T22:13:20.005Z")
    assert [decimal(nanos) for nanos in (0, 1, 10**9, 1_250_000_000)] == ["0.00", "0.000000001", "1.00", "1.25"]
