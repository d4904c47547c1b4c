"""OpenAI's Python SDK, unmodified, comes back to what `/v1/responses` has stored: it reads, resumes, stops, removes."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from loadtests.upstream.shapes import words
from tests.conftest import Gateway, eventually


@pytest.fixture(scope="module")
def client(gateway: Gateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="local", max_retries=0, timeout=30) as new:
        yield new


def test_a_stored_response_is_read_listed_and_removed(client: openai.OpenAI) -> None:
    made = client.responses.create(model="ok", input="T=4 I=0", instructions="Be brief.")
    assert client.responses.retrieve(made.id).to_dict() == made.to_dict()
    more = client.responses.create(model="ok", input="T=5 I=0", previous_response_id=made.id)
    assert more.previous_response_id == made.id
    [item] = client.responses.input_items.list(made.id)
    assert item.to_dict()["content"] == [{"type": "input_text", "text": "T=4 I=0"}]
    client.responses.delete(made.id)
    for gone in (client.responses.retrieve, client.responses.delete, client.responses.cancel):
        with pytest.raises(openai.NotFoundError):
            gone(made.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.create(model="ok", input="T=5 I=0", previous_response_id=more.id)


def test_the_items_of_an_input_come_in_pages(client: openai.OpenAI) -> None:
    items: Any = [{"role": "user", "content": f"T=1 I=0 {number}"} for number in range(5)]
    made = client.responses.create(model="ok", input=items)
    first = client.responses.input_items.list(made.id, limit=2, order="asc")
    assert (len(first.data), first.has_more) == (2, True)
    told: list[Any] = [item.to_dict() for item in client.responses.input_items.list(made.id, limit=2, order="asc")]
    assert [part["text"] for item in told for part in item["content"]] == [item["content"] for item in items]
    newest = client.responses.input_items.list(made.id, limit=1)
    assert newest.data[0].to_dict()["content"] == [{"type": "input_text", "text": items[-1]["content"]}]


def test_a_response_that_is_not_stored_is_not_there(client: openai.OpenAI) -> None:
    made = client.responses.create(model="ok", input="T=4 I=0", store=False)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)


def test_a_response_in_the_background_goes_on_without_its_client(client: openai.OpenAI) -> None:
    made = client.responses.create(model="ok", input="T=9 I=5000", background=True)
    assert (made.status, made.output) == ("in_progress", [])
    eventually(lambda: client.responses.retrieve(made.id).status == "completed", 20, "it is complete")
    assert client.responses.retrieve(made.id).output_text == words(9)


@pytest.mark.parametrize("model", ["ok", "tools-2", "reasoning"])
def test_a_stream_that_is_cut_at_any_event_is_resumed_whole(model: str, client: openai.OpenAI) -> None:
    text = "T=6 I=3000"
    with client.responses.create(model=model, input=text, background=True, stream=True) as stream:
        first = next(iter(stream))
    assert first.type == "response.created"
    response_id = first.response.id
    rest = list(client.responses.retrieve(response_id, stream=True, starting_after=0))
    events = [first, *rest]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[-1].type == "response.completed"
    for at in range(len(events)):
        again = list(client.responses.retrieve(response_id, stream=True, starting_after=at))
        assert [event.to_dict() for event in again] == [event.to_dict() for event in events[at + 1 :]]


def test_a_response_is_cancelled_and_stays_so(client: openai.OpenAI) -> None:
    with client.responses.create(model="ok", input="T=2000 I=20000", background=True, stream=True) as stream:
        events = iter(stream)
        first = next(events)
        assert first.type == "response.created"
        ended = client.responses.cancel(first.response.id)
        assert ended.status == "cancelled"
        last = list(events)[-1]
    assert last.type == "response.incomplete"
    assert last.response.status == "cancelled"
    assert client.responses.cancel(first.response.id).to_dict() == ended.to_dict()
    done = client.responses.create(model="ok", input="T=2 I=0")
    assert client.responses.cancel(done.id).status == "completed"


def test_a_stream_in_the_foreground_ends_with_its_client(client: openai.OpenAI) -> None:
    with client.responses.create(model="ok", input="T=2000 I=20000", stream=True) as stream:
        first = next(iter(stream))
    assert first.type == "response.created"
    eventually(lambda: client.responses.retrieve(first.response.id).status == "cancelled", 20, "it was stopped")


def test_what_the_upstream_refuses_is_told_to_who_asks_later(client: openai.OpenAI) -> None:
    made = client.responses.create(model="e429", input="T=4 I=0", background=True)
    stream = client.responses.retrieve(made.id, stream=True)
    types: list[str] = []
    with pytest.raises(openai.APIError) as error:
        types.extend(event.type for event in stream)
    assert not isinstance(error.value, openai.APIStatusError)
    assert error.value.code == "upstream_rate_limited"
    failed = client.responses.retrieve(made.id)
    assert (failed.status, failed.error is not None and failed.error.code) == ("failed", "upstream_rate_limited")
