"""The console page shares a chat: who is in it, who looks at it, who is typing, and what each of them may do."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx2
import pytest

from tests.conftest import Gateway, UpstreamThread

pytest.importorskip("playwright.sync_api", reason="no playwright: `make install` brings it")

from playwright.sync_api import Locator, expect

from tests.e2e.console import PHONE, Console, tabs
from tests.e2e.tool_desk import tool_gateway

pytestmark = [pytest.mark.browser, pytest.mark.timeout(60)]
REFUND = 'shop__refund {"order":7,"euros":30}'
KEYS = {name: f"{name}-" + "k" * 32 for name in ("alice", "bob", "carol")}
SLOWLY = "T=20000 I=20000"
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


DEVICES: dict[str, dict[str, Any]] = {
    "desktop": {},
    "phone": {"viewport": PHONE, "has_touch": True, "is_mobile": True},
}
WORDS = """() => document.querySelector("article.assistant[aria-busy=true] .body")?.textContent.split(" ").length > 5"""
"""Whether an answer is being written, and more than its beginning is there."""
OFFERS = {
    "viewer": (set[str](), "You may read this chat, and not write in it. An owner can let you write."),
    "approver": (
        {"Approve"},
        "You may read this chat and answer what is asked, and not write in it. An owner can let you write.",
    ),
    "editor": ({"Edit", "Regenerate"}, ""),
    "owner": ({"Approve", "Edit", "Regenerate", "Delete"}, ""),
}
"""What is offered to each role in a chat that asks something, and why its composer is closed."""


@pytest.mark.parametrize("device", DEVICES)
def test_a_role_is_offered_what_it_may_do_and_told_why_it_may_not_write(
    devices: Devices, gateway: Gateway, device: str
) -> None:
    """A role that changes while the page is open changes what is offered there."""
    hello = f"hello on a {device}"
    alice = devices.open("alice")
    alice.send(hello)
    alice.expect_idle()
    alice.send(REFUND)
    expect(alice.page.locator(".ask")).to_be_visible()
    give_role(gateway, alice.chat, "viewer")
    bob = devices.open("bob", alice.chat, **DEVICES[device])
    for role, (offers, why) in OFFERS.items():
        give_role(gateway, alice.chat, role)
        expect(bob.page.locator("#composer-why")).to_have_text(why)
        expect(bob.page.locator("#composer-why")).to_be_visible(visible=bool(why))
        expect(bob.message).to_be_visible(visible=not why)
        expect(bob.questions).to_have_text([hello, REFUND])
        expect(bob.button("Approve")).to_be_visible(visible="Approve" in offers)
        tools = bob.page.locator(".message-tools")
        expect(tools.get_by_title("Edit")).to_have_count(2 if "Edit" in offers else 0)
        expect(tools.get_by_title("Regenerate")).to_have_count(1 if "Regenerate" in offers else 0)
        bob.page.reload()  # the list of chats is read anew
        row = bob.page.locator("#chats li").filter(has_text=hello)
        expect(row).to_have_count(1)
        expect(row.get_by_title("Delete")).to_have_count(1 if "Delete" in offers else 0)


def give_role(gateway: Gateway, chat: str, role: str) -> None:
    headers = {"authorization": f"Bearer {KEYS['alice']}"}
    url = f"{gateway.url}/api/chat/{chat}/members?sub=bob"
    httpx2.put(url, json={"role": role}, headers=headers).raise_for_status()


@pytest.mark.parametrize("device", DEVICES)
def test_an_answer_is_stopped_by_who_asked_for_it_and_by_owners(devices: Devices, device: str) -> None:
    """Whoever may not is offered no button, and Escape does nothing."""
    alice = devices.open("alice")
    alice.send("hello")
    alice.expect_idle()
    share(alice, "bob", "editor")
    share(alice, "carol", "viewer")
    bob, carol = (devices.open(name, alice.chat, **DEVICES[device]) for name in ("bob", "carol"))
    for asker, may in ((alice, False), (bob, True)):
        asker.send(SLOWLY)
        for console in (alice, bob, carol):
            console.page.wait_for_function(WORDS)
        expect(alice.button("Stop")).to_be_visible()
        expect(bob.button("Stop")).to_be_visible(visible=may)
        expect(carol.button("Stop")).not_to_be_visible()
        for console in (bob, carol):
            if console is not asker:
                console.page.keyboard.press("Escape")
        bob.page.reload()
        bob.page.wait_for_function(WORDS)
        expect(bob.button("Stop")).to_be_visible(visible=may)
        (bob if may else alice).button("Stop").click()
        for console in (alice, bob):
            console.expect_idle()
