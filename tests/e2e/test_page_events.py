"""The console page shows published events as they come, and publishes what is written."""

import json
import re
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from tests.conftest import Gateway, UpstreamThread

pytest.importorskip("playwright.sync_api", reason="no playwright: `make install` brings it")

from playwright.sync_api import Page, Route, expect

from tests.e2e.conftest import gateway_with
from tests.e2e.console import PHONE, Console, EventsPage, publish, tabs
from tests.support.readme import readme_block
from tests.support.sse_client import chat_body

pytestmark = [pytest.mark.browser, pytest.mark.timeout(60)]

# Live


def test_ones_own_topic_tells_of_ones_chats_and_another_of_what_is_published(
    new_tab: Callable[[], Page], gateway: Gateway
) -> None:
    page = EventsPage(new_tab(), gateway.url)
    page.expect_live()
    expect(page.page.get_by_role("heading", level=1)).to_have_text("user/local")
    answer = httpx2.post(f"{gateway.url}/api/chat", json=chat_body("own", "hello"))
    assert answer.status_code == 200
    expect(page.names).to_have_text(["run-started", "run-finished"])
    page.page.get_by_role("button", name="Clear").click()
    expect(page.names).to_have_count(0)
    page.page.get_by_role("link", name="demo").click()
    page.expect_live()
    publish(gateway, "demo", {"step": 3, "of": 10, "id": 1}, event="any-name.at_all")
    page.publish("two\nlines")
    expect(page.receipt).to_have_text("Published: number 2 of demo.")
    expect(page.names).to_have_text(["any-name.at_all", "message"])
    expect(page.data).to_have_text(['{"step": 3, "of": 10, "id": 1}', "two\nlines"], use_inner_text=True)


def test_hostile_data_stays_text(new_tab: Callable[[], Page], gateway: Gateway) -> None:
    page = EventsPage(new_tab(), gateway.url, "t/hostile")
    page.expect_live()
    hostile = "<img src=x onerror=alert(1)><script>alert(1)</script>[x](javascript:alert(1))"
    publish(gateway, "t/hostile", hostile, {hostile: [hostile]}, "x" * 5000)
    expect(page.data).to_have_count(3)
    expect(page.data.first).to_have_text(hostile)
    log = page.page.get_by_role("log", name="Events")
    assert log.locator("img, script, a, [onerror]").count() == 0
    expect(page.data.last).to_have_text("x" * 2000 + "…")
    page.page.get_by_role("button", name="Show all 5,000 characters").click()
    expect(page.data.last).to_have_text("x" * 5000)


def test_topics_and_patterns_are_followed_and_the_gateway_says_which(
    new_tab: Callable[[], Page], gateway: Gateway
) -> None:
    page = EventsPage(new_tab(), gateway.url)
    page.expect_live()
    page.follow("pat/one, pat/deep/*")
    expect(page.page.get_by_role("heading", level=1)).to_have_text("pat/deep/*, pat/one")
    page.expect_live()
    publish(gateway, "pat/two", "no")
    publish(gateway, "pat/deep/a/b", "deep")
    publish(gateway, "pat/one", "one")
    expect(page.data).to_have_text(["deep", "one"])
    page.follow("pat/one not!good")
    expect(page.state).to_have_text(re.compile("This is no name of a topic"))
    expect(page.news).to_contain_text("'not!good'")
    expect(page.field("Topics")).to_have_attribute("aria-invalid", "true")
    page.page.go_back()
    page.expect_live("Nothing was missed.")
    expect(page.field("Topics")).to_have_value("pat/one pat/deep/*")


def test_the_list_is_bounded_and_says_so(new_tab: Callable[[], Page], gateway: Gateway) -> None:
    publish(gateway, "t/many", *range(620))
    page = EventsPage(new_tab(), gateway.url, "t/many")
    page.expect_live()
    page.page.get_by_role("button", name="Show earlier").click()
    page.expect_live("From the oldest that is kept: 620 events.")
    expect(page.data).to_have_count(500)
    expect(page.data.first).to_have_text("120")
    expect(page.page.get_by_text("120 older are not shown any more.")).to_be_attached()
    expect(page.data.last).to_be_in_viewport()


# Publishing


def test_what_is_written_is_published_as_json_or_as_text(new_tab: Callable[[], Page], gateway: Gateway) -> None:
    page = EventsPage(new_tab(), gateway.url, "t/box")
    page.expect_live()
    expect(page.field("To which topic")).to_have_value("t/box")
    page.publish('{"id": 12345678901234567890}', "made")
    expect(page.receipt).to_have_text("Published: number 1 of t/box.")
    expect(page.field("Data")).to_have_value("")
    page.publish("Hello you", "greeting")
    expect(page.receipt).to_have_text("Published: number 2 of t/box.")
    page.field("Data").fill('{"oops": 1,}')
    expect(page.receipt).to_have_text("This is not valid JSON: it goes out as text.")
    page.page.get_by_role("button", name="Publish", exact=True).click()
    expect(page.data).to_have_text(['{"id": 12345678901234567890}', "Hello you", '{"oops": 1,}'])
    expect(page.names).to_have_text(["made", "greeting", "greeting"])
    page.publish("elsewhere", topic="t/other")
    expect(page.receipt).to_have_text(
        "Published: number 1 of t/other. It is not among the topics that are followed here."
    )


def test_text_typed_while_an_event_is_on_its_way_is_kept(new_tab: Callable[[], Page], gateway: Gateway) -> None:
    page = EventsPage(new_tab(), gateway.url, "t/typing")
    page.expect_live()
    routes: list[Route] = []
    page.page.route("**/api/events", lambda route: routes.append(route), times=1)
    with page.page.expect_request("**/api/events"):
        page.publish("first")
    page.field("Data").fill("second")
    routes[0].continue_()
    expect(page.receipt).to_have_text("Published: number 1 of t/typing.")
    expect(page.field("Data")).to_have_value("second")


def test_what_is_refused_stays_with_the_reason_below_it(new_tab: Callable[[], Page], gateway: Gateway) -> None:
    page = EventsPage(new_tab(), gateway.url, "t/refused")
    page.expect_live()
    page.publish("1", event="hello")
    expect(page.receipt).to_contain_text("Only the gateway itself sends events of this name.")
    expect(page.field("Event name")).to_be_focused()
    expect(page.field("Data")).to_have_value("1")
    page.publish("1", topic="no good")
    expect(page.receipt).to_contain_text("This is no name of a topic")
    expect(page.field("To which topic")).to_have_attribute("aria-invalid", "true")
    page.publish(json.dumps("x" * 70_000), topic="t/refused")
    expect(page.receipt).to_contain_text("longer than the gateway takes")
    page.publish("2")
    expect(page.receipt).to_have_text("Published: number 1 of t/refused.")


def test_an_event_whose_receipt_is_lost_is_published_once(new_tab: Callable[[], Page], gateway: Gateway) -> None:
    page = EventsPage(new_tab(), gateway.url, "t/once")
    page.expect_live()

    def lose(route: Route) -> None:
        route.fetch()
        route.abort()

    page.page.route("**/api/events", lose, times=1)
    page.publish("once")
    expect(page.receipt).to_contain_text("The gateway cannot be reached right now.")
    page.field("Data").press("Control+Enter")
    expect(page.receipt).to_have_text("It was published before: number 1 of t/once.")
    expect(page.data).to_have_text(["once"])


# Signing in, small screens


def test_a_gateway_with_keys_streams_to_who_signed_in(
    new_tab: Callable[[], Page], upstream: UpstreamThread, tmp_path_factory: pytest.TempPathFactory
) -> None:
    key = "a-key-of-thirty-two-characters-ok"
    for gateway in gateway_with(tmp_path_factory.mktemp("keys"), upstream, TRILANE_API_KEYS=f"alice:{key}"):
        page = EventsPage(new_tab(), gateway.url, "t/keys")
        dialog = page.page.get_by_role("dialog", name="Sign in")
        dialog.get_by_role("button", name="Not now").click()
        expect(page.state).to_have_text("You are not signed in.")
        page.page.get_by_role("button", name="Follow").click()
        dialog.get_by_label("API key or token").fill(key)
        dialog.get_by_role("button", name="Sign in").click()
        page.expect_live()
        page.publish("mine", "note")
        expect(page.receipt).to_have_text("Published: number 1 of t/keys.")
        expect(page.data).to_have_text(["mine"])
        page.page.get_by_role("button", name="Sign out").click()
        expect(dialog).to_be_visible()
        assert page.page.evaluate("Object.keys(sessionStorage).filter(name => name.includes('place'))") == []
        page.page.close()


def test_on_a_phone_the_lane_fits_and_the_chat_is_one_press_away(browser: Any, gateway: Gateway) -> None:
    with tabs(browser, viewport=PHONE, has_touch=True, is_mobile=True) as new_tab:
        console = Console(new_tab(), gateway.url)
        console.send("hello there")
        console.expect_answer("hello there")
        console.page.get_by_role("link", name="Events", exact=True).click()
        page = EventsPage(console.page, gateway.url, "t/phone")
        page.expect_live()
        publish(gateway, "t/phone", {"w" * 60: "x" * 200}, "y" * 300)
        expect(page.data).to_have_count(2)
        assert page.page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
        for name in ("Publish", "Follow"):
            expect(console.button(name)).to_be_in_viewport(ratio=1)
        console.page.get_by_role("link", name="Chat", exact=True).click()
        console.expect_answer("hello there")


# The README's script


def test_the_readmes_script_shows_what_is_published(browser: Any, gateway: Gateway) -> None:
    with tabs(browser, bypass_csp=True) as new_tab:  # an application's own page has no policy of ours
        page = new_tab()
        page.goto(f"{gateway.url}/healthz")
        with page.expect_response(lambda response: "/api/events?" in response.url):
            page.add_script_tag(content=readme_block("new EventSource").text)
        with page.expect_console_message(lambda message: message.text == "for orders"):
            publish(gateway, "orders/42", {"text": "for orders"})
