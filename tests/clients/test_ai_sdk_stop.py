"""A stop from any client ends the answer for every client of the AI SDK, and nothing is generated after it."""

from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from loadtests.upstream.shapes import words
from tests.clients.conftest import Open, StoredChat
from tests.conftest import Gateway, UpstreamThread, eventually

Snapshot = Callable[[], StoredChat]
Stop = Callable[..., dict[str, Any]]
LONG = "T=400 I=10000"


@pytest.fixture
def stop(gateway: Gateway, chat_id: str) -> Stop:
    """Returns the documented call, from a client that has nothing to do with the one that streams."""

    def post(**body: Any) -> dict[str, Any]:
        response = httpx2.post(f"{gateway.url}/api/chat/{chat_id}/stop", json=body)
        assert response.status_code == 200, response.text
        return response.json()

    return post


def assert_hung_up_on(upstream: UpstreamThread) -> None:
    """Fails unless the newest request to the upstream was closed in the middle of its answer."""
    eventually(lambda: not upstream.open_requests, 1, "the upstream request is closed")
    request = upstream.fake.requests[-1]
    assert request.left_at is not None
    assert not request.completed


def test_stop_keeps_the_text_and_ends_the_generation(
    device: Open, stop: Stop, snapshot: Snapshot, upstream: UpstreamThread
) -> None:
    phone = device()
    sending = phone.begin_send(LONG)
    phone.until(chars=20)
    assert stop()["stopped"] is True
    view = sending.view()
    assert (view.status, view.error, view.errors) == ("ready", None, [])
    assert len(view.answer.text) >= 20
    assert words(400).startswith(view.answer.text)
    assert view.answer.parts[-1]["state"] == "done"
    snapshot().agrees_with(view)
    assert_hung_up_on(upstream)


def test_every_device_sees_the_stop(device: Open, stop: Stop, snapshot: Snapshot) -> None:
    phone = device()
    sending = phone.begin_send(LONG)
    question = phone.until(chars=10).messages[0]
    laptop = device([question])
    following = laptop.begin("resume")
    laptop.until(chars=20)
    stop()
    view = following.view()
    assert (view.status, view.error) == ("ready", None)
    assert view.messages == sending.view().messages
    snapshot().agrees_with(view)


def test_the_clients_own_stop_is_a_disconnect_and_a_resume_follows_on(device: Open, snapshot: Snapshot) -> None:
    phone = device()
    sending = phone.begin_send("T=60 I=25000")
    phone.until(chars=20)
    phone.call("stop")
    assert sending.view().status == "ready"
    view = phone.resume()
    assert view.answer.text == words(60)
    snapshot().agrees_with(view)


def test_stopping_twice_is_stopping_once(device: Open, stop: Stop, snapshot: Snapshot) -> None:
    phone = device()
    sending = phone.begin_send(LONG)
    phone.until(chars=10)
    assert [stop()["stopped"], sending.view().status, stop()["stopped"]] == [True, "ready", False]
    snapshot().agrees_with(phone.view())


def test_a_stale_stream_id_stops_nothing(device: Open, stop: Stop, snapshot: Snapshot) -> None:
    phone = device()
    phone.send("T=3 I=200")
    sending = phone.begin_send("T=60 I=3000")
    phone.until(messages=4, chars=10)
    assert stop(activeStreamId="0123456789abcdef0123")["stopped"] is False
    view = sending.view()
    assert [answer.text for answer in view.answers] == [words(3), words(60)]
    snapshot().agrees_with(view)


def test_the_stream_id_of_the_snapshot_stops_the_run(device: Open, stop: Stop, snapshot: Snapshot) -> None:
    phone = device()
    sending = phone.begin_send(LONG)
    partial = phone.until(chars=10).answer
    active = snapshot().active_run
    assert active is not None
    message = {"id": partial.id, "role": "assistant", "parts": partial.parts}
    assert stop(activeStreamId=active["runId"], assistantMessage=message)["stopped"] is True
    view = sending.view()
    assert view.status == "ready"
    snapshot().agrees_with(view)


def test_a_stop_before_the_first_token_leaves_no_text(
    device: Open, stop: Stop, snapshot: Snapshot, upstream: UpstreamThread
) -> None:
    phone = device()
    sending = phone.begin_send("hello", model="hang")
    eventually(lambda: any(request.ask and request.ask.model == "hang" for request in upstream.open_requests))
    assert stop()["stopped"] is True
    view = sending.view()
    assert (view.status, view.error) == ("ready", None)
    assert [answer.text for answer in view.answers if answer.text] == []
    assert [message.text for message in snapshot().messages] == ["hello"]
    assert_hung_up_on(upstream)


def test_nothing_is_resumed_after_a_stop(device: Open, stop: Stop, snapshot: Snapshot) -> None:
    phone = device()
    sending = phone.begin_send(LONG)
    phone.until(chars=10)
    stop()
    view_before = sending.view()
    for client in (phone, device(view_before.messages), device(snapshot().messages)):
        view = client.resume()
        assert (view.status, view.errors) == ("ready", [])
        assert view.answer.text == view_before.answer.text


def test_the_turn_after_a_stop_knows_what_was_said(
    device: Open, stop: Stop, snapshot: Snapshot, upstream: UpstreamThread
) -> None:
    phone = device()
    sending = phone.begin_send(LONG)
    phone.until(chars=20)
    stop()
    text = sending.view().answer.text
    view = phone.send("T=4 I=200")
    assert [answer.text for answer in view.answers] == [text, words(4)]
    body = upstream.fake.requests[-1].body
    assert body is not None
    assert [message["content"] for message in body["messages"]] == [LONG, text, "T=4 I=200"]
    snapshot().agrees_with(view)


def test_a_message_from_another_device_ends_the_answer_before_it(
    device: Open, snapshot: Snapshot, upstream: UpstreamThread
) -> None:
    phone = device()
    sending = phone.begin_send(LONG)
    question = phone.until(chars=20).messages[0]
    view = device([question]).send("T=4 I=200")
    first_view = sending.view()
    assert (first_view.status, first_view.error) == ("ready", None)
    chat = snapshot()
    assert [message.text for message in chat.messages] == [LONG, first_view.answer.text, "T=4 I=200", words(4)]
    assert chat.messages[1].contents == first_view.answer.contents
    assert chat.messages[-1].contents == view.answer.contents
    assert upstream.open_requests == []
