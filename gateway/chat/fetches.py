"""Says which addresses a client may have a model's server fetch: pictures, films, documents. Pure.

The gateway fetches nothing itself, but a server of the operator's own would: from a file of its disk, a neighbour in
its network, or the address at which a cloud hands out credentials. So an address needs a scheme that is allowed and a
host of the open internet, unless the operator lists its beginning. What a name resolves to is that server's to check.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address
from typing import Any, cast
from urllib.parse import SplitResult, urlsplit

from gateway.errors import BadRequest

DEFAULT = ("https",)
MAX_DEPTH = 4
"""Levels of a content part in which addresses are looked for; servers read them on the second."""
FIELDS = re.compile(r"(?:.*_)?(?:url|uri)", re.IGNORECASE)
"""Names of the fields of a content part that hold an address, by itself or as the `url` of an object."""
CITED = "annotations"
"""Name of the field with what an answer has cited, which nobody fetches."""
SCHEME = re.compile(r"\s*([A-Za-z][A-Za-z0-9+.-]*):")
UNSAFE = re.compile(r"[\x00-\x20\x7f\\]")
"""Characters that two readers of one address take differently."""
PRIVATE_NAMES = (".localhost", ".local", ".internal", ".lan", ".home.arpa")
NUMBER = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)(?:\.(?:0x[0-9a-f]*|[0-9]+))*\.?", re.IGNORECASE)
"""Hosts that some resolvers take for an IPv4 address: `2130706433` is `127.0.0.1`."""


def check_fetches(messages: Iterable[object], allowed: Sequence[str]) -> None:
    """Raises BadRequest, which names the address, for messages that would have a server fetch what is not `allowed`.

    An entry of `allowed` is a scheme, such as `https`, or the beginning of an address, such as `http://media:8080/a/`;
    none at all means `https`.
    """
    for message in messages:
        content = cast("Mapping[str, object]", message).get("content") if isinstance(message, Mapping) else None
        for part in cast("list[object]", content) if isinstance(content, list) else ():
            for address in _addresses(part, MAX_DEPTH):
                check_fetch(address, allowed)


def check_fetch(address: str, allowed: Sequence[str]) -> None:
    """Raises BadRequest for an address that is not allowed, as `check_fetches` does for all of some messages."""
    if not _is_allowed(address, allowed or DEFAULT):
        shown = address[:80].encode("ascii", "backslashreplace").decode()
        raise BadRequest(
            f"models may not fetch {shown!r} for you: send the file itself as a data: URL, or have the operator list "
            "its beginning in TRILANE_ALLOWED_FETCHES",
            code="address_refused",
        )


def _addresses(value: Any, depth: int, *, is_address: bool = False) -> Iterable[str]:
    if isinstance(value, str):
        if is_address:
            yield value
    elif depth and isinstance(value, dict):
        for name, one in cast("dict[str, object]", value).items():
            is_file = name == "file_data" and isinstance(one, str) and SCHEME.match(one) is not None  # else base64
            if name != CITED:
                yield from _addresses(one, depth - 1, is_address=is_file or FIELDS.fullmatch(name) is not None)
    elif depth and isinstance(value, list):
        for one in cast("list[object]", value):
            yield from _addresses(one, depth - 1, is_address=is_address)


def _is_allowed(address: str, allowed: Sequence[str]) -> bool:
    scheme = SCHEME.match(address)
    if scheme is None:
        return False
    if scheme[1].lower() == "data":
        return True
    try:
        url = urlsplit(address)
        _ = url.port
    except ValueError:
        return False
    if UNSAFE.search(address) or url.username is not None or not url.hostname:
        return False
    if any(_begins(url, entry) for entry in allowed if "://" in entry):
        return True
    return url.scheme in allowed and _is_public(url.hostname)


def _begins(url: SplitResult, entry: str) -> bool:
    listed = urlsplit(entry)
    is_same_site = (url.scheme, url.hostname, url.port) == (listed.scheme, listed.hostname, listed.port)
    return is_same_site and url.path.startswith(listed.path) and "/.." not in url.path and "%" not in url.path


def _is_public(host: str) -> bool:
    name = host.rstrip(".").lower()
    try:
        return ip_address(name).is_global
    except ValueError:
        is_name = "." in name and not NUMBER.fullmatch(host) and ":" not in name
        return is_name and not name.endswith(PRIVATE_NAMES)
