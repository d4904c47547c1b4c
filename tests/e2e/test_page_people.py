"""The console page shares a chat: who is in it, who looks at it, who is typing, and what each of them may do."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.conftest import Gateway, UpstreamThread

pytest.importorskip("playwright.sync_api", reason="no playwright: `make install` brings it")

from playwright.sync_api import Locator, expect

from tests.e2e.console import PHONE, Console, tabs
from tests.e2e.tool_desk import tool_gateway

pytestmark = [pytest.mark.browser, pytest.mark.timeout(60)]
REFUND = 'shop__refund {"order":7,"euros":30}'
KEYS = {name: f"{name}-" + "k" * 32 for name in ("alice", "bob")}
SIGN_IN = "sessionStorage.setItem('trilane.key', '{}')"


@pytest.fixture(scope="module")
def gateway(browser: Any, upstream: UpstreamThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    keys = ",".join(f"{name}:{key}" for name, key in KEYS.items())
    yield from tool_gateway(tmp_path_factory.mktemp("people"), upstream, TRILANE_API_KEYS=keys)


class Devices:
    """Opens the page for one person or another, each on a device of their own."""

    def __init__(self, stack: ExitStack, browser: Any, gateway: Gateway) -> None:
        self._stack, self._browser, self._gateway = stack, browser, gateway

    def open(self, name: str, chat: str = "", **options: Any) -> Console:
        page = self._stack.enter_context(tabs(self._browser, **options))()
        page.add_init_script(SIGN_IN.format(KEYS[name]))
        return Console(page, self._gateway.url, chat)


@pytest.fixture
def devices(browser: Any, gateway: Gateway) -> Iterator[Devices]:
    with ExitStack() as stack:
        yield Devices(stack, browser, gateway)


def people(console: Console) -> Locator:
    return console.page.get_by_role("dialog", name="People in this chat")


def share(console: Console, name: str, role: str) -> None:
    console.page.locator("#open-people").click()
    people(console).get_by_label("Add somebody").fill(name)
    people(console).get_by_label("What they may do").select_option(role)
    people(console).get_by_role("button", name="Add", exact=True).click()
    expect(people(console).get_by_role("listitem").filter(has_text=name)).to_have_count(1)
    people(console).get_by_role("button", name="Close").click()


def test_two_people_write_in_one_chat_and_see_each_other(devices: Devices) -> None:
    alice = devices.open("alice")
    alice.send("hello")
    alice.expect_idle()
    expect(alice.page.get_by_role("button", name="Share this chat")).to_be_visible()
    share(alice, "bob", "editor")
    bob = devices.open("bob", alice.chat, viewport=PHONE, has_touch=True, is_mobile=True)
    expect(bob.questions).to_have_text(["hello"])
    expect(bob.page.locator("article.user .message-author")).to_have_text(["alice"])
    expect(alice.page.get_by_role("button", name="2 people, 1 more here now")).to_be_visible()
    bob.message.press_sequentially("hi")
    expect(alice.page.get_by_role("status").filter(has_text="bob is typing…")).to_be_visible()
    bob.message.press("Enter")
    expect(alice.questions).to_have_text(["hello", "hi"])
    expect(alice.page.get_by_role("status").filter(has_text="bob is typing…")).to_have_count(0)
    expect(alice.page.locator("article.user .message-author").last).to_have_text("bob")


def test_who_may_answer_answers_who_may_read_reads_and_who_is_removed_is_out(devices: Devices) -> None:
    alice = devices.open("alice")
    alice.send(REFUND)
    expect(alice.page.get_by_role("button", name="Approve")).to_be_visible()
    share(alice, "bob", "viewer")
    bob = devices.open("bob", alice.chat)
    expect(bob.page.get_by_text("This is for others to answer: owner or approver.")).to_be_visible()
    expect(bob.page.get_by_role("button", name="Approve")).not_to_be_visible()
    expect(bob.message).to_be_disabled()
    alice.page.locator("#open-people").click()
    people(alice).get_by_label("What bob may do").select_option("approver")
    bob.page.get_by_role("button", name="Approve").click()
    expect(alice.page.get_by_text("Approved by bob ·")).to_be_visible()  # with the time; the announcer has it without
    expect(bob.page.get_by_text("Approved by you ·")).to_be_visible()
    people(alice).get_by_role("button", name="Remove bob").click()
    expect(people(alice).get_by_role("listitem")).to_have_count(1)
    people(alice).get_by_role("button", name="Leave this chat").click()
    expect(people(alice).get_by_role("alert")).to_contain_text("last owner")
    expect(bob.page.get_by_text("This chat does not exist")).to_be_visible()
