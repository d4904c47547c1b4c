"""Every answer says what a browser may do with it, and only an answer by TLS asks for TLS."""

import base64
import hashlib
import json
import re
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from gateway.access.auth import mint
from routes.security_headers import DATA, HTTPS_ONLY, completed
from tests.conftest import Gateway, UpstreamThread, serving
from tests.support.sse_client import chat_body

ORIGIN = "https://app.example"


@pytest.fixture(scope="module")
def place(upstream: UpstreamThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    env = {
        "TRILANE_ALLOWED_ORIGINS": ORIGIN,
        "TRILANE_TRUSTED_PROXIES": "127.0.0.1",
        "TRILANE_ALLOWED_HOSTS": "api.example",
    }
    server = serving(tmp_path_factory.mktemp("headers"), upstream.url, **env)
    server.unit = "all"
    try:
        yield server.start()
    finally:
        server.stop()


ANSWERS: dict[str, tuple[str, str, Any]] = {
    "data": ("GET", "/api/chats", None),
    "a problem": ("GET", "/api/chat/nobody", None),
    "a path that is none": ("GET", "/nothing", None),
    "a wrong method": ("DELETE", "/api/events", None),
    "a preflight": ("OPTIONS", "/api/chat", None),
    "a stream": ("POST", "/api/chat", chat_body("headers", "T=1 I=0")),
    "OpenAI's": ("POST", "/v1/chat/completions", {}),
    "an empty answer": ("GET", "/api/chat/headers/stream", None),
    "figures": ("GET", "/metrics", None),
    "the page": ("GET", "/", None),
    "a script": ("GET", "/static/main.js", None),
    "the docs": ("GET", "/docs", None),
}


def ask(place: Gateway, name: str, **headers: str) -> httpx2.Response:
    method, path, body = ANSWERS[name]
    content = None if body is None else json.dumps(body)
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return httpx2.request(method, place.url + path, content=content, headers=named, timeout=20)


@pytest.mark.parametrize("name", ANSWERS)
def test_every_answer_is_neither_framed_nor_embedded_nor_guessed_nor_kept(place: Gateway, name: str) -> None:
    headers = ask(place, name, origin=ORIGIN).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["cache-control"] in ("no-store", "no-cache", "no-store, no-transform")
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "strict-transport-security" not in headers
    names = [name for name, _ in headers.multi_items()]
    assert len(names) == len(set(names)), "a browser obeys two policies at once"


@pytest.mark.parametrize("name", ["data", "a problem", "a stream"])
def test_a_page_of_a_listed_origin_may_still_read_it(place: Gateway, name: str) -> None:
    assert ask(place, name, origin=ORIGIN).headers["access-control-allow-origin"] == ORIGIN


def test_the_pages_run_what_they_ship_and_nothing_else(place: Gateway) -> None:
    for name in ("the page", "a script", "the docs"):
        headers = ask(place, name).headers
        policy = headers["content-security-policy"]
        assert "unsafe" not in policy
        assert {"base-uri 'none'", "form-action 'none'"} <= {part.strip() for part in policy.split(";")}
        assert headers["cross-origin-opener-policy"] == "same-origin"
    assert "microphone=(self)" in ask(place, "the page").headers["permissions-policy"]


def test_the_docs_are_shown_by_the_one_style_sheet_whose_hash_is_named(place: Gateway) -> None:
    answer = ask(place, "the docs")
    [style] = re.findall("<style>(.*?)</style>", answer.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in answer.headers["content-security-policy"]
    assert "<script" not in answer.text
    assert "style=" not in answer.text


def test_tls_is_asked_for_by_what_came_by_tls(place: Gateway) -> None:
    asked = ask(place, "data", host="api.example", x_forwarded_proto="https")
    assert asked.headers["strict-transport-security"] == "max-age=31536000"
    for host, scheme in (
        ("api.example", "http"),
        ("localhost:8443", "https"),
        ("[::1]", "https"),
        ("127.0.0.1", "https"),
    ):
        answer = ask(place, "data", host=host, x_forwarded_proto=scheme)
        assert answer.status_code == 200
        assert "strict-transport-security" not in answer.headers, (host, scheme)


@pytest.mark.parametrize("host", [b"a" * 400, b"a@b", b"", b"\xff", b"localhost.evil.example", b"[::1"])
def test_a_name_that_is_not_this_machines_is_nobodys_to_share(host: bytes) -> None:
    assert HTTPS_ONLY in completed([], {"scheme": "https", "headers": [(b"host", host)]})


def test_an_answer_keeps_what_it_says_itself() -> None:
    own = [(b"content-security-policy", b"own"), (b"cache-control", b"own")]
    headers = completed(own, {"scheme": "http", "headers": []})
    assert headers[:2] == own
    assert {name for name, _ in headers} == {name for name, _ in DATA}
    assert len(headers) == len(DATA)


def test_the_description_is_for_operators_where_that_is_said(
    upstream: UpstreamThread, tmp_path_factory: pytest.TempPathFactory
) -> None:
    secret, key = "s" * 40, "alice-key-of-thirty-two-characters"
    env = {"TRILANE_DOCS": "operators", "TRILANE_API_KEYS": f"alice:{key}", "TRILANE_JWT_SECRET": secret}
    server = serving(tmp_path_factory.mktemp("docs"), upstream.url, **env)
    server.unit = "events"
    root = mint(secret, "root", time.time() + 60, {"operator": True})
    try:
        server.start()
        for path in ("/docs", "/openapi.json"):
            for token, status in (("", 401), (key, 403), (root, 200)):
                headers = {"x-forwarded-for": "192.0.2.1"} | ({"authorization": f"Bearer {token}"} if token else {})
                assert httpx2.get(server.url + path, headers=headers).status_code == status
            assert httpx2.get(server.url + path).status_code == 200, "a program on this machine is the operator's"
    finally:
        server.stop()


def test_the_description_says_nothing_of_the_installation(place: Gateway) -> None:
    text = httpx2.get(f"{place.url}/openapi.json").text
    for secret in (ORIGIN, "api.example", str(place.folder), "sk-test", place.env["OPENAI_BASE_URL"]):
        assert secret not in text
