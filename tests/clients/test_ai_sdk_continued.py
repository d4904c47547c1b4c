"""An answer that goes on after its tools' results is shown whole by whoever comes to it, and resumed at any frame."""

from collections.abc import Callable

import pytest

from loadtests.upstream import shapes
from loadtests.upstream.answer import Answer
from loadtests.upstream.behaviours import TABLE, tool_calls
from loadtests.upstream.shapes import words
from loadtests.upstream.stream import finish, say, start
from tests.clients.ai_sdk import ChatClient
from tests.clients.conftest import Open, StoredChat
from tests.conftest import Gateway, UpstreamThread
from tests.support.sse_client import follow

Snapshot = Callable[[], StoredChat]
SLOW = "T=60 I=15000"
CALLING = "said-and-called"


async def say_and_call(answer: Answer) -> None:
    """Says something, calls a tool, and goes on once it has the result."""
    if answer.ask.after_tool:
        return await TABLE["ok"].behave(answer)
    await start(answer)
    await say(answer, 0, 5)
    for call in tool_calls(2):
        await answer.frame(shapes.chunk(answer.ask, {"tool_calls": [call]}))
    return await finish(answer, "tool_calls")


def continued(device: Open, upstream: UpstreamThread, text: str = SLOW) -> ChatClient:
    """Returns a tab whose answer goes on, slowly, after the results of its tools."""
    upstream.fake.script(CALLING, say_and_call)
    tab = device(body={"model": CALLING})
    tab.send(text)
    for number in range(2):
        tab.call("toolOutput", tool="get_weather", toolCallId=f"call_{number}", output={"sun": number})
    tab.until(status="streaming", chars=len(words(5)) + 10)
    return tab


def test_a_tab_that_resumes_a_continued_answer_shows_all_of_it(
    device: Open, snapshot: Snapshot, upstream: UpstreamThread
) -> None:
    tab = continued(device, upstream)
    tab.cut()
    assert tab.until(status="error").answer.text.startswith(words(5))
    view = tab.resume()
    assert (view.status, view.error) == ("ready", None)
    assert view.answer.text == words(5) + words(60)
    assert [part["output"] for part in view.answer.tools] == [{"sun": 0}, {"sun": 1}]
    snapshot().agrees_with(view)


@pytest.mark.parametrize("kept", ["nothing", "the question", "all that was shown"])
def test_a_device_that_joins_a_continued_answer_shows_all_of_it(
    kept: str, device: Open, snapshot: Snapshot, upstream: UpstreamThread
) -> None:
    tab = continued(device, upstream)
    shown = tab.view().messages
    other = device({"nothing": [], "the question": shown[:1], "all that was shown": shown}[kept])
    view = other.resume()
    assert (view.status, view.error) == ("ready", None)
    assert view.answers[-1].text == words(5) + words(60)
    assert [part["output"] for part in view.answers[-1].tools] == [{"sun": 0}, {"sun": 1}]
    assert view.answers[-1].contents == snapshot().messages[-1].contents
    assert tab.until(status="ready").answer.contents == view.answers[-1].contents


def test_a_continued_answer_is_resumed_after_any_of_its_frames(
    device: Open, upstream: UpstreamThread, gateway: Gateway, chat_id: str
) -> None:
    tab = continued(device, upstream)
    _, frames = follow(gateway.url, chat_id)
    tab.until(status="ready")
    cursors = [cursor for cursor, _ in frames.events]
    repeated = cursors.index(next(filter(None, cursors)))
    assert repeated > 10
    assert all(cursors[repeated:])
    for place in range(repeated, len(cursors), 7):
        assert follow(gateway.url, chat_id, cursors[place])[1].events == frames.events[place + 1 :]
