"""Compressed bodies are decoded as they arrive, in bounded pieces, whatever the split."""

import gzip
import random
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.chat.upstreams.codings import GZIP, RAW, ZLIB, BodyDecoder, coding_of

FORMATS = {"gzip": ("gzip", GZIP), "deflate with its wrapper": ("deflate", ZLIB), "deflate without": ("deflate", RAW)}
formats = pytest.mark.parametrize(("coding", "wbits"), FORMATS.values(), ids=FORMATS)


def decoded(decoder: BodyDecoder, piece: bytes, max_bytes: int = 100) -> bytes:
    """Feeds one piece, and returns all that can be read."""
    decoder.feed(piece)
    text = b""
    while data := decoder.read(max_bytes):
        assert len(data) <= max_bytes
        text += data
    assert not decoder.has_more
    return text


def flushed(wbits: int, *texts: bytes) -> list[bytes]:
    """Returns what a server sends that flushes after each text."""
    packer = zlib.compressobj(9, zlib.DEFLATED, wbits)
    return [packer.compress(text) + packer.flush(zlib.Z_SYNC_FLUSH) for text in texts] + [packer.flush()]


@formats
def test_every_flushed_token_comes_out_at_once(coding: str, wbits: int) -> None:
    tokens = [b'data: {"t":"%d"}\n\n' % n for n in range(50)]
    decoder = BodyDecoder(coding)
    assert [decoded(decoder, piece) for piece in flushed(wbits, *tokens)] == [*tokens, b""]


@settings(max_examples=60, deadline=None)
@given(
    text=st.binary(max_size=2000),
    member=st.integers(1, 2000),
    size=st.integers(1, 300),
    max_bytes=st.integers(1, 700),
    form=st.sampled_from([*FORMATS.values()]),
)
def test_any_split_gives_the_same_text(
    text: bytes, member: int, size: int, max_bytes: int, form: tuple[str, int]
) -> None:
    coding, wbits = form
    if coding == "gzip":  # in several members, as some servers flush
        body = b"".join(gzip.compress(text[at : at + member]) for at in range(0, len(text) or 1, member))
    else:
        body = b"".join(flushed(wbits, text))
    decoder = BodyDecoder(coding)
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    assert b"".join(decoded(decoder, piece, max_bytes) for piece in pieces) == text


@formats
def test_what_is_left_in_zlib_after_its_last_byte_comes_out(coding: str, wbits: int) -> None:
    for size in range(1, 1100, 3):
        packer = zlib.compressobj(9, zlib.DEFLATED, wbits)
        body = packer.compress(b"a" * size) + packer.flush()
        assert decoded(BodyDecoder(coding), body, 5) == b"a" * size


def test_a_bomb_comes_out_in_the_pieces_that_were_asked_for() -> None:
    decoder = BodyDecoder("gzip")
    decoder.feed(gzip.compress(b"\0" * 10_000_000))
    assert [len(decoder.read(65_536)) for _ in range(5)] == [65_536] * 5
    assert decoder.has_more


def test_what_follows_the_end_is_padding() -> None:
    assert decoded(BodyDecoder("gzip"), gzip.compress(b"hello") + b"\0" * 9) == b"hello"
    assert decoded(BodyDecoder("deflate"), zlib.compress(b"hello") + b"more") == b"hello"


@pytest.mark.parametrize("body", [b'data: {"a":1}\n\n', b'{"object":"chat.completion"}', b": comment\n"])
def test_a_body_that_is_only_called_gzip_is_read_as_it_is(body: bytes) -> None:
    decoder = BodyDecoder("gzip")
    assert b"".join(decoded(decoder, body[at : at + 1], 3) for at in range(len(body))) == body


@formats
def test_damage_is_an_error_after_what_came_before_it(coding: str, wbits: int) -> None:
    noise = random.Random(7).randbytes(4000)
    pieces = flushed(wbits, b"before", noise)
    decoder = BodyDecoder(coding)
    assert decoded(decoder, pieces[0]) == b"before"
    with pytest.raises(zlib.error):
        decoded(decoder, b"\xff" * 50)


@pytest.mark.parametrize(
    ("header", "coding"),
    [
        ("", ""),
        ("identity", ""),
        ("gzip", "gzip"),
        ("GZIP", "gzip"),
        (" x-gzip ", "gzip"),
        ("gzip, identity", "gzip"),
        ("deflate", "deflate"),
        ("br", None),
        ("zstd", None),
        ("gzip, gzip", None),
        ("utf-8", None),
    ],
)
def test_a_header_names_a_coding(header: str, coding: str | None) -> None:
    assert coding_of(header) == coding
