"""Declares how secrets and keys are written in the environment, and when one is too weak to be used.

No error repeats a secret, and of an API key only its digest is kept.
"""

import base64
import ipaddress
from collections.abc import Mapping
from hashlib import sha256
from typing import Annotated
from urllib.parse import urlsplit

from msgspec import Struct

from gateway.environment import Notation, read_list
from gateway.errors import ConfigurationError

MIN_SECRET_BYTES = 32
"""Minimum bytes of the secret that signs tokens."""
MIN_KEY_LENGTH = 8
"""Minimum characters of an API key."""
SAFE_KEY_LENGTH = 16
"""Minimum characters of an API key of a gateway that other machines can reach."""
WEBHOOK_SECRET = "whsec_"
"""Prefix of a secret of the Standard Webhooks specification."""
NEW_WEBHOOK_SECRET = 'make one with `echo "whsec_$(openssl rand -base64 32)"`'
OPERATOR_SUFFIX = "+operator"
"""The end of a user's name in `TRILANE_API_KEYS` that gives the key the grant `operator`; it is no part of the name."""


class ApiKey(Struct, frozen=True):
    """What the settings keep of a key: whom it stands for, and never the key."""

    user: str
    is_operator: bool = False
    is_short: bool = False
    """Whether it has fewer than SAFE_KEY_LENGTH characters."""


def _secrets(environ: Mapping[str, str], variable: str) -> list[str]:
    """Reads secrets with commas between them; a text with a part too short for that is one secret, comma and all."""
    whole = environ.get(variable, "")
    parts = read_list(environ, variable)
    secrets = parts if all(_is_safe(part) for part in parts) else [whole]
    if not all(map(_is_safe, secrets)):
        raise ConfigurationError(
            f"{variable} is too short to be safe: "
            f"want {MIN_SECRET_BYTES} bytes or more, such as `openssl rand -hex 32` gives"
        )
    return secrets


def _is_safe(secret: str) -> bool:
    return len(secret.encode("utf-8", "surrogateescape")) >= MIN_SECRET_BYTES


def _api_keys(environ: Mapping[str, str], variable: str) -> dict[str, ApiKey]:
    """Reads `user:key` entries, or keys alone, whose users are then named after their digests."""
    keys: dict[str, ApiKey] = {}
    for number, item in enumerate(read_list(environ, variable), 1):
        user, _, key = item.rpartition(":")
        if len(key) < MIN_KEY_LENGTH:
            raise ConfigurationError(
                f"entry {number} of {variable}: want user:key with a key of {MIN_KEY_LENGTH} characters or more"
            )
        digest = sha256(key.encode()).hexdigest()
        name = user.removesuffix(OPERATOR_SUFFIX)
        keys[digest] = ApiKey(name or f"key-{digest[:8]}", name != user, len(key) < SAFE_KEY_LENGTH)
    return keys


def is_this_machine(host: str) -> bool:
    """Returns whether a host to listen on, or to ask, is reached by programs of this machine alone."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _provider_url(environ: Mapping[str, str], variable: str) -> str:
    text = environ.get(variable, "").strip()
    try:
        url = urlsplit(text)
        is_safe = url.scheme == "https" or (url.scheme == "http" and is_this_machine(url.hostname or ""))
        if not text or (is_safe and url.hostname and url.username is None and not url.fragment):
            return text
    except ValueError:
        pass
    raise ConfigurationError(f"{variable} is no https:// address (http:// is for this machine alone), without a login")


def _webhook_url(environ: Mapping[str, str], variable: str) -> str:
    url = environ.get(variable, "").strip()
    if url and not url.startswith(("https://", "http://")):
        raise ConfigurationError(f"{variable} is no address: want one that begins with https:// or http://")
    return url


def _webhook_key(environ: Mapping[str, str], variable: str) -> bytes:
    text = environ.get(variable, "").strip()
    try:
        key = base64.b64decode(text.removeprefix(WEBHOOK_SECRET), validate=True)
    except ValueError:
        key = b""
    if text and not (text.startswith(WEBHOOK_SECRET) and 24 <= len(key) <= 64):
        wish = f"{WEBHOOK_SECRET} and 24 to 64 bytes in base64: {NEW_WEBHOOK_SECRET}"
        raise ConfigurationError(f"{variable} cannot be used: want {wish}")
    return key


Secrets = Annotated[list[str], Notation(f"`a,b,...`, each of {MIN_SECRET_BYTES} bytes or more", _secrets)]
ApiKeys = Annotated[
    dict[str, ApiKey],
    Notation(
        f"`user:key,...`, keys of {MIN_KEY_LENGTH} characters or more; beyond this machine {SAFE_KEY_LENGTH}", _api_keys
    ),
]
ProviderUrl = Annotated[str, Notation("`https://` address, or `http://` on this machine", _provider_url)]
WebhookUrl = Annotated[str, Notation("address", _webhook_url)]
WebhookKey = Annotated[bytes, Notation(f"`{WEBHOOK_SECRET}` and 24 to 64 bytes in base64", _webhook_key)]
