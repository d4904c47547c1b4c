"""A prompt that several people edit is a topic: grants say whose, and an edit of an older version is refused."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from gateway.access.auth import mint
from tests.conftest import Gateway
from tests.support.sse_decoder import SseDecoder

SECRET = "0123456789abcdef0123456789abcdef"
PROMPT = "prompt/welcome"
GRANTS: dict[str, dict[str, list[str]]] = {
    "ann": {"subscribe": ["prompt/*"], "publish": ["prompt/*"]},
    "bob": {"subscribe": [PROMPT], "publish": [PROMPT]},
    "reader": {"subscribe": ["prompt/*"], "publish": []},
    "stranger": {"subscribe": ["team/*"], "publish": ["team/*"]},
}
ROUNDS = 10


@pytest.fixture(scope="module")
def gateways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Gateway]]:
    """Yields two processes on one log."""
    folder = tmp_path_factory.mktemp("prompts")
    processes = [Gateway(folder, {"TRILANE_JWT_SECRET": SECRET}, unit="events") for _ in range(2)]
    try:
        for process in processes:
            process.start()
        yield processes
    finally:
        for process in processes:
            process.stop()


class Editor:
    """One user, at one process."""

    def __init__(self, gateway: Gateway, sub: str) -> None:
        self.sub = sub
        self._url = f"{gateway.url}/api/events"
        self._headers = {"authorization": f"Bearer {mint(SECRET, sub, time.time() + 3600, dict(GRANTS[sub]))}"}

    def edit(self, text: str, version: int, topic: str = PROMPT) -> httpx2.Response:
        """Writes a version, which follows the one that the editor has seen."""
        body = {"topic": topic, "data": {"text": text, "by": self.sub}, "expectedOffset": version}
        return httpx2.post(self._url, json=body, headers=self._headers, timeout=30, trust_env=False)

    def read(self, count: int, topic: str = PROMPT) -> list[tuple[int, Any]]:
        """Returns the number and text of the first versions, in the order in which they come."""
        decoder, versions = SseDecoder(), list[tuple[int, Any]]()
        with httpx2.stream(
            "GET",
            f"{self._url}?topic={topic}&from=earliest&envelope=1",
            headers=self._headers,
            timeout=30,
            trust_env=False,
        ) as answer:
            if answer.status_code != 200:
                return [(answer.status_code, json.loads(answer.read())["code"])]
            for data in answer.iter_bytes():
                for event in decoder.feed(data):
                    if event.event == "message":
                        told = json.loads(event.data)
                        versions.append((told["offset"], told["data"]["text"]))
                if len(versions) >= count:
                    return versions
        raise AssertionError(f"the stream ended after {versions}")


def test_two_editors_on_two_processes_lose_no_version(gateways: list[Gateway]) -> None:
    ann, bob = Editor(gateways[0], "ann"), Editor(gateways[1], "bob")
    assert ann.edit("Welcome.", 1).status_code == 200
    assert bob.read(1) == [(1, "Welcome.")]
    assert bob.edit("Welcome!", 2).status_code == 200
    late = ann.edit("Welcome?", 2)
    assert (late.status_code, late.json()["code"], late.json()["actual"]) == (409, "conflict", 3), late.text
    assert ann.read(2) == [(1, "Welcome."), (2, "Welcome!")]
    version, texts = 3, ["Welcome.", "Welcome!"]
    with ThreadPoolExecutor(2) as both:
        for number in range(ROUNDS):
            edits = [f"{editor.sub} {number}" for editor in (ann, bob)]
            answers = list(both.map(Editor.edit, (ann, bob), edits, (version, version)))
            statuses = [answer.status_code for answer in answers]
            assert sorted(statuses) == [200, 409], "of two who edit the same version, one is refused"
            assert answers[statuses.index(409)].json()["actual"] == version + 1
            texts.append(edits[statuses.index(200)])
            version += 1
    assert bob.read(len(texts)) == ann.read(len(texts)) == list(enumerate(texts, 1))


def test_grants_say_who_reads_a_prompt_and_who_edits_it(gateways: list[Gateway]) -> None:
    prompt = "prompt/greeting"
    ann, bob = Editor(gateways[0], "ann"), Editor(gateways[1], "bob")
    reader, stranger = Editor(gateways[1], "reader"), Editor(gateways[0], "stranger")
    assert ann.edit("Hello.", 1, prompt).status_code == 200
    assert reader.read(1, prompt) == [(1, "Hello.")]
    for editor in (bob, reader, stranger):
        refused = editor.edit("Hi.", 2, prompt)
        assert (refused.status_code, refused.json()["code"]) == (403, "topic_forbidden"), refused.text
    for editor in (bob, stranger):
        assert editor.read(1, prompt) == [(403, "topic_forbidden")]
    assert reader.read(1, prompt) == [(1, "Hello.")]
