"""The console page loses and doubles nothing through reloads, cuts, other tabs and other devices."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import Gateway

pytest.importorskip("playwright.sync_api", reason="no playwright: `make install` brings it")

from playwright.sync_api import Page, expect

from tests.e2e.console import Console, counting_message, tabs

pytestmark = [pytest.mark.browser, pytest.mark.timeout(60)]


# Coming back


def test_a_reload_in_the_middle_of_an_answer_loses_nothing(console: Console) -> None:
    text = counting_message(250)
    console.send(text)
    for words in (10, 50):
        console.wait_for_words(words)
        console.page.reload()
    console.expect_answer(text)
    expect(console.answers).to_have_count(1)


def test_cuts_in_the_middle_of_an_answer_lose_nothing(new_tab: Callable[[], Page], proxy: Any) -> None:
    console = Console(new_tab(), proxy.url)
    text = counting_message(160, interval_us=60_000)
    console.send(text)
    for words in (10, 40, 70):
        console.wait_for_words(words)
        proxy.refusing = True
        proxy.cut()
        expect(console.page.get_by_role("status").filter(has_text="Reconnecting")).to_be_visible()
        proxy.refusing = False
    console.expect_answer(text)
    expect(console.answers).to_have_count(1)


def test_a_message_sent_while_the_gateway_cannot_be_reached_is_sent_once(
    new_tab: Callable[[], Page], proxy: Any
) -> None:
    console = Console(new_tab(), proxy.url)
    expect(console.message).to_be_visible()
    proxy.refusing = True
    proxy.cut()
    console.send("anyone there?")
    expect(console.page.get_by_role("status").filter(has_text="Reconnecting")).to_be_visible()
    proxy.refusing = False
    console.expect_answer("anyone there?")
    console.page.reload()
    expect(console.questions).to_have_text(["anyone there?"])


def test_what_cannot_be_sent_can_be_given_up_and_tried_again(new_tab: Callable[[], Page], proxy: Any) -> None:
    console = Console(new_tab(), proxy.url)
    expect(console.message).to_be_visible()
    proxy.refusing = True
    proxy.cut()
    console.send("anyone there?")
    expect(console.page.get_by_role("status").filter(has_text="Reconnecting")).to_be_visible()
    console.button("Stop").click()
    expect(console.note).to_contain_text("Stopped before the gateway answered")
    proxy.refusing = False
    console.button("Retry").click()
    console.expect_answer("anyone there?")
    expect(console.questions).to_have_text(["anyone there?"])


def test_being_offline_is_said_and_passes(console: Console) -> None:
    expect(console.message).to_be_visible()
    console.page.context.set_offline(True)
    expect(console.page.get_by_role("status").filter(has_text="You are offline")).to_be_visible()
    console.send("later then")
    console.page.context.set_offline(False)
    console.expect_answer("later then")
    expect(console.page.get_by_text("You are offline")).to_have_count(0)


# Other tabs, other devices


def test_a_second_tab_shows_the_same_answer_live_and_can_stop_it(
    console: Console, new_tab: Callable[[], Page], gateway: Gateway
) -> None:
    console.send(counting_message(500))
    console.wait_for_words(10)
    second = Console(new_tab(), gateway.url, console.chat)
    second.wait_for_words(15)
    second.button("Stop").click()
    for tab in (console, second):
        tab.expect_idle()
        expect(tab.note).to_have_text("Stopped")
    assert console.answers.inner_text() == second.answers.inner_text()


def test_a_tab_that_only_looks_on_shows_what_another_tab_sends(
    console: Console, new_tab: Callable[[], Page], gateway: Gateway
) -> None:
    console.send("first")
    console.expect_answer("first")
    second = Console(new_tab(), gateway.url, console.chat)
    expect(second.answers).to_have_text(["first"])
    console.send("second")
    expect(second.answers).to_have_text(["first", "second"], timeout=2000)


def test_another_device_is_noticed_within_seconds(console: Console, browser: Any, gateway: Gateway) -> None:
    console.send("first")
    console.expect_answer("first")
    with tabs(browser) as other:
        device = Console(other(), gateway.url, console.chat)
        expect(device.answers).to_have_text(["first"])
        device.send("from the phone")
        expect(console.answers).to_have_text(["first", "from the phone"])
        expect(console.questions).to_have_text(["first", "from the phone"])
