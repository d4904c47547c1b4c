"""A browser that goes through a proxy of `deploy/proxies`, and what its page does there all at once."""

import base64
import hashlib
import shutil
import subprocess
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.doors import NAME, Change, Door
from tests.e2e.conftest import ARGUMENTS, CHROMIUM

PROTOCOLS: Mapping[str, list[Change]] = {
    "http/1.1": [("https_port ", "servers {\n\t\tprotocols h1\n\t}\n\thttps_port ")],
    "h2": [("https_port ", "servers {\n\t\tprotocols h1 h2\n\t}\n\thttps_port ")],
    "h3": [],
}
"""What is changed in the Caddyfile, so that a browser which would take any version of HTTP takes this one."""
LISTEN = """(count) => {
    window.sources = Array.from({ length: count }, () => {
        const source = new EventSource('/api/events?topic=live')
        source.addEventListener('hello', () => { source.isLive = true })
        source.onmessage = () => { source.heard = (source.heard ?? 0) + 1 }
        return source
    })
}"""
ASK = """() => {
    const message = { id: crypto.randomUUID(), role: 'user', parts: [{ type: 'text', text: 'T=4000 I=20000' }] }
    const body = JSON.stringify({ id: crypto.randomUUID(), message, onDisconnect: 'cancel' })
    window.pieces = 0
    window.hasEnded = false
    const headers = { 'content-type': 'application/json' }
    fetch('/api/chat', { method: 'POST', headers, body }).then(async (answer) => {
        const reader = answer.body.getReader()
        while (!(await reader.read()).done) pieces++
        hasEnded = true
    })
}"""
SPEAK = """() => {
    window.said = []
    window.socket = new WebSocket(`wss://${location.host}/api/audio`, ['trilane.audio.v1'])
    socket.onopen = () => socket.send('{"type": "start"}')
    socket.onmessage = ({ data }) => said.push(JSON.parse(data).type)
}"""
BE_HEARD = """() => {
    socket.send(new Uint8Array(16000))
    socket.send('{"type": "marker", "id": "a"}')
}"""
PROTOCOL = "() => performance.getEntriesByType('navigation')[0].nextHopProtocol"


@contextmanager
def browser_for(front_of_h3: Door) -> Generator[Any]:
    """Yields a browser that trusts the test's certificate, and speaks HTTP/3 to this door without being told to."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright: `make install` brings it")
    path = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if path is None:
        pytest.skip("no Chromium: `apt-get install chromium-headless-shell` brings the browser tests")
    arguments = [
        *(argument for argument in ARGUMENTS if argument != "--disable-quic"),
        "--enable-quic",
        f"--origin-to-force-quic-on={front_of_h3.host}",
        f"--ignore-certificate-errors-spki-list={_fingerprint(front_of_h3.site.certificate)}",
        f"--host-resolver-rules=MAP {NAME} 127.0.0.1",
    ]
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        try:
            yield browser
        finally:
            browser.close()


def _fingerprint(certificate: Path) -> str:
    """Returns the SHA-256 of a certificate's public key, as Chromium wants it."""
    key = subprocess.run(["openssl", "x509", "-in", certificate, "-noout", "-pubkey"], check=True, capture_output=True)
    convert = ["openssl", "pkey", "-pubin", "-outform", "der"]
    der = subprocess.run(convert, input=key.stdout, check=True, capture_output=True).stdout
    return base64.b64encode(hashlib.sha256(der).digest()).decode()


@contextmanager
def page_of(browser: Any, front: Door) -> Generator[Any]:
    """Yields a page of the public name that does nothing by itself."""
    page = browser.new_page()
    try:
        page.goto(f"{front.origin}/static/favicon.svg")
        yield page
    finally:
        page.close()


def see_all_live(page: Any, publish: Callable[[], None]) -> None:
    """Opens ten event streams, an answer and a microphone on one page, and sees each go on beside the others."""
    page.evaluate(LISTEN, 10)
    page.wait_for_function("() => sources.every((source) => source.isLive)")
    page.evaluate(ASK)
    page.evaluate(SPEAK)
    page.wait_for_function("() => said.includes('ready')")
    page.evaluate(BE_HEARD)
    publish()
    page.wait_for_function("() => sources.every((source) => source.heard === 1)")
    page.wait_for_function("() => said.includes('marker')")
    page.wait_for_function("(before) => pieces > before + 5", arg=page.evaluate("() => pieces"))
    assert page.evaluate("() => hasEnded") is False


def see_the_seventh_hang(page: Any, publish: Callable[[], None]) -> None:
    """Opens seven event streams, of which one waits, and is there when another is closed."""
    page.evaluate(LISTEN, 7)
    page.wait_for_function("() => sources.filter((source) => source.isLive).length === 6")
    publish()
    page.wait_for_function("() => sources.filter((source) => source.heard === 1).length === 6")
    [waiting] = page.evaluate("() => sources.filter(({ isLive }) => !isLive).map(({ readyState }) => readyState)")
    assert waiting == 0  # CONNECTING
    page.evaluate("() => sources.find(({ isLive }) => isLive).close()")
    page.wait_for_function("() => sources.every((source) => source.isLive)")
