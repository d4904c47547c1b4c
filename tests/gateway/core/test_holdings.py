"""What the log keeps of a user is bounded by what is there, and not by what was there once."""

import pytest

from events.log.memory import MemoryLog
from events.log.port import Append, Holding
from gateway.access.grants import GrantedLimits, Grants, Principal
from gateway.core import holdings
from gateway.core.holdings import maker_of
from gateway.core.limits import Limiter
from gateway.core.telemetry import Metrics
from gateway.errors import RateLimited
from gateway.settings import load
from tests.support.virtual_time import simulated


class LookedAtLog(MemoryLog):
    """Counts how often it was looked at."""

    looks = 0

    async def holdings(self, owner: str | None) -> list[Holding]:
        self.looks += 1
        return await super().holdings(owner)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Returns the monotonic seconds, which a test may move."""
    now = [100.0]
    monkeypatch.setattr(holdings.time, "monotonic", lambda: now[0])
    return now


async def opened(in_all: dict[str, str] | None = None, **env: str) -> tuple[LookedAtLog, Limiter]:
    """`in_all`: limits of everyone together; `env`: those of each user."""
    log = LookedAtLog()
    await log.open()
    limits = {f"TRILANE_LIMIT_{name}": value for name, value in (in_all or {}).items()}
    limits |= {f"TRILANE_LIMIT_USER_{name}": value for name, value in env.items()}
    return log, Limiter(load(limits), log, Metrics(), {})


def user(sub: str = "ann", **limits: int) -> Principal:
    return Principal(sub=sub, grants=Grants(limits=GrantedLimits(**limits)))


async def refused(limiter: Limiter, who: Principal, topics: int, size: int) -> dict[str, object]:
    with pytest.raises(RateLimited) as refusal:
        await limiter.keep(who, topics=topics, stored_bytes=size)
    assert not refusal.value.retryable
    assert str(refusal.value.extra["max"]) in refusal.value.detail
    return {**refusal.value.extra}


@simulated
async def test_without_a_limit_the_log_is_not_looked_at() -> None:
    log, limiter = await opened()
    await limiter.keep(user(), topics=1000, stored_bytes=1 << 40)
    assert log.looks == 0
    await log.close()


@simulated
async def test_the_limit_is_reached_and_not_passed(clock: list[float]) -> None:
    log, limiter = await opened(TOPICS="3", STORED_BYTES="1000")
    await log.append(Append(topic="chat/1", data=[b"x" * 100], owner="ann"))
    await log.append(Append(topic="event/a", data=[b"x" * 100], owner=maker_of("ann")))
    await log.append(
        Append(topic="run/1", data=[b"x" * 100], owner="ann"), Append(topic="usage/ann", data=[b"x" * 999])
    )
    await limiter.keep(user(), topics=1, stored_bytes=699)
    assert await refused(limiter, user(), 1, 1) == {"limit": "topics", "max": 3, "used": 3}
    await limiter.keep(user(), topics=0, stored_bytes=1)
    assert await refused(limiter, user(), 0, 1) == {"limit": "stored_bytes", "max": 1000, "used": 1000}
    await limiter.keep(user("bob"), topics=3, stored_bytes=1000)
    await log.close()


@simulated
async def test_what_has_gone_is_seen_before_anybody_is_refused(clock: list[float]) -> None:
    log, limiter = await opened(TOPICS="1")
    await log.append(Append(topic="chat/1", data=[b"x"], owner="ann"))
    await refused(limiter, user(), 1, 1)
    await log.delete("chat/1")
    clock[0] += holdings.SURE_S
    await limiter.keep(user(), topics=1, stored_bytes=1)
    assert log.looks == 4, "once each for what is theirs and what they made"
    await log.close()


@simulated
async def test_what_others_have_added_is_seen_after_a_while(clock: list[float]) -> None:
    log, limiter = await opened(STORED_BYTES="10")
    await limiter.keep(user(), topics=0, stored_bytes=1)
    await log.append(Append(topic="chat/1", data=[b"x" * 10], owner="ann"))
    await limiter.keep(user(), topics=0, stored_bytes=1)
    clock[0] += holdings.FRESH_S
    await refused(limiter, user(), 0, 1)
    await log.close()


@simulated
async def test_a_token_narrows_a_limit_and_never_widens_it(clock: list[float]) -> None:
    log, limiter = await opened(TOPICS="2")
    await refused(limiter, user(topics=1), 2, 0)
    await refused(limiter, user(topics=9), 3, 0)
    await refused(limiter, user(stored_bytes=5), 0, 6)
    await refused(limiter, user(topics=0, stored_bytes=0), 1, 0)
    await limiter.keep(user(topics=9, stored_bytes=5), topics=2, stored_bytes=5)
    await log.close()


@simulated
async def test_what_everyone_has_together_is_bounded_whoever_asks(clock: list[float]) -> None:
    log, limiter = await opened({"TOPICS": "3", "STORED_BYTES": "1000"})
    assert limiter.bounds_kept(user())
    await log.append(Append(topic="chat/1", data=[b"x" * 100], owner="ann"))
    await log.append(Append(topic="event/a", data=[b"x" * 100], owner=maker_of("bob")))
    await log.append(Append(topic="run/1", data=[b"x" * 100], owner="ann"), Append(topic="usage/b", data=[b"x" * 99]))
    await limiter.keep(user(), topics=1, stored_bytes=600)
    assert await refused(limiter, user("bob"), 1, 1) == {"limit": "topics", "max": 3, "used": 3}
    await limiter.keep(user("eve"), topics=0, stored_bytes=1)
    assert await refused(limiter, user("eve"), 0, 1) == {"limit": "stored_bytes", "max": 1000, "used": 1000}
    with pytest.raises(
        RateLimited, match=r"of everyone together is 1000 \(TRILANE_LIMIT_STORED_BYTES\), 1000 are used"
    ):
        await limiter.keep(user(), topics=0, stored_bytes=1)
    await log.delete("chat/1")
    clock[0] += holdings.SURE_S
    await limiter.keep(user("bob"), topics=1, stored_bytes=1)
    await log.close()


@simulated
async def test_the_narrower_of_ones_own_limit_and_that_of_everyone_counts(clock: list[float]) -> None:
    log, limiter = await opened({"TOPICS": "3"}, TOPICS="2")
    await refused(limiter, user(), 3, 0)
    await limiter.keep(user(), topics=2, stored_bytes=0)
    await refused(limiter, user("bob"), 2, 0)
    await limiter.keep(user("bob"), topics=1, stored_bytes=0)
    assert limiter._used == {"topics": 3, "stored_bytes": 0}
    await log.close()
