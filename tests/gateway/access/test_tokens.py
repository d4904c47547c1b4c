"""What a token says of itself cannot make it verify: the key alone decides how, and only configured keys are asked."""

import base64
import hmac
import json
import time
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import RSAAlgorithm

from gateway.access.signing_keys import ProviderError, ProviderKeys, SigningKeys, parse_keys
from gateway.access.tokens import TokenVerifier
from gateway.errors import Unauthorized
from tests.support.identity_provider import ProviderKey, key_set

pytestmark = pytest.mark.anyio
SECRET = "f0e1d2c3b4a5968778695a4b3c2d1e0f-jwt"
KEYS = {algorithm: ProviderKey(algorithm, algorithm) for algorithm in ("RS256", "ES256", "EdDSA")}
GOOD = {"sub": "mallory", "exp": int(time.time()) + 3600}
MALLORYS = ProviderKey("mallory", "RS256")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def base64url(part: Any) -> str:
    data = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(header: dict[str, Any], secret: bytes, digest: str = "sha256") -> str:
    """Returns a token that is signed as with a secret, whatever its header says."""
    message = f"{base64url({'typ': 'JWT', **header})}.{base64url(GOOD)}"
    return f"{message}.{base64url(hmac.digest(secret, message.encode(), digest))}"


async def fetch() -> ProviderKeys:
    return ProviderKeys(parse_keys(key_set(*KEYS.values())))


async def refused(token: str, secrets: tuple[str, ...] = (SECRET,)) -> bool:
    keys = SigningKeys(fetch)
    verifier = TokenVerifier(secrets, keys)
    async with verifier.opened():
        with pytest.raises(Unauthorized) as error:
            await verifier.principal_of(token)
        assert (await verifier.principal_of(KEYS["RS256"].token())).sub == "ann"
    return error.value.code == "unauthorized"


def public_texts() -> dict[str, bytes]:
    """Returns every text of the provider's public key that an attacker may use as if it were a secret."""
    public = KEYS["RS256"].private.public_key()
    formats = {"PEM": (Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), "DER": (Encoding.DER, PublicFormat.PKCS1)}
    texts = {name: public.public_bytes(*how) for name, how in formats.items()}
    modulus = KEYS["RS256"].public()["n"]
    return texts | {"JWK": json.dumps(KEYS["RS256"].public()).encode(), "n": modulus.encode(), "nothing": b""}


@pytest.mark.parametrize("text", public_texts().values(), ids=public_texts())
@pytest.mark.parametrize("alg", ["HS256", "HS512", "RS256", "hs256"])
async def test_a_public_key_is_no_secret(alg: str, text: bytes) -> None:
    token = signed({"alg": alg, "kid": "RS256"}, text, "sha512" if alg == "HS512" else "sha256")
    assert await refused(token)
    assert await refused(token, ())


@pytest.mark.parametrize(
    "alg", ["none", "None", "NONE", "nOnE", "", "HS256 ", "RS512", "ES256K", "PS384", 7, None, ["RS256"]]
)
@pytest.mark.parametrize("kid", ["RS256", None])
async def test_an_algorithm_that_no_key_has_verifies_nothing(alg: Any, kid: str | None) -> None:
    for signature in ("", base64url(b"x" * 256)):
        header = {"alg": alg, **({"kid": kid} if kid else {})}
        assert await refused(f"{base64url(header)}.{base64url(GOOD)}.{signature}")


@pytest.mark.parametrize("by", KEYS)
@pytest.mark.parametrize("named", KEYS)
async def test_a_key_verifies_no_token_under_the_name_of_another(by: str, named: str) -> None:
    assert by == named or await refused(KEYS[by].token({"kid": named}))


KEY_IDS: dict[str, Any] = {
    "a path": "../../../../dev/null",
    "SQL": "x' UNION SELECT 'secret';--",
    "an address": "http://127.0.0.1:9/keys",
    "a command": "|sleep 5",
    "NUL": "RS256\0",
    "another case": "rs256",
    "much": "k" * 5000,
    "a number": 7,
    "a list": ["RS256"],
    "an object": {"RS256": 1},
    "nothing": "",
    "null": None,
}


@pytest.mark.parametrize("kid", KEY_IDS.values(), ids=KEY_IDS)
async def test_a_key_id_is_looked_up_and_nothing_else(kid: Any) -> None:
    _, _, signature = MALLORYS.token(sub="mallory").split(".")
    assert await refused(f"{base64url({'alg': 'RS256', 'kid': kid})}.{base64url(GOOD)}.{signature}")
    assert await refused(signed({"alg": "HS256", "kid": kid}, b""))


@pytest.mark.parametrize(
    "more",
    [
        {"jwk": MALLORYS.public()},
        {"jku": "http://127.0.0.1:9/keys"},
        {"x5u": "http://127.0.0.1:9/cert"},
        {"x5c": ["MIIB"]},
        {"crit": ["exp"]},
        {"crit": ["b64"], "b64": False},
    ],
    ids=lambda more: next(iter(more)),
)
@pytest.mark.parametrize("kid", ["mallory", "RS256"])
async def test_a_token_brings_no_key_of_its_own(more: dict[str, Any], kid: str) -> None:
    assert await refused(MALLORYS.token({**more, "kid": kid}, sub="mallory"))


async def test_a_token_without_a_key_id_is_for_a_provider_with_one_key() -> None:
    one = ProviderKey("only")

    async def fetch_one() -> ProviderKeys:
        return ProviderKeys(parse_keys(key_set(one)))

    verifier = TokenVerifier((), SigningKeys(fetch_one))
    async with verifier.opened():
        assert (await verifier.principal_of(one.token({"kid": None}))).sub == "ann"
    assert await refused(KEYS["RS256"].token({"kid": None}))


# Which keys of a set are taken

SMALL = RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 1024).public_key(), as_dict=True)
EC = KEYS["ES256"]
LEFT_OUT: dict[str, dict[str, Any]] = {
    "a secret": {"kty": "oct", "k": base64url(SECRET.encode()), "kid": "k", "alg": "HS256"},
    "for encryption": EC.public(use="enc"),
    "another algorithm": EC.public(alg="HS256"),
    "no algorithm": EC.public(alg="none"),
    "an algorithm of another kind": KEYS["RS256"].public(alg="ES256"),
    "a private key": EC.public(d=base64url(b"1" * 32)),
    "a short key": {**SMALL, "kid": "k"},
    "a curve of coins": EC.public(crv="secp256k1"),
    "half a key": EC.public(y=None),
    "a point off its curve": EC.public(y=base64url(b"1" * 32)),
    "a key without a kind": EC.public(kty=None),
    "an id that is no text": EC.public(kid=7),
    "numbers for texts": EC.public(x=7),
}


@pytest.mark.parametrize("entry", LEFT_OUT.values(), ids=LEFT_OUT)
def test_a_key_that_cannot_verify_safely_is_left_out(entry: dict[str, Any]) -> None:
    assert parse_keys(key_set(entry, KEYS["RS256"])).keys() == {"RS256"}
    with pytest.raises(ProviderError, match="none of its keys"):
        parse_keys(key_set(entry))


def test_the_kind_of_a_key_says_how_it_verifies() -> None:
    keys = parse_keys(key_set(*KEYS.values(), ProviderKey("p384", "ES384")))
    assert {name: tuple(key.algorithms) for name, key in keys.items()} == {
        "RS256": ("RS256", "PS256"),
        "ES256": ("ES256",),
        "EdDSA": ("EdDSA",),
        "p384": ("ES384",),
    }
    [narrowed] = parse_keys(key_set(KEYS["RS256"].public(alg="PS256"))).values()
    assert tuple(narrowed.algorithms) == ("PS256",)
