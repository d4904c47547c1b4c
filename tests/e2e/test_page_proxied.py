"""The page works behind an nginx that writes its own `Host`, and the README's front end behind Vite.

Behind the proxies of `deploy/proxies` it is tested in `tests/deploy`.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright.sync_api", reason="no playwright: `make install` brings it")

from playwright.sync_api import Locator, Page, expect

from tests.conftest import Gateway, UpstreamThread, eventually, serving
from tests.e2e.console import Console
from tests.e2e.vite import behind_vite
from tests.support.nginx import ANOTHER_HOST, behind_nginx, needs_nginx

LONG = "T=2000 I=20000"
TARGET = "target: 'http://127.0.0.1:8000'"
PROXIES = {
    "one address": ("'/api': 'http://127.0.0.1:8000'", False),
    "changeOrigin": (f"'/api': {{ {TARGET}, changeOrigin: true, ws: true, rewriteWsOrigin: true }}", True),
}
ASK = """async (base) => {
    const message = { id: crypto.randomUUID(), role: 'user', parts: [{ type: 'text', text: 'through a proxy' }] }
    const headers = { 'content-type': 'application/json' }
    const id = crypto.randomUUID()
    const request = { method: 'POST', headers, body: JSON.stringify({ id, message }) }
    return fetch(`${base}/api/chat`, request).then((answer) => answer.text(), String)
}"""
FINISHED = '"type":"finish"'
SPEAK = """() => new Promise((resolve, reject) => {
    const socket = new WebSocket(`${location.origin.replace('http', 'ws')}/api/audio`, ['trilane.audio.v1'])
    socket.onopen = () => socket.send('{"type": "start"}')
    socket.onmessage = ({ data }) => resolve(data)
    socket.onclose = ({ code }) => reject(new Error(`closed ${code}`))
})"""
pytestmark = [pytest.mark.browser, pytest.mark.timeout(90)]

# Behind nginx


@needs_nginx
def test_a_page_behind_nginx_with_another_host_asks_and_is_answered(
    gateway: Gateway, new_tab: Callable[[], Any], tmp_path: Path
) -> None:
    with behind_nginx(gateway, ANOTHER_HOST, tmp_path) as url:
        console = Console(new_tab(), url)
        console.send("hello through a proxy")
        console.expect_answer("hello through a proxy")


# Behind Vite


@pytest.fixture(scope="module")
def front_end(gateway: Gateway) -> Iterator[str]:
    with behind_vite(gateway.port) as url:
        yield url


@pytest.fixture
def page(new_tab: Callable[[], Any], front_end: str) -> Page:
    new: Page = new_tab()
    new.goto(front_end)
    return new


@pytest.fixture
def blank(new_tab: Callable[[], Any], front_end: str) -> Page:
    """Opens a page of the front end's origin that has nothing on it."""
    new: Page = new_tab()
    new.goto(f"{front_end}/blank.html")
    return new


def ask(page: Page, text: str) -> None:
    page.get_by_label("Message").fill(text)
    page.get_by_label("Message").press("Enter")


def messages(page: Page) -> Locator:
    return page.locator("#root p")


def test_the_conversation_and_the_running_answer_are_there_after_a_reload(page: Page, upstream: UpstreamThread) -> None:
    ask(page, "remember this")
    expect(messages(page)).to_have_text(["remember this", "remember this"])
    asked = len(upstream.fake.requests)
    ask(page, LONG)
    expect(messages(page).last).to_contain_text("w20 ")
    page.reload()
    expect(messages(page)).to_have_count(4)
    expect(messages(page).first).to_have_text("remember this")
    expect(messages(page).nth(2)).to_have_text(LONG)
    before = len(messages(page).last.inner_text())
    page.wait_for_function(
        "before => [...document.querySelectorAll('p')].at(-1).innerText.length > before + 50", arg=before
    )
    words = messages(page).last.inner_text().split()
    assert words == [*LONG.split(), *(f"w{i}" for i in range(2, len(words)))]
    assert len(upstream.fake.requests) == asked + 1
    with page.expect_response("**/stop") as stop:
        page.get_by_role("button", name="Stop").click()
    assert stop.value.status == 200
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    eventually(lambda: not upstream.open_requests, what="the upstream request is closed")
    assert upstream.fake.requests[-1].left_at is not None
    stopped = messages(page).last.inner_text()
    page.reload()
    expect(messages(page)).to_have_count(4)
    expect(messages(page).last).to_have_text(stopped)
    ask(page, "go on")
    expect(messages(page).last).to_have_text("go on")


def test_a_refusal_is_shown_as_a_sentence(page: Page) -> None:
    ask(page, "B=e429 please")
    expect(page.get_by_role("alert")).to_have_text("Rate limit reached")


def test_the_readmes_lines_for_vite_carry_the_microphones_socket(blank: Page) -> None:
    assert '"ready"' in blank.evaluate(SPEAK)


@pytest.mark.parametrize(("proxy", "has_sockets"), PROXIES.values(), ids=PROXIES)
def test_a_page_behind_another_proxy_of_vite_asks_and_speaks(
    gateway: Gateway, new_tab: Callable[[], Any], proxy: str, has_sockets: bool
) -> None:
    with behind_vite(gateway.port, proxy) as url:
        tab = new_tab()
        tab.goto(f"{url}/blank.html")
        assert FINISHED in tab.evaluate(ASK, "")
        if has_sockets:
            assert '"ready"' in tab.evaluate(SPEAK)


def test_a_page_of_another_origin_needs_to_be_listed(
    gateway: Gateway, upstream: UpstreamThread, blank: Page, front_end: str, tmp_path: Path
) -> None:
    assert blank.evaluate(ASK, gateway.url) == "TypeError: Failed to fetch"
    listing = serving(tmp_path, upstream.url, TRILANE_ALLOWED_ORIGINS=front_end)
    try:
        assert FINISHED in blank.evaluate(ASK, listing.start().url)
    finally:
        listing.stop()
