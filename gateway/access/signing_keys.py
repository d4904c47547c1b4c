"""The public keys that an identity provider signs tokens with: kept, refreshed, and bounded in age. Asks nobody itself.

A key that nobody knows yet is asked for once, whoever waits for it, and at most every MIN_REFRESH_S, so that strangers
with made-up key ids move nothing. While the provider is away the known keys go on, for MAX_AGE_S.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, cast

import jwt
import msgspec
import structlog
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from gateway.errors import Overloaded

WAIT_S = 2.0
"""Maximum seconds that a request waits for the provider."""
MIN_REFRESH_S = 5.0
"""Minimum seconds between two questions that unknown key ids cause."""
REFRESH_S = 300.0
"""Seconds after which the keys are fetched anew; one that the provider has withdrawn is good for no longer."""
RETRY_S = 15.0
"""Seconds until the next try after one that failed."""
MAX_AGE_S = 86_400.0
"""Seconds for which keys are good while the provider cannot be asked."""
MAX_KEYS = 100
"""Maximum keys of a provider; the rest are left out."""
MIN_RSA_BITS = 2048
RSA_ALGORITHMS = ("RS256", "PS256")
CURVES = {"secp256r1": ("ES256",), "secp384r1": ("ES384",), "secp521r1": ("ES512",)}

log = structlog.get_logger("access")


class SigningKey(NamedTuple):
    """A key, and the algorithms by which it verifies: a secret as text, or a public key of `cryptography`."""

    key: Any
    algorithms: Sequence[str]


class ProviderKeys(NamedTuple):
    """A provider's keys by their ids, and the name that its tokens bear as `iss`; empty where that is not known."""

    keys: dict[str, SigningKey]
    issuer: str = ""


class ProviderError(Exception):
    """The provider's keys could not be fetched; the text says why, and holds no secret."""


class JsonWebKeySet(msgspec.Struct, frozen=True):
    """The document in which a provider lists its keys (RFC 7517 §5)."""

    keys: list[dict[str, Any]]


class SigningKeys:
    """The keys of one provider, which `fetch` asks. `clock` gives seconds of any origin."""

    def __init__(self, fetch: Callable[[], Awaitable[ProviderKeys]], clock: Callable[[], float] | None = None) -> None:
        self._fetch = fetch
        self._clock = clock or (lambda: asyncio.get_running_loop().time())
        self._known = ProviderKeys({})
        self._fetched_at = 0.0
        self._next_at = 0.0
        """The time from which on an unknown key id makes it ask again."""
        self._refresh: asyncio.Task[bool] | None = None

    @property
    def issuer(self) -> str:
        return self._known.issuer

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[None]:
        """Refreshes the keys every REFRESH_S meanwhile; waits for the first a moment, and goes on without them."""
        await self._refreshed()
        task = asyncio.get_running_loop().create_task(self._refresh_always())
        try:
            yield
        finally:
            task.cancel()
            if self._refresh is not None:
                self._refresh.cancel()

    async def find(self, key_id: str | None) -> Sequence[SigningKey]:
        """Returns the keys that may have signed a token: the one of that id; without an id, the provider's only one.

        Raises Overloaded while there are no keys, because the provider has not answered for too long.
        """
        keys = self._matches(key_id)
        if not keys and self._clock() >= self._next_at:
            await self._refreshed()
            keys = self._matches(key_id)
        if not self._known.keys:
            detail = "the keys of the identity provider cannot be fetched now, so no token can be checked"
            raise Overloaded(detail, code="sign_in_unavailable", retry_after=f"{MIN_REFRESH_S:g}")
        return keys

    def _matches(self, key_id: str | None) -> Sequence[SigningKey]:
        keys = self._known.keys
        if keys and self._clock() - self._fetched_at > MAX_AGE_S:
            log.error("no token is accepted: the identity provider has been away for too long", max_age_s=MAX_AGE_S)
            self._known = ProviderKeys({}, self._known.issuer)
            return ()
        if key_id is None:
            return tuple(keys.values()) if len(keys) == 1 else ()
        return (keys[key_id],) if key_id in keys else ()

    async def _refreshed(self) -> None:
        """Waits for the refresh that is under way, or a new one, for WAIT_S at most."""
        if self._refresh is None or self._refresh.done():
            self._refresh = asyncio.get_running_loop().create_task(self._fetch_keys())
        await asyncio.wait((self._refresh,), timeout=WAIT_S)

    async def _fetch_keys(self) -> bool:
        """Fetches the keys, and returns whether that was possible."""
        self._next_at = self._clock() + MIN_REFRESH_S
        try:
            fetched = await self._fetch()
        except ProviderError as err:
            known, age_s = len(self._known.keys), round(self._clock() - self._fetched_at)
            log.warning("the identity provider cannot be asked", reason=str(err), known_keys=known, age_s=age_s)
            return False
        if fetched.keys.keys() != self._known.keys.keys():
            log.info("the identity provider has other keys", keys=len(fetched.keys), issuer=fetched.issuer)
        self._known = fetched
        self._fetched_at = self._clock()
        return True

    async def _refresh_always(self) -> None:
        while True:
            refresh = self._refresh
            has_failed = refresh is not None and refresh.done() and (refresh.exception() or not refresh.result())
            await asyncio.sleep(RETRY_S if has_failed else REFRESH_S * random.uniform(0.8, 1))
            await self._refreshed()


def parse_keys(body: bytes) -> dict[str, SigningKey]:
    """Returns the keys of a JSON Web Key Set that can verify tokens, by id. Raises ProviderError.

    Those of other uses and kinds are left out: a provider may list some for purposes of its own.
    """
    try:
        listed = msgspec.json.decode(body, type=JsonWebKeySet).keys[:MAX_KEYS]
    except (msgspec.DecodeError, UnicodeDecodeError) as err:
        raise ProviderError(f"its answer is no JSON Web Key Set: {err}") from err
    keys: dict[str, SigningKey] = {}
    for fields in listed:
        key_id, key = fields.get("kid", ""), _signing_key(fields)
        if key is not None and isinstance(key_id, str):
            keys.setdefault(key_id, key)
    if not keys:
        raise ProviderError("none of its keys can verify tokens")
    return keys


def _signing_key(fields: dict[str, Any]) -> SigningKey | None:
    if fields.get("use", "sig") != "sig" or fields.get("kty") not in ("RSA", "EC", "OKP"):
        return None
    try:
        # PyJWT leaves the type of its keys open.
        key = cast("object", jwt.PyJWK({**fields, "alg": None}).key)  # pyright: ignore[reportUnknownMemberType]
    except (jwt.PyJWTError, UnsupportedAlgorithm, ValueError, TypeError):
        return None
    algorithms, named = _algorithms(key), fields.get("alg")
    if named is not None:
        algorithms = tuple(algorithm for algorithm in algorithms if algorithm == named)
    return SigningKey(key, algorithms) if algorithms else None


def _algorithms(key: object) -> Sequence[str]:
    """Returns the algorithms by which a public key verifies; none for a key that is too weak, or of another kind."""
    match key:
        case RSAPublicKey():
            return RSA_ALGORITHMS if key.key_size >= MIN_RSA_BITS else ()
        case EllipticCurvePublicKey():
            return CURVES.get(key.curve.name, ())
        case Ed25519PublicKey():
            return ("EdDSA",)
        case _:
            return ()
