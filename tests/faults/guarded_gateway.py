"""A gateway with sign-in takes whatever its users send, and is looked at when all of it has been sent."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx2

from loadtests.upstream import words
from tests.conftest import Gateway, UpstreamThread, eventually, serving
from tests.support.sse_client import Frames, chat_body, read_frames, user_message

ALICE = "alice-7f3c9b1e5d2a4f6087c1"
BOB = "bob-5a1d0c8e9f2b4736a6e0"
JWT_SECRET = "f0e1d2c3b4a5968778695a4b3c2d1e0f-jwt"
UPSTREAM_KEY = "sk-upstream-3b9d2f7a1c5e8046"
SECRETS = (ALICE, BOB, JWT_SECRET, UPSTREAM_KEY)


class Caller:
    """A Caller is one user of the gateway under test, who remembers every answer."""

    answers: list[str]

    def __init__(self, gateway: Gateway, token: str, answers: list[str]) -> None:
        self.answers = answers
        headers = {"authorization": f"Bearer {token}"} if token else {}
        self.http = httpx2.Client(base_url=gateway.url, headers=headers, timeout=20, verify=False)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> httpx2.Response:
        """Sends a request; a `body` of bytes goes as it is, anything else as JSON."""
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        raw_headers = {name.replace("_", "-"): value for name, value in headers.items()}
        response = self.http.request(method, path, content=content, headers=raw_headers)
        self.answers.append(f"{response.headers} {response.text}")
        return response

    def send(self, body: Any, **headers: str) -> tuple[httpx2.Response, Frames]:
        response = self.ask("POST", "/api/chat", body, **headers)
        return response, read_frames(response.text.splitlines())


class Place(NamedTuple):
    """Holds the gateway under test, its users, and its state before the first bad request."""

    gateway: Gateway
    alice: Caller
    bob: Caller
    nobody: Caller
    fds: int
    tasks: float


@contextmanager
def guarded(folder: Path, upstream: UpstreamThread) -> Iterator[Place]:
    """Runs a gateway with sign-in, which keeps 64 KiB of a run, and notes its state once each user has been there."""
    env = {
        "TRILANE_API_KEYS": f"alice:{ALICE},bob:{BOB}",
        "TRILANE_JWT_SECRET": JWT_SECRET,
        "OPENAI_API_KEY": UPSTREAM_KEY,
        "TRILANE_LIMIT_OUTPUT_TOKENS": "1000",
        "TRILANE_RETENTION_BYTES": "65536",
    }
    gateway = serving(folder, upstream.url, **env)
    answers: list[str] = []
    try:
        gateway.start()
        alice, bob, nobody = (Caller(gateway, token, answers) for token in (ALICE, BOB, ""))
        for who in (alice, bob):
            assert who.send(chat_body(f"warm-{who is bob}", "T=2 I=0"))[1].done
        assert nobody.ask("GET", "/healthz").status_code == 200
        yield Place(gateway, alice, bob, nobody, gateway.fds(), gateway.gauge("trilane_gateway_tasks"))
        for who in (alice, bob, nobody):
            who.http.close()
    finally:
        gateway.stop()


def body(**changes: Any) -> dict[str, Any]:
    """Returns a good request with changes; None removes a field."""
    changed = {**chat_body("bad", "T=1 I=0"), **changes}
    return {name: value for name, value in changed.items() if value is not None}


def message(**changes: Any) -> list[dict[str, Any]]:
    changed = {**user_message("T=1 I=0", "m1"), **changes}
    return [{name: value for name, value in changed.items() if value is not None}]


def completion(**changes: Any) -> dict[str, Any]:
    return {"model": "ok", "messages": [{"role": "user", "content": "T=1 I=0"}], **changes}


# After all that


def check_nothing_was_left_behind(place: Place, upstream: UpstreamThread) -> None:
    gateway = place.gateway
    response, frames = place.alice.send(chat_body("after", "T=20 I=0"))
    assert (response.status_code, frames.text) == (200, words(20))
    eventually(lambda: gateway.gauge("trilane_chat_open_runs") == 0, what="no open run")
    eventually(lambda: gateway.gauge("trilane_gateway_open_streams") == 0, what="no open stream")
    eventually(lambda: gateway.gauge("trilane_gateway_tasks") <= place.tasks, what="no task left")
    eventually(lambda: gateway.fds() <= place.fds + 2, what=f"no descriptor left, {gateway.fds()} of {place.fds}")
    assert not upstream.open_requests


def check_no_secret_was_ever_told(place: Place) -> None:
    assert len(place.alice.answers) > 100
    for secret in SECRETS:
        assert not [answer for answer in place.alice.answers if secret in answer]
        assert secret not in place.gateway.stderr()


def check_no_bad_request_was_logged_as_a_fault_of_the_gateway(place: Place) -> None:
    assert "request failed" not in place.gateway.stderr()
    assert "Traceback" not in place.gateway.stderr()
