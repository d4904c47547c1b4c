"""The policy of the console page hinders nothing of it, on any lane, and stops what is not of it."""

import re
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.conftest import Gateway, eventually

pytest.importorskip("playwright.sync_api", reason="no playwright: `make install` brings it")

from playwright.sync_api import Browser, Page, expect

from tests.e2e.conftest import ARGUMENTS, CHROMIUM
from tests.e2e.console import Console, EventsPage, publish, tabs

CLOCK_RUNS = re.compile(r"0:(0[1-9]|[1-5]\d)")
pytestmark = [pytest.mark.browser, pytest.mark.timeout(60)]

PIXEL = "data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="
WATCH = """
window.violations = [];
addEventListener("securitypolicyviolation", (event) => {
    violations.push(`${event.violatedDirective} ${event.blockedURI}`);
});
"""


@pytest.fixture(scope="module")
def speaker(browser: Browser) -> Iterator[Browser]:
    """Launches a browser whose microphone beeps."""
    microphone = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    path = next(filter(None, map(shutil.which, CHROMIUM)))
    chromium = browser.browser_type.launch(executable_path=path, args=[*ARGUMENTS, *microphone])
    yield chromium
    chromium.close()


@pytest.fixture
def new_tab(speaker: Browser) -> Iterator[Callable[[], Page]]:
    with tabs(speaker) as open_tab:
        yield open_tab


def violations(page: Page) -> list[str]:
    return page.evaluate("violations")


def test_every_lane_of_the_page_keeps_its_policy(new_tab: Callable[[], Page], gateway: Gateway) -> None:
    tab = new_tab()
    tab.add_init_script(WATCH)
    console = Console(tab, gateway.url)
    console.send(f"a **bold** word, `code`, ![a picture]({PIXEL}) I=0")
    console.expect_idle()
    expect(console.answers.locator("strong")).to_have_text("bold")
    publish(gateway, "policy", {"n": 1})
    events = EventsPage(tab, gateway.url, "policy")
    events.expect_live()
    publish(gateway, "policy", {"n": 2})
    expect(events.data).to_have_count(1)
    tab.goto(f"{gateway.url}/#/audio")
    tab.get_by_role("button", name="Start listening", exact=True).click()
    expect(tab.locator("#audio-state")).to_have_text("Listening", timeout=30_000)
    expect(tab.locator("#audio-time > :last-child")).to_have_text(CLOCK_RUNS, timeout=20_000)  # the worklet does
    tab.get_by_role("button", name="Stop listening", exact=True).click()
    expect(tab.locator("#audio-state")).to_have_text("The microphone is off")
    assert violations(tab) == []


ADD = "(tag, fields) => document.body.append(Object.assign(document.createElement(tag), fields))"
ELSEWHERE = "https://evil.example/"
ATTACKS = {
    "an inline script": f"({ADD})('script', {{ text: 'window.hit = 1' }})",
    "a script of another site": f"({ADD})('script', {{ src: '{ELSEWHERE}x.js' }})",
    "text that is run": "setTimeout('window.hit = 1')",
    "markup that is parsed": "document.body.innerHTML = '<img src=x onerror=\"window.hit = 1\">'",
    "a handler in an attribute": "document.body.setAttribute('onclick', 'window.hit = 1'); document.body.click()",
    "an inline style": f"({ADD})('style', {{ textContent: 'body {{ color: red }}' }})",
    "a frame": f"({ADD})('iframe', {{ src: '{ELSEWHERE}' }})",
    "an object": f"({ADD})('object', {{ data: '{ELSEWHERE}' }})",
    "a sound": f"({ADD})('audio', {{ src: '{ELSEWHERE}a.mp3' }})",
    "a call to another site": f"fetch('{ELSEWHERE}').catch(() => {{}})",
    "a form": f"({ADD})('form', {{ action: '{ELSEWHERE}', id: 'form' }}); document.querySelector('#form').submit()",
    "another base": f"({ADD})('base', {{ href: '{ELSEWHERE}' }})",
}


@pytest.fixture(scope="module")
def victim(speaker: Browser, gateway: Gateway) -> Iterator[Page]:
    context = speaker.new_context()
    page = context.new_page()
    page.add_init_script(WATCH)
    page.goto(f"{gateway.url}/")
    yield page
    context.close()


@pytest.mark.parametrize("name", ATTACKS)
def test_what_is_not_of_the_page_is_stopped(victim: Page, name: str) -> None:
    victim.evaluate("violations.length = 0")
    victim.evaluate(f"() => {{ try {{ {ATTACKS[name]} }} catch {{}} }}")
    eventually(lambda: violations(victim), 5, f"{name} is stopped")
    assert not victim.evaluate("window.hit")


def test_the_docs_are_shown_as_they_are_meant(new_tab: Callable[[], Any], gateway: Gateway) -> None:
    tab = new_tab()
    tab.add_init_script(WATCH)
    tab.goto(f"{gateway.url}/docs")
    assert tab.evaluate("getComputedStyle(document.body).maxWidth") == "960px", "the style sheet applies"
    assert violations(tab) == []


def test_no_other_site_frames_the_page(new_tab: Callable[[], Any], gateway: Gateway) -> None:
    tab = new_tab()
    frame = f'<iframe src="{gateway.url}/"></iframe>'
    tab.route("https://evil.example/", lambda route: route.fulfill(body=frame, content_type="text/html"))
    tab.goto("https://evil.example/")
    assert tab.frames[1].evaluate("document.querySelector('#message')") is None
