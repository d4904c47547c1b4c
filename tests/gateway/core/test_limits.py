"""The limits of each user and of everyone: who is let in, who is refused with which words, and what comes back."""

import asyncio
from collections.abc import Mapping

import pytest

from events.log.memory import MemoryLog
from events.log.quotas import LIVE_S, TakeBatch, TakeReply
from gateway.access.grants import GrantedLimits, Grants, Principal
from gateway.core.leases import NO_LEASE
from gateway.core.limits import REQUEST, SESSION, STREAM, TICKET, UNKNOWN_OUTPUT_TOKENS, Limiter, wants_of_run
from gateway.core.quota_client import HEARTBEAT_S
from gateway.core.telemetry import Metrics
from gateway.errors import LogUnavailable, Overloaded, RateLimited
from gateway.settings import load
from tests.support.virtual_time import simulated

KEYS = "alice:key-of-alice-1,bob:key-of-bob-12"
RUN = wants_of_run(100, {"max_tokens": 400}, has_stream=True)
CAPACITIES = {"runs": 8, "streams": 8, "sessions": 4, "uploads": 2}


class CountedLog(MemoryLog):
    """Counts what it is asked, by the clock of the event loop, and fails when it shall."""

    def __init__(self) -> None:
        super().__init__(clock=lambda: 6e8 + asyncio.get_running_loop().time())
        self.batches: list[TakeBatch] = []
        self.has_failed = self.is_away = False
        self.begun = asyncio.Semaphore(0)  # released when a batch is begun

    def take_at_once(self, batch: TakeBatch) -> TakeReply | None:
        return None

    async def take(self, batch: TakeBatch) -> TakeReply:
        self.batches.append(batch)
        self.begun.release()
        await asyncio.sleep(0)
        if self.is_away:
            raise LogUnavailable("away")
        reply = await super().take(batch)
        if self.has_failed:
            raise LogUnavailable("away")
        return reply

    async def used(self, limiter: Limiter, who: Principal, key: str) -> int:
        """Returns what a user has of a limit in the engine."""
        [charge] = limiter.charges(who, {key: 0})
        reply = await super().take(TakeBatch(holder="test", calls=[[charge.take]]))
        return reply.outcomes[0].tallies[0].used


def limiter_on(log: MemoryLog, **env: str) -> Limiter:
    settings = load({"TRILANE_API_KEYS": KEYS, **{f"TRILANE_LIMIT_{name}": value for name, value in env.items()}})
    return Limiter(settings, log, Metrics(), CAPACITIES)


def user(sub: str = "alice", **limits: float) -> Principal:
    return Principal(sub=sub, grants=Grants(limits=GrantedLimits(**limits)))  # pyright: ignore[reportArgumentType]


async def refused(limiter: Limiter, who: Principal, wants: Mapping[str, int]) -> Overloaded:
    with pytest.raises(Overloaded) as refusal:
        await limiter.admit(who, wants)
    return refusal.value


# Nothing set


@simulated
async def test_without_limits_the_engine_is_not_asked() -> None:
    log = CountedLog()
    limiter = limiter_on(log)
    leases = [await limiter.admit(user(), wants) for wants in (RUN, STREAM, SESSION, REQUEST)]
    for lease in leases:
        assert lease.headers == ()
        lease.settle(tokens=5)
        lease.end()
    await limiter.close()
    assert log.batches == []


@simulated
async def test_one_user_holds_at_most_half_of_what_the_process_can() -> None:
    limiter = limiter_on(CountedLog())
    leases = [await limiter.admit(user(), RUN) for _ in range(4)]
    refusal = await refused(limiter, user(), RUN)
    assert (refusal.status, refusal.code, refusal.extra) == (429, "rate_limited", {"limit": "runs"})
    assert await limiter.admit(user("bob"), RUN)
    leases[0].leave("runs")
    assert (await refused(limiter, user(), RUN)).extra == {"limit": "streams"}, "each is counted by itself"
    for _ in range(3):
        leases[0].end()
    await limiter.admit(user(), RUN)
    await refused(limiter, user(), RUN)


@pytest.mark.parametrize("env", [{"TRILANE_API_KEYS": ""}, {"TRILANE_API_KEYS": "alice:key-of-alice-1"}])
@simulated
async def test_who_is_alone_has_all_of_it(env: dict[str, str]) -> None:
    limiter = Limiter(load(env), CountedLog(), Metrics(), CAPACITIES)
    assert [await limiter.admit(user(), RUN) for _ in range(9)] == [NO_LEASE] * 9


@simulated
async def test_a_limit_of_the_operator_takes_the_place_of_the_half() -> None:
    limiter = limiter_on(CountedLog(), USER_STREAMS="6")
    for _ in range(6):
        await limiter.admit(user(), STREAM)
    assert "streams of yours is 6, and 6 are used" in (await refused(limiter, user(), STREAM)).detail


@simulated
async def test_idle_streams_of_one_user_share_their_end() -> None:
    limiter = limiter_on(CountedLog())
    ends = [await limiter.admit_stream(user()) for _ in range(4)]
    assert len({id(end) for end in ends}) == 1
    for end in ends:
        await refused(limiter, user(), STREAM)
        end()
        assert (await limiter.admit_stream(user())) is not None
        await limiter.admit_stream(user("bob"))
    for end in ends:
        end()
    assert [await limiter.admit_stream(user()) for _ in range(4)]


# Slots


@simulated
async def test_a_slot_of_everyone_that_is_full_is_no_fault_of_the_caller() -> None:
    limiter = limiter_on(CountedLog(), RUNS="1")
    lease = await limiter.admit(user(), RUN)
    refusal = await refused(limiter, user("bob"), RUN)
    assert (refusal.status, refusal.code, refusal.retry_after) == (503, "overloaded", "2")
    assert refusal.detail == "all 1 runs of this gateway are taken (TRILANE_LIMIT_RUNS)"
    lease.end()
    assert await limiter.admit(user("bob"), RUN), "free for the next at once"


@simulated
async def test_a_token_narrows_and_never_widens() -> None:
    limiter = limiter_on(CountedLog(), USER_RUNS="2")
    await limiter.admit(user(runs=1), RUN)
    assert (await refused(limiter, user(runs=1), RUN)).extra["max"] == 1
    await limiter.admit(user(runs=9), RUN)
    refusal = await refused(limiter, user(runs=9), RUN)
    assert (refusal.extra["max"], refusal.extra["used"]) == (2, 2)
    assert (await refused(limiter, user("bob", streams=0), STREAM)).status == 429


@simulated
async def test_a_slot_is_free_soon_after_its_end_and_the_engine_falls_silent() -> None:
    log = CountedLog()
    limiter = limiter_on(log, USER_RUNS="2")
    lease = await limiter.admit(user(), RUN)
    await asyncio.sleep(4 * HEARTBEAT_S)
    assert 3 <= len(log.batches) <= 6, "it tells that it lives"
    lease.end()
    await asyncio.sleep(0.1)
    assert await log.used(limiter, user(), "runs") == 0
    log.batches.clear()
    await asyncio.sleep(60)
    assert log.batches == []


@simulated
async def test_a_process_that_was_not_heard_of_for_too_long_holds_its_slots_again() -> None:
    log = CountedLog()
    limiter = limiter_on(log, USER_RUNS="3")
    leases = [await limiter.admit(user(), RUN) for _ in range(2)]
    log.is_away = True
    await asyncio.sleep(LIVE_S + HEARTBEAT_S)
    log.is_away = False
    assert await log.used(limiter, user(), "runs") == 0
    await limiter.admit(user(), RUN)
    assert await log.used(limiter, user(), "runs") == 3
    assert (await refused(limiter, user(), RUN)).extra["used"] == 3
    leases[0].end()


@simulated
async def test_whoever_leaves_while_the_engine_is_asked_holds_nothing() -> None:
    log = CountedLog()
    limiter = limiter_on(log, USER_RUNS="2", USER_DAILY_TOKENS="5000")
    asking = asyncio.get_running_loop().create_task(limiter.admit(user(), RUN))
    await log.begun.acquire()
    asking.cancel()
    await asyncio.wait([asking])
    await asyncio.sleep(0.2)
    assert [await log.used(limiter, user(), key) for key in ("runs", "daily_tokens")] == [0, 0]


@simulated
async def test_an_answer_that_was_lost_costs_no_slot() -> None:
    log = CountedLog()
    limiter = limiter_on(log, USER_RUNS="2")
    log.has_failed = True
    for _ in range(5):
        with pytest.raises(LogUnavailable, match="limits cannot be counted now: away"):
            await limiter.admit(user(), RUN)
    log.has_failed = False
    await asyncio.sleep(2)
    assert await log.used(limiter, user(), "runs") == 0
    await limiter.admit(user(), RUN)
    await limiter.admit(user(), RUN)


@simulated
async def test_all_that_comes_at_once_goes_together_and_exactly_the_limit_is_admitted() -> None:
    log = CountedLog()
    limiter = limiter_on(log, RUNS="100", USER_RUNS="70", USER_STREAMS="150")
    users = [user(("alice", "bob")[n % 2]) for n in range(300)]
    outcomes = await asyncio.gather(*(limiter.admit(who, RUN) for who in users), return_exceptions=True)
    assert sum(not isinstance(outcome, Exception) for outcome in outcomes) == 100
    assert len(log.batches) <= 4


@simulated
async def test_the_end_of_a_process_gives_everything_back() -> None:
    log = CountedLog()
    limiter = limiter_on(log, USER_RUNS="2", USER_DAILY_TOKENS="5000")
    lease = await limiter.admit(user(), RUN)
    await log.begun.acquire()
    asking = asyncio.get_running_loop().create_task(limiter.admit(user("bob"), RUN))
    await log.begun.acquire()
    lease.settle(tokens=30)  # while the engine is asked already
    await limiter.close()
    await asking
    assert [await log.used(limiter, user(), key) for key in ("runs", "daily_tokens")] == [0, 30]


# Rates


@simulated
async def test_a_rate_is_told_in_the_headers_of_openai() -> None:
    limiter = limiter_on(CountedLog(), USER_REQUESTS_PER_MINUTE="2", TOKENS_PER_MINUTE="1000")
    [first, second] = [dict((await limiter.admit(user(), RUN)).headers) for _ in range(2)]
    assert first[b"x-ratelimit-limit-requests"] == b"2"
    assert [headers[b"x-ratelimit-remaining-requests"] for headers in (first, second)] == [b"1", b"0"]
    assert [headers[b"x-ratelimit-remaining-tokens"] for headers in (first, second)] == [b"500", b"0"]
    assert first[b"x-ratelimit-reset-requests"] == b"1m5s"
    refusal = await refused(limiter, user(), RUN)
    assert isinstance(refusal, RateLimited)
    assert refusal.extra["limit"] == "requests_per_minute"
    assert refusal.headers["x-ratelimit-remaining-requests"] == "0"
    assert refusal.retry_after is not None
    await asyncio.sleep(int(refusal.retry_after))
    await limiter.admit(user(), REQUEST)


@simulated
async def test_tokens_are_reserved_and_settled() -> None:
    log = CountedLog()
    limiter = limiter_on(log, USER_TOKENS_PER_MINUTE="1000", USER_DAILY_TOKENS="5000")
    lease = await limiter.admit(user(), RUN)
    assert await log.used(limiter, user(), "tokens_per_minute") == 500
    lease.settle(tokens=30)
    lease.settle(tokens=9999)
    await asyncio.sleep(0.1)
    assert await log.used(limiter, user(), "tokens_per_minute") == 30
    assert await log.used(limiter, user(), "daily_tokens") == 30
    dear = await limiter.admit(user(), RUN)
    dear.settle(tokens=7000)
    await asyncio.sleep(70)
    assert (await refused(limiter, user(), RUN)).extra["limit"] == "daily_tokens"
    assert await limiter.admit(user("bob"), RUN)


@simulated
async def test_work_that_did_not_begin_used_nothing() -> None:
    log = CountedLog()
    limiter = limiter_on(log, USER_TOKENS_PER_MINUTE="1000", USER_REQUESTS_PER_MINUTE="5", USER_RUNS="2")
    (await limiter.admit(user(), RUN)).cancel()
    await asyncio.sleep(0.1)
    for key in ("tokens_per_minute", "requests_per_minute", "runs"):
        assert await log.used(limiter, user(), key) == 0, key


@simulated
async def test_an_estimate_above_the_limit_is_let_in_alone() -> None:
    limiter = limiter_on(CountedLog(), USER_TOKENS_PER_MINUTE="1000")
    await limiter.admit(user(), wants_of_run(100, {"max_tokens": 32_000}, has_stream=False))
    assert (await refused(limiter, user(), RUN)).retryable


@simulated
async def test_a_limit_of_nothing_is_not_worth_another_try() -> None:
    limiter = limiter_on(CountedLog(), USER_REQUESTS_PER_MINUTE="0")
    refusal = await refused(limiter, user(), REQUEST)
    assert (refusal.status, refusal.retryable, refusal.retry_after) == (429, False, None)


@simulated
async def test_costs_are_counted_to_the_millionth() -> None:
    limiter = limiter_on(CountedLog(), USER_MONTHLY_COST="0.01")
    for _ in range(2):
        (await limiter.admit(user(), RUN)).settle(tokens=10, cost=0.006)
        await asyncio.sleep(0.1)
    refusal = await refused(limiter, user(), RUN)
    assert (refusal.extra["limit"], "is 0.01, and 0.012 are used" in refusal.detail) == ("monthly_cost", True)


@simulated
async def test_tickets_have_a_limit_where_somebody_needs_them() -> None:
    limiter = limiter_on(CountedLog())
    for _ in range(120):
        await limiter.admit(user(), TICKET)
    assert (await refused(limiter, user(), TICKET)).status == 429
    alone = Limiter(load({}), CountedLog(), Metrics(), CAPACITIES)
    assert await alone.admit(user("local"), TICKET) is NO_LEASE


def test_a_run_takes_what_it_may_answer() -> None:
    assert RUN["tokens_per_minute"] == RUN["daily_tokens"] == 500
    assert wants_of_run(1, {"max_completion_tokens": 7, "max_tokens": 9}, has_stream=False)["daily_tokens"] == 8
    assert wants_of_run(1, {}, has_stream=False)["daily_tokens"] == 1 + UNKNOWN_OUTPUT_TOKENS
    assert "streams" not in wants_of_run(1, {}, has_stream=False)


# Memory and figures


@simulated
async def test_a_process_short_of_memory_takes_nothing_new() -> None:
    limiter = limiter_on(CountedLog())
    limiter.is_short_of_memory = lambda: True
    refusal = await refused(limiter, user(), STREAM)
    assert (refusal.status, refusal.code, refusal.retry_after) == (503, "memory", "5")
    limiter.is_short_of_memory = lambda: False
    await limiter.admit(user(), STREAM)


@simulated
async def test_figures_tell_what_is_used_and_what_was_refused() -> None:
    settings = load({"TRILANE_API_KEYS": KEYS, "TRILANE_LIMIT_RUNS": "1"})
    metrics = Metrics()
    limiter = Limiter(settings, CountedLog(), metrics, CAPACITIES)
    lease = await limiter.admit(user(), RUN)
    await refused(limiter, user("bob"), RUN)
    text = (await metrics.text()).decode()
    assert 'trilane_gateway_limits_refused_total{limit="runs"} 1.0' in text
    assert 'trilane_gateway_limits_used{limit="runs"} 1.0' in text
    assert 'trilane_gateway_limits_max{limit="runs"} 1.0' in text
    lease.end()
    assert 'trilane_gateway_limits_used{limit="runs"} 0.0' in (await metrics.text()).decode()
