"""A client has a model's server fetch from the open internet or from where the operator says, and nowhere else."""

from typing import Any

import pytest

from gateway.chat.fetches import check_fetches
from gateway.errors import BadRequest

HTTPS = list[str]()
"""What is allowed when an operator says nothing."""


def picture(url: object) -> list[object]:
    return [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url, "detail": "low"}}]}]


TAKEN = [
    "https://example.com/a.png",
    "HTTPS://Example.com:8443/a?b=http://10.0.0.1/",
    "https://8.8.8.8/a",
    "https://[2606:4700::1111]/a",
    "https://b\u00fccher.example/a",
    "data:image/png;base64,AA==",
    " data:image/png;base64,AA==",
]
REFUSED = [
    "http://example.com/a.png",
    "file:///etc/passwd",
    "FILE:/etc/passwd",
    "/etc/passwd",
    "etc/passwd",
    "//169.254.169.254/latest",
    "ftp://example.com/a",
    "gopher://example.com/a",
    "s3://bucket/key",
    "https://169.254.169.254/latest/meta-data",
    "https://127.0.0.1/",
    "https://10.1.2.3/",
    "https://192.168.0.1:8443/",
    "https://0.0.0.0/",
    "https://[::1]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[fe80::1]/",
    "https://2130706433/",
    "https://0x7f.1/",
    "https://0177.0.0.1/",
    "https://127.1/",
    "https://localhost/",
    "https://LOCALHOST./",
    "https://api.localhost/",
    "https://metadata.google.internal/computeMetadata",
    "https://printer.local/",
    "https://db/",
    "https://user@example.com/",
    "https://good.example\\@10.0.0.1/",
    "https://good.example\t/",
    "https://good.example/ a",
    "\nhttps://good.example/",
    "https://good.example:99999/",
    "https://[::1/",
    "https://",
    "https:example.com",
    "",
]


@pytest.mark.parametrize("url", TAKEN)
def test_the_open_internet_and_data_are_taken(url: str) -> None:
    check_fetches(picture(url), HTTPS)


@pytest.mark.parametrize("url", REFUSED)
def test_everything_else_is_refused_by_name(url: str) -> None:
    with pytest.raises(BadRequest, match="TRILANE_ALLOWED_FETCHES") as error:
        check_fetches(picture(url), HTTPS)
    assert error.value.code == "address_refused"
    assert error.value.detail.isascii()


SHAPES: dict[str, Any] = {
    "by itself": {"type": "image_url", "image_url": "file:///a"},
    "a film": {"type": "video_url", "video_url": {"url": "file:///a"}},
    "a sound": {"type": "audio_url", "audio_url": {"url": "file:///a"}},
    "a document": {"type": "file", "file": {"filename": "a", "file_data": "file:///a"}},
    "a file's address": {"type": "file", "file": {"file_url": "file:///a"}},
    "in a source": {"type": "image", "source": {"type": "url", "url": "file:///a"}},
    "another vendor's": {
        "type": "media",
        "fileData": {"mimeType": "image/png", "fileUri": "x", "file_uri": "file:///a"},
    },
    "one of several": {"type": "image_url", "image_url": ["https://a.example/", "file:///a"]},
    "in capitals": {"type": "IMAGE_URL", "IMAGE_URL": {"URL": "file:///a"}},
    "a part of no type": {"url": "file:///a"},
}


@pytest.mark.parametrize("part", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("role", ["user", "assistant", "tool", "system"])
def test_an_address_is_seen_in_whatever_part_and_message(part: Any, role: str) -> None:
    for content in ([part], [{"type": "text", "text": "x"}, part]):
        with pytest.raises(BadRequest, match="file:///a"):
            check_fetches([{"role": "user", "content": "hello"}, {"role": role, "content": content}], HTTPS)


HARMLESS: list[Any] = [
    "see file:///etc/passwd",
    [{"type": "text", "text": "http://10.0.0.1/"}],
    [{"type": "file", "file": {"file_id": "file-1"}}],
    [{"type": "file", "file": {"filename": "a", "file_data": "AA=="}}],
    [{"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}],
    [{"type": "text", "text": "x", "annotations": [{"url_citation": {"url": "http://cited.example/"}}]}],
    [{"type": "image_url", "image_url": {"url": 7}}],
    [7, None, "x", ["y"]],
    None,
    {},
]


@pytest.mark.parametrize("content", HARMLESS)
def test_what_nobody_fetches_is_left_alone(content: Any) -> None:
    check_fetches([{"role": "user", "content": content}, {"role": "user"}, "nonsense"], HTTPS)


LISTED = ["https", "http://media.lan:8080/pictures/", "HTTP://10.0.0.7/"]
BY_LIST = {
    "http://media.lan:8080/pictures/a.png": True,
    "http://MEDIA.lan:8080/pictures/a.png?b": True,
    "http://10.0.0.7/a": True,
    "https://example.com/": True,
    "http://media.lan:8080/private": False,
    "http://media.lan:8080/pictures/../private": False,
    "http://media.lan:8080/pictures/%2e%2e/private": False,
    "http://media.lan:80/pictures/a": False,
    "http://media.lan.evil.example:8080/pictures/a": False,
    "http://x@media.lan:8080/pictures/a": False,
    "https://media.lan:8080/pictures/a": False,
    "http://10.0.0.70/a": False,
    "http://example.com/": False,
}


@pytest.mark.parametrize(("url", "is_taken"), BY_LIST.items())
def test_an_operator_lists_beginnings_of_addresses(url: str, is_taken: bool) -> None:
    if is_taken:
        check_fetches(picture(url), LISTED)
        return
    with pytest.raises(BadRequest):
        check_fetches(picture(url), LISTED)


def test_an_operator_may_allow_nothing_but_data() -> None:
    check_fetches(picture("data:,x"), ["data"])
    with pytest.raises(BadRequest):
        check_fetches(picture("https://example.com/"), ["data"])
