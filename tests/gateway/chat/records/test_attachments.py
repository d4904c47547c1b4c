"""A file goes to a model in the form for its kind, whatever a client calls that kind."""

import base64
from typing import Any

import pytest

from gateway.chat.records.attachments import content_part
from gateway.errors import BadRequest

DATA = base64.b64encode(b"RIFF").decode()


def url(media_type: str, data: str = DATA) -> str:
    return f"data:{media_type};base64,{data}"


def sound(kind: str, data: str = DATA) -> dict[str, Any]:
    return {"type": "input_audio", "input_audio": {"data": data, "format": kind}}


def file(name: str, address: str) -> dict[str, Any]:
    return {"type": "file", "file": {"filename": name, "file_data": address}}


@pytest.mark.parametrize(
    ("media_type", "address", "part"),
    [
        ("image/jpeg", url("image/jpeg"), {"type": "image_url", "image_url": {"url": url("image/jpeg")}}),
        ("image/heic", "https://a/b", {"type": "image_url", "image_url": {"url": "https://a/b"}}),
        ("IMAGE/PNG", url("image/png"), {"type": "image_url", "image_url": {"url": url("image/png")}}),
        ("", url("image/png"), {"type": "image_url", "image_url": {"url": url("image/png")}}),
        ("video/mp4", "https://a/b", {"type": "video_url", "video_url": {"url": "https://a/b"}}),
        ("audio/wav", url("audio/wav"), sound("wav")),
        ("audio/x-wav", url("audio/x-wav"), sound("wav")),
        ("audio/mpeg", url("audio/mpeg"), sound("mp3")),
        ("audio/mp3; rate=1", url("audio/mp3"), sound("mp3")),
        ("audio/ogg", url("audio/ogg"), sound("ogg")),
        ("audio/x-m4a", url("audio/x-m4a"), sound("m4a")),
        ("audio/wav", "data:audio/wav,RIFF", sound("wav")),
        ("application/pdf", url("application/pdf"), file("n.x", url("application/pdf"))),
        ("application/pdf", "https://a/b.pdf", file("n.x", "https://a/b.pdf")),
        ("application/zip", url("application/zip"), file("n.x", url("application/zip"))),
        ("text/plain", "https://a/b.txt", file("n.x", "https://a/b.txt")),
        ("", "https://a/b", file("n.x", "https://a/b")),
    ],
)
def test_each_kind_of_file_has_its_form(media_type: str, address: str, part: dict[str, Any]) -> None:
    assert content_part(media_type, address, "n.x") == part


@pytest.mark.parametrize("media_type", ["text/plain", "text/csv", "text/markdown", "application/json", "image/x+xml"])
def test_text_is_sent_as_text_unless_it_is_a_picture(media_type: str) -> None:
    part = content_part(media_type, url(media_type, base64.b64encode("ä,b".encode()).decode()), "n.x")
    if media_type.startswith("image/"):
        assert part["type"] == "image_url"
    else:
        assert part == {"type": "text", "text": f"n.x ({media_type}):\n\nä,b"}


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("data:text/plain,a%20b", "a b"),
        ("data:text/plain;charset=utf-8;base64,w6Q=", "ä"),
        ("data:text/plain;charset=iso-8859-1;base64,5A==", "ä"),
        ("data:text/plain;charset=nobody-knows;base64,w6Q=", "ä"),
        ("data:text/plain;base64,5A==", "\N{REPLACEMENT CHARACTER}"),
        ("data:text/plain;base64,w6Q", "ä"),
        ("DATA:text/plain;BASE64,w6Q=", "ä"),
        ("data:text/plain,", ""),
    ],
)
def test_the_text_of_a_file_is_read_in_any_coding(address: str, text: str) -> None:
    assert content_part("text/plain", address, "n") == {"type": "text", "text": f"n (text/plain):\n\n{text}"}


def test_a_file_without_a_name_gets_one() -> None:
    assert content_part("application/pdf", url("application/pdf"), "")["file"] == {
        "filename": "file.pdf",
        "file_data": url("application/pdf"),
    }


@pytest.mark.parametrize(
    ("media_type", "address", "error"),
    [
        ("image/png", "", "no address"),
        ("image/png", "blob:http://localhost/1", "no address"),
        ("application/pdf", "file:///etc/passwd", "no address"),
        ("audio/wav", "https://a/b.wav", "data: URL"),
        ("text/plain", "data:text/plain;base64,???", "not valid base64"),
        ("text/plain", "data:text/plain", "no comma"),
    ],
)
def test_a_file_that_nobody_could_read_is_refused(media_type: str, address: str, error: str) -> None:
    with pytest.raises(BadRequest, match=error):
        content_part(media_type, address, "n.x")
