"""Who is asking. Bearer tokens in, a `Principal` out; every request has one.

Keys are compared as SHA-256 digests held in memory: no database on this path, nothing secret in a message or a log.
"""

import hmac
from hashlib import sha256
from typing import Annotated, Protocol

import jwt
import msgspec

from events.log.topics import PRESENCE, covers, user_topic
from gateway.errors import Forbidden, Unauthorized
from gateway.settings import Settings

MAX_TOKEN_BYTES = 8192
LOCAL_USER = "local"


class Grants(msgspec.Struct, frozen=True, kw_only=True):
    """The claim `trilane` of a token: what its bearer may do. A lane that is not named is allowed."""

    subscribe: list[str] = []
    publish: list[str] = []
    chat: bool = True
    audio: bool = True


EVERYTHING = Grants(subscribe=["*"], publish=["*"])
"""Of one who runs this gateway: a user of this machine, or the bearer of an API key."""


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """The one who asks: `sub` owns the topics it makes."""

    sub: str
    grants: Grants = Grants()
    expires_at: float | None = None
    """Seconds since 1970, when its token says so."""
    note: str = ""
    """What its ticket was issued for, in the words of the route that did."""

    def may_subscribe(self, topic: str) -> bool:
        """A topic or pattern; one's own topic and who follows a topic that one may read need no grant."""
        topic = topic.removeprefix(PRESENCE)
        return topic == user_topic(self.sub) or covers(self.grants.subscribe, topic)

    def may_publish(self, topic: str) -> bool:
        return covers(self.grants.publish, topic)

    def require_chat(self) -> None:
        if not self.grants.chat:
            raise Forbidden("this token does not allow the chat lane")

    def require_audio(self) -> None:
        if not self.grants.audio:
            raise Forbidden("this token does not allow the audio lane")


class Authenticator(Protocol):
    """Turns a credential into a Principal. Where in a request it is found, `gateway.access.signin` knows."""

    def authenticate(self, authorization: str | None) -> Principal:
        """Raises Unauthorized, whose detail never repeats the credential."""
        ...


class OpenAuthenticator:
    """No secret is configured: everyone on this machine is the user `local`. Only ever used on loopback."""

    def authenticate(self, authorization: str | None) -> Principal:
        return Principal(sub=LOCAL_USER, grants=EVERYTHING)


class BearerAuthenticator:
    """`Authorization: Bearer` with an API key, or with a JWT signed with HS256."""

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
        digest = sha256(token.encode()).hexdigest()
        found = None
        for known, user in self._api_keys.items():
            if hmac.compare_digest(known, digest):
                found = user
        return found

    def _jwt_principal(self, token: str) -> Principal:
        try:
            claims = jwt.decode(  # pyright: ignore[reportUnknownMemberType] - PyJWT leaves its key types open
                token, self._jwt_secret, algorithms=["HS256"], options={"require": ["sub", "exp"]}
            )
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
    if settings.authenticated:
        return BearerAuthenticator(settings.api_keys, settings.jwt_secret)
    return OpenAuthenticator()


def mint(secret: str, sub: str, expires_at: float, grants: dict[str, list[str] | bool]) -> str:
    """A token of ours, for `trilane token` and for tests."""
    return jwt.encode(  # pyright: ignore[reportUnknownMemberType] - as above
        {"sub": sub, "exp": int(expires_at), "trilane": grants}, secret, algorithm="HS256"
    )
