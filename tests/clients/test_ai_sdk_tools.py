"""The AI SDK's own clients, with tools that the gateway runs on a real server of tools, and asks about them.

LONG_TESTS=1 cuts what goes on after an answer at a hundred places instead of four, and has asks answered in 20 chats.
"""

import asyncio
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from loadtests.upstream import shapes
from loadtests.upstream.answer import Answer
from loadtests.upstream.behaviours import TABLE
from loadtests.upstream.shapes import words
from loadtests.upstream.stream import finish, say, start
from tests.clients.ai_sdk import AISDK, ChatClient, View
from tests.clients.conftest import StoredChat
from tests.conftest import Gateway, UpstreamThread, serving

ASKING, CALLING, MIXED, HELD = "asks-twice", "calls", "asks-and-leaves", "asks-and-is-held"
LONG = bool(os.environ.get("LONG_TESTS"))
CUTS = 100 if LONG else 4
ANSWERED_CHATS = 20 if LONG else 1
SERVER = Path(__file__).parents[1] / "gateway" / "chat" / "tools" / "raw_server.py"
TOOLS = """
[[upstream]]
name = "default"
base_url = "{upstream}"
model = "ok"

[[mcp]]
name = "desk"
command = ["{python}", "{server}"]
[mcp.tools.echo]
approve = "ask"
editable = true
[mcp.tools.pid]
approve = "auto"
effect = "read"
"""


go_on = threading.Event()
"""An event for which a model waits that is held."""


def calling(*named: tuple[str, str], is_held: bool = False) -> Callable[[Answer], Any]:
    """Returns what calls tools, and says something once it has their results; held, it waits for `go_on` before."""

    async def behave(answer: Answer) -> None:
        if answer.ask.after_tool:
            if is_held:
                await asyncio.to_thread(go_on.wait, 60)
            return await TABLE["ok"].behave(answer)
        await start(answer)
        for place, (name, arguments) in enumerate(named):
            call = shapes.tool_call(place, name, arguments)
            await answer.frame(shapes.chunk(answer.ask, {"tool_calls": [call]}))
        return await finish(answer, "tool_calls")

    return behave


async def ask_and_be_held(answer: Answer) -> None:
    """Asks about a call and leaves another to the client, then stops in the middle of its answer for `go_on`."""
    if not answer.ask.after_tool:
        return await calling(("get_weather", "{}"), ("desk__echo", '{"text":"one"}'))(answer)
    await start(answer)
    await say(answer, 0, 5)
    await asyncio.to_thread(go_on.wait, 60)
    await say(answer, 5, 8)
    return await finish(answer)


@pytest.fixture(scope="module")
def gateway(upstream: UpstreamThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("tools")
    file = folder / "upstreams.toml"
    file.write_text(TOOLS.format(upstream=upstream.url, python=sys.executable, server=SERVER))
    server = serving(folder, upstream.url, TRILANE_UPSTREAMS=str(file))
    asking = calling(("desk__echo", '{"text":"one"}'), ("desk__echo", '{"text":"two"}'), is_held=True)
    upstream.fake.script(ASKING, asking)
    upstream.fake.script(CALLING, calling(("desk__pid", "{}")))
    upstream.fake.script(HELD, ask_and_be_held)
    upstream.fake.script(MIXED, calling(("get_weather", "{}"), ("desk__echo", '{"text":"one"}')))
    try:
        yield server.start()
    finally:
        server.stop()


Device = Callable[..., ChatClient]


@pytest.fixture
def device(sdk: AISDK, gateway: Gateway, chat_id: str) -> Iterator[Device]:
    clients: list[ChatClient] = []

    def open_client(model: str, messages: Any = None) -> ChatClient:
        body = {"model": model}
        clients.append(sdk.open(gateway.url, chat_id, messages, ui=sdk.version.removeprefix("ai"), body=body))
        return clients[-1]

    yield open_client
    for client in clients:
        client.close()


def stored(gateway: Gateway, chat_id: str) -> StoredChat:
    return msgspec.json.decode(httpx2.get(f"{gateway.url}/api/chat/{chat_id}").content, type=StoredChat)


def pending(gateway: Gateway, chat_id: str) -> list[dict[str, Any]]:
    return httpx2.get(f"{gateway.url}/api/chat/{chat_id}").json()["pending"]


def calls(view: View) -> list[tuple[str, Any]]:
    parts = [part for part in view.answer.parts if part["type"] == "dynamic-tool"]
    return [(part["state"], part.get("output")) for part in parts]


def test_a_tool_of_the_gateway_is_shown_with_its_result(device: Device, gateway: Gateway, chat_id: str) -> None:
    tab = device(CALLING)
    tab.send("which process? T=4")
    view = tab.until(status="ready", chars=len(words(4)))
    assert (view.error, view.answer.text) == (None, words(4))
    [(state, output)] = calls(view)
    assert (state, output.isdigit()) == ("output-available", True)
    assert len(stored(gateway, chat_id).messages) == 2


@pytest.mark.timeout(120 * ANSWERED_CHATS)
def test_what_is_asked_is_answered_by_the_client_or_by_anyone_and_goes_on_in_the_same_message(
    sdk: AISDK, gateway: Gateway, chat_id: str
) -> None:
    for number in range(ANSWERED_CHATS):
        name = f"{chat_id}-{number}"
        go_on.clear()
        body, ui = {"model": ASKING}, sdk.version.removeprefix("ai")
        tab = sdk.open(gateway.url, name, ui=ui, body=body)
        tab.send("say it T=4")
        view = tab.until(status="ready", parts=2)
        asks = pending(gateway, name)
        assert [ask["input"] for ask in asks] == [{"text": "one"}, {"text": "two"}]
        if sdk.version == "ai5":  # knows no approvals: its application asks by the calls of the gateway
            assert [state for state, _ in calls(view)] == ["input-available"] * 2
            for ask, approved in zip(asks, (True, False), strict=True):
                answer(gateway, name, ask, approved=approved)
            resume(tab)
        else:
            assert [state for state, _ in calls(view)] == ["approval-requested"] * 2
            for ask, approved in zip(asks, (True, False), strict=True):
                tab.call("approve", answer={"id": ask["approvalId"], "approved": approved, "reason": "mine"})
            go_on.set()
        view = tab.until(status="ready", chars=len(words(4)))
        assert (view.error, view.answer.text) == (None, words(4))
        denied = ("output-error", None) if sdk.version == "ai5" else ("output-denied", None)
        assert calls(view) == [("output-available", "one"), denied]
        kept = stored(gateway, name)
        assert [message.role for message in kept.messages] == ["user", "assistant"]
        assert kept.messages[1].id == view.answer.id
        if sdk.version != "ai5":  # it is told of a denial as of an error
            kept.agrees_with(view)
        fresh = sdk.open(gateway.url, name, kept.messages[:1], ui=ui, body=body)
        assert pending(gateway, name) == []
        assert fresh.until(status="ready").answers == []
        tab.close()
        fresh.close()


def test_of_two_asks_one_is_answered_elsewhere(sdk: AISDK, device: Device, gateway: Gateway, chat_id: str) -> None:
    """The first device would never post by itself: not all is answered there."""
    go_on.clear()
    tab = device(ASKING)
    tab.send("say it T=4")
    tab.until(status="ready", parts=2)
    first, second = pending(gateway, chat_id)
    assert answer(gateway, chat_id, first)["waitingFor"] == [second["approvalId"]]
    result = answer(gateway, chat_id, second, input={"text": "another"})
    assert result["activeRun"]
    resume(tab)
    view = tab.until(status="ready", chars=len(words(4)))
    assert calls(view) == [("output-available", "one"), ("output-available", "another")]
    assert view.answer.text == words(4)


def test_a_clients_own_call_beside_one_that_is_asked_about_is_posted_once(
    sdk: AISDK, device: Device, gateway: Gateway, chat_id: str
) -> None:
    """Clients leave the gateway's calls out when they look whether theirs are all done, and post for as long as so."""
    tab = device(MIXED)
    tab.send("how is it? T=4")
    tab.until(status="ready", parts=2)
    asks = {ask.get("kind", "approval"): ask for ask in pending(gateway, chat_id)}
    assert asks["input"]["toolName"] == "get_weather"
    tab.call("toolOutput", tool="get_weather", toolCallId="call_0", output={"sun": True})
    posts = tab.until(status="ready").posts
    while len(pending(gateway, chat_id)) > 1:
        posts = tab.view().posts
    for _ in range(20):
        pending(gateway, chat_id)
    assert (posts, tab.view().posts, tab.view().status) == (2, 2, "ready")
    if sdk.version == "ai5":
        answer(gateway, chat_id, asks["approval"])
        tab.call("resume")
    else:
        tab.call("approve", answer={"id": asks["approval"]["approvalId"], "approved": True})
    view = tab.until(status="ready", chars=len(words(4)))
    assert (view.error, view.answer.text, view.posts) == (None, words(4), 2 if sdk.version == "ai5" else 3)
    stored(gateway, chat_id).agrees_with(view)
    assert [part["output"] for part in view.answer.tools] == [{"sun": True}]


@pytest.mark.parametrize("is_posted", [True, False], ids=["by post", "elsewhere"])
def test_what_goes_on_is_whole_wherever_it_is_cut(is_posted: bool, sdk: AISDK, gateway: Gateway, chat_id: str) -> None:
    """The tab that is cut has a part of the answer, another has the question alone: both show what is stored.

    In version 5, which goes on from a failed post where it stopped, an application opens the chat again.
    """
    size = 0
    for place in range(CUTS + 1):
        name = f"{chat_id}-cut-{place}"
        go_on.clear()
        tab = sdk.open(gateway.url, name, ui=sdk.version.removeprefix("ai"), body={"model": HELD})
        tab.send("how is it? T=8 I=0")
        shown = tab.until(status="ready", parts=2)
        question, before = shown.messages[:1], shown.received
        asks = {ask.get("kind", "approval"): ask for ask in pending(gateway, name)}
        answer(gateway, name, asks["approval"])
        if place:
            tab.cut_after(size * place // (CUTS + 1))
        if is_posted:
            tab.begin("toolOutput", tool="get_weather", toolCallId="call_0", output={"sun": True})
        else:
            answer(gateway, name, asks["input"], output={"sun": True})
            tab.begin("resume")
        if place:
            tab.until(status="error")
        else:  # measures what there is to cut
            tab.until(status="streaming", chars=len(words(5)))
            size = tab.view().received - before
        if place and is_posted and sdk.version == "ai5":
            tab = opened_again(sdk, gateway, tab)
        other = sdk.open(gateway.url, name, question, ui=sdk.version.removeprefix("ai"))
        readers = [other.begin("resume"), *([tab.begin("resume")] if place else [])]
        for reader in (tab, other):
            reader.until(status="streaming", chars=len(words(5)))
        go_on.set()
        views = [reader.view() for reader in readers]
        kept = stored(gateway, name)
        for view in [*views, tab.until(status="ready", chars=len(words(8)))]:
            assert view.answer.text == words(8)
            kept.agrees_with(view)
        tab.close()
        other.close()


def opened_again(sdk: AISDK, gateway: Gateway, tab: ChatClient) -> ChatClient:
    """Returns a new `Chat` in place of a tab's, with the messages of the snapshot.

    5.0.277 keeps what it has built when a request fails as a browser words it ("Failed to fetch"), for a later
    `resumeStream()` to add to (`resumableStreamState`). Its GET is the same as that of a tab that has nothing, and no
    chunk takes a text away again or finds a call of an earlier step: the whole answer would stand behind what it kept.
    """
    tab.close()
    messages = stored(gateway, tab.chat_id).messages
    return sdk.open(gateway.url, tab.chat_id, messages, ui=sdk.version.removeprefix("ai"))


def test_a_clients_own_call_has_its_result_from_anywhere(device: Device, gateway: Gateway, chat_id: str) -> None:
    tab = device("tools-2")
    tab.send("weather? T=4")
    tab.until(status="ready", parts=2)
    first, second = pending(gateway, chat_id)
    tab.call("toolOutput", tool="get_weather", toolCallId="call_0", output="rain")
    assert answer(gateway, chat_id, first, output="sun")["waitingFor"] == [second["approvalId"]]
    tab.call("toolOutput", tool="get_weather", toolCallId="call_1", output="wind")
    view = tab.until(status="ready", chars=len(words(4)))
    assert [part["output"] for part in view.answer.tools] == ["sun", "wind"], "the first answer counts"
    stored(gateway, chat_id).agrees_with(view)


def resume(tab: ChatClient) -> None:
    """Resumes before the model, which is held, goes on: of an answer that is over there is nothing to resume."""
    tab.begin("resume")
    tab.until(status="streaming")
    go_on.set()


def answer(gateway: Gateway, chat_id: str, ask: dict[str, Any], *, approved: bool = True, **more: Any) -> Any:
    url = f"{gateway.url}/api/chat/{chat_id}/approvals/{ask['approvalId']}"
    response = httpx2.post(url, json={"approved": approved, **more})
    assert response.status_code == 200, response.text
    return response.json()
