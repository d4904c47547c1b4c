"""`trilane token`: makes a JWT for one user, signed with the gateway's own secret."""

import time

from gateway.access.auth import mint
from gateway.errors import ConfigurationError
from gateway.settings import Settings


def token(settings: Settings, sub: str, grants: dict[str, list[str] | bool], ttl_s: int) -> str:
    """Returns a token that is valid for `ttl_s` seconds. Raises ConfigurationError without TRILANE_JWT_SECRET."""
    if not settings.jwt_secret:
        raise ConfigurationError("set TRILANE_JWT_SECRET first: `openssl rand -hex 32` makes one")
    issuer, audience = settings.jwt_issuer, settings.jwt_audience
    return mint(settings.jwt_secret[0], sub, time.time() + ttl_s, grants, issuer=issuer, audience=audience)
