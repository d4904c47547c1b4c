"""The AI SDK's client sends files of every kind; what a phone photographs fits, four times in one history too."""

import base64
import random
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from loadtests.upstream.shapes import words
from tests.clients.conftest import Open, last_conversation
from tests.conftest import Gateway, UpstreamThread, eventually, serving
from tests.support.problems import check_problem
from tests.support.sse_client import chat_body, send

PHOTO_BYTES = 2_900_000
"""Size of a photograph of 12 megapixels, as phones save it: four of them, in base64, fill a body of 16 MiB."""
KINDS = {
    "doc.pdf": ("application/pdf", "file"),
    "talk.mp3": ("audio/mpeg", "input_audio"),
    "photo.jpg": ("image/jpeg", "image_url"),
    "film.mp4": ("video/mp4", "video_url"),
    "things.zip": ("application/zip", "file"),
}


def data_url(media_type: str, content: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def test_files_of_every_kind_reach_the_model(device: Open, upstream: UpstreamThread) -> None:
    files = [
        {"type": "file", "mediaType": kind, "filename": name, "url": data_url(kind, name.encode())}
        for name, (kind, _) in KINDS.items()
    ]
    table = {"type": "file", "mediaType": "text/csv", "filename": "t.csv", "url": data_url("text/csv", b"a;b\n1;2")}
    phone = device()
    view = phone.call("send", message={"text": "what is this? T=3", "files": [*files, table]}, body={})
    assert (view.error, view.answer.text) == (None, words(3))
    [(role, content)] = last_conversation(upstream)
    assert role == "user"
    assert [part["type"] for part in content] == [kind for _, kind in KINDS.values()] + ["text", "text"]
    assert content[-2]["text"] == "t.csv (text/csv):\n\na;b\n1;2"
    assert content[0]["file"] == {"filename": "doc.pdf", "file_data": files[0]["url"]}
    assert view.messages[0].parts[0]["url"] == files[0]["url"]


def test_four_photographs_fit_into_one_history(device: Open, upstream: UpstreamThread) -> None:
    phone = device()
    seeded = random.Random(13)
    photos = [data_url("image/jpeg", seeded.randbytes(PHOTO_BYTES)) for _ in range(4)]
    for number, photo in enumerate(photos, 1):
        file = {"type": "file", "mediaType": "image/jpeg", "filename": f"{number}.jpg", "url": photo}
        view = phone.call("send", message={"text": f"and this? T={number}", "files": [file]}, body={})
        assert (view.error, view.answers[-1].text) == (None, words(number))
    urls = [part["image_url"]["url"] for _, said in last_conversation(upstream)[::2] for part in said[:1]]
    assert urls == photos


# All bodies at once


@pytest.fixture(scope="module")
def small_gateway(upstream: UpstreamThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    limits = {"TRILANE_LIMIT_BODY_BYTES": "4000000", "TRILANE_LIMIT_BODIES_BYTES": "5000000"}
    server = serving(Path(tmp_path_factory.mktemp("bodies")), upstream.url, **limits)
    try:
        yield server.start()
    finally:
        server.stop()


def test_bodies_are_bounded_together_until_their_upstream_answers(
    small_gateway: Gateway, upstream: UpstreamThread
) -> None:
    url = small_gateway.url
    large = "x" * 3_000_000
    with httpx2.stream("POST", f"{url}/api/chat", json=chat_body("hang", f"B=hang {large}"), timeout=20) as waiting:
        assert waiting.status_code == 200
        assert small_gateway.gauge("trilane_gateway_body_bytes") > 3_000_000
        refused, _ = send(url, chat_body("second", f"T=1 {large}"))
        check_problem(refused, 503, "overloaded", "TRILANE_LIMIT_BODIES_BYTES")
        assert refused.headers["retry-after"]
        assert send(url, chat_body("small", "T=2"))[1].text == words(2)
        httpx2.post(f"{url}/api/chat/hang/stop", json={})
    eventually(lambda: small_gateway.gauge("trilane_gateway_body_bytes") == 0, what="no body is counted any more")
    assert send(url, chat_body("second", f"T=1 {large}"))[1].text == words(1)
    eventually(lambda: small_gateway.gauge("trilane_gateway_body_bytes") == 0, what="no body is counted any more")
