"""The console page transcribes a file that is played into its microphone."""

import json
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Gateway, UpstreamThread, eventually

pytest.importorskip("playwright.sync_api", reason="no playwright: `make install` brings it")
pytest.importorskip("faster_whisper", reason="the page's audio lane needs the extra `audio`")

import soundfile
from playwright.sync_api import Browser, Locator, Page, WebSocket, WebSocketRoute, expect

from tests.e2e.conftest import ARGUMENTS, CHROMIUM, gateway_with
from tests.e2e.console import PHONE, tabs
from tests.support.readme import readme_block

pytestmark = [pytest.mark.paced, pytest.mark.browser, pytest.mark.timeout(60)]

SPEECH = Path(__file__).parent.parent / "audio" / "data" / "jfk.flac"
"""11 s from the inaugural address of John F. Kennedy, 1961: public domain."""
FREE_S = 30
"""Seconds within which the place of a killed process is free again."""
SAID = "and so my fellow americans ask not what your country can do for you ask what you can do for your country"
KEY = "k" * 40
REFUSED = """navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException("no", "NotAllowedError"));"""


class AudioPage:
    """Drives the audio lane in one tab."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.ready: list[dict[str, Any]] = []
        """The first messages of the gateway on each connection."""
        self.urls: list[str] = []
        """The URLs of the page's connections."""
        page.on("websocket", self._open)
        page.goto(f"{url}/#/audio")

    def _open(self, socket: WebSocket) -> None:
        self.urls.append(socket.url)
        socket.on("framereceived", self._see)

    def _see(self, frame: str | bytes) -> None:
        message = json.loads(frame)
        if message["type"] == "ready":
            self.ready.append(message)

    @property
    def state(self) -> Locator:
        return self.page.locator("#audio-state")

    @property
    def news(self) -> Locator:
        return self.page.locator("#audio-news")

    @property
    def finals(self) -> Locator:
        return self.page.get_by_role("log", name="What you said").get_by_role("listitem")

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    def listen(self) -> None:
        self.button("Start listening").click()
        expect(self.state).to_have_text("Listening", timeout=20_000)  # the first session loads the model

    def wait_until(self, duration: str) -> None:
        expect(self.page.locator("#audio-time > :last-child")).to_have_text(duration, timeout=20_000)

    def wait_for_words(self, pattern: str, within_s: float = 20) -> None:
        found = self.finals.filter(has_text=re.compile(pattern, re.IGNORECASE))
        expect(found).not_to_have_count(0, timeout=1000 * within_s)

    def stop(self) -> None:
        self.button("Stop listening").click()
        expect(self.state).to_have_text("The microphone is off")

    def words(self) -> list[str]:
        text = " ".join(self.finals.locator("p").all_inner_texts())
        return re.findall(r"[a-z']+", text.lower())

    def expect_speech(self) -> None:
        """Waits until the speech is there, whole and once; a model this small mishears a word now and then."""
        words = self.words()
        assert errors(words) <= 5, words
        assert words.count("country") == 2, words


def errors(words: list[str]) -> int:
    """Counts the words that are wrong, missing or too many."""
    reference = SAID.split()
    row = list(range(len(reference) + 1))
    for at, word in enumerate(words, 1):
        before, row[0] = row[0], at
        for other, other_word in enumerate(reference, 1):
            before, row[other] = row[other], min(row[other] + 1, row[other - 1] + 1, before + (word != other_word))
    return row[-1]


@pytest.fixture(scope="module")
def speaker(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Launches a browser whose microphone plays the speech once, from the moment it is opened."""
    file = tmp_path_factory.mktemp("speech") / "speech.wav"
    samples, rate = soundfile.read(SPEECH, dtype="int16")
    soundfile.write(file, samples, rate, subtype="PCM_16")
    microphone = [
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-audio-capture={file}%noloop",
    ]
    path = next(filter(None, map(shutil.which, CHROMIUM)))
    chromium = browser.browser_type.launch(executable_path=path, args=[*ARGUMENTS, *microphone])
    yield chromium
    chromium.close()


@pytest.fixture
def new_tab(speaker: Browser) -> Iterator[Callable[[], Page]]:
    with tabs(speaker) as open_tab:
        yield open_tab


@pytest.fixture(scope="module")
def own(speaker: Browser, upstream: UpstreamThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Runs a gateway that may be killed, and takes one session at a time."""
    yield from gateway_with(tmp_path_factory.mktemp("audio"), upstream, TRILANE_LIMIT_SESSIONS="1")


def test_what_is_said_is_read_as_it_is_said_and_can_be_used(new_tab: Callable[[], Page], gateway: Gateway) -> None:
    page = AudioPage(new_tab(), gateway.url)
    expect(page.state).to_have_text("The microphone is off")
    page.listen()
    expect(page.page.get_by_role("link", name="Audio (the microphone is on)")).to_be_visible()
    page.wait_for_words("for your country")
    page.stop()
    page.expect_speech()
    times = page.finals.locator(".at").all_inner_texts()
    assert times == sorted(times)
    assert re.fullmatch(r"0:0\d", times[0])
    page.page.reload()
    page.expect_speech()
    page.button("Send to chat").click()
    expect(page.page.get_by_label("Message", exact=True)).to_have_value(
        re.compile("your country can do for you", re.IGNORECASE)
    )


def test_words_that_will_not_change_are_told_from_those_that_may(new_tab: Callable[[], Page], gateway: Gateway) -> None:
    partial = {"type": "partial", "segment": 0, "start": 0.0, "end": 1.2, "stable": "and so", "text": "and so my fell"}

    def answer(socket: WebSocketRoute) -> None:
        def pass_on(message: str | bytes) -> None:
            kind = json.loads(message)["type"]
            if kind != "partial":  # when the model is sure of words depends on how fast the machine is
                socket.send(message)
            if kind == "ready":
                socket.send(json.dumps(partial))

        socket.connect_to_server().on_message(pass_on)

    tab = new_tab()
    tab.route_web_socket(re.compile("/api/audio"), answer)
    page = AudioPage(tab, gateway.url)
    page.listen()
    expect(tab.locator(".now .stable")).to_have_text("and so")
    expect(tab.locator(".now .tail")).to_have_text("my fell")
    page.stop()


@pytest.mark.timeout(60 + FREE_S)
def test_a_cut_and_a_killed_gateway_lose_no_word_and_double_none(
    new_tab: Callable[[], Page], own: Gateway, own_proxy: Any
) -> None:
    page = AudioPage(new_tab(), own_proxy.url)
    page.listen()
    page.wait_until("0:03")
    own_proxy.refusing = True
    own_proxy.cut()
    expect(page.state).to_have_text("Reconnecting…")
    expect(page.news).to_have_text(re.compile("kept"))
    page.wait_until("0:05")
    own_proxy.refusing = False
    page.page.evaluate("() => dispatchEvent(new Event('online'))")  # whoever waits tries at once
    expect(page.state).to_have_text("Listening")
    expect(page.news).to_have_text("Caught up: nothing was lost.")
    page.wait_until("0:08")
    own_proxy.refusing = True
    own.signal(signal.SIGKILL)
    own.wait()
    expect(page.state).to_have_text("Reconnecting…")
    own.start()
    own_proxy.refusing = False
    page.page.evaluate("() => dispatchEvent(new Event('online'))")
    page.wait_for_words("for your country", 20 + FREE_S)
    page.stop()
    page.expect_speech()
    sessions = {message["session"] for message in page.ready}
    assert len(sessions) == 1
    assert len(page.ready) >= 3
    assert page.ready[-1]["resumeFrom"] > 0


@pytest.fixture
def own_proxy(own: Gateway) -> Iterator[Any]:
    from tests.e2e.conftest import CuttingProxy

    new = CuttingProxy(own.port)
    yield new
    new.close()


def test_a_full_gateway_is_told_and_listens_when_it_can(new_tab: Callable[[], Page], own: Gateway) -> None:
    first = AudioPage(new_tab(), own.url)
    first.listen()
    page = AudioPage(new_tab(), own.url)
    page.button("Start listening").click()
    expect(page.state).to_have_text("The gateway is full")
    expect(page.news).to_contain_text("kept here")
    first.stop()
    page.page.evaluate("() => dispatchEvent(new Event('online'))")
    expect(page.state).to_have_text("Listening")
    page.stop()


def test_a_reload_in_the_middle_keeps_what_was_said(new_tab: Callable[[], Page], own: Gateway) -> None:
    page = AudioPage(new_tab(), own.url)
    page.listen()
    page.wait_until("0:04")
    page.page.reload()
    expect(page.state).to_have_text("The microphone is off")
    page.wait_for_words("and so")
    assert page.ready[-1]["resumeFrom"] > 0


def test_a_session_that_went_on_elsewhere_ends_here(new_tab: Callable[[], Page], own: Gateway) -> None:
    page = AudioPage(new_tab(), own.url)
    page.listen()
    eventually(lambda: page.page.wait_for_timeout(10) or page.ready)
    page.page.evaluate(
        """session => {
            const socket = new WebSocket(`ws://${location.host}/api/audio`, "trilane.audio.v1");
            socket.onopen = () => socket.send(JSON.stringify({ type: "start", session }));
            socket.onmessage = () => socket.send('{"type":"stop"}');
        }""",
        page.ready[0]["session"],
    )
    expect(page.state).to_have_text(re.compile("newer connection"))
    expect(page.button("Start listening")).to_be_enabled()


def test_a_session_that_the_gateway_has_lost_goes_on_in_a_new_one(
    new_tab: Callable[[], Page], gateway: Gateway
) -> None:
    tab = new_tab()
    servers: list[WebSocketRoute] = []
    gone: list[WebSocketRoute] = []

    def forget(route: WebSocketRoute) -> None:
        """Passes everything on, but for the name of the session that a page comes back to.

        Nothing to a server that is closed, of which the page hears a moment later: Chromium would call it an error.
        """
        server = route.connect_to_server()
        servers.append(server)
        route.on_message(lambda message: server in gone or server.send(renamed(message)))

    def renamed(message: str | bytes) -> str | bytes:
        start = json.loads(message) if isinstance(message, str) else {}
        return json.dumps({**start, "session": "0" * 36}) if "session" in start else message

    tab.route_web_socket("**/api/audio", forget)
    page = AudioPage(tab, gateway.url)
    page.listen()
    page.wait_for_words("[a-z]")
    gone.append(servers[0])
    servers[0].close(code=4000)
    note = page.finals.filter(has_text="The gateway lost this session. It goes on in a new one")
    expect(note).to_have_count(1, timeout=20_000)
    expect(page.state).to_have_text("Listening")
    expect(page.finals.last).not_to_contain_text("lost this session", timeout=20_000)
    page.stop()
    assert len(servers) == 3
    assert len({message["session"] for message in page.ready}) == 2


def test_a_microphone_that_is_refused_says_what_to_do(new_tab: Callable[[], Page], gateway: Gateway) -> None:
    tab = new_tab()
    tab.add_init_script(REFUSED)
    page = AudioPage(tab, gateway.url)
    page.button("Start listening").click()
    expect(page.state).to_have_text("The microphone was refused.")
    expect(page.news).to_contain_text("Allow it for this page")
    assert page.ready == []


def test_a_file_becomes_words(new_tab: Callable[[], Page], gateway: Gateway) -> None:
    page = AudioPage(new_tab(), gateway.url)
    page.page.get_by_label("Choose a file").set_input_files(SPEECH)
    page.wait_for_words("for your country")
    expect(page.state).to_have_text("The microphone is off")
    page.expect_speech()
    expect(page.page.get_by_role("region", name="jfk.flac")).to_be_visible()
    page.page.get_by_label("Choose a file").set_input_files(
        {"name": "a.mp3", "mimeType": "audio/mpeg", "buffer": b"no"}
    )
    expect(page.news).to_contain_text("a.mp3")
    expect(page.button("Start listening")).to_be_enabled()


def test_a_signed_in_user_listens_with_a_ticket(
    new_tab: Callable[[], Page], upstream: UpstreamThread, tmp_path_factory: pytest.TempPathFactory
) -> None:
    for gateway in gateway_with(tmp_path_factory.mktemp("keys"), upstream, TRILANE_API_KEYS=f"alice:{KEY}"):
        page = AudioPage(new_tab(), gateway.url)
        page.page.get_by_label("API key or token").fill(KEY)
        page.button("Sign in").click()
        page.listen()
        assert page.urls
        assert KEY not in "".join(page.urls)
        page.stop()


def test_on_a_phone_the_lane_fits(speaker: Browser, gateway: Gateway) -> None:
    with tabs(speaker, viewport=PHONE, has_touch=True, is_mobile=True) as new_tab:
        page = AudioPage(new_tab(), gateway.url)
        page.listen()
        assert page.page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
        for name in ("Stop listening", "Copy", "Send to chat"):
            expect(page.button(name)).to_be_in_viewport(ratio=1)
        page.stop()


def test_the_readmes_script_hears_the_microphone(speaker: Browser, gateway: Gateway) -> None:
    with tabs(speaker, bypass_csp=True) as new_tab:  # an application's own page has no policy of ours
        page = new_tab()
        page.goto(f"{gateway.url}/healthz")
        with page.expect_console_message(lambda message: "my fellow" in message.text, timeout=20_000):
            page.add_script_tag(content=readme_block("MediaRecorder").at(gateway.url.removeprefix("http://")))
