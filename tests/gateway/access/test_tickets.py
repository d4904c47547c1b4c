"""A ticket is worth no more than what its issuer signed in with, and thousands of them take bounded room."""

import asyncio
import time
from collections.abc import AsyncGenerator

import pytest

from events.log.memory import MemoryLog
from gateway.access.grants import Grants, Principal
from gateway.access.tickets import ISSUED, USED, Tickets
from gateway.core.engines import TICKET_BYTES, retention_policy
from gateway.errors import Unauthorized
from gateway.settings import Settings

pytestmark = pytest.mark.anyio
ROUTE = "/api/events"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Clock:
    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def log() -> AsyncGenerator[MemoryLog]:
    made = MemoryLog(retention_policy(Settings()))
    await made.open()
    yield made
    await made.close()


async def refusal(tickets: Tickets, ticket: str) -> str:
    with pytest.raises(Unauthorized) as error:
        await tickets.redeem(ticket, ROUTE)
    return error.value.code


async def test_it_carries_its_issuers_grants_end_and_key(log: MemoryLog) -> None:
    who = Principal(sub="ann", grants=Grants(subscribe=["a"]), expires_at=time.time() + 60, key_id="k")
    tickets = Tickets(log)
    assert await tickets.redeem(await tickets.issue(who, ROUTE), ROUTE) == who


@pytest.mark.parametrize(("issuer_s", "after_s", "is_good"), [(5, 4, True), (5, 6, False), (None, 6, True)])
async def test_it_is_good_no_longer_than_its_issuer(
    log: MemoryLog, issuer_s: float | None, after_s: float, is_good: bool
) -> None:
    clock = Clock()
    tickets = Tickets(log, clock)
    expires_at = None if issuer_s is None else clock.now + issuer_s
    ticket = await tickets.issue(Principal(sub="ann", expires_at=expires_at), ROUTE)
    clock.now += after_s
    if is_good:
        assert (await tickets.redeem(ticket, ROUTE)).sub == "ann"
    else:
        assert await refusal(tickets, ticket) == "ticket_expired"


async def test_it_ends_with_the_key_of_its_issuer_and_with_no_other(log: MemoryLog) -> None:
    revoked: set[str] = set()
    tickets = Tickets(log, is_revoked=revoked.__contains__)
    mine, other = [await tickets.issue(Principal(sub="ann", key_id=key_id), ROUTE) for key_id in ("k1", "k2")]
    revoked.add("k1")
    assert await refusal(tickets, mine) == "key_revoked"
    assert (await tickets.redeem(other, ROUTE)).key_id == "k2"


async def test_thousands_take_bounded_room_and_the_oldest_are_refused(log: MemoryLog) -> None:
    policy = retention_policy(Settings())
    assert policy(ISSUED).max_bytes == policy(USED).max_bytes == TICKET_BYTES
    large = Principal(sub="ann", grants=Grants(subscribe=["t" * 100] * 64))
    tickets = Tickets(log)
    issued: list[str] = []
    while len(issued) < 4000:
        issued += await asyncio.gather(*[tickets.issue(large, ROUTE) for _ in range(500)])
    await log.sweep()
    part = await log.read(ISSUED, 0, max_events=10_000, max_bytes=1 << 30)
    assert sum(len(data) for block in part.blocks for data in block.data) <= TICKET_BYTES * 1.1
    assert await refusal(tickets, issued[0]) == "bad_ticket"
    assert (await tickets.redeem(issued[-1], ROUTE)).sub == "ann"
    assert await refusal(tickets, issued[-1]) == "ticket_used"
