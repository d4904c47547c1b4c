"""A Console drives the console page by its labels, as a person does."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from tests.conftest import Gateway

expect.set_options(timeout=10_000)
DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}
NOT_OURS = ("Failed to load resource", "Access to fetch at")
"""Beginnings of what Chromium itself writes to the console about each refused or cut request."""


class Console:
    """Drives one tab on one gateway."""

    def __init__(self, page: Page, url: str, chat: str = "") -> None:
        self.page = page
        self.url = url
        page.goto(f"{url}/#/c/{chat}" if chat else f"{url}/")

    @property
    def chat(self) -> str:
        return self.page.url.partition("#/c/")[2]

    @property
    def message(self) -> Locator:
        return self.page.get_by_label("Message", exact=True)

    @property
    def answers(self) -> Locator:
        return self.page.locator("article.assistant .body")

    @property
    def questions(self) -> Locator:
        return self.page.locator("article.user .body")

    @property
    def note(self) -> Locator:
        return self.page.locator("article:last-child > .note")

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    def send(self, text: str) -> None:
        self.message.fill(text)
        self.message.press("Enter")

    def expect_idle(self) -> None:
        expect(self.button("Send")).to_be_visible()

    def expect_answer(self, text: str) -> None:
        """Waits until the last answer is there as a whole and nothing is being read any more."""
        self.expect_idle()
        expect(self.answers.last).to_have_text(text)

    def wait_for_words(self, count: int) -> None:
        """Waits for so many words of the last answer, while it still goes on."""
        self.page.wait_for_function(
            """count => {
                const body = [...document.querySelectorAll("article.assistant .body")].at(-1);
                return body && body.textContent.split(" ").length >= count;
            }""",
            arg=count,
        )
        expect(self.button("Stop")).to_be_visible()


class EventsPage:
    """Drives the events lane in one tab."""

    def __init__(self, page: Page, url: str, *topics: str) -> None:
        self.page = page
        self.url = f"{url}/#/events{'?' if topics else ''}{'&'.join(f'topic={topic}' for topic in topics)}"
        page.goto(self.url)

    @property
    def state(self) -> Locator:
        return self.page.locator("#watch-state")

    @property
    def news(self) -> Locator:
        return self.page.locator("#watch-news")

    @property
    def names(self) -> Locator:
        return self.page.locator(".event-head strong")

    @property
    def data(self) -> Locator:
        return self.page.get_by_role("log", name="Events").locator(".typed, .json")

    @property
    def receipt(self) -> Locator:
        """Locates the sentence about what was published."""
        return self.page.locator("#publish-said")

    def field(self, label: str) -> Locator:
        return self.page.get_by_label(label, exact=True)

    def follow(self, topics: str) -> None:
        self.field("Topics").fill(topics)
        self.field("Topics").press("Enter")

    def publish(self, data: str, event: str = "", topic: str = "") -> None:
        if topic:
            self.field("To which topic").fill(topic)
        self.field("Event name").fill(event)
        self.field("Data").fill(data)
        self.field("Data").press("Control+Enter")

    def expect_live(self, news: str = "") -> None:
        expect(self.state).to_have_text("Live", timeout=20_000)  # the longest wait between two attempts is 8 s
        expect(self.news).to_have_text(news)


def publish(gateway: Gateway, topic: str, *data: object, event: str = "message") -> None:
    events = [{"topic": topic, "event": event, "data": one} for one in data]
    answer = httpx2.post(f"{gateway.url}/api/events", json=events)
    assert answer.status_code == 200, answer.text


def counting_message(words: int, interval_us: int = 20_000) -> str:
    """Returns a message whose answer is itself, word by word: numbered, so that a lost or doubled word shows."""
    return " ".join([f"I={interval_us}", *(f"w{i}" for i in range(words))])


@contextmanager
def tabs(browser: Browser, **options: Any) -> Iterator[Callable[[], Page]]:
    """Opens tabs of one browser profile, and fails if one of them logged an error of the page itself."""
    context: BrowserContext = browser.new_context(viewport=options.pop("viewport", DESKTOP), **options)
    errors, lost = list[str](), list[str]()
    context.on("weberror", lambda error: errors.append(str(error.error)))
    context.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    context.on("dialog", lambda dialog: (errors.append(f"a dialog: {dialog.message}"), dialog.dismiss()))
    context.on("requestfailed", lambda request: lost.append(f"{request.url}: {request.failure}"))
    try:
        yield context.new_page
    except BaseException:
        print("the page logged", errors, "and lost", lost)  # which a failed test shows
        raise
    finally:
        context.close()
    assert [error for error in errors if not error.startswith(NOT_OURS)] == [], errors
