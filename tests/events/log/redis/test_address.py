"""A URL says where Redis is; what is wrong with one is said without its password."""

import pytest

from events.log.redis.address import parse_address
from gateway.errors import ConfigurationError

FORMS = {
    "redis://": ("server", [("127.0.0.1", 6379)], 0),
    "redis://host": ("server", [("host", 6379)], 0),
    "redis://[::1]:7000/3": ("server", [("::1", 7000)], 3),
    "redis://host?db=2": ("server", [("host", 6379)], 2),
    "rediss://host:6380/1?ssl_ca_certs=/ca.pem": ("server", [("host", 6380)], 1),
    "unix:///run/redis.sock?db=4": ("server", [], 4),
    "redis+sentinel://a,b:1,c/main": ("sentinel", [("a", 26379), ("b", 1), ("c", 26379)], 0),
    "redis+sentinel://a/main/5": ("sentinel", [("a", 26379)], 5),
    "rediss+sentinel://a/main": ("sentinel", [("a", 26379)], 0),
    "redis+cluster://a:1,b:2": ("cluster", [("a", 1), ("b", 2)], 0),
    "rediss+cluster://a": ("cluster", [("a", 6379)], 0),
}


@pytest.mark.parametrize(("url", "form"), FORMS.items(), ids=FORMS)
def test_a_url_names_servers_and_a_database(url: str, form: tuple[object, ...]) -> None:
    address = parse_address(url)
    assert (address.kind, address.hosts, address.db) == form
    assert (address.tls is not None) == url.startswith("rediss")


def test_a_user_and_a_password_are_decoded_and_never_shown() -> None:
    address = parse_address("redis://joe:s%2Fe%40cret@host/1?sentinel_password=hush")
    assert (address.username, address.password) == ("joe", "s/e@cret")
    assert address.shown == "redis://joe@host/1"
    assert parse_address("unix://:pw@/a/b.sock").path == "/a/b.sock"
    assert parse_address("unix://:pw@/a/b.sock").password == "pw"
    assert parse_address("redis://:pw@host").username is None


def test_options_say_how_appends_are_acknowledged_and_where_keys_are() -> None:
    address = parse_address("redis://host?wait=2&wait_ms=50&prefix=staging")
    assert (address.wait_replicas, address.wait_ms, address.prefix) == (2, 50, "{staging}:")
    assert parse_address("redis://host").prefix == "{trilane}:"
    tls = parse_address("rediss://host?ssl_check_hostname=no&ssl_certfile=/c.pem").tls
    assert tls == {"ssl_check_hostname": False, "ssl_certfile": "/c.pem"}


WRONG = {
    "redis://a:hushhush@host:notaport": "host:port",
    "redis://:hush/hush@host": "percent-encoded",
    "redis://:hush#hush@host": "percent-encoded",
    "redis://host:99999": "host:port",
    "redis://host/one": "database",
    "redis://host/1/2": "redis://host:port/db",
    "redis://a,b": "redis+sentinel",
    "redis+sentinel://a": "service",
    "redis+sentinel://:hush@a/main/x": "database",
    "redis+cluster://a/3": "database 0",
    "redis://:hush@a?waitt=1": "unknown option 'waitt'",
    "redis://:hush@a?wait=many": "wait",
    "redis://:hush@a?wait=1&wait_ms=0": "wait_ms",
    "redis://:hush@a?wait=1&wait_ms=9999": "wait_ms",
    "redis://a?ssl_ca_certs=x": "rediss",
    "redis://a?prefix={x}": "prefix",
    "redis://:hush@a,redis://:hush@b": "several URLs",
    "redis+ssh://:hush@a": "want one of",
}


@pytest.mark.parametrize(("url", "words"), WRONG.items(), ids=WRONG)
def test_a_wrong_url_is_refused_by_a_sentence_without_secrets(url: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        parse_address(url)
    assert words in error.value.detail
    assert "TRILANE_LOG" in error.value.detail
    assert "hush" not in error.value.detail
