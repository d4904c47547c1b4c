"""Decodes a compressed answer. Upstreams are asked for none, and some compress all the same. Pure.

Everything that the upstream has flushed can be read at once, so no token is held back. A reader says how many bytes it
takes at a time, so a bomb costs no more memory than an honest answer: every bound on bytes counts decoded ones.
"""

import zlib
from typing import Protocol

MAGIC_BYTES = 2
"""Bytes at the beginning of a compressed body that tell its format."""
GZIP_MAGIC = b"\x1f\x8b"
GZIP, ZLIB, RAW = 31, 15, -15
"""What zlib calls the three formats."""
CODINGS = {"gzip": "gzip", "x-gzip": "gzip", "deflate": "deflate"}
"""The names of the codings that can be read."""


class Inflater(Protocol):
    """What the standard library calls `zlib._Decompress`."""

    @property
    def unconsumed_tail(self) -> bytes: ...
    @property
    def unused_data(self) -> bytes: ...
    @property
    def eof(self) -> bool: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def coding_of(content_encoding: str) -> str | None:
    """Returns `gzip`, `deflate`, or "" for none; None for what cannot be read, such as `br` or two codings at once."""
    names = [name for part in content_encoding.lower().split(",") if (name := part.strip()) not in ("", "identity")]
    if not names:
        return ""
    return CODINGS.get(names[0]) if len(names) == 1 else None


class BodyDecoder:
    """Decodes one body: `feed` takes what arrived, `read` gives it back decoded."""

    def __init__(self, coding: str) -> None:
        self.has_more = False
        """Whether `read` may give something without a further `feed`."""
        self._coding = coding
        self._encoded = b""
        self._inflater: Inflater | None = None
        self._members = 0
        self._is_plain = False

    def feed(self, data: bytes) -> None:
        self._encoded += data
        self.has_more = True

    def read(self, max_bytes: int) -> bytes:
        """Returns the next decoded bytes, `max_bytes` at most; b"" when more is needed. Raises zlib.error."""
        while self.has_more:
            if self._is_plain:
                data, self._encoded = self._encoded[:max_bytes], self._encoded[max_bytes:]
                self.has_more = bool(self._encoded)
                return data
            if self._inflater is None and not self._begin():
                continue
            assert self._inflater is not None
            data = self._inflater.decompress(self._encoded, max_bytes)
            self._encoded = self._inflater.unconsumed_tail
            if self._inflater.eof:
                self._encoded, self._inflater = self._inflater.unused_data, None
                self._members += 1
            # zlib keeps what is past the limit, even when it has taken the last byte that it was given.
            self.has_more = bool(self._encoded) or len(data) == max_bytes
            if data:
                return data
        return b""

    def _begin(self) -> bool:
        """Chooses the format by its first bytes; returns whether there is one to decode."""
        if len(self._encoded) < MAGIC_BYTES:
            self.has_more = False
            return False
        is_gzip = self._encoded.startswith(GZIP_MAGIC)
        if self._members and not (is_gzip and self._coding == "gzip"):
            self._encoded, self.has_more = b"", False  # padding after the end, which gzip ignores too
            return False
        if self._coding == "gzip" and not is_gzip:
            self._is_plain = True  # called gzip by a header that some proxy forgot to remove
            return False
        self._inflater = zlib.decompressobj(GZIP if is_gzip else ZLIB if _is_zlib(self._encoded) else RAW)
        return True


def _is_zlib(data: bytes) -> bool:
    """Returns whether data begins as RFC 1950 says; many servers send `deflate` without that wrapper."""
    return data[0] & 15 == zlib.DEFLATED and int.from_bytes(data[:MAGIC_BYTES]) % 31 == 0
