"""The console page tells a running answer more: a message is read at once, at its next step, or after it."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import Gateway

pytest.importorskip("playwright.sync_api", reason="no playwright: `make install` brings it")

from playwright.sync_api import Locator, Page, expect

from tests.e2e.console import PHONE, Console, counting_message, tabs

pytestmark = [pytest.mark.browser, pytest.mark.timeout(60)]


def waiting(console: Console) -> Locator:
    return console.page.get_by_role("list", name="Messages that wait").get_by_role("listitem")


def steer(console: Console, text: str, when: str) -> None:
    console.message.fill(text)
    console.page.get_by_label("Your message is read").select_option(when)
    console.button("Send to this answer").click()


def test_a_message_waits_for_the_end_of_the_answer_and_is_answered_then(console: Console) -> None:
    text = counting_message(120, 50_000)
    console.send(text)
    console.wait_for_words(5)
    expect(console.page.get_by_label("Your message is read")).not_to_be_visible()
    steer(console, "and this", "turn")
    expect(console.message).to_have_value("")
    expect(waiting(console)).to_contain_text(["and this"])
    expect(waiting(console)).to_contain_text(["read after this answer"])
    console.page.reload()
    expect(waiting(console)).to_contain_text(["and this"])
    expect(console.answers.last).to_have_text("and this")
    console.expect_idle()
    expect(waiting(console)).to_have_count(0)
    expect(console.questions).to_have_text([text, "and this"])
    expect(console.answers).to_have_text([text, "and this"])


def test_what_waits_is_seen_on_every_device_and_taken_back_on_any(
    console: Console, browser: Any, gateway: Gateway
) -> None:
    """The second device looks for nothing by itself: it is told."""
    console.send(counting_message(3000))
    console.wait_for_words(5)
    with tabs(browser, viewport=PHONE, has_touch=True, is_mobile=True) as other:
        page = other()
        page.add_init_script("window.setInterval = () => 0")
        phone = Console(page, gateway.url, console.chat)
        phone.wait_for_words(5)
        steer(console, "first", "turn")
        steer(console, "second", "turn")
        expect(waiting(phone)).to_contain_text(["first", "second"])
        box = phone.button("Take back “first”").bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= PHONE["width"]
        phone.button("Take back “first”").click()
        expect(waiting(console)).to_contain_text(["second"])
        phone.button("Take back “second”").click()
        expect(waiting(console)).to_have_count(0)
        console.button("Stop").click()
        console.expect_idle()
        expect(console.questions).to_have_count(1)


def test_a_message_interrupts_the_answer_and_stands_where_it_was_read(console: Console) -> None:
    console.send(counting_message(3000))
    console.wait_for_words(10)
    steer(console, "enough of that", "now")
    said = console.answers.get_by_role("group", name="Said meanwhile")
    for _ in ("live", "after a reload"):
        expect(said).to_have_text("enough of that")
        expect(console.answers.locator("> .answer").last).to_have_text("enough of that")
        console.expect_idle()
        expect(waiting(console)).to_have_count(0)
        expect(console.questions).to_have_count(1)
        expect(console.answers).to_have_count(1)
        console.page.reload()


def test_what_waits_when_the_answer_is_stopped_is_sent_on_demand(console: Console) -> None:
    console.send(counting_message(3000))
    console.wait_for_words(5)
    steer(console, "later", "turn")
    expect(waiting(console)).to_contain_text(["later"])
    console.button("Stop").click()
    expect(console.page.get_by_text("They wait, because the answer did not finish.")).to_be_visible()
    console.button("Send them now").click()
    console.expect_answer("later")
    expect(waiting(console)).to_have_count(0)


def test_a_message_that_the_gateway_does_not_take_comes_back(
    new_tab: Callable[[], Page], gateway: Gateway, proxy: Any
) -> None:
    console = Console(new_tab(), proxy.url)
    console.send(counting_message(3000))
    console.wait_for_words(5)
    proxy.refusing = True
    proxy.cut()
    steer(console, "anyone there?", "turn")
    expect(console.page.get_by_role("alert").filter(has_text="Your message could not be sent")).to_have_count(1)
    expect(console.message).to_have_value("anyone there?")
    proxy.refusing = False
