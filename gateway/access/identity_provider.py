"""Asks an identity provider for the keys that it signs tokens with: by its key set, or by OpenID Connect discovery.

The only file of this room that reaches the network. It asks the addresses that the operator has named, and the one that
the discovery document names; it follows no redirect, and an answer is bounded in time and size.
"""

import asyncio
from urllib.parse import urlsplit

import httpx2
import msgspec

from gateway.access.hosts import is_loopback
from gateway.access.signing_keys import ProviderError, ProviderKeys, parse_keys

FETCH_S = 5.0
"""Maximum seconds for all that a refresh asks."""
MAX_ANSWER_BYTES = 524_288
DISCOVERY = "/.well-known/openid-configuration"
HEADERS = {"accept": "application/json", "accept-encoding": "identity"}


class DiscoveryDocument(msgspec.Struct, frozen=True):
    """What is read of a provider's description of itself (OpenID Connect Discovery 1.0 §3)."""

    issuer: str
    jwks_uri: str


class IdentityProvider:
    """One provider: `oidc_url` is its issuer's address; `jwks_url` that of its keys, where the other is empty."""

    def __init__(self, jwks_url: str, oidc_url: str) -> None:
        self._jwks_url = jwks_url
        self._issuer = oidc_url.removesuffix(DISCOVERY)
        host = urlsplit(jwks_url or oidc_url).hostname or ""
        self._is_local = is_loopback(host)
        self._client: httpx2.AsyncClient | None = None

    async def fetch(self) -> ProviderKeys:
        """Returns the keys that the provider has now. Raises ProviderError."""
        try:
            async with asyncio.timeout(FETCH_S):
                return await self._fetch()
        except TimeoutError as err:
            raise ProviderError(f"no answer within {FETCH_S:g} s") from err
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as err:
            raise ProviderError(f"{type(err).__name__}: {err}") from err

    async def _fetch(self) -> ProviderKeys:
        if not self._issuer:
            return ProviderKeys(parse_keys(await self._get(self._jwks_url)))
        address = self._issuer.rstrip("/") + DISCOVERY
        try:
            document = msgspec.json.decode(await self._get(address), type=DiscoveryDocument)
        except (msgspec.DecodeError, UnicodeDecodeError) as err:
            raise ProviderError(f"{address} holds no discovery document: {err}") from err
        if document.issuer.rstrip("/") != self._issuer.rstrip("/"):
            raise ProviderError(f"{address} speaks for another issuer: {document.issuer[:100]!r}")
        return ProviderKeys(parse_keys(await self._get(document.jwks_uri)), document.issuer)

    async def _get(self, url: str) -> bytes:
        parts = urlsplit(url)
        if parts.scheme != "https" and not (self._is_local and is_loopback(parts.hostname or "")):
            raise ProviderError(f"{url[:100]!r} is no https address")
        if self._client is None:  # its certificates are read once; the proxy of the environment is for other machines
            self._client = httpx2.AsyncClient(headers=HEADERS, timeout=FETCH_S, trust_env=not self._is_local)
        async with self._client.stream("GET", url, follow_redirects=False) as response:
            if response.status_code != 200:
                raise ProviderError(f"{url[:100]} answers {response.status_code}")
            body = b""
            async for part in response.aiter_raw():
                body += part
                if len(body) > MAX_ANSWER_BYTES:
                    raise ProviderError(f"{url[:100]} sends more than {MAX_ANSWER_BYTES} bytes")
        return body
