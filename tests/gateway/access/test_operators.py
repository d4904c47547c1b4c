"""The figures are asked for as each kind of caller would: this machine's own programs and operators get them."""

import time
from collections.abc import Iterator

import httpx2
import pytest

from gateway.access.auth import mint
from gateway.access.operators import is_local_call
from tests.conftest import Gateway

SECRET = "a secret of thirty-two bytes, or more"
LOCAL = ("127.0.0.1", 50_000)


@pytest.mark.parametrize("client", [LOCAL, ("127.0.0.2", 1), ("::1", 1), ("::ffff:127.0.0.1", 1)])
@pytest.mark.parametrize("host", [b"127.0.0.1:8001", b"localhost", b"[::1]:8001", b"LOCALHOST:8001", b"127.0.0.1"])
def test_a_program_of_this_machine_is_a_local_caller(client: tuple[str, int], host: bytes) -> None:
    assert is_local_call({"client": client, "http_version": "1.1", "headers": [(b"host", host)]})
    assert is_local_call({"client": client, "http_version": "1.1", "headers": [(b"accept", b"*/*")]})


PASSED_ON = [
    (b"x-forwarded-for", b"127.0.0.1"),
    (b"x-forwarded-for", b""),
    (b"forwarded", b"for=127.0.0.1"),
    (b"x-real-ip", b"127.0.0.1"),
    (b"via", b"1.1 vegur"),
    (b"x-forwarded-proto", b"https"),
    (b"x-forwarded-server", b"a"),
    (b"x-original-forwarded-for", b"127.0.0.1"),
    (b"cf-connecting-ip", b"127.0.0.1"),
    (b"host", b"chat.example"),
    (b"host", b"127.0.0.1.evil.example"),
    (b"host", b"localhost@evil.example"),
    (b"host", b"[::2]:80"),
    (b"host", b"[::1].evil.example"),
    (b"host", b""),
]


@pytest.mark.parametrize("header", PASSED_ON)
def test_a_request_that_a_proxy_of_this_machine_passed_on_is_not_local(header: tuple[bytes, bytes]) -> None:
    assert not is_local_call({"client": LOCAL, "http_version": "1.1", "headers": [(b"accept", b"*/*"), header]})


@pytest.mark.parametrize("client", [None, ("10.0.0.1", 1), ("::ffff:10.0.0.1", 1), ("2001:db8::1", 1), ("", 0)])
def test_a_caller_from_elsewhere_is_not_local(client: tuple[str, int] | None) -> None:
    assert not is_local_call({"client": client, "http_version": "1.1", "headers": []})


def test_a_proxy_that_says_nothing_of_its_callers_speaks_an_old_protocol() -> None:
    assert not is_local_call({"client": LOCAL, "http_version": "1.0", "headers": [(b"host", b"127.0.0.1:8001")]})


# On a real gateway


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    env = {"TRILANE_JWT_SECRET": SECRET, "TRILANE_API_KEYS": "alice:a key of alice", "TRILANE_TRUSTED_PROXIES": "*"}
    gateway = Gateway(tmp_path_factory.mktemp("operators"), env, unit="events")
    try:
        yield gateway.start()
    finally:
        gateway.stop()


def bearer(operator: bool, *, lasts_s: float = 600) -> str:
    return f"Bearer {mint(SECRET, 'olga', time.time() + lasts_s, {'operator': operator})}"


def test_the_figures_are_for_this_machine_and_for_operators(place: Gateway) -> None:
    passed_on = {"x-forwarded-for": "127.0.0.1"}  # a proxy that is trusted, and a caller who writes what he likes
    rows: list[tuple[dict[str, str], int]] = [
        ({}, 200),
        (passed_on, 401),
        (passed_on | {"host": "chat.example"}, 401),
        ({"host": "chat.example"}, 401),
        ({"forwarded": "for=_hidden"}, 401),
        (passed_on | {"authorization": "Bearer a key of alice"}, 403),
        (passed_on | {"authorization": "Bearer a key of nobody"}, 401),
        (passed_on | {"authorization": bearer(operator=False)}, 403),
        (passed_on | {"authorization": bearer(operator=True, lasts_s=-600)}, 401),
        (passed_on | {"authorization": bearer(operator=True)}, 200),
    ]
    for headers, status in rows:
        for method in ("GET", "HEAD"):
            answer = httpx2.request(method, f"{place.url}/metrics", headers=headers)
            assert answer.status_code == status, headers
            assert ("trilane_" in answer.text) == (status == 200 and method == "GET")


def test_without_sign_in_the_figures_are_for_this_machine_alone(tmp_path_factory: pytest.TempPathFactory) -> None:
    gateway = Gateway(tmp_path_factory.mktemp("nobody"), {"TRILANE_ALLOWED_HOSTS": "*"}, unit="events").start()
    try:
        assert httpx2.get(f"{gateway.url}/metrics").status_code == 200
        for headers in ({"x-forwarded-for": "127.0.0.1"}, {"host": "chat.example"}):
            assert httpx2.get(f"{gateway.url}/metrics", headers=headers).status_code == 403
    finally:
        gateway.stop()
