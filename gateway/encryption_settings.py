"""Declares how the keys of `TRILANE_ENCRYPTION_KEY` are written, for `gateway.settings`."""

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Annotated

from msgspec import Struct

from gateway.environment import Notation, read_list
from gateway.errors import ConfigurationError

KEY_BYTES = 32
"""Bytes of a key of AES-256."""
NO_ENCRYPTION = "none"
"""The id that stands for no key, where new events are to be stored as they are."""


class EncryptionKey(Struct, frozen=True):
    """A key that the log's content is encrypted with; one without a secret encrypts nothing."""

    id: str
    secret: bytes = b""

    def __repr__(self) -> str:
        """Returns its id alone: no traceback and no log line shows the secret."""
        return f"EncryptionKey({self.id!r})"


def _encryption_keys(environ: Mapping[str, str], variable: str) -> list[EncryptionKey]:
    """Reads `id:key` entries; an entry `none` stands first, and for no key."""
    keys: list[EncryptionKey] = []
    for number, item in enumerate(read_list(environ, variable), 1):
        name, _, text = item.partition(":")
        secret = b"" if item == NO_ENCRYPTION and number == 1 else _secret(text)
        if secret is None or not re.fullmatch("[A-Za-z0-9_-]{1,20}", name, re.ASCII) or name in [k.id for k in keys]:
            raise ConfigurationError(
                f"entry {number} of {variable}: want id:key, with an id of its own (letters, digits, _ and -, 20 at "
                f"most) and {KEY_BYTES} bytes in base64, such as `openssl rand -base64 32` gives"
            )
        keys.append(EncryptionKey(name, secret))
    return keys


def _secret(text: str) -> bytes | None:
    """Returns the bytes of a key; None for what is none, or not random."""
    try:
        secret = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return secret if len(secret) == KEY_BYTES and len(set(secret)) > 1 else None


EncryptionKeys = Annotated[
    list[EncryptionKey],
    Notation("`id:key,...`, keys as `openssl rand -base64 32` gives; or `none` first", _encryption_keys),
]
