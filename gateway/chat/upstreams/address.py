"""An upstream's address and headers, as its settings give them; every request to it begins with them.

A base URL may have a path, a query (`?api-version=...`, which then comes behind `/chat/completions` and `/models`) and
a login. What cannot be sent is refused at start, in a sentence that repeats no secret.
"""

import base64
import re

import httpx2

from gateway.errors import ConfigurationError
from gateway.upstream_settings import UpstreamSettings

COMPLETIONS = "/chat/completions"
ANTHROPIC_VERSION = "2023-06-01"
MODELS = "/models"
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
HEADER_VALUE = re.compile(r"[\t\x20-\x7e]*")
MIN_SECRET = 16
"""Minimum characters of a header's value that is taken for a secret."""
NOT_OURS_TO_GIVE = ("content-length", "transfer-encoding", "accept-encoding", "connection", "content-type", "accept")
"""Headers that each request sets by itself."""


class UpstreamAddress:
    """Where one upstream is, and what is sent along."""

    def __init__(self, settings: UpstreamSettings) -> None:
        """Raises ConfigurationError for what cannot be an address, a key or a header."""
        self._name, self._api_key = settings.name, settings.api_key
        url = self._url = self._read(settings.base_url)
        path, self.query = url.raw_path.decode().partition("?")[0], url.query.decode()
        self.base_url = url.copy_with(
            raw_path=path.rstrip("/").removesuffix(COMPLETIONS).encode() or b"/", fragment=None
        )
        self.login = url.userinfo
        self.headers = {"user-agent": "trilane", **self._key(settings)}
        if settings.wire == "messages":
            self.headers |= {"anthropic-version": ANTHROPIC_VERSION}
        for name, value in settings.headers.items():
            self._check(name, value)
            self.headers[name.lower()] = value

    def url(self, path: str) -> httpx2.URL:
        """Returns the URL of an endpoint, such as `/chat/completions`."""
        raw_path = self.base_url.raw_path.rstrip(b"/") + path.encode()
        return self.base_url.copy_with(raw_path=raw_path + (f"?{self.query}".encode() if self.query else b""))

    @property
    def own_url(self) -> httpx2.URL:
        """Returns the URL of an agent, which is asked at its address itself."""
        return self._url.copy_with(fragment=None)

    @property
    def secrets(self) -> list[str]:
        """Returns what an error must not repeat: a long value of a header may be a key too."""
        values = [value for name, value in self.headers.items() if name != "user-agent" and len(value) >= MIN_SECRET]
        return [self._api_key, *values, *(value.partition(" ")[2] for value in values)]

    @property
    def shown(self) -> str:
        """Returns the base URL without what may be a secret."""
        return f"{self.base_url.copy_with(userinfo=b'')}{'?…' if self.query else ''}"

    def _read(self, base_url: str) -> httpx2.URL:
        try:
            url = httpx2.URL(base_url.strip())
        except (httpx2.InvalidURL, ValueError):
            url = httpx2.URL()
        if url.scheme not in ("http", "https") or not url.host:
            shown = f", {base_url[:80]!r}," if "@" not in base_url and "?" not in base_url else ""
            raise ConfigurationError(
                f"upstream {self._name!r}: its `base_url` (or OPENAI_BASE_URL){shown} is no address: "
                "want http://host/v1 or https://host/v1"
            )
        return url

    def _key(self, settings: UpstreamSettings) -> dict[str, str]:
        if not HEADER_VALUE.fullmatch(settings.api_key):
            raise ConfigurationError(
                f"upstream {self._name!r}: its `api_key` (or OPENAI_API_KEY) has characters that no header can hold"
            )
        if self.login:
            if settings.api_key and not settings.key_header:
                raise ConfigurationError(
                    f"upstream {self._name!r} has a login in its base URL and a key, both for `Authorization`: "
                    "leave one out, or set `key_header`"
                )
            login = f"{self.base_url.username}:{self.base_url.password}".encode()
            basic = {"authorization": f"Basic {base64.b64encode(login).decode()}"}
        else:
            basic = {}
        if not settings.key_header and settings.wire == "messages":
            return {**basic, "x-api-key": settings.api_key or "none"}
        if not settings.key_header:
            return basic or {"authorization": f"Bearer {settings.api_key or 'none'}"}
        if not settings.api_key:
            raise ConfigurationError(f"upstream {self._name!r} has a `key_header` and no key to send in it")
        self._check(settings.key_header, settings.api_key)
        bearer = "Bearer " if settings.key_header.lower() == "authorization" else ""
        return {**basic, settings.key_header.lower(): bearer + settings.api_key}

    def _check(self, name: str, value: str) -> None:
        if not HEADER_NAME.fullmatch(name):
            raise ConfigurationError(f"upstream {self._name!r}: {name[:40]!r} cannot be the name of a header")
        if name.lower() in NOT_OURS_TO_GIVE:
            raise ConfigurationError(f"upstream {self._name!r}: the header {name!r} is set by the gateway itself")
        if not HEADER_VALUE.fullmatch(value):
            raise ConfigurationError(
                f"upstream {self._name!r}: the value of {name!r} has characters that no header can hold"
            )
