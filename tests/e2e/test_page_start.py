"""The page comes to life though files of it are lost on the way, as when the reader's network changes."""

from typing import Any

import pytest

pytest.importorskip("playwright.sync_api", reason="no playwright: `make install` brings it")

from playwright.sync_api import Browser, Page, Route, expect

from tests.conftest import Gateway, eventually
from tests.e2e.console import tabs

pytestmark = [pytest.mark.browser, pytest.mark.timeout(60)]

TRIES = 4
"""How often a file is asked for at most."""


class Loss:
    """Loses a file of the page so many times."""

    def __init__(self, page: Page, file: str, times: int) -> None:
        self.asked = 0
        self._times = times
        page.route(f"**/static/{file}", self._answer)

    def _answer(self, route: Route) -> None:
        self.asked += 1
        if self.asked <= self._times:
            route.abort()
        else:
            route.continue_()


@pytest.mark.parametrize("file", ["main.js", "view/scroll.js", "style/page.css"])
def test_a_page_that_lost_a_file_loads_again(file: str, new_tab: Any, gateway: Gateway) -> None:
    page = new_tab()
    loss = Loss(page, file, times=2)
    page.goto(f"{gateway.url}/#/audio")
    expect(page.locator("#audio-state")).to_have_text("The microphone is off")
    eventually(lambda: page.wait_for_timeout(10) or loss.asked == 3)
    eventually(lambda: page.evaluate("sessionStorage.getItem('trilane.losses')") is None)


def test_a_file_that_is_never_there_is_not_asked_for_for_ever(browser: Browser, gateway: Gateway) -> None:
    with tabs(browser) as new_tab:
        page = new_tab()
        page.clock.install()
        loss = Loss(page, "view/scroll.js", times=100)
        page.goto(f"{gateway.url}/")
        for asked in range(2, TRIES + 1):
            page.clock.run_for(10_000)
            eventually(lambda n=asked: page.wait_for_timeout(10) or loss.asked == n)
        page.wait_for_load_state()
        page.clock.run_for(60_000)
        page.wait_for_timeout(200)
        assert loss.asked == TRIES


def test_what_is_lost_later_does_not_load_the_page_again(new_tab: Any, gateway: Gateway) -> None:
    page = new_tab()
    page.goto(f"{gateway.url}/")
    Loss(page, "lost.css", times=100)
    page.evaluate("""() => {
        window.isSame = true;
        const style = document.createElement("link");
        style.rel = "stylesheet";
        style.href = "/static/lost.css";
        document.head.append(style);
        return new Promise((resolve) => (style.onerror = () => setTimeout(resolve, 1000)));
    }""")
    assert page.evaluate("isSame")
