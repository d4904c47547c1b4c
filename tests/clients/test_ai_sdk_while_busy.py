"""The AI SDK's own clients send messages while an answer is being written, each with its `whenBusy`.

`LONG_TESTS=1` sends a hundred double texts in place of five.
"""

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import msgspec
import pytest

from loadtests.upstream.answer import Answer
from loadtests.upstream.shapes import words
from loadtests.upstream.stream import finish, ok, say, start
from tests.clients.ai_sdk import AISDK, ChatClient, View
from tests.clients.conftest import StoredChat
from tests.conftest import Gateway, UpstreamThread

HELD = "is-held"
DOUBLE_TEXTS = 100 if os.environ.get("LONG_TESTS") else 5
SO_FAR, WHOLE, SECOND = words(5), words(8), words(3)
FIRST_TEXT, SECOND_TEXT = "wait I=0", "and? T=3 I=0"
_releases: dict[str, threading.Event] = {}


def released(model: str) -> threading.Event:
    """Returns the event for which answers of a model wait in their middle."""
    return _releases.setdefault(model, threading.Event())


async def be_held(answer: Answer) -> None:
    """Stops in the middle of each answer to a message that says so, until the model is released."""
    if not answer.ask.text.startswith("wait"):
        return await ok(answer)
    await start(answer)
    await say(answer, 0, 5)
    await asyncio.to_thread(released(answer.ask.model).wait, 60)
    await say(answer, 5, 8)
    return await finish(answer)


@pytest.fixture
def model(upstream: UpstreamThread, chat_id: str) -> Iterator[str]:
    """Returns a model that is held, for one chat alone."""
    name = f"{HELD}-{chat_id}"
    upstream.fake.script(name, be_held)
    yield name
    released(name).set()


@pytest.fixture
def tab(sdk: AISDK, gateway: Gateway, chat_id: str, model: str) -> Iterator[ChatClient]:
    """Returns a client whose answer stops in the middle."""
    client = sdk.open(gateway.url, chat_id, ui=sdk.version.removeprefix("ai"), body={"model": model})
    yield client
    released(model).set()
    client.close()


def stored(gateway: Gateway, chat_id: str) -> StoredChat:
    return msgspec.json.decode(httpx2.get(f"{gateway.url}/api/chat/{chat_id}").content, type=StoredChat)


def texts(view: View | StoredChat) -> list[tuple[str, str]]:
    return [(message.role, message.text) for message in view.messages]


def begin_both(tab: ChatClient, how: str) -> tuple[Any, Any]:
    """Sends a message, and another while its answer is in its middle; returns both calls."""
    first = tab.begin_send(FIRST_TEXT)
    tab.until(status="streaming", chars=len(SO_FAR))
    return first, tab.begin_send(SECOND_TEXT, whenBusy=how)


def ended(tab: ChatClient, *calls: Any) -> View:
    for call in calls:
        call.view()
    return tab.until(status="ready")


def test_interrupt_ends_the_answer_and_gives_another(tab: ChatClient, gateway: Gateway, chat_id: str) -> None:
    view = ended(tab, *begin_both(tab, "interrupt"))
    assert texts(view) == [
        *(("user", FIRST_TEXT), ("assistant", SO_FAR)),
        *(("user", SECOND_TEXT), ("assistant", SECOND)),
    ]
    assert (view.error, view.posts) == (None, 2)
    stored(gateway, chat_id).agrees_with(view)


def test_queue_gives_each_its_own_answer_and_both_streams_stay_open(
    tab: ChatClient, gateway: Gateway, chat_id: str, model: str
) -> None:
    first, second = begin_both(tab, "queue")
    waits_for(gateway, chat_id, 1)
    assert not second.done
    released(model).set()
    view = ended(tab, first, second)
    assert texts(view) == [
        *(("user", FIRST_TEXT), ("assistant", WHOLE)),
        *(("user", SECOND_TEXT), ("assistant", SECOND)),
    ]
    assert (view.error, view.posts) == (None, 2)
    stored(gateway, chat_id).agrees_with(view)


def test_steer_is_answered_in_the_answer_that_goes_on(
    tab: ChatClient, gateway: Gateway, chat_id: str, model: str
) -> None:
    """The second response brings no message: what the first one brings lands in the answer that was there."""
    first, second = begin_both(tab, "steer")
    view = second.view()
    assert (view.status, texts(view)) == (
        "ready",
        [("user", FIRST_TEXT), ("assistant", SO_FAR), ("user", SECOND_TEXT)],
    )
    released(model).set()
    view = ended(tab, first)
    assert texts(view) == [("user", FIRST_TEXT), ("assistant", WHOLE + SECOND), ("user", SECOND_TEXT)]
    assert (view.error, view.posts) == (None, 2)
    steers = [part for part in view.answer.parts if part["type"] in ("data-steer", "steering-message")]
    kept = stored(gateway, chat_id)
    assert (len(steers), texts(kept)) == (1, texts(view)[:2])
    assert [part["id"] for part in kept.messages[1].parts if part["type"] == "data-steer"] == [view.messages[2].id]
    view = tab.send("third T=2 I=0")
    assert texts(view)[3:] == [("user", "third T=2 I=0"), ("assistant", words(2))]
    assert [message.role for message in stored(gateway, chat_id).messages] == ["user", "assistant"] * 2


def test_reject_is_an_error_for_its_message_alone(tab: ChatClient, gateway: Gateway, chat_id: str, model: str) -> None:
    first, second = begin_both(tab, "reject")
    view = second.view()
    assert (view.status, "chat_busy" in str(view.error)) == ("error", True)
    released(model).set()
    view = ended(tab, first)
    assert texts(view) == [("user", FIRST_TEXT), ("assistant", WHOLE), ("user", SECOND_TEXT)]
    assert len(stored(gateway, chat_id).messages) == 2


def test_double_texts_are_answered_in_their_order(
    tab: ChatClient, gateway: Gateway, chat_id: str, model: str, upstream: UpstreamThread
) -> None:
    """Somebody sends two more messages while an answer is written, again and again: the model is sent all of it."""
    expected: list[tuple[str, str]] = []
    view = tab.view()
    for number in range(DOUBLE_TEXTS):
        released(model).clear()
        asked = [f"wait {number} I=0", f"and {number} T=3 I=0", f"also {number} T=2 I=0"]
        first = tab.begin_send(asked[0])
        tab.until(status="streaming", messages=6 * number + 2, chars=len(SO_FAR))
        others = [tab.begin_send(text, whenBusy="queue") for text in asked[1:]]
        waits_for(gateway, chat_id, 2)
        released(model).set()
        view = ended(tab, first, *others)
        said = list(zip(asked, (WHOLE, SECOND, words(2)), strict=True))
        expected += [turn for question, answer in said for turn in (("user", question), ("assistant", answer))]
        assert texts(stored(gateway, chat_id)) == expected
        last = upstream.fake.requests[-1].body
        assert last is not None
        assert [(turn["role"], turn["content"]) for turn in last["messages"]] == expected[:-1]
        assert view.error is None
        assert [message.text for message in view.answers] == [text for role, text in expected if role == "assistant"]
    assert len({message.id for message in view.messages}) == len(view.messages) == 6 * DOUBLE_TEXTS


def waits_for(gateway: Gateway, chat_id: str, count: int) -> None:
    """Waits until so many messages wait in a chat."""
    end = time.monotonic() + 20
    while len(queue := httpx2.get(f"{gateway.url}/api/chat/{chat_id}").json()["queue"]) != count:
        assert time.monotonic() < end, queue
