"""What a user may have in the log is bounded through real gateways, on every engine that processes share."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from gateway.access.auth import mint
from tests.conftest import Gateway, UpstreamThread, eventually, serving
from tests.contract.conftest import engine_of, postgres_server, redis_url  # noqa: F401  # fixtures
from tests.support.sse_client import chat_body, send

SECRET = "f0e1d2c3b4a5968778695a4b3c2d1e0f-jwt"
QUICK = "T=3 I=0"
TOPICS, BYTES = 3, 20_000


@pytest.fixture(scope="module", params=["sqlite", "redis", "postgres"])
def gateways(
    request: pytest.FixtureRequest, upstream: UpstreamThread, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Gateway]]:
    """Runs two processes on one log of each engine, the second of them for chats alone."""
    folder: Path = tmp_path_factory.mktemp("holdings")
    env = {
        "OPENAI_BASE_URL": upstream.url,
        "OPENAI_API_KEY": "x",
        "TRILANE_MODEL": "ok",
        "TRILANE_LOG": engine_of(request, folder).url,
        "TRILANE_JWT_SECRET": SECRET,
        "TRILANE_LIMIT_USER_TOPICS": str(TOPICS),
        "TRILANE_LIMIT_USER_STORED_BYTES": str(BYTES),
    }
    servers = [Gateway(folder, env, unit=unit) for unit in ("all", "chat")]
    try:
        yield [server.start() for server in servers]
    finally:
        for server in servers:
            server.stop()


def auth(sub: str, **limits: float) -> dict[str, str]:
    grants = {"limits": limits, "publish": ["*"], "subscribe": ["*"]}
    return {"authorization": f"Bearer {mint(SECRET, sub, time.time() + 600, grants)}"}


def ask(gateway: Gateway, chat_id: str, headers: dict[str, str], message_id: str = "m1") -> httpx2.Response:
    body = chat_body(chat_id, QUICK, message_id=message_id)
    return send(gateway.url, body, authorization=headers["authorization"])[0]


def publish(gateway: Gateway, topics: list[str], headers: dict[str, str], size: int = 1) -> httpx2.Response:
    body = {"topics": topics, "data": "x" * size}
    return httpx2.post(f"{gateway.url}/api/events", json=body, headers=headers)


def check_refusal(answer: httpx2.Response, limit: str, most: int) -> None:
    problem = json.loads(answer.content)
    assert (answer.status_code, problem["code"], problem["limit"]) == (429, "rate_limited", limit)
    assert (problem["max"], problem["retryable"]) == (most, False)
    assert f"the limit {limit} of yours is {most}" in problem["detail"]


def test_topics_are_refused_past_the_limit_and_free_again_when_one_is_deleted(gateways: list[Gateway]) -> None:
    one, two = gateways
    headers = auth("maker")
    assert ask(one, "c1", headers).status_code == 200
    assert publish(one, ["made/a"], headers).status_code == 200
    assert ask(one, "c2", headers).status_code == 200
    for refused in (
        ask(one, "c3", headers),
        publish(one, ["made/b"], headers),
        publish(one, ["made/a", "b"], headers),
    ):
        check_refusal(refused, "topics", TOPICS)
    check_refusal(ask(two, "c3", headers), "topics", TOPICS)
    assert ask(two, "c1", headers, "m2").status_code == 200, "a chat that is there goes on"
    assert publish(one, ["made/a"], headers).status_code == 200, "so does a topic"
    assert publish(one, ["made/a"], auth("other")).status_code == 200, "whoever publishes to it"
    assert httpx2.delete(f"{two.url}/api/chat/c2", headers=headers).is_success
    eventually(lambda: ask(one, "c3", headers).status_code == 200, 20, "there is room again")
    check_refusal(ask(one, "c0", auth("narrow", topics=0)), "topics", 0)


def test_bytes_are_refused_past_the_limit_and_free_again_when_they_are_deleted(gateways: list[Gateway]) -> None:
    one, two = gateways
    headers = auth("writer")
    assert ask(one, "c1", headers).status_code == 200
    assert publish(one, ["written/a"], headers, 8_000).status_code == 200
    check_refusal(publish(one, ["written/a"], headers, BYTES - 8_000), "stored_bytes", BYTES)
    assert publish(one, ["written/a"], headers, BYTES // 2).status_code == 200
    body = chat_body("c2", QUICK + " " + "x" * 3_000)
    check_refusal(send(one.url, body, authorization=headers["authorization"])[0], "stored_bytes", BYTES)
    check_refusal(send(two.url, body, authorization=headers["authorization"])[0], "stored_bytes", BYTES)
    assert ask(one, "c9", auth("other-writer")).status_code == 200
    completion = {"model": "ok", "messages": [{"role": "user", "content": QUICK}]}
    url = f"{one.url}/v1/chat/completions"
    assert httpx2.post(url, json=completion, headers=headers).status_code == 200
    check_refusal(httpx2.post(url, json=completion, headers=auth("full", stored_bytes=0)), "stored_bytes", 0)


def test_what_all_users_have_together_is_bounded(upstream: UpstreamThread, tmp_path: Path) -> None:
    env = {"TRILANE_JWT_SECRET": SECRET, "TRILANE_LIMIT_TOPICS": "20", "TRILANE_LIMIT_STORED_BYTES": "30000"}
    server = serving(tmp_path, upstream.url, **env)
    server.unit = "events"
    try:
        server.start()
        assert publish(server, [f"ann/{number}" for number in range(12)], auth("ann")).status_code == 200
        topics = json.loads(publish(server, [f"bob/{number}" for number in range(12)], auth("bob")).content)
        size = json.loads(publish(server, ["ann/1"], auth("bob"), 30_000).content)
        assert publish(server, ["bob/1"], auth("bob"), 1000).status_code == 200
        assert [topics["limit"], size["limit"]] == ["topics", "stored_bytes"]
        assert "the limit topics of everyone together is 20 (TRILANE_LIMIT_TOPICS), 12 are used" in topics["detail"]
        assert server.gauge("trilane_gateway_limits_used") > 1000
    finally:
        server.stop()
