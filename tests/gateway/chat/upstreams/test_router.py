"""The router deals requests out by weight and chat, passes over who is out, and repeats within a budget."""

import asyncio
from collections import Counter
from collections.abc import Sequence

import pytest

from gateway.chat.upstreams.circuit import FIRST_S, MIN_FAILURES, Circuit, Trial
from gateway.chat.upstreams.refusals import refusal
from gateway.chat.upstreams.router import FIRST_WAIT_S, MAX_SAVED_RETRIES, Router, in_order
from gateway.errors import Overloaded, UpstreamCut, UpstreamError, UpstreamRefused, UpstreamTimeout
from gateway.upstream_settings import UpstreamSettings
from tests.support.virtual_time import simulated

KEYS = [f"chat-{number}" for number in range(4000)]


class Server:
    """Answers with its name, or fails, as a test says; one step of its script for each request, and the last stays."""

    def __init__(self, name: str, *script: UpstreamError | None, weight: float | None = None, retries: int = 0) -> None:
        self.settings = UpstreamSettings(name=name, base_url="http://x", weight=weight, retries=retries)
        self.busy = False
        self.script = list(script) or [None]
        self.asked_at: list[float] = []

    async def answer(self) -> str:
        self.asked_at.append(asyncio.get_running_loop().time())
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if step is not None:
            raise step
        return self.settings.name


class Stage:
    """A router in virtual time, over some servers."""

    def __init__(self, *servers: Server) -> None:
        self.servers = servers
        self.loop = asyncio.get_running_loop()
        self.router = Router(self.loop.time, uniform=lambda low, high: high)

    async def ask(self, key: str = "") -> str:
        """Returns the name of who answered, all of it, or the code of the error that is told."""
        try:
            name, trial = await self.router.first(self.servers, key, Server.answer)
        except (UpstreamError, Overloaded) as err:
            return err.code
        trial.end(None)
        return name

    async def ask_all(self, keys: Sequence[str]) -> Counter[str]:
        return Counter([await self.ask(key) for key in keys])

    def circuit(self, server: Server) -> Circuit:
        return self.router.circuit(server.settings.name)


def names(servers: Sequence[Server]) -> list[str]:
    return [server.settings.name for server in servers]


def down() -> UpstreamError:
    return refusal(500, "down")


# The order


def test_without_weights_the_operators_order_holds_for_every_key() -> None:
    servers = [Server("a"), Server("b"), Server("c")]
    assert {tuple(names(in_order(servers, key))) for key in KEYS[:50]} == {("a", "b", "c")}


def test_neighbours_with_weights_share_a_place_and_the_others_keep_theirs() -> None:
    servers = [Server("first"), Server("x", weight=1), Server("y", weight=1), Server("last")]
    orders = Counter(tuple(names(in_order(servers, key))) for key in KEYS)
    assert set(orders) == {("first", "x", "y", "last"), ("first", "y", "x", "last")}


@pytest.mark.parametrize("weights", [(1, 1), (3, 1), (70, 20, 10), (0.5, 0.25, 0.25), (1,)])
def test_each_comes_first_for_its_share_of_chats(weights: tuple[float, ...]) -> None:
    servers = [Server(f"server-{number}", weight=weight) for number, weight in enumerate(weights)]
    firsts = Counter(in_order(servers, key)[0].settings.name for key in KEYS)
    for server, weight in zip(servers, weights, strict=True):
        share = weight / sum(weights)
        deviation = (share * (1 - share) / len(KEYS)) ** 0.5
        assert abs(firsts[server.settings.name] / len(KEYS) - share) <= 4 * deviation


def test_a_chat_has_one_order_and_one_that_leaves_moves_its_own_chats_alone() -> None:
    servers = [Server(name, weight=1) for name in ("a", "b", "c")]
    before = {key: names(in_order(servers, key)) for key in KEYS}
    assert before == {key: names(in_order(servers, key)) for key in KEYS}
    after = {key: names(in_order(servers[1:], key)) for key in KEYS}
    assert all(after[key] == [name for name in before[key] if name != "a"] for key in KEYS)


def test_the_order_is_the_same_in_every_process() -> None:
    servers = [Server(name, weight=1) for name in ("a", "b", "c")]
    assert [in_order(servers, key)[0].settings.name for key in KEYS[:8]] == list("bbcaaaca")


# Who is out


@simulated
async def test_one_that_dies_is_left_out_and_comes_back_with_one_probe() -> None:
    dying, well = Server("dying", down()), Server("well")
    stage = Stage(dying, well)
    assert await stage.ask_all(KEYS[:50]) == {"well": 50}
    assert len(dying.asked_at) == MIN_FAILURES
    await asyncio.sleep(FIRST_S)
    assert await stage.ask_all(KEYS[:10]) == {"well": 10}
    assert len(dying.asked_at) == MIN_FAILURES + 1
    dying.script = [None]
    await asyncio.sleep(2 * FIRST_S)
    assert await stage.ask_all(KEYS[:10]) == {"dying": 10}


@simulated
async def test_while_a_probe_is_on_its_way_nobody_else_is_sent_there() -> None:
    hanging, well = Server("hanging", down()), Server("well")
    stage = Stage(hanging, well)
    await stage.ask_all(KEYS[:MIN_FAILURES])
    await asyncio.sleep(FIRST_S)
    probes = 0

    async def hang(server: Server) -> str:
        nonlocal probes
        if server is well:
            return "well"
        probes += 1
        await asyncio.sleep(60)
        raise UpstreamTimeout

    asked = [asyncio.ensure_future(stage.router.first(stage.servers, key, hang)) for key in KEYS[:20]]
    await asyncio.sleep(59)
    assert sum(one.done() for one in asked) == 19
    assert {one[0] for one in await asyncio.gather(*asked)} == {"well"}
    assert probes == 1


@simulated
async def test_a_probe_whose_client_leaves_makes_room_for_another() -> None:
    dying, well = Server("dying", down()), Server("well")
    stage = Stage(dying, well)
    await stage.ask_all(KEYS[:MIN_FAILURES])
    await asyncio.sleep(FIRST_S)

    async def hang(server: Server) -> str:
        await asyncio.sleep(60)
        return ""

    probe = asyncio.ensure_future(stage.router.first(stage.servers, "", hang))
    await asyncio.sleep(1)
    probe.cancel()
    await asyncio.wait([probe])
    dying.script = [None]
    assert await stage.ask() == "dying"


@simulated
async def test_where_all_are_out_the_one_that_is_back_first_is_asked_once() -> None:
    one, other = Server("one", down()), Server("other", down())
    stage = Stage(one, other)
    await stage.ask_all(KEYS[:MIN_FAILURES])
    await asyncio.sleep(1)
    assert {stage.circuit(one).state, stage.circuit(other).state} == {"open"}
    asked = len(one.asked_at), len(other.asked_at)
    assert await stage.ask() == "upstream_unavailable"
    assert (len(one.asked_at) + len(other.asked_at)) == sum(asked) + 1
    one.script = other.script = [None]
    assert await stage.ask() in ("one", "other")
    assert "closed" in (stage.circuit(one).state, stage.circuit(other).state)


@simulated
async def test_one_that_is_alone_is_asked_whatever_its_health() -> None:
    lonely = Server("lonely", down())
    stage = Stage(lonely)
    assert await stage.ask_all(KEYS[:10]) == {"upstream_unavailable": 10}
    lonely.script = [refusal(429, "slow down", "60"), None]
    assert await stage.ask() == "upstream_rate_limited"
    assert await stage.ask() == "lonely"


@simulated
async def test_one_that_says_when_to_come_again_is_asked_then() -> None:
    first, second = Server("first", refusal(429, "slow down", "7"), None), Server("second")
    stage = Stage(first, second)
    assert await stage.ask_all(KEYS[:10]) == {"second": 10}
    await asyncio.sleep(6.9)
    assert await stage.ask() == "second"
    await asyncio.sleep(0.1)
    assert await stage.ask() == "first"


@simulated
async def test_a_chat_stays_where_it_is_while_that_is_well_and_returns_when_it_is_back() -> None:
    servers = [Server(name, weight=1) for name in ("a", "b", "c")]
    stage = Stage(*servers)
    homes = {key: in_order(servers, key)[0] for key in KEYS[:300]}
    for _ in range(3):
        assert all([await stage.ask(key) == home.settings.name for key, home in homes.items()])
    servers[0].script = [down()]
    assert "a" not in await stage.ask_all(list(homes))
    assert all([await stage.ask(key) == home.settings.name for key, home in homes.items() if home is not servers[0]])
    servers[0].script = [None]
    await asyncio.sleep(FIRST_S)
    assert all([await stage.ask(key) == home.settings.name for key, home in homes.items()])


@simulated
async def test_what_a_request_is_at_fault_for_is_asked_of_nobody_else_and_opens_nothing() -> None:
    strict, other = Server("strict", refusal(400, "no such field")), Server("other")
    stage = Stage(strict, other)
    assert await stage.ask_all(KEYS[:30]) == {"upstream_bad_request": 30}
    assert (stage.circuit(strict).state, other.asked_at) == ("closed", [])


@simulated
async def test_one_without_room_is_passed_over_and_is_not_ill() -> None:
    full, free = Server("full"), Server("free")
    stage = Stage(full, free)
    full.busy = True
    assert await stage.ask() == "free"
    free.busy = True
    assert await stage.ask() == "overloaded"
    assert (stage.circuit(full).state, full.asked_at) == ("closed", [])


@simulated
async def test_an_answer_that_is_cut_in_its_middle_counts() -> None:
    cutting, other = Server("cutting"), Server("other")
    stage = Stage(cutting, other)

    async def cut() -> None:
        _, trial = await stage.router.first(stage.servers, "", Server.answer)
        with trial:
            raise UpstreamCut

    for _ in range(MIN_FAILURES):
        with pytest.raises(UpstreamCut):
            await cut()
    assert await stage.ask() == "other"


# Repetition


@simulated
async def test_a_request_that_failed_in_passing_is_repeated_after_a_while_as_often_as_its_upstream_says() -> None:
    flaky = Server("flaky", down(), down(), None, retries=2)
    stage = Stage(flaky)
    assert await stage.ask() == "flaky"
    assert flaky.asked_at == [0, FIRST_WAIT_S, 3 * FIRST_WAIT_S]
    flaky.script = [down(), down(), down(), None]
    assert await stage.ask() == "upstream_unavailable"


@simulated
async def test_others_are_asked_before_anything_is_repeated() -> None:
    first, second = Server("first", down(), None, retries=1), Server("second", down())
    stage = Stage(first, second)
    assert await stage.ask() == "first"
    assert (first.asked_at, second.asked_at) == ([0, FIRST_WAIT_S], [0])


@pytest.mark.parametrize(
    "error",
    [
        UpstreamTimeout(),
        refusal(401, "who are you"),
        refusal(404, "no such model"),
        refusal(429, "slow down", "6"),
        UpstreamRefused(code="upstream_redirect"),
    ],
    ids=lambda error: error.code,
)
@simulated
async def test_what_would_fail_again_or_has_waited_enough_is_not_repeated(error: UpstreamError) -> None:
    server = Server("one", error, None, retries=5)
    assert await Stage(server).ask() == error.code
    assert len(server.asked_at) == 1


@simulated
async def test_a_repetition_waits_as_long_as_the_upstream_asks() -> None:
    server = Server("one", refusal(429, "slow down", "3"), None, retries=1)
    assert await Stage(server).ask() == "one"
    assert server.asked_at == [0, 3]


@simulated
async def test_repetitions_have_a_budget_over_all_requests() -> None:
    server = Server("down", down(), retries=5)
    stage = Stage(server)
    for _ in range(100):
        await stage.ask()
    assert len(server.asked_at) <= 100 + MAX_SAVED_RETRIES + 100 * 0.2 + 1
    assert len(server.asked_at) >= 100 + MAX_SAVED_RETRIES


@simulated
async def test_the_health_of_who_is_gone_is_forgotten() -> None:
    server, other = Server("one", down()), Server("other", down())
    stage = Stage(server, other)
    await stage.ask_all(KEYS[:MIN_FAILURES])
    stage.router.keep(["other"])
    assert (stage.circuit(server).state, stage.circuit(other).state) == ("closed", "open")


def test_a_trial_is_no_context_that_swallows() -> None:
    with pytest.raises(UpstreamCut), Trial(Circuit(lambda: 0.0, lambda *told: None), 0):
        raise UpstreamCut
