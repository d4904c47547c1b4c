"""Authentication: turns a bearer token into a `Principal`.

API keys are looked up by SHA-256 digest in memory, so no database is on this path. No error and no log line repeats a
credential. What reads tokens (`gateway.access.tokens`) is loaded only where tokens are configured: it brings
`cryptography`, which takes 9 MB.
"""

from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Protocol

from gateway.access.grants import EVERYTHING, LOCAL_USER, OPERATOR, Principal
from gateway.access.keys import KeyTable, digest_of
from gateway.errors import Unauthorized
from gateway.settings import Settings

if TYPE_CHECKING:
    from gateway.access.tokens import TokenVerifier

MAX_TOKEN_BYTES = 8192
"""Maximum bytes of a bearer token; a longer one is refused before it is hashed or parsed."""


class Authenticator(Protocol):
    """Turns a credential into a Principal. `gateway.access.signin` finds the credential in the request."""

    def opened(self) -> AbstractAsyncContextManager[None]:
        """Keeps what it has to know about issuers up to date meanwhile."""
        ...

    async def authenticate(self, authorization: str | None) -> Principal:
        """Returns the principal of a header's value. Raises Unauthorized, whose detail never repeats the value.

        Raises Overloaded where the keys that tokens are signed with cannot be had now.
        """
        ...


class OpenAuthenticator:
    """Accepts everyone on this machine as the user `local`. Used on loopback only, while no secret is configured."""

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[None]:
        yield

    async def authenticate(self, authorization: str | None) -> Principal:
        return Principal(sub=LOCAL_USER, grants=OPERATOR)


class BearerAuthenticator:
    """Accepts `Authorization: Bearer` with an API key, of the settings or a stored one, or with a JWT."""

    def __init__(
        self, principals: Mapping[str, Principal], stored_keys: KeyTable | None, tokens: "TokenVerifier | None"
    ) -> None:
        """`principals`: whom the keys of the settings stand for, by digest."""
        self._principals = principals
        self._stored_keys = stored_keys
        self._tokens = tokens

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[None]:
        if self._tokens is None:
            yield
        else:
            async with self._tokens.opened():
                yield

    async def authenticate(self, authorization: str | None) -> Principal:
        scheme, _, token = (authorization or "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise Unauthorized
        if len(token) > MAX_TOKEN_BYTES:
            raise Unauthorized(f"the token is longer than {MAX_TOKEN_BYTES} bytes")
        principal = self._key_principal(digest_of(token))
        if principal is not None:
            return principal
        if self._tokens is not None and token.count(".") == 2:
            return await self._tokens.principal_of(token)
        raise Unauthorized("this key is not known here")

    def _key_principal(self, digest: str) -> Principal | None:
        """A dict is safe to look up what a stranger sends: it compares hashes under this process's own secret first."""
        principal = self._principals.get(digest)
        if principal is None and self._stored_keys is not None:
            principal = self._stored_keys.principal_of(digest)
        return principal


def authenticator(settings: Settings, stored_keys: KeyTable | None = None) -> Authenticator:
    """Returns what signs in the callers of a gateway with these settings."""
    if not settings.requires_sign_in:
        return OpenAuthenticator()
    principals = {
        digest: Principal(sub=key.user, grants=OPERATOR if key.is_operator else EVERYTHING)
        for digest, key in settings.api_keys.items()
    }
    return BearerAuthenticator(principals, stored_keys, _token_verifier(settings) if settings.takes_tokens else None)


def _token_verifier(settings: Settings) -> "TokenVerifier":
    from gateway.access.tokens import TokenVerifier

    provider_keys = None
    if settings.jwks_url or settings.oidc_url:
        from gateway.access.identity_provider import IdentityProvider
        from gateway.access.signing_keys import SigningKeys

        provider_keys = SigningKeys(IdentityProvider(settings.jwks_url, settings.oidc_url).fetch)
    return TokenVerifier(settings.jwt_secret, provider_keys, settings.jwt_issuer, settings.jwt_audience)


def mint(
    secret: str,
    sub: str,
    expires_at: float,
    grants: Mapping[str, object],
    *,
    issuer: str = "",
    audience: str = "",
) -> str:
    """Returns a signed token of ours, for `trilane token` and for tests."""
    import jwt

    claims = {"sub": sub, "exp": int(expires_at), "trilane": grants, "iss": issuer, "aud": audience}
    return jwt.encode(  # pyright: ignore[reportUnknownMemberType] - PyJWT leaves its key types open
        {name: value for name, value in claims.items() if value != ""}, secret, algorithm="HS256"
    )
