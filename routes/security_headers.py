"""Security headers: what a browser may do with an answer, said with every answer of every route.

They are encoded once. An answer that says one of them itself keeps its own: the pages have policies that let them run,
streams say who may keep them. Everything else is data, which no browser shall run, guess the type of, frame, embed in
another site, or keep. None of them hinders a page of a listed origin: what CORS allows, these do not forbid.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from gateway.access.hosts import is_local

DATA: tuple[tuple[bytes, bytes], ...] = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)
"""The headers of an answer that says nothing else."""
HTTPS_ONLY: tuple[bytes, bytes] = (b"strict-transport-security", b"max-age=31536000")
"""Has a browser use TLS for a year. It speaks for this name alone: those below it may be somebody else's."""
PAGE: Mapping[str, str] = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' data: https: http:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "microphone=(self), camera=(), display-capture=(), geolocation=(), payment=(), usb=()",
}
"""The headers of the console page.

Pictures may come from anywhere, because the reader may ask for one that a model names; the page asks for none by
itself.
"""


def document(style_hash: str) -> dict[str, str]:
    """Returns the headers of a page without scripts whose one style sheet has this SHA-256, in base64."""
    policy = (
        f"default-src 'none'; style-src 'sha256-{style_hash}'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    return {"content-security-policy": policy, "cross-origin-opener-policy": "same-origin"}


@lru_cache(256)
def _lacking(names: tuple[bytes, ...]) -> list[tuple[bytes, bytes]]:
    """Returns the headers of DATA that are not among these names."""
    return [header for header in DATA if header[0] not in names]


def completed(headers: Iterable[tuple[bytes, bytes]], scope: Mapping[str, Any]) -> list[tuple[bytes, bytes]]:
    """Returns the headers of an answer with those of DATA that it lacks, and HTTPS_ONLY where it came by TLS.

    A proxy that ends TLS must be a trusted one for that, else the scheme is not known. The names of this machine are
    left out: other servers on it share them, and speak plain HTTP.
    """
    own = [*headers]
    own += _lacking(tuple([name for name, _ in own]))
    if scope["scheme"] == "https" and not any(name == b"host" and is_local(value) for name, value in scope["headers"]):
        own.append(HTTPS_ONLY)
    return own
