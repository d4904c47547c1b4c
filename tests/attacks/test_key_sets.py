"""Outage and swap of the keys that an identity provider signs with, and keys that are none of its own."""

import base64
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import jwt
import pytest
from cryptography.hazmat.primitives import serialization

from gateway.access.signing_keys import MIN_REFRESH_S
from tests.attacks.attacker import Attacker
from tests.conftest import Gateway, UpstreamThread, eventually, serving
from tests.support.bystander import Bystander
from tests.support.identity_provider import FakeProvider, ProviderKey, key_set

pytestmark = pytest.mark.quiet

FLOOD_S = 3.0


@pytest.fixture(scope="module")
def provider() -> Iterator[FakeProvider]:
    with FakeProvider() as made:
        yield made


@pytest.fixture(scope="module")
def key(provider: FakeProvider) -> ProviderKey:
    made = ProviderKey("k1")
    provider.answer = key_set(made)
    return made


@pytest.fixture(scope="module")
def gateway(
    provider: FakeProvider, key: ProviderKey, upstream: UpstreamThread, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    folder, env = tmp_path_factory.mktemp("keys"), {"TRILANE_JWKS_URL": f"{provider.url}/keys"}
    server = serving(folder, upstream.url, **env)
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture
def forger(gateway: Gateway) -> Iterator[Attacker]:
    with Bystander(gateway), Attacker(gateway, "127.0.0.95") as made:
        yield made
    assert "Traceback" not in gateway.stderr(), gateway.stderr()[-3000:]


def status(forger: Attacker, token: str) -> int:
    return forger.ask("GET", "/api/chats", key=token).status_code


@pytest.mark.parametrize("is_away", [True, False], ids=["hangs up", "says nothing"])
def test_jwks_outage(forger: Attacker, provider: FakeProvider, key: ProviderKey, is_away: bool) -> None:
    """Tokens with made-up key ids neither reach the provider each, nor keep a good one waiting."""
    provider.is_away, provider.delay_s = is_away, 0 if is_away else 30
    asked, until = len(provider.asked), time.monotonic() + FLOOD_S

    def flood(number: int) -> set[int]:
        statuses: set[int] = set()
        with Attacker(forger.gateway, f"127.0.0.{96 + number}") as one:
            while time.monotonic() < until:
                statuses.add(status(one, key.token({"kid": f"made-up-{time.monotonic_ns()}"})))
        return statuses

    try:
        with ThreadPoolExecutor(4) as pool:
            floods = [pool.submit(flood, number) for number in range(4)]
            waits_s: list[float] = []
            while time.monotonic() < until:
                began = time.monotonic()
                assert status(forger, key.token()) == 200
                waits_s.append(time.monotonic() - began)
        assert {code for flood in floods for code in flood.result()} == {401}
        assert len(provider.asked) - asked <= 1 + FLOOD_S / MIN_REFRESH_S
        assert sorted(waits_s)[len(waits_s) // 2] < 0.1
    finally:
        provider.is_away, provider.delay_s = False, 0.0


def test_jwks_key_swap(forger: Attacker, provider: FakeProvider, key: ProviderKey) -> None:
    """A key that the provider has withdrawn is worth nothing once its set was fetched, nor is one of its old name."""
    forged, new = ProviderKey("k1"), ProviderKey("k2", "EdDSA")
    assert status(forger, key.token()) == 200
    assert status(forger, forged.token()) == 401
    provider.answer = key_set(new)
    eventually(lambda: status(forger, new.token()) == 200, 3 * MIN_REFRESH_S, "the new key is known", every_s=0.2)
    assert status(forger, key.token()) == 401
    provider.answer = key_set(ProviderKey("k2"), key)  # the same name, another key and kind
    eventually(lambda: status(forger, key.token()) == 200, 3 * MIN_REFRESH_S, "the old key is back", every_s=0.2)
    assert status(forger, new.token()) == 401


def test_a_key_that_is_not_the_providers(forger: Attacker, provider: FakeProvider, key: ProviderKey) -> None:
    own, secret = ProviderKey("own"), b"s" * 32
    shared = {"kty": "oct", "kid": "shared", "alg": "HS256", "k": base64.urlsafe_b64encode(secret).decode().rstrip("=")}
    provider.answer = key_set(key, shared, own.public(use="enc"))
    claims = {"sub": "ann", "exp": int(time.time()) + 60}
    public = key.private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    forged = {
        "a shared key of the set": jwt.encode(claims, secret, "HS256", {"kid": "shared"}),
        "a key for something else": own.token(),
        "a key in the token": own.token({"jwk": own.public(), "kid": "k1"}),
        "an address in the token": own.token({"jku": f"{provider.url}/own", "x5u": f"{provider.url}/own"}),
        "the public key as a secret": jwt.api_jws.PyJWS().encode(
            b"{}", "", algorithm="none", headers={"kid": "k1", "alg": "none"}
        ),
        "no key id": own.token({"kid": None}),
        "another algorithm": ProviderKey("k1", "RS256").token(),
        "a signature of nothing": key.token().rpartition(".")[0] + ".",
    }
    hmac_key = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    text = ".".join(jwt.encode(claims, secret, "HS256", {"kid": "k1"}).split(".")[:2])
    signature = base64.urlsafe_b64encode(hmac_key.sign(text.encode(), public)).decode().rstrip("=")
    forged["the public key as a secret, signed"] = f"{text}.{signature}"
    assert status(forger, key.token()) == 200
    assert {name: status(forger, token) for name, token in forged.items() if status(forger, token) != 401} == {}
    assert f"{provider.url}/own" not in provider.asked
