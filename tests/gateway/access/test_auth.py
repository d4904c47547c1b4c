"""Keys and tokens sign their user in, and every way to try without them fails."""

import asyncio
import base64
import hmac
import json
import time
from typing import Any

import pytest

from gateway.access.auth import (
    MAX_TOKEN_BYTES,
    Authenticator,
    BearerAuthenticator,
    OpenAuthenticator,
    authenticator,
    mint,
)
from gateway.access.grants import EVERYTHING, LOCAL_USER, GrantedLimits, Grants, Principal
from gateway.errors import Forbidden, Unauthorized
from gateway.settings import Settings, load

SECRET = "a secret of the operator, long enough to be one"
KEY = "key-of-alice-0123456789"
LATER = int(time.time()) + 3600


def base64url(part: Any) -> str:
    text = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def token(claims: Any, header: dict[str, Any] | None = None, secret: str = SECRET, digest: str = "sha256") -> str:
    """Returns a JWT that is signed by hand, so that it may be anything."""
    message = f"{base64url(header or {'alg': 'HS256', 'typ': 'JWT'})}.{base64url(claims)}"
    return f"{message}.{base64url(hmac.digest(secret.encode(), message.encode(), digest))}"


def bearer() -> BearerAuthenticator:
    result = authenticator(load({"TRILANE_JWT_SECRET": SECRET, "TRILANE_API_KEYS": f"alice:{KEY}"}))
    assert isinstance(result, BearerAuthenticator)
    return result


def authenticate(by: Authenticator, authorization: str | None) -> Principal:
    return asyncio.run(by.authenticate(authorization))


def ask(credential: str) -> Principal:
    return authenticate(bearer(), f"Bearer {credential}")


# Signed in


def test_a_key_is_its_user() -> None:
    assert ask(KEY) == Principal(sub="alice", grants=EVERYTHING)


@pytest.mark.parametrize("form", [f"Bearer {KEY}", f"bearer {KEY}", f"BEARER   {KEY} "])
def test_the_scheme_may_be_written_in_any_case(form: str) -> None:
    assert authenticate(bearer(), form).sub == "alice"


def test_a_token_says_who_until_when_and_what() -> None:
    grants = {"subscribe": ["team/*"], "publish": [], "chat": True, "audio": False}
    who = ask(token({"sub": "bob", "exp": LATER, "trilane": grants}))
    assert who == Principal(sub="bob", grants=Grants(subscribe=["team/*"], audio=False), expires_at=LATER)
    who.require_chat()


def test_a_token_may_carry_limits_of_its_own() -> None:
    who = ask(token({"sub": "bob", "exp": LATER, "trilane": {"limits": {"runs": 2, "monthly_cost": 1.5}}}))
    assert who.grants.limits == GrantedLimits(runs=2, monthly_cost=1.5)


@pytest.mark.parametrize("limits", [{"runns": 2}, {"runs": -1}, {"runs": "2"}, {"streams": 1.5}, ["runs"]])
def test_a_token_whose_limits_would_limit_nothing_is_refused(limits: Any) -> None:
    with pytest.raises(Unauthorized):
        ask(token({"sub": "bob", "exp": LATER, "trilane": {"limits": limits}}))


def test_a_token_without_grants_may_use_every_lane() -> None:
    assert ask(token({"sub": "bob", "exp": LATER})).grants == Grants()


@pytest.mark.parametrize("claim", ["iat", "nbf"])
@pytest.mark.parametrize("ahead_s", [-3600, 0, 2, 25.5, None])
def test_the_clock_of_who_signs_may_be_a_little_ahead(claim: str, ahead_s: float | None) -> None:
    begin = None if ahead_s is None else time.time() + ahead_s
    assert ask(token({"sub": "bob", "exp": LATER, claim: begin})).sub == "bob"


def test_a_token_is_good_no_moment_longer_for_that() -> None:
    with pytest.raises(Unauthorized, match="expired"):
        ask(token({"sub": "bob", "exp": time.time() - 1}))


def test_a_token_that_does_not_allow_the_lane_is_forbidden() -> None:
    with pytest.raises(Forbidden):
        ask(token({"sub": "bob", "exp": LATER, "trilane": {"chat": False}})).require_chat()


def test_a_token_that_we_mint_signs_in() -> None:
    who = ask(mint(SECRET, "carol", LATER, {"publish": ["a"], "chat": False}))
    assert (who.sub, who.grants.publish, who.grants.chat, who.expires_at) == ("carol", ["a"], False, LATER)


def test_without_a_secret_everyone_is_local() -> None:
    open_to_all = authenticator(Settings())
    assert isinstance(open_to_all, OpenAuthenticator)
    for credential in (None, "", "Bearer x", f"Bearer {KEY}"):
        assert authenticate(open_to_all, credential).sub == LOCAL_USER


# Not signed in

GOOD = {"sub": "mallory", "exp": LATER}
HS256 = {"alg": "HS256", "typ": "JWT"}

FORGED: dict[str, str] = {
    "another secret": token(GOOD, secret="another secret, as long as it should be"),
    "no secret": token(GOOD, secret=""),
    "alg none": f"{base64url({'alg': 'none'})}.{base64url(GOOD)}.",
    "alg None": f"{base64url({'alg': 'None'})}.{base64url(GOOD)}.",
    "alg none with a signature": token(GOOD, {"alg": "none"}),
    "no alg": token(GOOD, {"typ": "JWT"}),
    "alg RS256 signed with the secret": token(GOOD, {"alg": "RS256"}),
    "alg ES256": token(GOOD, {"alg": "ES256"}),
    "alg HS512": token(GOOD, {"alg": "HS512"}, digest="sha512"),
    "alg in lower case": token(GOOD, {"alg": "hs256"}),
    "alg that is no text": token(GOOD, {"alg": ["HS256"]}),
    "its own key in the header": token(GOOD, {**HS256, "jwk": {"kty": "oct", "k": base64url(b"x")}}, secret="x"),
    "a key by path": token(GOOD, {**HS256, "kid": "../../dev/null"}, secret=""),
    "an unknown critical header": token(GOOD, {**HS256, "crit": ["exp"]}),
    "the signature left out": token(GOOD).rpartition(".")[0] + ".",
    "the signature of another": token(GOOD).rpartition(".")[0]
    + "."
    + token({"sub": "bob", "exp": LATER}).split(".")[2],
    "changed claims": f"{base64url(HS256)}.{base64url({'sub': 'admin', 'exp': LATER})}.{token(GOOD).split('.')[2]}",
}

CLAIMS: dict[str, Any] = {
    "no sub": {"exp": LATER},
    "no exp": {"sub": "bob"},
    "nothing": {},
    "sub is a number": {"sub": 7, "exp": LATER},
    "sub is null": {"sub": None, "exp": LATER},
    "sub is a list": {"sub": ["alice"], "exp": LATER},
    "exp is text": {"sub": "bob", "exp": "tomorrow"},
    "exp is null": {"sub": "bob", "exp": None},
    "exp is a list": {"sub": "bob", "exp": [LATER]},
    "not before later": {"sub": "bob", "exp": LATER, "nbf": LATER},
    "issued later": {"sub": "bob", "exp": LATER, "iat": LATER},
    "iat is text": {"sub": "bob", "exp": LATER, "iat": "now"},
    "nbf is a list": {"sub": "bob", "exp": LATER, "nbf": [1]},
    "nbf is true": {"sub": "bob", "exp": LATER, "nbf": True},
    "for another audience": {"sub": "bob", "exp": LATER, "aud": "another service"},
    "grants are a list": {"sub": "bob", "exp": LATER, "trilane": []},
    "a grant is text": {"sub": "bob", "exp": LATER, "trilane": {"chat": "yes"}},
    "patterns are text": {"sub": "bob", "exp": LATER, "trilane": {"subscribe": "*"}},
    "claims are a list": [],
    "claims are no JSON": b"{",
    "claims are no text": b"\xff\xfe",
}

NONSENSE: dict[str, str] = {
    "a word": "hello",
    "two dots": "..",
    "three parts": "a.b.c",
    "four parts": token(GOOD) + ".x",
    "not base64": "!!!.???.***",
    "beyond ASCII": "\u00fc.\u00fc.\u00fc",
    "almost the key": KEY[:-1],
    "the key and more": KEY + "x",
    "the key in upper case": KEY.upper(),
    "two keys": f"{KEY} {KEY}",
    "the digest of the key": next(iter(load({"TRILANE_API_KEYS": f"alice:{KEY}"}).api_keys)),
    "the secret": SECRET,
    "NUL": f"{KEY}\0",
}


def refusal(authorization: str | None) -> Unauthorized:
    with pytest.raises(Unauthorized) as error:
        authenticate(bearer(), authorization)
    assert error.value.status == 401
    return error.value


def log_text(error: BaseException | None) -> str:
    """Returns everything that a log would show of an error and of its causes."""
    return f"{error} {getattr(error, 'detail', '')} {log_text(error.__cause__)}" if error else ""


@pytest.mark.parametrize("credential", [*FORGED.values(), *NONSENSE.values()], ids=[*FORGED, *NONSENSE])
def test_a_credential_that_nobody_issued_signs_nobody_in(credential: str) -> None:
    error = refusal(f"Bearer {credential}")
    assert error.code == "unauthorized"
    assert credential not in log_text(error)
    assert len(error.detail) < 100


@pytest.mark.parametrize("claims", CLAIMS.values(), ids=CLAIMS.keys())
def test_a_token_that_says_too_little_or_nonsense_is_refused(claims: Any) -> None:
    credential = token(claims)
    error = refusal(f"Bearer {credential}")
    assert error.code == "unauthorized"
    assert credential not in log_text(error)


def test_a_token_that_has_expired_says_so() -> None:
    now = time.time()
    for exp in (0, -1, int(now) - 1, now - 0.5):
        assert refusal(f"Bearer {token({'sub': 'bob', 'exp': exp})}").code == "token_expired"


def test_a_forged_token_is_not_called_expired() -> None:
    """Otherwise a stranger would learn that its signature was right, or be sent to fetch a new one."""
    assert refusal(f"Bearer {token({'sub': 'bob', 'exp': 0}, secret='x' * 40)}").code == "unauthorized"


def test_a_token_of_nobody_is_refused() -> None:
    refusal(f"Bearer {token({'sub': '', 'exp': LATER})}")


@pytest.mark.parametrize("exp", ["1e400", "1" + "0" * 400])
def test_an_end_of_time_is_refused(exp: str) -> None:
    claims = f'{{"sub":"bob","exp":{exp}}}'
    refusal(f"Bearer {token(claims.encode())}")


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        f"Basic {KEY}",
        f"Token {KEY}",
        KEY,
        f"Bearer\t{KEY}",
        f"Bearer,{KEY}",
        f" Bearer {KEY}",
    ],
)
def test_a_request_without_a_credential_is_told_what_to_send(authorization: str | None) -> None:
    assert "Authorization: Bearer" in refusal(authorization).detail


def test_a_huge_token_is_refused_before_it_is_looked_at() -> None:
    detail = refusal("Bearer " + token({"sub": "b" * 20_000, "exp": LATER})).detail
    assert str(MAX_TOKEN_BYTES) in detail
    assert ask(token({"sub": "bob", "exp": LATER, "name": "b" * 4000})).sub == "bob"


def test_keys_alone_take_no_tokens() -> None:
    """An empty secret is no secret that a token could be signed with."""
    keys_only = authenticator(load({"TRILANE_API_KEYS": f"alice:{KEY}"}))
    for secret in ("", SECRET):
        with pytest.raises(Unauthorized):
            authenticate(keys_only, f"Bearer {token(GOOD, secret=secret)}")
    assert authenticate(keys_only, f"Bearer {KEY}").sub == "alice"


def test_a_secret_alone_takes_no_keys() -> None:
    with pytest.raises(Unauthorized):
        authenticate(authenticator(load({"TRILANE_JWT_SECRET": SECRET})), f"Bearer {KEY}")
