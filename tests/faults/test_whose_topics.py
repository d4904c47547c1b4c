"""What the gateway writes is written by nobody else, and read by those whose it is: by keys, tokens and operators."""

import time
from collections.abc import Iterator
from hashlib import sha256
from typing import Any
from urllib.parse import quote

import httpx2
import pytest

from gateway.access.auth import mint
from tests.conftest import Gateway
from tests.support.problems import check_problem

SECRET = "f0e1d2c3b4a5968778695a4b3c2d1e0f-jwt"
KEY = "a-key-of-the-application-0123456789abcdef"
NONCE = "0" * 20
ANNS = NONCE + sha256(f"{NONCE}\nann".encode()).hexdigest()[:16]
"""The name of an audio session, which proves whose it is."""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    secrets = {"TRILANE_JWT_SECRET": SECRET, "TRILANE_API_KEYS": f"keeper:{KEY}"}
    made = Gateway(tmp_path_factory.mktemp("guarded"), secrets, unit="events")
    try:
        yield made.start()
    finally:
        made.stop()


def token(**grants: Any) -> dict[str, str]:
    return {"authorization": f"Bearer {mint(SECRET, 'ann', time.time() + 3600, grants)}"}


GATEWAYS_TOPICS = (
    "user/ann",
    "user/bob",
    f"audio/{ANNS}",
    "presence/a",
    "chat/c1",
    "run/r1",
    "usage/ann",
    "ticket/used",
)
CALLERS = {
    "a key": {"authorization": f"Bearer {KEY}"},
    "a token for everything": token(publish=["*", *GATEWAYS_TOPICS], subscribe=["*"]),
    "an operator": token(publish=["*"], operator=True),
}


@pytest.mark.parametrize("topic", GATEWAYS_TOPICS)
@pytest.mark.parametrize("caller", CALLERS)
def test_nobody_publishes_what_is_the_gateways(gateway: Gateway, caller: str, topic: str) -> None:
    bodies = {
        "the gateway alone": {"topic": topic, "data": 1},
        "event 2 of 2": [{"topic": "any", "data": 1}, {"topics": ["any", topic], "data": 1}],
    }
    for says, body in bodies.items():
        response = httpx2.post(f"{gateway.url}/api/events", json=body, headers=CALLERS[caller])
        check_problem(response, 403, "topic_forbidden", says)
    assert gateway.events(f"event/{topic}") == gateway.events("event/any") == []


@pytest.mark.parametrize("topic", ["user/ann", f"audio/{ANNS}", "presence/user/ann", "user/*"])
def test_a_key_reads_its_own_and_no_other_users(gateway: Gateway, topic: str) -> None:
    url, headers = f"{gateway.url}/api/events", CALLERS["a key"]
    paths = [f"{url}?topic={quote(topic)}", f"{url}?topic=a&topic={quote(topic)}"]
    for path in [*paths, *([] if "*" in topic else [f"{url}/topics/{topic}"])]:
        check_problem(httpx2.get(path, headers=headers), 403, "topic_forbidden", f"'{topic}'")
    assert httpx2.get(f"{url}/topics/user/keeper", headers=headers).status_code == 200
