"""Users sign in to a server of tools, each with a browser; what waits for that goes on, and nobody acts as another.

The server, its authorization server and the gateway are real, each a process of its own.
"""

import os
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from loadtests.ports import free_port
from loadtests.upstream import shapes
from loadtests.upstream.answer import Answer
from loadtests.upstream.behaviours import TABLE
from loadtests.upstream.stream import finish, start
from tests.conftest import Gateway, UpstreamThread, eventually, serving
from tests.support.sse_client import chat_body

KEYS = {who: f"key-of-{who}-4c1f7e0b92d85a63d1f0" for who in ("alice", "bob")}
SETTINGS = """
[[upstream]]
name = "default"
base_url = "{upstream}"
model = "ok"

[[mcp]]
name = "crm"
url = "{server}/mcp"
auth = "oauth"
[mcp.tools.whoami]
approve = "auto"
effect = "read"
"""
ENCRYPTION = f"k1:{'A' * 42}E="


async def use_crm(answer: Answer) -> None:
    """Calls `whoami`, after `sign_in` where that is what is offered, and says something once it has the result."""
    assert answer.record.body is not None
    messages = answer.record.body["messages"]
    offered = [tool["function"]["name"] for tool in answer.record.body.get("tools", [])]
    if messages[-1]["role"] == "tool" and messages[-2]["tool_calls"][-1]["function"]["name"] == "crm__whoami":
        return await TABLE["ok"].behave(answer)
    name = "crm__whoami" if "crm__whoami" in offered else "crm__sign_in"
    await start(answer)
    await answer.frame(shapes.chunk(answer.ask, {"tool_calls": [shapes.tool_call(0, name, "{}")]}))
    return await finish(answer, "tool_calls")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    url = f"http://127.0.0.1:{(port := free_port())}"
    words = tmp_path_factory.mktemp("authority") / "words"
    with words.open("wb") as out:
        program = [sys.executable, "-m", "tests.support.mcp_authority", str(port)]
        process = subprocess.Popen(program, env=os.environ, stdout=out, stderr=out)
    try:
        eventually(lambda: is_there(url), 100, "the server of tools")
        yield url
    finally:
        process.kill()
        process.wait()


def is_there(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/counts").status_code == 200
    except httpx2.TransportError:
        return False


@pytest.fixture(scope="module")
def gateway(authority: str, upstream: UpstreamThread, tmp_path_factory: pytest.TempPathFactory) -> Generator[Gateway]:
    upstream.fake.script("uses-crm", use_crm)
    folder = tmp_path_factory.mktemp("signed")
    file = folder / "upstreams.toml"
    file.write_text(SETTINGS.format(upstream=upstream.url, server=authority))
    made = serving(
        folder,
        upstream.url,
        TRILANE_UPSTREAMS=str(file),
        TRILANE_API_KEYS=",".join(f"{who}:{key}" for who, key in KEYS.items()),
        TRILANE_ENCRYPTION_KEY=ENCRYPTION,
    )
    made.env["TRILANE_PUBLIC_URL"] = made.url
    try:
        yield made.start()
    finally:
        made.stop()


class User:
    """Someone with a client of chats, and a browser that is signed in to the gateway."""

    def __init__(self, who: str, gateway: Gateway, authority: str) -> None:
        self.who = who
        self.gateway = gateway
        self.authority = authority
        self.bearer = {"authorization": f"Bearer {KEYS[who]}"}
        self.cookie = {"cookie": f"__Secure-trilane={KEYS[who]}", "sec-fetch-site": "cross-site"}

    def ask(self, chat: str) -> None:
        body = chat_body(chat, f"who am I? {os.urandom(4).hex()}") | {"model": "uses-crm"}
        answer = httpx2.post(f"{self.gateway.url}/api/chat", json=body, headers=self.bearer, timeout=100)
        assert answer.status_code == 200, answer.text

    def chat(self, chat: str) -> dict[str, Any]:
        return httpx2.get(f"{self.gateway.url}/api/chat/{chat}", headers=self.bearer).json()

    def sign_in_url(self, chat: str) -> str:
        """Returns the address in what the chat asks."""
        [ask] = self.chat(chat)["pending"]
        assert ask.get("kind", "approval") == "approval"
        return str(ask["url"])

    def go(self, url: str) -> httpx2.Response:
        return httpx2.get(url, headers=self.cookie, timeout=100)

    def consented(self, url: str, who: str) -> str:
        """Returns the address at which this user's browser comes back from the authorization server."""
        sent = self.go(url)
        assert sent.status_code == 302, sent.text
        asked = httpx2.get(sent.headers["location"])
        return httpx2.get(asked.headers["location"], cookies={"who": who} if who else {}).headers["location"]

    def sign_in(self, chat: str) -> httpx2.Response:
        return self.go(self.consented(self.sign_in_url(chat), self.who))

    def result(self, chat: str) -> str:
        """Returns what `whoami` has answered in the chat's last message, once that has ended."""

        def is_over() -> bool:
            now = self.chat(chat)
            return now["activeRun"] is None and not now["pending"]

        eventually(is_over, 100, f"{chat} is over", every_s=0.1)
        parts = self.chat(chat)["messages"][-1]["parts"]
        return str([part for part in parts if part.get("toolName") == "crm__whoami"][-1].get("output"))


@pytest.fixture
def alice(gateway: Gateway, authority: str) -> User:
    return User("alice", gateway, authority)


@pytest.fixture
def bob(gateway: Gateway, authority: str) -> User:
    return User("bob", gateway, authority)


def counts(authority: str) -> dict[str, int]:
    return httpx2.get(f"{authority}/counts").json()


def revoke(authority: str, who: str, what: str) -> None:
    httpx2.post(f"{authority}/revoke?who={who}&what={what}")


def test_a_call_waits_for_its_user_to_sign_in_and_then_goes_on(alice: User, bob: User) -> None:
    for user in (alice, bob):
        user.ask("first")
    back = alice.consented(alice.sign_in_url("first"), "alice")
    stolen = bob.go(back)
    assert (stolen.status_code, stolen.json()["code"]) == (400, "bad_state")
    done = alice.go(back)
    assert (done.status_code, done.text) == (200, "You are signed in to crm. This page can be closed.\n")
    again = alice.go(back)
    assert (again.status_code, again.json()["code"]) == (400, "bad_state")
    assert "alice" in alice.result("first")
    assert bob.chat("first")["pending"], "nobody has signed in for bob"
    assert bob.sign_in("first").status_code == 200
    assert "bob" in bob.result("first")
    assert counts(alice.authority)["registered"] == 1


def test_one_who_is_signed_in_is_not_asked_and_a_link_that_is_followed_late_goes_on(alice: User) -> None:
    alice.ask("second")
    if alice.chat("second")["pending"]:  # run by itself
        alice.sign_in("second")
    assert "alice" in alice.result("second")
    late = alice.go(f"{alice.gateway.url}/api/mcp/crm/sign-in?chat=second")
    assert (late.status_code, "You are signed in" in late.text) == (200, True)


def test_a_token_that_ends_is_refreshed_and_one_that_is_revoked_is_asked_for_again(alice: User, bob: User) -> None:
    alice.ask("third")
    if alice.chat("third")["pending"]:
        alice.sign_in("third")
    alice.result("third")
    before = counts(alice.authority).get("refreshed", 0)
    revoke(alice.authority, "alice", "access")
    alice.ask("third")
    assert "alice" in alice.result("third")
    assert counts(alice.authority)["refreshed"] == before + 1
    revoke(alice.authority, "alice", "all")
    alice.ask("third")
    assert alice.sign_in("third").status_code == 200
    assert "alice" in alice.result("third")


def test_who_refuses_is_not_signed_in(bob: User) -> None:
    revoke(bob.authority, "bob", "all")
    bob.ask("refused")
    refused = bob.go(bob.consented(bob.sign_in_url("refused"), ""))
    assert (refused.status_code, refused.json()["code"]) == (400, "sign_in_refused")
    assert bob.sign_in("refused").status_code == 200
    assert "bob" in bob.result("refused")


def test_no_token_is_in_the_log_as_it_is(alice: User, gateway: Gateway) -> None:
    alice.ask("stored")
    if alice.chat("stored")["pending"]:
        alice.sign_in("stored")
    alice.result("stored")
    stored = b"".join(path.read_bytes() for path in Path(gateway.folder).glob("trilane.db*"))
    assert stored
    for secret in (b"access-", b"refresh-", b"verifier"):
        assert secret not in stored
