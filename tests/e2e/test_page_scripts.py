"""What people and models write is shown as it is meant: in every script, in formulas, with pictures."""

import base64
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import uuid4

import pytest

pytest.importorskip("playwright.sync_api", reason="no playwright: `make install` brings it")

from playwright.sync_api import Page, expect

from loadtests.upstream.answer import Answer
from routes.console import HEADERS, page
from tests.conftest import Gateway, UpstreamThread, eventually
from tests.e2e.console import Console, EventsPage

pytestmark = [pytest.mark.browser, pytest.mark.timeout(60)]

KEY = "(field, key) => field.dispatchEvent(new KeyboardEvent('keydown', {...key, bubbles: true, cancelable: true}))"
COMPOSING: dict[str, dict[str, object]] = {
    "Chromium": {"isComposing": True, "keyCode": 229},
    "Safari": {"isComposing": False, "keyCode": 229},
    "no code": {"isComposing": True},
    "the code of Enter": {"isComposing": True, "keyCode": 13},
}
"""The key that ends a composition: Safari has ended the composition before it sends it."""
composing = pytest.mark.parametrize("how", COMPOSING.values(), ids=COMPOSING)


def press(field: Any, key: str, **how: object) -> None:
    field.evaluate(KEY, {"key": key, **how})


@composing
def test_enter_that_chooses_a_character_does_not_send(console: Console, how: dict[str, object]) -> None:
    console.message.fill("日本")
    press(console.message, "Enter", **how)
    expect(console.message).to_have_value("日本")
    expect(console.questions).to_have_count(0)
    press(console.message, "Enter", keyCode=13)
    expect(console.questions).to_have_text("日本")


@composing
def test_escape_that_gives_up_a_character_does_not_stop(console: Console, how: dict[str, object]) -> None:
    console.send("T=1000 I=20000 B=ok")
    console.wait_for_words(3)
    press(console.message, "Escape", **how)
    console.wait_for_words(10)
    press(console.message, "Escape", keyCode=27)
    expect(console.note).to_have_text("Stopped")


@composing
def test_escape_that_gives_up_a_character_does_not_cancel_an_edit(console: Console, how: dict[str, object]) -> None:
    console.send("日")
    console.expect_answer("日")
    console.page.locator("article.user").hover()
    console.button("Edit").click()
    press(console.message, "Escape", **how)
    expect(console.message).to_have_value("日")
    press(console.message, "Escape", keyCode=27)
    expect(console.message).to_have_value("")


@composing
def test_enter_that_chooses_a_character_does_not_publish(
    new_tab: Callable[[], Page], gateway: Gateway, how: dict[str, object]
) -> None:
    page = EventsPage(new_tab(), gateway.url, f"t/{uuid4().hex}")
    page.expect_live()
    page.field("Data").fill("日本")
    press(page.field("Data"), "Enter", ctrlKey=True, **how)
    expect(page.field("Data")).to_have_value("日本")
    page.publish("日本語")
    expect(page.data).to_have_text(["日本語"])


@pytest.mark.parametrize(
    ("text", "direction"),
    [("שלום עולם", "rtl"), ("مرحبا بالعالم", "rtl"), ("hello שלום", "ltr"), ("- سؤال\n- جواب", "rtl")],
)
def test_text_runs_in_the_direction_of_its_script(console: Console, text: str, direction: str) -> None:
    console.send(text)
    console.expect_idle()
    shown = (
        console.questions.locator(".typed"),
        console.answers.locator("p, li").first,
        console.page.locator("nav a, aside a").filter(has_text=text.split()[-1]).first,
        console.page.locator("#title"),
    )
    for place in shown:
        expect(place).to_have_css("direction", direction)


@pytest.mark.parametrize("text", [r"so \(a_1*b*c_2\) is", "so $$a_1*b*c_2$$ is", "so $a_1*b*c_2$ is", "$5 or $6"])
def test_a_formula_is_shown_as_it_was_written(console: Console, text: str) -> None:
    console.send(text)
    console.expect_answer(text)


# Pictures

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
IS_SHOWN = "image => image.complete && image.naturalWidth > 0"


@pytest.fixture
def picture_host() -> Iterator[tuple[str, list[str]]]:
    """Serves a picture at every path but `/gone.png`; yields its host and the paths that were requested."""
    paths: list[str] = []

    class Host(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_response(404 if self.path == "/gone.png" else 200)
            self.send_header("content-type", "image/png")
            self.end_headers()
            self.wfile.write(b"" if self.path == "/gone.png" else base64.b64decode(PIXEL))

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Host) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}", paths
        server.shutdown()


def test_a_picture_of_another_host_is_asked_for_by_a_click_alone(
    console: Console, picture_host: tuple[str, list[str]]
) -> None:
    host, paths = picture_host
    console.send(f"so\n\n![a cat](http://{host}/cat.png?said=secret) and ![](http://{host}/gone.png)\n\nend I=3000")
    console.expect_idle()
    offers = console.answers.get_by_role("button").filter(has_text="Show from")
    expect(offers).to_have_text([f"a catShow from {host}", f"PictureShow from {host}"])
    console.page.reload()
    expect(offers).to_have_count(2)
    assert paths == []
    offers.first.click()
    eventually(lambda: console.answers.get_by_role("img", name="a cat").evaluate(IS_SHOWN), what="the picture is shown")
    assert paths == ["/cat.png?said=secret"]
    offers.click()
    expect(console.answers.get_by_role("link", name=f"The picture could not be loaded from {host}")).to_be_visible()
    expect(console.answers.locator("p").last).to_have_text("end I=3000")


def test_pictures_that_the_message_holds_or_its_provider_adds_are_shown(
    console: Console, upstream: UpstreamThread, picture_host: tuple[str, list[str]]
) -> None:
    host, paths = picture_host
    data = f"data:image/png;base64,{PIXEL}"

    async def paint(answer: Answer) -> None:
        urls = [data, f"http://{host}/painted.png"]
        images = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
        await answer.head()
        if "nothing else" not in answer.ask.text:
            await answer.frame({"choices": [{"delta": {"content": f"![dot]({data}) here"}}]})
        await answer.frame({"choices": [{"delta": {"images": images}}]})
        await answer.frame({"choices": [{"delta": {}, "finish_reason": "stop"}]})
        await answer.frame("[DONE]")
        await answer.end()

    upstream.fake.script("paint", paint)
    pictures = console.answers.last.locator("img.picture")
    offer = console.answers.last.get_by_role("button").filter(has_text=f"Show from {host}")
    for text, count in (("B=paint", 2), ("B=paint nothing else", 1)):
        console.send(text)
        for _ in ("live", "after a reload"):
            console.expect_idle()
            expect(pictures).to_have_count(count)
            assert all(pictures.nth(place).evaluate(IS_SHOWN) for place in range(count))
            expect(offer).to_have_count(1)
            console.page.reload()
    assert paths == []


def test_the_model_that_comes_with_the_gateway_is_called_small(new_tab: Callable[[], Page], gateway: Gateway) -> None:
    tab = new_tab()
    small = page(is_embedded=True)
    tab.route(
        f"{gateway.url}/", lambda route: route.fulfill(body=small.content, headers=HEADERS, content_type="text/html")
    )
    console = Console(tab, gateway.url)
    expect(tab.locator("#log .welcome")).to_contain_text(
        "No model is set, so SmolLM2 135M answers, a very small one: much of what it says is wrong"
    )
    console.send("hello")
    console.expect_idle()
    expect(tab.locator("article.assistant .facts")).to_contain_text("ok+echo, a very small model")
    other = Console(new_tab(), gateway.url)
    expect(other.page.locator("#log .welcome")).to_be_visible()
    expect(other.page.locator("#log .welcome")).not_to_contain_text("small")
