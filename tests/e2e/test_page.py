"""The console page works in Chromium, against a real gateway and a scripted upstream."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import Gateway, UpstreamThread, eventually

pytest.importorskip("playwright.sync_api", reason="no playwright: `make install` brings it")

from playwright.sync_api import Page, Route, expect

from tests.e2e.conftest import gateway_with
from tests.e2e.console import PHONE, Console, counting_message, tabs

pytestmark = [pytest.mark.browser, pytest.mark.timeout(60)]

# Asking


def test_an_answer_comes_with_its_model_and_what_it_took(console: Console) -> None:
    console.send("hello there")
    console.expect_answer("hello there")
    expect(console.page.locator("article.assistant .facts")).to_have_text("ok+echo · 7 tokens in, 2 out")
    expect(console.page).to_have_title("hello there · Trilane")
    expect(console.page.get_by_role("navigation", name="Chats").get_by_role("link").first).to_have_text("hello there")


def test_shift_enter_begins_a_line_and_enter_sends(console: Console) -> None:
    console.message.press_sequentially("one")
    console.message.press("Shift+Enter")
    console.message.press_sequentially("two")
    console.message.press("Enter")
    expect(console.questions).to_have_text("one\ntwo", use_inner_text=True)
    expect(console.message).to_have_value("")


def test_an_example_is_one_press_away(console: Console) -> None:
    console.button("Explain How can a chat answer survive a lost connection?").click()
    console.expect_answer("How can a chat answer survive a lost connection?")


def test_an_answer_is_written_anew(console: Console) -> None:
    console.send("again please")
    console.expect_answer("again please")
    first = console.page.locator("article.assistant").get_attribute("data-id")
    console.button("Regenerate").click()
    expect(console.page.locator(f'article[data-id="{first}"]')).to_have_count(0)
    console.expect_answer("again please")
    expect(console.answers).to_have_count(1)
    console.page.reload()
    expect(console.answers).to_have_count(1)


def test_a_message_is_said_differently_and_what_followed_is_replaced(console: Console) -> None:
    for text in ("first", "second"):
        console.send(text)
        console.expect_answer(text)
    console.page.locator("article.user").first.hover()
    console.button("Edit").first.click()
    expect(console.message).to_have_value("first")
    console.send("changed")
    console.expect_answer("changed")
    expect(console.questions).to_have_text(["changed"])
    console.page.reload()
    expect(console.questions).to_have_text(["changed"])
    expect(console.answers).to_have_text(["changed"])


def test_reasoning_and_tool_calls_have_their_own_places(console: Console) -> None:
    console.send("B=reasoning T=3 hm")
    console.expect_idle()
    expect(console.answers.locator("> .answer")).to_have_text("B=reasoning T=3 hm")
    console.page.get_by_text("Thoughts before the answer").click()
    expect(console.page.locator(".reasoning .markdown")).to_contain_text("r0 r1")
    console.send("B=tools weather")
    console.expect_idle()
    console.page.locator(".tool summary").click()
    expect(console.page.locator(".tool summary")).to_contain_text("get_weather")
    expect(console.page.locator(".tool pre").first).to_contain_text('"city": "Zürich"')


# Stopping


def test_stop_ends_the_answer_upstream_and_keeps_its_text(console: Console, upstream: UpstreamThread) -> None:
    console.send(counting_message(500))
    console.wait_for_words(10)
    console.button("Stop").click()
    expect(console.note).to_have_text("Stopped")
    console.expect_idle()
    assert re.fullmatch(r"I=20000 w0 w1 w2 .* w\d+", console.answers.inner_text())
    eventually(lambda: not upstream.open_requests, what="the upstream request is closed")


def test_stop_works_before_the_first_word(console: Console, upstream: UpstreamThread) -> None:
    console.send("B=stall-first please")
    expect(console.page.get_by_role("status").filter(has_text="Waiting")).to_be_visible()
    console.button("Stop").click()
    expect(console.note).to_contain_text("Stopped")
    console.expect_idle()
    eventually(lambda: not upstream.open_requests, what="the upstream request is closed")


def test_escape_stops_too(console: Console) -> None:
    console.send(counting_message(500))
    console.wait_for_words(3)
    console.message.press("Escape")
    expect(console.note).to_have_text("Stopped")


# Failing


def test_a_refusal_is_a_sentence_and_can_be_tried_again(console: Console) -> None:
    console.send("B=e429 please")
    expect(console.note).to_contain_text("The model is busy")
    expect(console.note).to_contain_text(re.compile("Try again in [1-7] second"))
    shown = console.note.inner_text()
    expect(console.note).not_to_have_text(shown)  # it counts down
    console.expect_idle()
    console.button("Retry").click()
    expect(console.note).to_contain_text("The model is busy")
    expect(console.questions).to_have_text(["B=e429 please"])


def test_a_refused_run_that_is_still_seen_as_active_counts_down_all_the_same(console: Console) -> None:
    """The snapshot that the page asks for after a refusal may be older than the end of the run."""
    read: list[str] = []

    def snapshot(route: Route) -> None:
        answer = route.fetch()
        active = None if read else {"runId": "r", "cursor": "r:0"}
        route.fulfill(response=answer, json=answer.json() | {"activeRun": active})

    def stream(route: Route) -> None:
        read.append(route.request.url)
        about = {"type": "message-metadata", "messageMetadata": {"code": "upstream_rate_limited", "emitted": 0}}
        chunks = [about, {"type": "error", "errorText": "Rate limit reached"}]
        frames = [f"id: r:{n}\ndata: {json.dumps(chunk)}\n\n" for n, chunk in enumerate(chunks, 1)]
        route.fulfill(content_type="text/event-stream", body="".join(frames) + "data: [DONE]\n\n")

    console.page.route("**/api/chat/*", snapshot)
    console.page.route("**/api/chat/*/stream*", stream)
    console.send("B=e429 please")
    eventually(lambda: console.page.wait_for_timeout(20) or read, what="the run is read once more")
    console.expect_idle()
    expect(console.note).to_contain_text(re.compile("Try again in [1-7] second"))
    console.page.unroute_all(behavior="ignoreErrors")


def test_a_cut_answer_is_never_shown_as_finished(console: Console) -> None:
    console.send("B=cut T=6 one two three four five six")
    expect(console.note).to_contain_text("The model stopped in the middle of this answer.")
    expect(console.answers).to_have_text("B=cut T=6 one")
    expect(console.page.get_by_role("alert").filter(has_text="stopped in the middle")).to_have_count(1)
    console.button("Retry").click()
    expect(console.note).to_contain_text("The model stopped in the middle of this answer.")
    expect(console.answers).to_have_count(1)


def test_a_message_without_an_answer_says_so_after_a_reload(console: Console) -> None:
    console.send("B=e500 please")
    expect(console.note).to_be_visible()
    console.page.reload()
    expect(console.note).to_contain_text("This message has no answer.")
    expect(console.button("Retry")).to_be_visible()


def test_a_chat_that_does_not_exist_is_a_way_to_a_new_one(new_tab: Callable[[], Page], gateway: Gateway) -> None:
    console = Console(new_tab(), gateway.url, "nobody-made-this")
    expect(console.page.get_by_text("This chat does not exist")).to_be_visible()
    console.page.get_by_role("link", name="Start a new chat").click()
    console.send("hello")
    console.expect_answer("hello")


# Text that wants to be more than text

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "<script>alert(1)</script>",
    "<svg/onload=alert(1)>",
    '<a href="javascript:alert(1)">x</a>',
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](java&#115;cript:alert(1))",
    "[x](data:text/html,<script>alert(1)</script>)",
    "[x](vbscript:alert(1))",
    '[x](https://example.com/"onmouseover="alert(1))',
    "![x](https://example.com/track.png)",
    "<javascript:alert(1)>",
    "```html\n<script>alert(1)</script>\n```",
    '| a |\n|---|\n| <img src=x onerror="alert(1)"> |',
    "<style>body{display:none}</style>",
    "<iframe src=javascript:alert(1)></iframe>",
]


def test_hostile_text_stays_text(console: Console) -> None:
    urls: list[str] = []
    console.page.on("request", lambda request: urls.append(request.url))
    console.send("\n\n".join(HOSTILE))
    console.expect_idle()
    body = console.answers
    assert body.locator("img, script, svg:not(.icon), iframe, style, [onerror], [onmouseover], [onload]").count() == 0
    for link in body.get_by_role("link").all():
        assert (link.get_attribute("href") or "").startswith("https://example.com/")
        assert link.get_attribute("rel") == "noopener noreferrer"
    expect(body).to_contain_text("<img src=x onerror=alert(1)>")
    expect(body).to_contain_text("[x](javascript:alert(1))")
    assert all(url.startswith(console.url) for url in urls)


def test_markdown_is_the_same_after_the_stream_as_after_a_reload(console: Console) -> None:
    text = (
        "# Title\n\nSome **bold**, `code` and\na [link](https://example.com).\n\n1. one\n   - nested\n2. two\n\n"
        "| a | b |\n|---|--:|\n| 1 | 2 |\n\n> quoted\n\n```py\nprint('x')\n\nprint('y')\n```\n\n---\n\nend I=3000"
    )
    console.send(text)
    console.expect_idle()
    expect(console.answers.locator("p").last).to_have_text("end I=3000")
    live = console.answers.inner_html()
    for tag in ("h3", "strong", "ol ul", "table", "blockquote", "pre code", "hr", "a"):
        assert console.answers.locator(tag).count() == 1, tag
    console.page.reload()
    expect(console.answers).to_have_count(1)
    assert console.answers.inner_html() == live


# The list, signing in, small screens


def test_a_chat_is_deleted_after_a_question(console: Console) -> None:
    console.send("delete me")
    console.expect_answer("delete me")
    chat = console.chat
    row = console.page.locator(f'[data-chat="{chat}"]')
    row.hover()
    row.get_by_role("button").click()
    console.button("Keep it").click()
    expect(row).to_have_count(1)
    row.hover()
    row.get_by_role("button").click()
    console.button("Delete").click()
    expect(row).to_have_count(0)
    expect(console.page.get_by_text("What can I help with?")).to_be_visible()
    console.page.goto(f"{console.url}/#/c/{chat}")
    expect(console.page.get_by_text("This chat does not exist")).to_be_visible()


def test_a_gateway_with_keys_asks_for_one(
    new_tab: Callable[[], Page], upstream: UpstreamThread, tmp_path_factory: pytest.TempPathFactory
) -> None:
    key = "a-key-of-thirty-two-characters-ok"
    for gateway in gateway_with(tmp_path_factory.mktemp("keys"), upstream, TRILANE_API_KEYS=f"alice:{key}"):
        console = Console(new_tab(), gateway.url)
        dialog = console.page.get_by_role("dialog", name="Sign in")
        dialog.get_by_label("API key or token").fill("wrong-key-wrong-key-wrong-key-wrong")
        dialog.get_by_role("button", name="Sign in").click()
        expect(dialog.get_by_role("alert")).to_contain_text("not known here")
        dialog.get_by_label("API key or token").fill(key)
        dialog.get_by_role("button", name="Sign in").click()
        expect(dialog).to_have_count(0)
        console.send("hello")
        console.expect_answer("hello")
        console.button("Sign out").click()
        expect(dialog).to_be_visible()
        console.page.close()


def test_on_a_phone_the_list_is_a_drawer(browser: Any, gateway: Gateway) -> None:
    with tabs(browser, viewport=PHONE, has_touch=True, is_mobile=True) as new_tab:
        console = Console(new_tab(), gateway.url)
        console.send(counting_message(300, 1000))
        console.expect_answer(counting_message(300, 1000))
        box = console.message.bounding_box()
        assert box is not None
        assert box["y"] + box["height"] <= PHONE["height"]
        assert console.page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
        expect(console.button("Close the list of chats")).not_to_be_visible()
        console.button("Open the list of chats").click()
        expect(console.button("Close the list of chats")).to_be_focused()
        console.page.keyboard.press("Escape")
        expect(console.button("Open the list of chats")).to_be_focused()


def test_a_reader_who_scrolled_up_is_left_there(console: Console) -> None:
    text = "\n\n".join(f"line {i}" for i in range(60))
    console.send(f"{text} I=1000")
    console.expect_idle()
    console.send(counting_message(80))
    console.wait_for_words(10)
    scroller = console.page.locator("#scroller")
    scroller.evaluate("element => { element.scrollTop = 100; }")
    expect(console.button("Jump to latest")).to_be_visible()
    console.expect_answer(counting_message(80))
    assert scroller.evaluate("element => element.scrollTop") == 100
    console.button("Jump to latest").click()
    expect(console.button("Jump to latest")).not_to_be_visible()
    expect(console.answers.last).to_be_in_viewport(ratio=0.1)
