"""Checks the name under which a request reached the gateway, against DNS rebinding.

Without sign-in everyone on this machine is the user `local`, and a browser of this machine runs pages from anywhere. A
page whose own name was made to point here reads answers as its own; only `Host`, which no page can choose, tells it
from a page of ours.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from urllib.parse import urlsplit

from gateway.errors import Forbidden
from gateway.settings import Settings

MAX_HOST_BYTES = 300
"""Maximum length of a `Host` that is looked at: a name has 253 characters at most, a port five digits."""
HOST = re.compile(r"(\[[^\[\]@]+\]|[^\[\]@:]+)(:\d*)?", re.ASCII)
"""A name or an address, then perhaps a port. What `urlsplit` takes for one may go on behind the bracket."""
ANY = "*"
"""The entry of `TRILANE_ALLOWED_HOSTS` that stands for every name."""


def names_of(settings: Settings) -> tuple[str, ...] | None:
    """Returns the names that a gateway answers to beside those of this machine; None: to any.

    That is where any is listed, and with sign-in where none is.
    """
    allowed_hosts = tuple(settings.allowed_hosts)
    is_open = ANY in allowed_hosts or (settings.requires_sign_in and not allowed_hosts)
    return None if is_open else allowed_hosts


def check_host(names: tuple[str, ...], headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Raises Forbidden when a request came under a name that is neither one of these nor one of this machine.

    A request without a `Host` is no browser's.
    """
    for name, value in headers:
        if name != b"host" or not value:
            continue
        if len(value) > MAX_HOST_BYTES or not _is_allowed(value.decode("latin-1"), names):
            excerpt = value[:80].decode("ascii", "backslashreplace")
            raise Forbidden(
                f"this gateway does not answer to the name {excerpt!r}: use localhost, or list it in "
                "TRILANE_ALLOWED_HOSTS",
                code="bad_host",
            )


def is_local(host: bytes) -> bool:
    """Returns whether a `Host` names this machine."""
    return len(host) <= MAX_HOST_BYTES and _is_allowed(host.decode("latin-1"), ())


@lru_cache
def _is_allowed(host: str, allowed_hosts: tuple[str, ...]) -> bool:
    try:
        url = urlsplit(f"//{host}")
        name, _ = url.hostname, url.port
    except ValueError:
        return False
    if name is None or url.netloc != host or not HOST.fullmatch(host):
        return False
    listed = {entry.lower() for entry in allowed_hosts}
    return is_loopback(name) or not listed.isdisjoint({name, host.lower()})


def is_loopback(name: str) -> bool:
    """Returns whether a name, in lower case and without a port, always means this machine (RFC 6761 §6.3)."""
    name = name.removesuffix(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ip_address(name)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback
