"""Sums up usage by user, model, lane or day, with what it cost, for `GET /api/usage` and `trilane usage`."""

import datetime
import re
from typing import Literal, cast, get_args

import msgspec

from events.log.port import EventLog
from gateway.access.grants import Principal
from gateway.core.prices import NANOS, Prices
from gateway.core.usage import USAGE, UsageRow, now_ms, usage_topic
from gateway.core.usage_rows import SLACK_MS, Interval, RowReader
from gateway.errors import BadRequest, Forbidden, Overloaded

UsageKey = Literal["sub", "model", "lane", "day"]
DEFAULT_DAYS = 30
DAY_S = 86_400
MAX_EVENTS = 400_000
"""Maximum events of the log that one request reads: those of 200,000 rows."""
MAX_USERS = 5000
"""Maximum users, active since the beginning of its time, of one request for all of them."""
EVERYONE = 1_000_000_000
MAX_GROUPS = 1000
"""Maximum groups of a report; all that comes after them is one more."""
OTHERS = "(others)"
MAX_AT_ONCE = 2
"""Reports that one process makes at once; more are refused."""
MAX_MS = 253_402_300_800_000
"""The end of the year 9999."""
_AGO = re.compile(r"([0-9]{1,6})([smhd])", re.ASCII)
_EPOCH = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?", re.ASCII)
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": DAY_S}


class UsageQuery(msgspec.Struct, frozen=True):
    """A question about usage."""

    interval: Interval
    by: UsageKey = "model"
    sub: str | None = None
    """The user whose usage is asked for; None: everyone's."""


class UsageGroup(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The sum of the rows with one key."""

    key: str | None = None
    """The user, model, lane or day (UTC); none in the total."""
    rows: int = 0
    """Number of requests and sessions that ended in this time."""
    outcomes: dict[str, int] = {}
    """Number of rows by how they ended: `finish`, `abort`, `error`, `interrupted`."""
    quantities: dict[str, int] = {}
    """Sums of tokens (`inputTokens`, `outputTokens` ...) and of milliseconds of audio (`audioMs`, `spokenMs`)."""
    estimated: int = 0
    """Number of rows with estimates in them, because the model's server gave no figures."""
    cost: dict[str, str] = {}
    """What the rows with a price cost, by currency, as exact decimals."""
    unpriced: int = 0
    """Number of rows that no price of the operator covers: they are in no cost."""


class UsageReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer to `GET /api/usage`."""

    since: str
    until: str
    by: UsageKey
    groups: list[UsageGroup]
    total: UsageGroup
    unreadable: int = 0
    """Number of entries that are missing in the sums because the log is damaged."""


class UsageReports:
    """Makes the reports of one log."""

    def __init__(self, log: EventLog, prices: Prices) -> None:
        self._log = log
        self._prices = prices
        self._count = 0

    async def asked(self, who: Principal, query: UsageQuery) -> UsageReport:
        """Returns a report to a caller of the API: bounded, and of others' usage only with the grant `operator`."""
        if query.sub != who.sub and not who.grants.operator:
            raise Forbidden("this token shows its own user's usage: others' takes the grant `operator`")
        if self._count >= MAX_AT_ONCE:
            raise Overloaded(f"{MAX_AT_ONCE} reports of usage are being made already", retry_after="2")
        self._count += 1
        try:
            return await self.report(query, max_events=MAX_EVENTS, max_users=MAX_USERS)
        finally:
            self._count -= 1

    async def report(
        self, query: UsageQuery, *, max_events: int | None = None, max_users: int | None = None
    ) -> UsageReport:
        """Returns a report. Raises BadRequest (`usage_range_too_large`) past a limit, and LogError."""
        reader = RowReader(self._log, query.interval, max_events)
        sums = _UsageSums(query.by, self._prices)
        for topic in await self._topics(query, max_users):
            async for rows in reader.rows(topic):
                sums.add(topic.removeprefix(USAGE), rows)
        return UsageReport(
            since=iso(query.interval.since_ms),
            until=iso(query.interval.until_ms),
            by=query.by,
            groups=sums.groups(),
            total=sums.total(),
            unreadable=reader.unreadable,
        )

    async def _topics(self, query: UsageQuery, max_users: int | None) -> list[str]:
        """Returns the topics that have rows of that time; they are listed in one look, which misses none."""
        if query.sub is not None:
            return [usage_topic(query.sub)]
        infos = await self._log.topics(USAGE, limit=max_users + 1 if max_users is not None else EVERYONE)
        active = [info.topic for info in infos if info.updated_ms >= query.interval.since_ms - SLACK_MS]
        if max_users is not None and len(active) > max_users:
            raise BadRequest(
                f"more than {max_users} users were active since then: ask for a later time, or for one user by `sub`; "
                "`trilane usage` has no limit",
                code="usage_range_too_large",
            )
        return sorted(active)


class _UsageSum:
    """The sum of some rows, while it is being made."""

    __slots__ = ("_costs", "group")

    def __init__(self, key: str | None) -> None:
        self.group = UsageGroup(key=key)
        self._costs: dict[str, int] = {}

    def add(self, row: UsageRow, cost: tuple[str, int] | None) -> None:
        group = self.group
        group.rows += 1
        group.outcomes[row.outcome] = group.outcomes.get(row.outcome, 0) + 1
        for name, count in row.quantities.items():
            group.quantities[name] = group.quantities.get(name, 0) + count
        group.estimated += row.estimated
        if cost is None:
            group.unpriced += 1
        else:
            self._costs[cost[0]] = self._costs.get(cost[0], 0) + cost[1]

    def whole(self) -> UsageGroup:
        self.group.cost = {currency: decimal(nanos) for currency, nanos in sorted(self._costs.items())}
        return self.group


class _UsageSums:
    """The sums of all groups, and the total."""

    def __init__(self, by: UsageKey, prices: Prices) -> None:
        self._by: UsageKey = by
        self._prices = prices
        self._groups: dict[str, _UsageSum] = {}
        self._total = _UsageSum(None)

    def add(self, sub: str, rows: list[UsageRow]) -> None:
        for row in rows:
            cost = self._prices.cost(row)
            self._group(self._key(sub, row)).add(row, cost)
            self._total.add(row, cost)

    def _group(self, key: str) -> _UsageSum:
        group = self._groups.get(key)
        if group is None:
            key = key if len(self._groups) < MAX_GROUPS else OTHERS
            group = self._groups.setdefault(key, _UsageSum(key))
        return group

    def _key(self, sub: str, row: UsageRow) -> str:
        match self._by:
            case "sub":
                return sub
            case "model":
                return row.model
            case "lane":
                return row.lane
            case "day":
                return iso(row.ended_ms)[:10]

    def groups(self) -> list[UsageGroup]:
        """Returns days in their order, all else with the most rows first."""
        groups = [group.whole() for group in self._groups.values()]
        return sorted(groups, key=lambda group: (0 if self._by == "day" else -group.rows, group.key or ""))

    def total(self) -> UsageGroup:
        return self._total.whole()


def query_of(since: str, until: str, by: str, sub: str | None) -> UsageQuery:
    """Returns a question in the words of a request. Raises BadRequest, which names what is wrong.

    `since` and `until` are as `time_of` takes them; empty: DEFAULT_DAYS ago, and now.
    """
    at_ms = now_ms()
    until_ms = time_of("until", until, at_ms) if until else at_ms
    since_ms = time_of("since", since, at_ms) if since else until_ms - DEFAULT_DAYS * DAY_S * 1000
    if since_ms >= until_ms:
        raise BadRequest(f"since={iso(since_ms)} is not before until={iso(until_ms)}", code="bad_range")
    if by not in get_args(UsageKey):
        raise BadRequest(f"by={by[:40]!r}: want one of {', '.join(get_args(UsageKey))}", code="invalid_value")
    return UsageQuery(Interval(since_ms, until_ms), cast("UsageKey", by), sub)


def time_of(name: str, text: str, at_ms: int) -> int:
    """Returns a time in milliseconds since 1970: an ISO date or time (UTC unless it says else), seconds since 1970,
    or how long before `at_ms`, such as `7d`. Raises BadRequest.
    """
    if ago := _AGO.fullmatch(text):
        return max(0, at_ms - int(ago[1]) * _UNITS_S[ago[2]] * 1000)
    try:
        if _EPOCH.fullmatch(text):
            time_ms = round(float(text) * 1000)
        else:
            # A `+` that was not escaped in a query is a space.
            time = datetime.datetime.fromisoformat(re.sub(r" (\d\d:?\d\d)$", r"+\1", text))
            time_ms = round(time.replace(tzinfo=time.tzinfo or datetime.UTC).timestamp() * 1000)
    except (ValueError, OverflowError):
        time_ms = -1
    if not 0 <= time_ms < MAX_MS:
        wish = "want an ISO date or time such as 2026-11-30T10:00:00Z, seconds since 1970, or 30m, 12h, 7d for ago"
        raise BadRequest(f"{name}={text[:40]!r}: {wish}", code="invalid_value")
    return time_ms


def iso(time_ms: int) -> str:
    """Returns a time as ISO 8601 has it, in UTC."""
    time = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(milliseconds=time_ms)
    return time.isoformat(timespec="milliseconds" if time_ms % 1000 else "seconds").replace("+00:00", "Z")


def decimal(nanos: int) -> str:
    """Returns billionths as a decimal number with two places at least."""
    whole, rest = divmod(nanos, NANOS)
    places = f"{rest:09d}".rstrip("0")
    return f"{whole}.{places:0<2}"
