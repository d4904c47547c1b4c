"""Seals single events with AES-256-GCM, so that whoever has only the log's storage reads none of them. No I/O.

A sealed event is one line like every other: a mark, the key's id, a dot, and nonce, ciphertext and tag in base64. No
JSON text begins with either mark, so events from before there was a key are told apart and stay readable.

Each topic has a key of its own (HKDF-Expand of RFC 5869, by its name), and the event's name is authenticated, so an
event that is moved to another topic or given another name cannot be opened. Where the writer knew the offset (every
event of a chat and of a run) that is authenticated too. The storage shows all the same: names of topics and events,
owners, idempotency keys, times and sizes; and whoever may write there can drop events, put back old ones of the same
topic, and reorder those that were appended at no expected offset.
"""

import binascii
import hmac
import os
from collections.abc import Sequence

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from events.log.port import Block
from gateway.encryption_settings import EncryptionKey
from gateway.errors import LogDamaged

AT_ANY_OFFSET, AT_ITS_OFFSET = b"~", b"@"
MARKS = (AT_ANY_OFFSET, AT_ITS_OFFSET)
NONCE_BYTES = 12
MAX_COUNT = 1 << 32
"""Events after which a topic's nonces begin with another random part."""
MAX_CIPHERS = 4096
"""Maximum topics of which the cipher is kept; past that the oldest is derived again when it is wanted (6 µs)."""


class TopicCipher(msgspec.Struct):
    """The cipher of one topic under one key.

    A nonce is 8 random bytes and a count. Those bytes are drawn whenever a cipher is made: 100,000 such draws for one
    topic meet by chance with a probability of 3e-10. So the bound of 2^32 random nonces a key (NIST SP 800-38D) is met
    by far, and no event costs a system call.
    """

    aead: AESGCM
    prefix: bytes
    count: int = 0

    def next_nonce(self) -> bytes:
        if self.count == MAX_COUNT:
            self.prefix, self.count = os.urandom(NONCE_BYTES - 4), 0
        nonce = self.prefix + self.count.to_bytes(4, "big")
        self.count += 1
        return nonce


class Sealing:
    """Seals with the first of its keys, and opens what any of them has sealed."""

    def __init__(self, keys: Sequence[EncryptionKey]) -> None:
        self._keys = {key.id.encode(): key.secret for key in keys if key.secret}
        self._writer = keys[0].id.encode() if keys[0].secret else None
        """The id of the key that seals; None: nothing is sealed."""
        self._ciphers: dict[tuple[bytes, str], TopicCipher] = {}

    def seal(self, topic: str, name: str, data: list[bytes], first: int | None) -> list[bytes]:
        """Returns the events sealed; `first` is the offset of the first where the writer knows it."""
        if self._writer is None:
            return data
        cipher = self._cipher(self._writer, topic)
        mark, step = (AT_ANY_OFFSET, 0) if first is None else (AT_ITS_OFFSET, 1)
        head, about, offset = b"%b%b." % (mark, self._writer), _bytes(name), first or 0
        lines: list[bytes] = []
        for event in data:
            nonce = cipher.next_nonce()
            sealed = cipher.aead.encrypt(nonce, event, b"%d %b" % (offset, about))
            lines.append(head + binascii.b2a_base64(nonce + sealed, newline=False))
            offset += step
        return lines

    def open(self, topic: str, block: Block) -> Block:
        """Returns the block with its events opened, up to the first that cannot be: at least one. Raises LogDamaged."""
        data: list[bytes] = []
        about = _bytes(block.name)
        for offset, line in enumerate(block.data, block.first):
            try:
                data.append(self._open(topic, about, offset, line) if line[:1] in MARKS else line)
            except LogDamaged:
                if not data:
                    raise
                break
        return Block(first=block.first, data=data, name=block.name, time_ms=block.time_ms)

    def _open(self, topic: str, about: bytes, offset: int, line: bytes) -> bytes:
        mark, (key, _, text) = line[:1], line[1:].partition(b".")
        if key not in self._keys:
            known = key[:20].decode("ascii", "backslashreplace")
            raise LogDamaged(f"event {offset} of {topic!r} is encrypted with the key {known!r}, which is not set")
        try:
            sealed = binascii.a2b_base64(text)
            associated = b"%d %b" % (offset if mark == AT_ITS_OFFSET else 0, about)
            return self._cipher(key, topic).aead.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], associated)
        except (InvalidTag, ValueError) as err:
            raise LogDamaged(f"event {offset} of {topic!r} is not as it was encrypted") from err

    def _cipher(self, key: bytes, topic: str) -> TopicCipher:
        cipher = self._ciphers.get((key, topic))
        if cipher is None:
            if len(self._ciphers) >= MAX_CIPHERS:
                del self._ciphers[next(iter(self._ciphers))]
            own = hmac.digest(self._keys[key], b"trilane topic %b\x01" % _bytes(topic), "sha256")
            cipher = self._ciphers[key, topic] = TopicCipher(AESGCM(own), os.urandom(NONCE_BYTES - 4))
        return cipher


def _bytes(name: str) -> bytes:
    """Returns a name's bytes; the storage itself refuses one that is no Unicode."""
    return name.encode("utf-8", "surrogatepass")
