"""The events lane of the console page catches up after a lost connection, or says what was lost."""

import json
import re
import signal
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import httpx2
import pytest

from tests.conftest import Gateway, UpstreamThread, eventually

pytest.importorskip("playwright.sync_api", reason="no playwright: `make install` brings it")

from playwright.sync_api import Page, Route, expect

from tests.e2e.conftest import gateway_with
from tests.e2e.console import EventsPage, publish

pytestmark = [pytest.mark.browser, pytest.mark.timeout(60)]

KEPT = 20
HELLO = {"recovered": True, "replay": 0, "ping": 15, "maxAge": 500, "topics": ["t/said"]}


@pytest.fixture(scope="module")
def own(browser: Any, upstream: UpstreamThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Runs a gateway that may be restarted, and keeps few events."""
    folder = tmp_path_factory.mktemp("events")
    yield from gateway_with(folder, upstream, TRILANE_RETENTION_EVENTS=str(KEPT), TRILANE_DRAIN_WINDOW_S="0.1")


def topic_state(gateway: Gateway, topic: str) -> dict[str, Any]:
    return httpx2.get(f"{gateway.url}/api/events/topics/{quote(topic)}").json()


# Coming back


def test_a_reload_resumes_with_what_was_missed(new_tab: Callable[[], Page], gateway: Gateway) -> None:
    page = EventsPage(new_tab(), gateway.url, "t/reload")
    page.expect_live()
    publish(gateway, "t/reload", "before")
    expect(page.data).to_have_text(["before"])

    def meanwhile(route: Route) -> None:
        publish(gateway, "t/reload", 1, 2, 3)
        route.continue_()

    page.page.route("**/static/main.js", meanwhile)
    page.page.reload()
    page.expect_live("Caught up 3 events.")
    publish(gateway, "t/reload", "after")
    expect(page.data).to_have_text(["1", "2", "3", "after"])
    expect(page.page.locator(".tag")).to_have_text(["caught up"] * 3)


def test_only_a_visible_page_holds_a_stream_and_it_misses_nothing(
    new_tab: Callable[[], Page], gateway: Gateway
) -> None:
    page = EventsPage(new_tab(), gateway.url, "t/looks")
    page.expect_live()
    assert topic_state(gateway, "t/looks")["readers"] == 1
    page.page.get_by_role("link", name="Chat", exact=True).click()
    eventually(lambda: topic_state(gateway, "t/looks")["readers"] == 0, what="the stream is closed on the other lane")
    expect(page.page.get_by_label("Message", exact=True)).to_be_visible()
    publish(gateway, "t/looks", "meanwhile")
    page.page.go_back()
    page.expect_live("Caught up 1 event.")
    _look_away(page.page, True)
    eventually(lambda: topic_state(gateway, "t/looks")["readers"] == 0, what="nobody sees the tab")
    publish(gateway, "t/looks", "hidden")
    _look_away(page.page, False)
    expect(page.data).to_have_text(["meanwhile", "hidden"])
    assert topic_state(gateway, "t/looks")["readers"] == 1


def _look_away(page: Page, away: bool) -> None:
    state = "hidden" if away else "visible"
    page.evaluate(
        """state => {
            Object.defineProperty(document, "visibilityState", { value: state, configurable: true });
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        state,
    )


def test_a_cut_loses_nothing_and_doubles_nothing(new_tab: Callable[[], Page], proxy: Any, gateway: Gateway) -> None:
    page = EventsPage(new_tab(), proxy.url, "t/cuts")
    page.expect_live()
    publish(gateway, "t/cuts", "before")
    expect(page.data).to_have_text(["before"])
    proxy.refusing = True
    proxy.cut()
    expect(page.state).to_have_text("Reconnecting…")
    publish(gateway, "t/cuts", "while away")
    proxy.refusing = False
    page.page.evaluate("() => dispatchEvent(new Event('online'))")  # whoever waits tries at once
    page.expect_live("Caught up 1 event.")
    expect(page.data).to_have_text(["before", "while away"])


NATIVE = """topic => {
    window.heard = [];
    const source = new EventSource(`/api/events?topic=${topic}`);
    for (const type of ["hello", "message"]) source.addEventListener(type, ({ data }) => heard.push([type, data]));
}"""


def test_a_restart_of_the_gateway_is_survived(new_tab: Callable[[], Page], own: Gateway) -> None:
    page = EventsPage(new_tab(), own.url, "t/restart")
    page.expect_live()
    page.page.evaluate(NATIVE, "t/restart")  # the browser's own EventSource beside it resumes by itself
    page.page.wait_for_function("() => heard.length === 1")
    publish(own, "t/restart", "before")
    expect(page.data).to_have_text(["before"])
    own.signal(signal.SIGTERM)
    expect(page.state).to_have_text("Reconnecting…")
    expect(page.news).to_have_text("The gateway is restarting.")
    assert own.wait() == 0
    page.page.context.set_offline(True)  # or else it may be back before there is anything to catch up
    expect(page.state).to_have_text("You are offline")
    own.start()
    publish(own, "t/restart", "while away")
    page.page.context.set_offline(False)
    page.expect_live("Caught up 1 event.")
    publish(own, "t/restart", "after")
    expect(page.data).to_have_text(["before", "while away", "after"])
    page.page.wait_for_function("() => heard.at(-1)[1] === '\"after\"'")
    events = page.page.evaluate("heard")
    assert [data for kind, data in events if kind == "message"] == ['"before"', '"while away"', '"after"']
    assert [json.loads(data)["recovered"] for kind, data in events if kind == "hello"] == [True, True]


def test_history_that_is_gone_is_told_and_what_is_left_follows(new_tab: Callable[[], Page], own: Gateway) -> None:
    page = EventsPage(new_tab(), own.url, "t/lost")
    page.expect_live()
    publish(own, "t/lost", "first")
    expect(page.data).to_have_text(["first"])
    page.page.goto("about:blank")
    for number in range(2 * KEPT):
        publish(own, "t/lost", number)
    eventually(lambda: topic_state(own, "t/lost")["oldest"] > KEPT, what="the log has let go of the oldest")
    lost_count = topic_state(own, "t/lost")["oldest"] - 2
    kept_count = 2 * KEPT - lost_count
    page.page.goto(page.url)
    sentence = f"History lost: {lost_count} events missed. The gateway no longer keeps events that old."
    page.expect_live(f"{sentence} Caught up {kept_count} events.")
    expect(page.page.locator(".hole")).to_have_text(f"{sentence} What is still there follows.")
    expect(page.data).to_have_text([str(number) for number in range(lost_count, 2 * KEPT)])


# What the gateway says itself


def frames(*events: tuple[str, object]) -> str:
    """Returns a stream of these events that then ends; the client returns late enough for a test to look."""
    lines = [f"event: {name}\nretry: 60000\ndata: {json.dumps(data)}\n\n" for name, data in events]
    return ": ok\n" + "".join(lines)


def test_what_the_gateway_says_of_the_stream_itself_is_shown(new_tab: Callable[[], Page], gateway: Gateway) -> None:
    gap = {"topic": "t/said", "from": 5, "to": 16, "reason": "evicted"}
    cases: list[tuple[list[tuple[str, object]], str, str]] = [
        ([("busy", {"code": "overloaded"})], "Busy", "The gateway is full right now."),
        ([("hello", HELLO), ("auth", {"expiresIn": 60}), ("drain", {})], "Reconnecting…", "The gateway is restarting."),
        ([("hello", HELLO), ("bye", {"code": "complete", "retry": False})], "Closed for good", "nothing will follow"),
        ([("hello", HELLO), ("gap", gap), ("bye", {"code": "complete"})], "Closed for good", "12 events missed."),
    ]
    tab = new_tab()
    bodies = [frames(*events) for events, _, _ in cases]
    tab.route(
        re.compile("/api/events"),
        lambda route: route.fulfill(body=bodies.pop(0), content_type="text/event-stream"),
        times=len(cases),
    )
    for number, (_, state, news) in enumerate(cases):
        page = EventsPage(tab, gateway.url, f"t/said{number}")
        expect(page.state).to_have_text(state)
        expect(page.news).to_contain_text(news)
    expect(tab.locator(".hole")).to_contain_text("Of t/said, numbers 5 to 16.")
