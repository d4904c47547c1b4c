"""Chromium keeps a page signed in by the cookie of `/api/session`, on this machine without TLS too."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.conftest import Gateway, UpstreamThread
from tests.e2e.conftest import gateway_with

pytestmark = [pytest.mark.browser, pytest.mark.timeout(60)]
KEY = "a-key-of-the-application-0123456789abcdef"
ENTER = """async ([gateway, key]) => {
  const answer = await fetch(`${gateway}/api/session`,
    {method: 'POST', credentials: 'include', headers: {authorization: `Bearer ${key}`}})
  return answer.status
}"""
LEAVE = "async (gateway) => (await fetch(`${gateway}/api/session`, {method: 'DELETE', credentials: 'include'})).status"
ASK = "async (gateway) => (await fetch(`${gateway}/api/chats`, {credentials: 'include'})).status"
FOLLOW = """(gateway) => new Promise((resolve) => {
  const events = new EventSource(`${gateway}/api/events`, {withCredentials: true})
  events.addEventListener('hello', ({data}) => (events.close(), resolve(JSON.parse(data).topics)))
  events.onerror = () => (events.close(), resolve('refused'))
})"""
LISTEN = """(gateway) => new Promise((resolve) => {
  const socket = new WebSocket(gateway.replace('http', 'ws') + '/api/audio', ['trilane.audio.v1'])
  socket.onopen = () => (socket.close(), resolve('open'))
  socket.onerror = () => resolve('refused')
})"""


class BlankPage(BaseHTTPRequestHandler):
    """Answers everything with a page that does nothing, of an origin that is not the gateway's."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(b"<p>hello")

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def origins() -> Iterator[list[str]]:
    """Yields two origins of this machine, each with a blank page."""
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), BlankPage) for _ in range(2)]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    yield [f"http://localhost:{server.server_port}" for server in servers]
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def gateway(
    browser: Any, upstream: UpstreamThread, origins: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    env = {"TRILANE_API_KEYS": f"alice:{KEY}", "TRILANE_ALLOWED_ORIGINS": origins[0]}
    yield from gateway_with(tmp_path_factory.mktemp("session"), upstream, **env)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_page_signs_in_once_and_everything_it_opens_is_signed_in(browser: Any, gateway: Gateway, host: str) -> None:
    context = browser.new_context()
    try:
        page, url = context.new_page(), f"http://{host}:{gateway.port}"
        page.goto(url)
        assert page.evaluate(ASK, url) == 401
        assert page.evaluate(FOLLOW, url) == "refused"
        assert page.evaluate(ENTER, [url, "a-key-that-nobody-has-0123456789"]) == 401
        assert page.evaluate(ENTER, [url, KEY]) == 204
        assert page.evaluate(ASK, url) == 200
        assert page.evaluate(FOLLOW, url) == ["user/alice"]
        assert page.evaluate(LISTEN, url) == "open"
        assert KEY not in page.evaluate("document.cookie")
        assert page.evaluate(LEAVE, url) == 204
        assert page.evaluate(ASK, url) == 401
        assert page.evaluate(LISTEN, url) == "refused"
        assert context.cookies() == []
    finally:
        context.close()


def test_only_a_listed_page_of_another_origin_has_a_part_in_it(
    browser: Any, gateway: Gateway, origins: list[str]
) -> None:
    """On one machine the cookie goes along with whatever any of its pages asks."""
    listed, foreign = origins
    context = browser.new_context()
    try:
        own, url = context.new_page(), f"http://localhost:{gateway.port}"
        own.goto(url)
        assert own.evaluate(ENTER, [url, KEY]) == 204
        page = context.new_page()
        page.goto(foreign)
        assert page.evaluate(f"({ASK})('{url}').catch(() => 'refused')") == "refused"
        assert page.evaluate(f"({LEAVE})('{url}').catch(() => 'refused')") == "refused"
        assert page.evaluate(FOLLOW, url) == page.evaluate(LISTEN, url) == "refused"
        assert own.evaluate(ASK, url) == 200
        page.goto(listed)
        assert page.evaluate(ASK, url) == 200
        assert page.evaluate(FOLLOW, url) == ["user/alice"]
        assert page.evaluate(LISTEN, url) == "open"
        assert page.evaluate(LEAVE, url) == 204
        assert own.evaluate(ASK, url) == 401
    finally:
        context.close()
