"""Verifies JSON Web Tokens, with our own secrets or the keys of an identity provider, and reads their claims.

Which algorithms may verify a token follows from the key: a secret verifies HS256, a public key the algorithms of its
kind. What a token says of itself chooses among the keys that are configured, and nothing else: keys within a token and
addresses of keys are not looked at.
"""

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import jwt
import msgspec

from gateway.access.grants import Grants, Principal, Sub
from gateway.access.signing_keys import SigningKey, SigningKeys
from gateway.errors import Unauthorized

LEEWAY_S = 30.0
"""Seconds by which the clock of who signs tokens may be ahead of ours: a token of the next moment is good. None is good
for longer."""
MAX_KEY_ID = 256
"""Maximum characters of a key's id; a token with a longer one is refused before anybody is asked for its key."""
SECRET_ALGORITHM = "HS256"


class TokenHeader(msgspec.Struct, frozen=True):
    """The part of a token's header that chooses its key."""

    alg: str
    kid: str | None = None


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """The claims that this gateway reads. Times are seconds since 1970."""

    sub: Sub
    exp: float
    nbf: float | None = None
    iat: float | None = None
    trilane: Grants = Grants()


class TokenVerifier:
    """Turns tokens into principals; `issuer` and `audience` are what tokens must name, where they are not empty."""

    def __init__(
        self, secrets: Sequence[str], provider_keys: SigningKeys | None, issuer: str = "", audience: str = ""
    ) -> None:
        self._secrets = [SigningKey(secret, (SECRET_ALGORITHM,)) for secret in secrets]
        self._provider_keys = provider_keys
        self._issuer = issuer
        self._audience = audience

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[None]:
        if self._provider_keys is None:
            yield
        else:
            async with self._provider_keys.opened():
                yield

    async def principal_of(self, token: str) -> Principal:
        """Returns whom a token stands for. Raises Unauthorized, and Overloaded when its key cannot be had now."""
        try:
            return _principal(await self._verified(token))
        except jwt.ExpiredSignatureError as err:
            raise Unauthorized("this token has expired", code="token_expired") from err
        except (jwt.InvalidTokenError, msgspec.ValidationError, OverflowError) as err:
            raise Unauthorized("this token is not valid here") from err

    async def _verified(self, token: str) -> object:
        header = msgspec.convert(jwt.get_unverified_header(token), TokenHeader)
        issuer = self._issuer
        if header.alg == SECRET_ALGORITHM:
            keys: Sequence[SigningKey] = self._secrets
        elif self._provider_keys is not None and len(header.kid or "") <= MAX_KEY_ID:
            keys = await self._provider_keys.find(header.kid)
            issuer = issuer or self._provider_keys.issuer
        else:
            keys = ()
        return self._decode(token, keys, issuer)

    def _decode(self, token: str, keys: Sequence[SigningKey], issuer: str) -> object:
        required = ["sub", "exp", *(["iss"] if issuer else []), *(["aud"] if self._audience else [])]
        options: Any = {"require": required, "verify_iat": False, "verify_nbf": False}
        for key in keys:
            try:
                return jwt.decode(  # pyright: ignore[reportUnknownMemberType] - PyJWT leaves its key types open
                    token,
                    key.key,
                    algorithms=key.algorithms,
                    options=options,
                    issuer=issuer or None,
                    audience=self._audience or None,
                )
            except jwt.InvalidSignatureError:
                continue  # another of the keys may have signed it
        raise jwt.InvalidSignatureError("no key that is known here has signed it")


def _principal(decoded: object) -> Principal:
    claims = msgspec.convert(decoded, Claims)
    if max(claims.nbf or 0, claims.iat or 0) > time.time() + LEEWAY_S:
        raise Unauthorized("this token is not valid yet")
    return Principal(sub=claims.sub, grants=claims.trilane, expires_at=claims.exp)
