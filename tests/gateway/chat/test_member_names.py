"""A member of any name is added, found and removed, at the gateway itself and through nginx."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import quote

import httpx2
import pytest

from gateway.access.auth import mint
from tests.conftest import Gateway, UpstreamThread, serving
from tests.support.nginx import ANOTHER_HOST, behind_nginx, needs_nginx
from tests.support.sse_client import user_message

SECRET = "0123456789abcdef0123456789abcdef"
NAMES = {
    "a slash": "team/bob",
    "a slash that was encoded": "team%2Fbob",
    "encoded twice": "team%252Fbob",
    "slashes around": "/bob/",
    "one dot": ".",
    "dots": "..",
    "dots that were encoded": "%2e%2e",
    "a path": "../../chats",
    "spaces": " bob  smith ",
    "a plus": "bob+smith",
    "signs of a query": "bob&role=owner#x?sub=eve=",
    "a semicolon": "bob;x",
    "another script": "böb 北京 \U0001f600",
    "the same letter composed": "bo\u0301b",
    "a backslash and quotes": "bob\\'\"<b>",
    "255 characters": "é" * 255,
    "a character that stands for others": "b\ufffdb",
    "as long as a name may be": "x" * 1024,
}
IN_PATHS = {what: name for what, name in NAMES.items() if "/" not in name and name.strip(".")}


@pytest.fixture(scope="module")
def gateway(upstream: UpstreamThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    gateway = serving(tmp_path_factory.mktemp("names"), upstream.url, TRILANE_JWT_SECRET=SECRET)
    try:
        yield gateway.start()
    finally:
        gateway.stop()


@pytest.fixture(scope="module", params=["itself", pytest.param("nginx", marks=needs_nginx)])
def url(gateway: Gateway, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with ExitStack() as stack:
        if request.param == "itself":
            yield gateway.url
        else:
            yield stack.enter_context(behind_nginx(gateway, ANOTHER_HOST, tmp_path_factory.mktemp("nginx")))


def call(url: str, sub: str, method: str, path: str, body: object = None) -> httpx2.Response:
    headers = {"authorization": f"Bearer {mint(SECRET, sub, time.time() + 3600, {})}"}
    return httpx2.request(method, url + path, headers=headers, json=body, timeout=30, trust_env=False)


_numbers = iter(range(1, 1000))


@pytest.fixture
def chat(url: str) -> str:
    chat_id = f"c{next(_numbers)}"
    body = {"id": chat_id, "message": user_message("T=1 I=0", f"m-{chat_id}")}
    assert call(url, "alice", "POST", "/api/chat", body).status_code == 200
    return f"/api/chat/{chat_id}"


def check_added_and_removed(url: str, chat: str, place: str, sub: str) -> None:
    added = call(url, "alice", "PUT", place, {"role": "viewer"})
    assert added.status_code == 200, added.text
    members = [{"sub": "alice", "role": "owner"}, {"sub": sub, "role": "viewer"}]
    assert added.json()["members"] == members
    shared = f"/api/chat/{added.json()['sharedId']}"
    assert call(url, sub, "GET", shared).json()["members"] == members
    assert call(url, "alice", "DELETE", place).status_code == 204
    assert call(url, sub, "GET", shared).status_code == 404
    assert call(url, "alice", "GET", chat).json()["members"] == members[:1]


@pytest.mark.parametrize("what", NAMES)
def test_a_member_of_any_name_stands_in_the_query(url: str, chat: str, what: str) -> None:
    check_added_and_removed(url, chat, f"{chat}/members?sub={quote(NAMES[what], safe='')}", NAMES[what])


@pytest.mark.parametrize("what", IN_PATHS)
def test_a_name_that_is_a_part_of_a_path_stands_there_encoded_once(url: str, chat: str, what: str) -> None:
    check_added_and_removed(url, chat, f"{chat}/members/{quote(IN_PATHS[what], safe='')}", IN_PATHS[what])


@pytest.mark.parametrize(
    "place", ["?sub=", "", "?sub=%00", "?sub=a%0ab", "?sub=" + "x" * 1025, "?sub=%ed%a0%80", "?sub=eve&sub=zoe", "/%ff"]
)
def test_what_is_no_name_is_refused(url: str, chat: str, place: str) -> None:
    for method, body in (("PUT", {"role": "viewer"}), ("DELETE", None)):
        answer = call(url, "alice", method, f"{chat}/members{place}", body)
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_sub"), answer.text
    assert call(url, "alice", "GET", chat).json()["members"] == [{"sub": "alice", "role": "owner"}]


@pytest.mark.parametrize("spelling", ["team%2Fbob", "team/bob", "%2e%2e%2fbob", ""])
def test_a_path_has_no_name_with_a_slash_and_nobody_else_is_added_by_it(url: str, chat: str, spelling: str) -> None:
    answer = call(url, "alice", "PUT", f"{chat}/members/{spelling}", {"role": "viewer"})
    assert answer.status_code in (400, 404, 405), answer.text
    assert call(url, "alice", "GET", chat).json()["members"] == [{"sub": "alice", "role": "owner"}]
