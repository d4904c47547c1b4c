"""Which proxy stands before which upstream: tables of what networks set."""

import httpx2
import pytest

from gateway.chat.upstreams.proxies import proxy_to
from gateway.errors import ConfigurationError
from gateway.settings import load
from gateway.upstream_settings import Network

PROXY = "http://proxy:3128"


@pytest.mark.parametrize(
    ("environ", "url", "name"),
    [
        ({}, "https://api.example/v1", None),
        ({"HTTPS_PROXY": PROXY}, "https://api.example/v1", "the proxy proxy:3128 (HTTPS_PROXY)"),
        ({"HTTPS_PROXY": PROXY}, "http://api.example/v1", None),
        ({"HTTP_PROXY": PROXY}, "http://127.0.0.1:11434/v1", "the proxy proxy:3128 (HTTP_PROXY)"),
        ({"HTTP_PROXY": PROXY}, "https://api.example/v1", None),
        ({"ALL_PROXY": PROXY}, "https://api.example/v1", "the proxy proxy:3128 (ALL_PROXY)"),
        ({"ALL_PROXY": "a:1", "http_proxy": "b:2"}, "http://x", "the proxy b:2 (HTTP_PROXY)"),
        ({"HTTPS_PROXY": "upper:1", "https_proxy": "lower:2"}, "https://x", "the proxy lower:2 (HTTPS_PROXY)"),
        ({"HTTPS_PROXY": "upper:1", "https_proxy": ""}, "https://x", None),
        ({"HTTPS_PROXY": " http://p "}, "https://x", "the proxy p:80 (HTTPS_PROXY)"),
        ({"HTTPS_PROXY": "https://p"}, "https://x", "the proxy p:443 (HTTPS_PROXY)"),
        ({"HTTPS_PROXY": "HTTP://[::1]:3128/"}, "https://x", "the proxy [::1]:3128 (HTTPS_PROXY)"),
        ({"HTTPS_PROXY": "http://ann:pass%40word@p:1"}, "https://x", "the proxy p:1 (HTTPS_PROXY)"),
        ({"HTTPS_PROXY": "socks5://p", "NO_PROXY": "x"}, "https://x", None),
    ],
)
def test_a_proxy_is_chosen(environ: dict[str, str], url: str, name: str | None) -> None:
    proxy = proxy_to(httpx2.URL(url), load(environ).network)
    assert (proxy.shown if proxy else None) == name


@pytest.mark.parametrize(
    ("no_proxy", "spared", "not_spared"),
    [
        ("api.example", ["https://api.example", "https://api.example:8443", "https://eu.api.example"], ["https://b"]),
        (".example", ["https://example", "https://a.b.example"], ["https://notexample", "https://example.org"]),
        ("*.example", ["https://a.example"], ["https://notexample"]),
        ("API.Example.", ["https://api.example", "https://api.example.", "https://API.EXAMPLE"], []),
        ("*", ["https://anything", "http://10.0.0.1"], []),
        ("a, b  c,,", ["https://a", "https://b", "https://c"], ["https://d"]),
        ("a:8443", ["https://a:8443"], ["https://a", "https://a:443"]),
        ("a:443", ["https://a"], ["http://a"]),
        ("https://a", ["https://a"], ["http://a"]),
        ("10.1.2.3", ["http://10.1.2.3:8000"], ["http://10.1.2.30", "http://host-10.1.2.3"]),
        ("10.0.0.0/8,127.0.0.1", ["http://10.255.0.1", "http://127.0.0.1:1"], ["http://11.0.0.1", "http://localhost"]),
        ("10.1.2.3/8", ["http://10.9.9.9"], []),
        ("10.1.2.3:8000", ["http://10.1.2.3:8000"], ["http://10.1.2.3:8001"]),
        ("[::1]", ["http://[::1]:8000"], ["http://[::2]"]),
        ("[::1]:8000", ["http://[::1]:8000"], ["http://[::1]"]),
        ("fe80::/10", ["http://[fe80::1]"], ["http://[::1]", "http://127.0.0.1"]),
        (".3", [], ["http://10.1.2.3"]),
        ("", [], ["http://localhost", "http://127.0.0.1"]),
        (". , .", [], ["http://localhost"]),
    ],
)
def test_no_proxy_spares_what_it_names(no_proxy: str, spared: list[str], not_spared: list[str]) -> None:
    network = Network(all_proxy=PROXY, no_proxy=no_proxy)
    assert [url for url in spared if proxy_to(httpx2.URL(url), network)] == []
    assert [url for url in not_spared if not proxy_to(httpx2.URL(url), network)] == []


def test_a_login_is_sent_and_not_shown() -> None:
    proxy = proxy_to(httpx2.URL("https://x"), Network(https_proxy="http://ann:pass%40word@p:1"))
    assert proxy is not None
    assert proxy.authorization == b"Basic YW5uOnBhc3NAd29yZA=="
    assert "YW5u" not in repr(proxy)


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("socks5://ann:secret@p:1080", "SOCKS"),
        ("socks5h://p:1080", "SOCKS"),
        ("socks4://p", "SOCKS"),
        ("ftp://p", "'ftp'"),
        ("http://ann:secret@:3128", "want http://host:port"),
        ("http://p:secret", "want http://host:port"),
        ("http://p:99999", "want http://host:port"),
        ("http://", "want http://host:port"),
        (":3128", "want http://host:port"),
    ],
)
@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "all_proxy"])
def test_what_is_no_usable_proxy_is_refused_by_the_name_of_its_setting(variable: str, address: str, says: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        proxy_to(httpx2.URL("https://x"), load({variable: address}).network)
    assert refusal.value.detail.startswith(variable.upper())
    assert says in refusal.value.detail
    assert "secret" not in refusal.value.detail
