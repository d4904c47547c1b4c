"""Whom an identity provider vouches for is signed in, while that is slow, away, swaps its keys or says nonsense."""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.access import signing_keys
from gateway.access.auth import Authenticator, BearerAuthenticator, authenticator, mint
from gateway.access.identity_provider import MAX_ANSWER_BYTES, IdentityProvider
from gateway.access.signing_keys import ProviderError
from gateway.errors import Overloaded, Unauthorized
from gateway.settings import load
from tests.support.identity_provider import FakeProvider, ProviderKey, key_set

pytestmark = pytest.mark.anyio
SECRET = "f0e1d2c3b4a5968778695a4b3c2d1e0f-jwt"
KEY = ProviderKey()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with FakeProvider() as made:
        made.answer = key_set(KEY)
        yield made


@asynccontextmanager
async def opened(provider: FakeProvider, **env: str) -> AsyncGenerator[Authenticator]:
    """Yields the authenticator of a gateway that knows the provider by its key set, unless `env` says otherwise."""
    by_key_set = {} if "TRILANE_OIDC_URL" in env else {"TRILANE_JWKS_URL": f"{provider.url}/keys"}
    made = authenticator(load(by_key_set | env))
    async with made.opened():
        yield made


async def sub_of(one: Authenticator, token: str) -> str:
    return (await one.authenticate(f"Bearer {token}")).sub


def ask_again(one: Authenticator) -> None:
    """Lets an unknown key id ask the provider at once, as it does some seconds after the last time."""
    assert isinstance(one, BearerAuthenticator)
    assert one._tokens is not None
    assert one._tokens._provider_keys is not None
    one._tokens._provider_keys._next_at = 0


async def refusal(one: Authenticator, token: str) -> str:
    with pytest.raises(Unauthorized) as error:
        await one.authenticate(f"Bearer {token}")
    assert token not in error.value.detail
    return error.value.code


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256", "ES384", "EdDSA"])
async def test_a_token_of_the_provider_signs_in(provider: FakeProvider, algorithm: str) -> None:
    key = ProviderKey("k2", algorithm)
    provider.answer = key_set(key)
    async with opened(provider) as one:
        who = await one.authenticate(f"Bearer {key.token(trilane={'publish': ['a']})}")
        assert (who.sub, who.grants.publish) == ("ann", ["a"])
        assert await refusal(one, ProviderKey("k2", algorithm).token()) == "unauthorized"
        assert await refusal(one, key.token(exp=int(time.time()) - 1)) == "token_expired"
        assert await sub_of(one, key.token(iat=time.time() + 5)) == "ann"
        for claims in ({"sub": ""}, {"sub": None}, {"exp": None}, {"iat": time.time() + 60}, {"sub": "a\nb"}):
            assert await refusal(one, key.token(**claims)) == "unauthorized"


async def test_secrets_and_provider_stand_side_by_side(provider: FakeProvider) -> None:
    async with opened(provider, TRILANE_JWT_SECRET=f"{SECRET},{SECRET}2") as one:
        assert await sub_of(one, KEY.token()) == "ann"
        for secret in (SECRET, f"{SECRET}2"):
            assert await sub_of(one, mint(secret, "bob", time.time() + 60, {})) == "bob"
        assert await refusal(one, mint(f"{SECRET}3", "bob", time.time() + 60, {})) == "unauthorized"


# Rotation and outage


async def test_a_key_that_the_provider_takes_into_use_is_fetched_with_its_first_token(provider: FakeProvider) -> None:
    async with opened(provider) as one:
        await sub_of(one, KEY.token())
        ask_again(one)
        swapped = ProviderKey("k2")
        provider.answer = key_set(swapped)
        began_at = time.monotonic()
        assert await asyncio.gather(*[sub_of(one, swapped.token()) for _ in range(50)]) == ["ann"] * 50
        assert time.monotonic() - began_at < signing_keys.WAIT_S
        assert len(provider.asked) == 2
        assert await refusal(one, KEY.token()) == "unauthorized"


async def test_made_up_key_ids_ask_the_provider_no_more_often(
    provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(provider) as one:
        for number in range(100):
            assert await refusal(one, KEY.token({"kid": f"made-up-{number}"})) == "unauthorized"
        assert len(provider.asked) == 1
        monkeypatch.setattr(signing_keys, "MIN_REFRESH_S", 1e9)
        ask_again(one)
        tokens = [KEY.token({"kid": f"made-up-{number}"}) for number in range(100)]
        await asyncio.gather(*[refusal(one, token) for token in tokens])
        assert len(provider.asked) == 2


async def test_known_keys_go_on_while_the_provider_is_away_and_not_for_ever(
    provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(provider) as one:
        provider.is_away = True
        ask_again(one)
        assert await refusal(one, KEY.token({"kid": "unknown"})) == "unauthorized"
        assert len(provider.asked) == 2
        assert await sub_of(one, KEY.token()) == "ann"
        monkeypatch.setattr(signing_keys, "MAX_AGE_S", 0.0)
        with pytest.raises(Overloaded) as error:
            await one.authenticate(f"Bearer {KEY.token()}")
        assert (error.value.code, error.value.retry_after) == ("sign_in_unavailable", "5")
        monkeypatch.undo()
        provider.is_away = False
        ask_again(one)
        assert await sub_of(one, KEY.token()) == "ann"


async def test_a_gateway_starts_without_the_provider_and_says_that_it_cannot_check(provider: FakeProvider) -> None:
    provider.is_away = True
    async with opened(provider, TRILANE_JWT_SECRET=SECRET) as one:
        with pytest.raises(Overloaded):
            await one.authenticate(f"Bearer {KEY.token()}")
        assert await sub_of(one, mint(SECRET, "bob", time.time() + 60, {})) == "bob"


async def test_a_slow_provider_holds_up_nobody_for_long(
    provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signing_keys, "WAIT_S", 0.1)
    async with opened(provider) as one:
        ask_again(one)
        provider.delay_s = 30
        began_at = time.monotonic()
        waiting = asyncio.create_task(refusal(one, KEY.token({"kid": "unknown"})))
        await asyncio.sleep(0)
        assert await sub_of(one, KEY.token()) == "ann"
        assert not waiting.done()
        assert await waiting == "unauthorized"
        assert time.monotonic() - began_at < 2


# What a provider may say


def padded(size: int) -> bytes:
    return b'{"keys":[' + b" " * size + b"]}"


NONSENSE: dict[str, tuple[bytes, bytes, str]] = {
    "an error": (b"HTTP/1.1 500 No\r\n", b"", "answers 500"),
    "a page": (b"HTTP/1.1 200 OK\r\n", b"<html>sign in</html>", "no JSON Web Key Set"),
    "no keys": (b"HTTP/1.1 200 OK\r\n", b'{"keys":[]}', "none of its keys"),
    "keys of no kind": (b"HTTP/1.1 200 OK\r\n", b'{"keys":[7]}', "no JSON Web Key Set"),
    "no end": (b"HTTP/1.1 200 OK\r\n", padded(MAX_ANSWER_BYTES), "sends more than"),
    "another place": (b"HTTP/1.1 302 There\r\nlocation: http://127.0.0.1:9/\r\n", b"", "answers 302"),
    "no HTTP": (b"hello", b"", "Error"),
    "beyond Unicode": (b"HTTP/1.1 200 OK\r\n", b'{"keys":["\xff"]}', "no JSON Web Key Set"),
}


@pytest.mark.parametrize(("head", "body", "says"), NONSENSE.values(), ids=NONSENSE)
async def test_an_answer_that_is_none_changes_nothing(
    provider: FakeProvider, head: bytes, body: bytes, says: str
) -> None:
    async with opened(provider) as one:
        provider.head, provider.answer = head, body
        ask_again(one)
        assert await refusal(one, KEY.token({"kid": "unknown"})) == "unauthorized"
        assert len(provider.asked) == 2
        assert await sub_of(one, KEY.token()) == "ann"
    with pytest.raises(ProviderError, match=says):
        await IdentityProvider(f"{provider.url}/keys", "").fetch()


# Discovery


async def test_the_issuer_is_found_by_discovery_and_checked(provider: FakeProvider) -> None:
    for url in (provider.url, f"{provider.url}/.well-known/openid-configuration"):
        async with opened(provider, TRILANE_OIDC_URL=url) as one:
            assert await sub_of(one, KEY.token(iss=provider.url)) == "ann"
            for issuer in (None, "https://evil.example", f"{provider.url}/", ""):
                assert await refusal(one, KEY.token(iss=issuer)) == "unauthorized"
    assert provider.asked == ["/.well-known/openid-configuration", "/keys"] * 2


async def test_a_discovery_document_speaks_for_its_own_issuer_alone(provider: FakeProvider) -> None:
    provider.issuer = "https://evil.example"
    with pytest.raises(ProviderError, match=r"speaks for another issuer: 'https://evil\.example'"):
        await IdentityProvider("", provider.url).fetch()


async def test_a_provider_elsewhere_cannot_send_us_to_this_machine(
    provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = IdentityProvider("", "https://id.example")
    with pytest.raises(ProviderError, match="no https address"):
        await elsewhere._get(f"{provider.url}/keys")
    assert provider.asked == []


@pytest.mark.parametrize("audience", ["trilane", ["x", "trilane"]])
async def test_issuer_and_audience_are_checked_when_they_are_set(provider: FakeProvider, audience: Any) -> None:
    env = {"TRILANE_JWT_ISSUER": "https://id.example", "TRILANE_JWT_AUDIENCE": "trilane"}
    named = {"iss": "https://id.example", "aud": audience}
    async with opened(provider, TRILANE_JWT_SECRET=SECRET, **env) as one:
        assert await sub_of(one, KEY.token(**named)) == "ann"
        wrong = ({"iss": "x"}, {"aud": "x"}, {"aud": ["x"]}, {"iss": None}, {"aud": None}, {"aud": 7})
        for changes in wrong:
            assert await refusal(one, KEY.token(**(named | changes))) == "unauthorized"
        assert await refusal(one, mint(SECRET, "bob", time.time() + 60, {})) == "unauthorized"
        ours = mint(SECRET, "bob", time.time() + 60, {}, issuer="https://id.example", audience="trilane")
        assert await sub_of(one, ours) == "bob"
