"""Chromium's own WebSocket follows a chat: by the README's hook for React, and signed in with a ticket alone."""

import sys
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest

pytest.importorskip("playwright.sync_api", reason="no playwright: `make install` brings it")

from playwright.sync_api import Locator, Page, expect

from loadtests.upstream import words
from tests.clients.test_ai_sdk_tools import SERVER, TOOLS, calling
from tests.conftest import Gateway, UpstreamThread, eventually, serving
from tests.e2e.conftest import CuttingProxy
from tests.e2e.vite import behind_vite
from tests.support.readme import readme_block

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

KEY = "0123456789abcdef0123456789abcdef"
MAX_HOOK_LINES = 40
PAGE = """
import { generateId } from 'ai'
import { useLiveChat } from './useLiveChat.jsx'

export default function App() {
  const { messages, asks, act } = useLiveChat(location.hash.slice(1))
  const message = (text) => ({ id: generateId(), role: 'user', parts: [{ type: 'text', text }] })
  const send = (form) => act('send', { message: message(form.get('text')) })
  return (
    <main>
      {messages.map((message) => (
        <p key={message.id}>{message.parts.map((part) => (part.type === 'text' ? part.text : ''))}</p>
      ))}
      {asks.map(({ approvalId, toolName }) => (
        <button key={approvalId} onClick={() => act('approve', { approvalId, approved: true })}>
          Allow {toolName}
        </button>
      ))}
      <form action={send}><input name="text" aria-label="Message" required /></form>
      <button onClick={() => act('stop')}>Stop</button>
    </main>
  )
}
"""


@pytest.fixture(scope="module")
def gateway(browser: Any, upstream: UpstreamThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("live")
    file = folder / "upstreams.toml"
    file.write_text(TOOLS.format(upstream=upstream.url, python=sys.executable, server=SERVER))
    upstream.fake.script("asks", calling(("desk__echo", '{"text":"one"}')))
    server = serving(folder, upstream.url, TRILANE_UPSTREAMS=str(file))
    try:
        yield server.start()
    finally:
        server.stop()


def messages(page: Page) -> Locator:
    return page.locator("#root p")


def ask(page: Page, text: str) -> None:
    page.get_by_label("Message").fill(text)
    page.get_by_label("Message").press("Enter")


def test_the_hook_is_short() -> None:
    assert readme_block("useLiveChat").text.count("\n") <= MAX_HOOK_LINES


def test_two_devices_show_and_act_on_one_chat_over_cuts(
    new_tab: Callable[[], Any], proxy: CuttingProxy, upstream: UpstreamThread
) -> None:
    with behind_vite(int(proxy.url.rpartition(":")[2]), page=PAGE) as url:
        one, two = new_tab(), new_tab()
        for page in (one, two):
            page.goto(f"{url}#shared")
            expect(page.get_by_label("Message")).to_be_visible(timeout=60_000)  # Vite makes the page at its first visit
        ask(one, "T=3 I=0")
        for page in (one, two):
            expect(messages(page)).to_have_text(["T=3 I=0", words(3)])

        ask(two, "T=150 I=20000")
        for page in (one, two):
            expect(messages(page).last).to_contain_text("w9 ")
        proxy.cut()
        for page in (one, two):
            expect(messages(page).last).to_have_text(words(150), timeout=30_000)
            expect(messages(page)).to_have_count(4)

        ask(one, "T=2000 I=20000")
        expect(messages(two).last).to_contain_text("w9 ")
        two.get_by_role("button", name="Stop").click()
        eventually(lambda: not upstream.open_requests, what="the upstream request is closed")
        eventually(lambda: messages(one).all_inner_texts() == messages(two).all_inner_texts(), what="same texts")

        ask(one, "T=3 I=0 B=asks")
        expect(one.get_by_role("button", name="Allow desk__echo")).to_be_visible()
        two.get_by_role("button", name="Allow desk__echo").click()
        for page in (one, two):
            expect(messages(page).last).to_have_text(words(3))
            expect(page.get_by_role("button", name="Allow desk__echo")).to_have_count(0)
        shown = messages(one).all_inner_texts()
        two.reload()
        expect(messages(two)).to_have_text(shown)


SOCKET = """([path, ticket]) => new Promise((resolve) => {
    const address = location.origin.replace('http', 'ws') + path
    const socket = new WebSocket(address, ['trilane.chat.v1', `ticket.${ticket}`])
    const told = []
    const message = { id: 'm1', role: 'user', parts: [{ type: 'text', text: 'T=3 I=0' }] }
    socket.onopen = () => socket.send(JSON.stringify({ type: 'send', ref: 1, message }))
    socket.onmessage = ({ data }) => {
        told.push(JSON.parse(data))
        if (told.at(-1).chunk?.type === 'finish') socket.close()
    }
    socket.onclose = ({ code }) => resolve([socket.protocol, code, told])
    setTimeout(() => resolve(['timeout', 0, told]), 20000)
})"""


def test_a_page_of_the_gateway_opens_a_socket_with_a_ticket(
    new_tab: Callable[[], Any], upstream: UpstreamThread, tmp_path_factory: pytest.TempPathFactory
) -> None:
    server = serving(tmp_path_factory.mktemp("ticket"), upstream.url, TRILANE_API_KEYS=f"alice:{KEY}").start()
    try:
        path, headers = "/api/chat/c1/live", {"authorization": f"Bearer {KEY}"}
        answer = httpx2.post(f"{server.url}/api/tickets", json={"route": path}, headers=headers)
        page = new_tab()
        page.goto(server.url)
        protocol, code, told = page.evaluate(SOCKET, [path, answer.json()["ticket"]])
        assert (protocol, code) == ("trilane.chat.v1", 1005)
        assert "".join(frame.get("chunk", {}).get("delta", "") for frame in told) == words(3)
    finally:
        server.stop()
