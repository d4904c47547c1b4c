"""Responses belong to their user, are read and stopped from any process, and outlive their runs and their writers."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import openai
import pytest

from events.log.port import EventLog
from gateway.chat.abandoned import end_run
from gateway.chat.ending import Aborted
from gateway.chat.records.response_record import response_topic
from gateway.chat.topics import run_topic
from gateway.core.engines import make_log
from gateway.settings import load
from loadtests.upstream.shapes import words
from tests.conftest import Gateway, UpstreamThread, eventually, serving

ALICE, BOB = "alice-0123456789abcdef0123456789", "bob-0123456789abcdef0123456789ab"
LONG = "T=3000 I=20000"


@pytest.fixture(scope="module")
def gateways(upstream: UpstreamThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Gateway]]:
    """Yields two gateways on one log, where users sign in."""
    folder = tmp_path_factory.mktemp("responses")
    env = {"TRILANE_API_KEYS": f"alice:{ALICE},bob:{BOB}", "TRILANE_LOG": f"sqlite:///{folder}/log.db"}
    made = [serving(folder / name, upstream.url, **env) for name in ("one", "two")]
    try:
        with ThreadPoolExecutor() as pool:
            yield list(pool.map(Gateway.start, made))
    finally:
        for gateway in made:
            gateway.stop()


@pytest.fixture(scope="module")
def clients(gateways: list[Gateway]) -> Iterator[Callable[[str, int], openai.OpenAI]]:
    """Yields a function that returns a user's client of one of the two gateways."""
    made: dict[tuple[str, int], openai.OpenAI] = {}

    def client(key: str, at: int = 0) -> openai.OpenAI:
        if (key, at) not in made:
            url = f"{gateways[at].url}/v1"
            made[key, at] = openai.OpenAI(base_url=url, api_key=key, max_retries=0, timeout=30)
        return made[key, at]

    yield client
    for one in made.values():
        one.close()


Clients = Callable[..., openai.OpenAI]


def on_log(gateway: Gateway, work: Callable[[EventLog], Coroutine[Any, Any, Any]]) -> Any:
    async def main() -> Any:
        log = make_log(load({"TRILANE_LOG": gateway.env["TRILANE_LOG"]}))
        await log.open()
        try:
            return await work(log)
        finally:
            await log.close()

    return asyncio.run(main())


def begin(client: openai.OpenAI, text: str = LONG) -> str:
    """Has a response begin in the background; returns its id."""
    return client.responses.create(model="ok", input=text, background=True).id


def test_nobody_without_a_key_gets_any(gateways: list[Gateway]) -> None:
    with openai.OpenAI(base_url=f"{gateways[0].url}/v1", api_key="wrong", max_retries=0) as stranger:
        with pytest.raises(openai.AuthenticationError):
            stranger.responses.create(model="ok", input="T=1 I=0")
        with pytest.raises(openai.AuthenticationError):
            stranger.responses.create(model="ok", input="T=1 I=0", stream=True)


def test_a_response_of_another_user_is_not_there(clients: Clients) -> None:
    alice, bob = clients(ALICE), clients(BOB)
    made = alice.responses.create(model="ok", input="T=2 I=0")
    item: Any = {"type": "item_reference", "id": made.output[0].id}
    tries: list[Callable[[], object]] = [
        lambda: bob.responses.retrieve(made.id),
        lambda: bob.responses.retrieve(made.id, stream=True),
        lambda: bob.responses.cancel(made.id),
        lambda: bob.responses.delete(made.id),
        lambda: bob.responses.input_items.list(made.id),
        lambda: bob.responses.create(model="ok", input="hi", previous_response_id=made.id),
        lambda: bob.responses.create(model="ok", input=[item]),
    ]
    for attempt in tries:
        with pytest.raises(openai.NotFoundError):
            attempt()
    assert alice.responses.retrieve(made.id).output_text == words(2)


def test_another_process_follows_and_stops_it(clients: Clients) -> None:
    here, there = clients(ALICE, 0), clients(ALICE, 1)
    response_id = begin(here)
    with there.responses.retrieve(response_id, stream=True, starting_after=1) as stream:
        events = iter(stream)
        assert next(events).sequence_number == 2
        assert there.responses.cancel(response_id).status == "cancelled"
        last = list(events)[-1]
    assert last.type == "response.incomplete"
    assert here.responses.retrieve(response_id).to_dict() == last.response.to_dict()
    there.responses.delete(response_id)
    with pytest.raises(openai.NotFoundError):
        here.responses.retrieve(response_id)


def test_one_that_is_being_written_is_not_gone_on_from_and_can_be_removed(clients: Clients) -> None:
    alice = clients(ALICE)
    response_id = begin(alice)
    with pytest.raises(openai.ConflictError) as error:
        alice.responses.create(model="ok", input="hi", previous_response_id=response_id)
    assert (error.value.code, error.value.param) == ("response_in_progress", "previous_response_id")
    alice.responses.delete(response_id)
    with pytest.raises(openai.NotFoundError):
        alice.responses.retrieve(response_id)


def test_it_outlives_its_run(gateways: list[Gateway], clients: Clients) -> None:
    alice = clients(ALICE)
    text = alice.responses.create(model="ok", input="T=3 I=0")
    calls = alice.responses.create(model="tools-2", input="T=3 I=0")
    for made in (text, calls):
        run_id = made.id.removeprefix("resp_")
        assert on_log(gateways[0], lambda log, run_id=run_id: log.delete(run_topic(run_id)))
        assert alice.responses.retrieve(made.id).to_dict() == made.to_dict()
    with pytest.raises(openai.APIStatusError) as error:
        alice.responses.retrieve(text.id, stream=True)
    assert error.value.status_code == 410
    more = alice.responses.create(model="ok", input="T=4 I=0", previous_response_id=text.id)
    assert more.output_text == words(4)


def test_one_whose_process_died_has_an_end(gateways: list[Gateway], clients: Clients) -> None:
    response_id = begin(clients(ALICE))
    run_id = response_id.removeprefix("resp_")

    async def end(log: EventLog) -> bool:
        for _ in range(200):  # while its writer writes, too
            if await end_run(log, run_id, Aborted("interrupted")) is not None:
                return True
        return False

    assert on_log(gateways[0], end)
    assert clients(ALICE, 1).responses.retrieve(response_id).status == "cancelled"

    async def kept(log: EventLog) -> list[str]:
        return [block.name for block in (await log.read(response_topic(run_id), 0)).blocks]

    assert on_log(gateways[0], kept) == ["response", "run-finished"]


def test_each_response_has_a_row_of_usage(gateways: list[Gateway], clients: Clients) -> None:
    def tokens() -> int:
        answer = httpx2.get(f"{gateways[0].url}/api/usage?by=model", headers={"authorization": f"Bearer {BOB}"})
        return sum(row["quantities"].get("outputTokens", 0) for row in answer.json()["groups"])

    before = tokens()
    clients(BOB).responses.create(model="ok", input="T=7 I=0", store=False)
    list(clients(BOB).responses.create(model="ok", input="T=5 I=0", stream=True))
    eventually(lambda: tokens() == before + 12, what="both are booked")
