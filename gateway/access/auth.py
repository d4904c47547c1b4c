"""Authentication: turns a bearer token into a `Principal`.

API keys are compared as SHA-256 digests held in memory, so no database is on this path. No error and no log line
repeats a credential.
"""

import hmac
import time
from hashlib import sha256
from typing import Annotated, Protocol

import jwt
import msgspec

from gateway.access.grants import EVERYTHING, LOCAL_USER, OPERATOR, Grants, Principal
from gateway.errors import Unauthorized
from gateway.settings import Settings

LEEWAY_S = 30.0
"""Seconds by which the clock of who signs tokens may be ahead of ours: a token of the next moment is good. None is good
for longer."""
MAX_TOKEN_BYTES = 8192
"""Maximum bytes of a bearer token; a longer one is refused before it is hashed or parsed."""


class Beginning(msgspec.Struct, frozen=True):
    """The claims that say from when a token is good, in seconds since 1970."""

    nbf: float | None = None
    iat: float | None = None


class Authenticator(Protocol):
    """Turns a credential into a Principal. `gateway.access.signin` finds the credential in the request."""

    def authenticate(self, authorization: str | None) -> Principal:
        """Returns the principal of a header's value. Raises Unauthorized, whose detail never repeats the value."""
        ...


class OpenAuthenticator:
    """Accepts everyone on this machine as the user `local`. Used on loopback only, while no secret is configured."""

    def authenticate(self, authorization: str | None) -> Principal:
        return Principal(sub=LOCAL_USER, grants=OPERATOR)


class BearerAuthenticator:
    """Accepts `Authorization: Bearer` with an API key, or with a JWT signed with HS256."""

    def __init__(self, api_keys: dict[str, str], jwt_secret: str) -> None:
        self._api_keys = api_keys
        self._jwt_secret = jwt_secret

    def authenticate(self, authorization: str | None) -> Principal:
        scheme, _, token = (authorization or "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise Unauthorized
        if len(token) > MAX_TOKEN_BYTES:
            raise Unauthorized(f"the token is longer than {MAX_TOKEN_BYTES} bytes")
        user = self._key_user(token)
        if user is not None:
            return Principal(sub=user, grants=EVERYTHING)
        if self._jwt_secret and token.count(".") == 2:
            return self._jwt_principal(token)
        raise Unauthorized("this key is not known here")

    def _key_user(self, token: str) -> str | None:
        """Compares with every key, so that the time it takes says nothing about which one matched."""
        token_digest = sha256(token.encode()).hexdigest()
        key_user = None
        for key_digest, user in self._api_keys.items():
            if hmac.compare_digest(key_digest, token_digest):
                key_user = user
        return key_user

    def _jwt_principal(self, token: str) -> Principal:
        try:
            claims = jwt.decode(  # pyright: ignore[reportUnknownMemberType] - PyJWT leaves its key types open
                token,
                self._jwt_secret,
                algorithms=["HS256"],
                options={"require": ["sub", "exp"], "verify_iat": False, "verify_nbf": False},
            )
            begin = msgspec.convert(claims, Beginning)
            if max(begin.nbf or 0, begin.iat or 0) > time.time() + LEEWAY_S:
                raise Unauthorized("this token is not valid yet")
            return Principal(
                sub=msgspec.convert(claims["sub"], Annotated[str, msgspec.Meta(min_length=1)]),
                grants=msgspec.convert(claims.get("trilane", {}), Grants),
                expires_at=float(claims["exp"]),
            )
        except jwt.ExpiredSignatureError as err:
            raise Unauthorized("this token has expired", code="token_expired") from err
        except (jwt.InvalidTokenError, msgspec.ValidationError, OverflowError) as err:
            raise Unauthorized("this token is not valid here") from err


def authenticator(settings: Settings) -> Authenticator:
    if settings.requires_sign_in:
        return BearerAuthenticator(settings.api_keys, settings.jwt_secret)
    return OpenAuthenticator()


def mint(secret: str, sub: str, expires_at: float, grants: dict[str, list[str] | bool]) -> str:
    """Returns a signed token of ours, for `trilane token` and for tests."""
    return jwt.encode(  # pyright: ignore[reportUnknownMemberType] - as above
        {"sub": sub, "exp": int(expires_at), "trilane": grants}, secret, algorithm="HS256"
    )
