"""A page and the gateway have one scheme, which behind a proxy that ends TLS only the proxy knows."""

import pytest

from gateway.access.grants import LOCAL_USER
from gateway.access.signin import COOKIE
from gateway.errors import Forbidden
from tests.gateway.access.test_signin import CLOSED, OPEN, TOKEN, principal_of


@pytest.mark.parametrize("proto", ["https", "wss", "HTTPS", "https, http", "http,https"])
def test_a_page_behind_a_proxy_that_ends_tls_is_the_gateways_own(proto: str) -> None:
    own = {"origin": "https://gw.example", "host": "gw.example", "cookie": f"{COOKIE}={TOKEN}"}
    assert principal_of(CLOSED, "POST", x_forwarded_proto=proto, **own).sub == "alice"


@pytest.mark.parametrize(
    ("origin", "scheme", "proto"),
    [
        ("https://gw.example", "http", ""),
        ("https://gw.example", "http", "http"),
        ("https://gw.example", "ws", ""),
        ("http://gw.example", "https", ""),
        ("http://gw.example", "http", "https"),
        ("http://gw.example", "ws", "wss"),
        ("ftp://gw.example", "http", ""),
        ("wss://gw.example", "https", "wss"),
    ],
)
def test_a_page_of_another_scheme_is_another_page(origin: str, scheme: str, proto: str) -> None:
    forwarded = {"x_forwarded_proto": proto} if proto else {}
    with pytest.raises(Forbidden, match="TRILANE_ALLOWED_ORIGINS"):
        principal_of(
            CLOSED, "POST", scheme=scheme, cookie=f"{COOKIE}={TOKEN}", origin=origin, host="gw.example", **forwarded
        )


@pytest.mark.parametrize("origin", ["https://127.0.0.1", "https://localhost", "https://[::1]"])
def test_without_sign_in_too_a_page_of_another_scheme_is_another_page(origin: str) -> None:
    """Behind the standard ports of one machine two servers differ by nothing else."""
    host = origin.removeprefix("https://")
    with pytest.raises(Forbidden, match="X-Forwarded-Proto"):
        principal_of(OPEN, "POST", origin=origin, host=host)
    assert principal_of(OPEN, "POST", origin=origin, host=host, x_forwarded_proto="https").sub == LOCAL_USER
