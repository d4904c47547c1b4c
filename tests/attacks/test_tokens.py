"""Algorithm confusion, `none` and `kid`: a token says nothing about how it is to be checked."""

import base64
import hmac
import json
import time
from hashlib import sha256
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from tests.attacks.attacker import JWT_SECRET, Attacker

pytestmark = pytest.mark.quiet

SOON = int(time.time()) + 3600
CLAIMS: dict[str, Any] = {"sub": "alice", "exp": SOON}


def part(value: Any) -> str:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def signed(header: Any, claims: Any = CLAIMS, secret: bytes = JWT_SECRET.encode()) -> str:
    """Returns a token whose signature is HMAC-SHA-256, whatever its header says."""
    text = f"{part(header)}.{part(claims)}"
    return f"{text}.{part(hmac.digest(secret, text.encode(), sha256))}"


@pytest.fixture(scope="module")
def forged() -> dict[str, str]:
    """Returns tokens by what is wrong with them: made before the attack, for an RSA key holds up all threads here."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    public = key.public_key().public_bytes(*form)
    good = jwt.encode(CLAIMS, JWT_SECRET, "HS256")
    head, claims, signature = good.split(".")
    jwk = {"kty": "oct", "k": part(b"x" * 32)}
    return {
        **{f"alg {alg!r}": f"{part({'alg': alg})}.{part(CLAIMS)}." for alg in ("none", "None", "nOnE", "", None, [])},
        **{
            f"alg {alg!r} with a signature": signed({"alg": alg})
            for alg in ("none", "HS384", "RS256", "ES256", "HS256 ")
        },
        **{f"alg {alg!r} that is no text": signed({"alg": alg}) for alg in (None, 1, ["HS256"], {"HS256": 1}, True)},
        "no alg": signed({"typ": "JWT"}),
        "a header that is no object": signed(["HS256"]),
        "signed with RSA": jwt.encode(CLAIMS, key, "RS256"),
        "signed with Ed25519": jwt.encode(CLAIMS, ed25519.Ed25519PrivateKey.generate(), "EdDSA"),
        "signed with a public key": signed({"alg": "HS256"}, secret=public),
        "signed with nothing": signed({"alg": "HS256"}, secret=b""),
        "signed with a zero": signed({"alg": "HS256"}, secret=b"\0"),
        "a key in its header": signed({"alg": "HS256", "jwk": jwk}, secret=b"x" * 32),
        **{
            f"kid {kid!r}": signed({"alg": "HS256", "kid": kid}, secret=b"")
            for kid in (
                "/dev/null",
                "../../../dev/null",
                "file:///dev/null",
                "' or 1=1 --",
                "http://127.0.0.1/k",
                "|id",
            )
        },
        **{
            name: signed({"alg": "HS256", name: "http://127.0.0.1:9/keys"}, secret=b"x" * 32)
            for name in ("jku", "x5u", "x5c", "jwks_uri")
        },
        "a header of great import": signed({"alg": "HS256", "crit": ["exp"], "exp": SOON}),
        "claims that are not encoded": signed({"alg": "HS256", "b64": False, "crit": ["b64"]}),
        "no signature": f"{head}.{claims}.",
        "half a signature": f"{head}.{claims}.{signature[:20]}",
        "another's claims": f"{head}.{part({**CLAIMS, 'sub': 'bob'})}.{signature}",
        "one more part": f"{good}.x",
        "encrypted": f"{part({'alg': 'dir', 'enc': 'A128GCM'})}...x.y",
        "for nobody": signed({"alg": "HS256"}, {"exp": SOON}),
        "for an empty name": signed({"alg": "HS256"}, {**CLAIMS, "sub": ""}),
        "for a number": signed({"alg": "HS256"}, {**CLAIMS, "sub": 1}),
        **{
            f"until {end!r}": signed({"alg": "HS256"}, {**CLAIMS, "exp": end})
            for end in (None, "never", [], True, -1, 0, "NaN", 1e400)
        },
        "not yet": signed({"alg": "HS256"}, {**CLAIMS, "nbf": SOON}),
        "rights that are none": signed({"alg": "HS256"}, {**CLAIMS, "trilane": {"operator": "yes"}}),
    }


def test_algorithm_confusion_none_and_kid(forged: dict[str, str], attacker: Attacker) -> None:
    assert attacker.ask("GET", "/api/chats", key=signed({"alg": "HS256"})).status_code == 200
    accepted = {name: attacker.ask("GET", "/api/chats", key=token).status_code for name, token in forged.items()}
    assert {name: status for name, status in accepted.items() if status != 401} == {}
