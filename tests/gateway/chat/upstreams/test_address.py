"""Where requests go and which headers they have, by an upstream's settings."""

import tomllib
from typing import Any

import msgspec
import pytest

from gateway.chat.upstreams.address import COMPLETIONS, MODELS, UpstreamAddress
from gateway.errors import ConfigurationError
from gateway.upstream_settings import UpstreamSettings
from tests.support.readme import readme_block

AZURE = "https://x.openai.azure.com/openai/deployments/gpt-4o"
VERSION = "?api-version=2025-01-01-preview"


def address(base_url: str = "http://one/v1", **settings: Any) -> UpstreamAddress:
    return UpstreamAddress(UpstreamSettings(name="one", base_url=base_url, **settings))


@pytest.mark.parametrize(
    ("base_url", "completions", "models"),
    [
        ("http://one", "http://one/chat/completions", "http://one/models"),
        ("http://one/", "http://one/chat/completions", "http://one/models"),
        (" http://one/v1\n", "http://one/v1/chat/completions", "http://one/v1/models"),
        ("http://one/a/b/v1/", "http://one/a/b/v1/chat/completions", "http://one/a/b/v1/models"),
        ("http://one/v1#part", "http://one/v1/chat/completions", "http://one/v1/models"),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1/chat/completions", "http://[::1]:8000/v1/models"),
        (AZURE + VERSION, f"{AZURE}/chat/completions{VERSION}", f"{AZURE}/models{VERSION}"),
        (f"{AZURE}/{VERSION}", f"{AZURE}/chat/completions{VERSION}", f"{AZURE}/models{VERSION}"),
        (f"{AZURE}/chat/completions{VERSION}", f"{AZURE}/chat/completions{VERSION}", f"{AZURE}/models{VERSION}"),
        ("http://one/v1?a=1&b=%20x&a=2", "http://one/v1/chat/completions?a=1&b=%20x&a=2", None),
        ("http://one/v1?flag", "http://one/v1/chat/completions?flag", None),
        ("http://one/a%2Fb", "http://one/a%2Fb/chat/completions", "http://one/a%2Fb/models"),
    ],
)
def test_an_endpoint_comes_behind_the_path_and_before_the_query(
    base_url: str, completions: str, models: str | None
) -> None:
    one = address(base_url)
    assert str(one.url(COMPLETIONS)) == completions
    assert models in (None, str(one.url(MODELS)))


@pytest.mark.parametrize(
    ("settings", "headers"),
    [
        ({"api_key": "k"}, {"authorization": "Bearer k"}),
        ({"api_key": "k", "key_header": "api-key"}, {"api-key": "k"}),
        ({"api_key": "k", "key_header": "X-Goog-Api-Key"}, {"x-goog-api-key": "k"}),
        ({"api_key": "k", "key_header": "Authorization"}, {"authorization": "Bearer k"}),
        ({"api_key": "k", "headers": {"X-Team": "a b"}}, {"authorization": "Bearer k", "x-team": "a b"}),
        ({"headers": {"Authorization": "Token t"}}, {"authorization": "Token t"}),
        ({"headers": {"User-Agent": "us/1"}}, {"authorization": "Bearer none", "user-agent": "us/1"}),
        ({"base_url": "http://ann:p%40ss@one/v1"}, {"authorization": "Basic YW5uOnBAc3M="}),
        (
            {"base_url": "http://ann:p%40ss@one/v1", "api_key": "k", "key_header": "api-key"},
            {"authorization": "Basic YW5uOnBAc3M=", "api-key": "k"},
        ),
    ],
)
def test_a_key_and_headers_are_sent_as_they_are_set(settings: dict[str, Any], headers: dict[str, str]) -> None:
    assert address(**settings).headers == {"user-agent": "trilane"} | headers


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"base_url": "localhost:8000/v1"}, "localhost:8000/v1"),
        ({"base_url": "ftp://one"}, "ftp://one"),
        ({"base_url": "http:///v1"}, "is no address"),
        ({"base_url": "http://one:port"}, "is no address"),
        ({"base_url": "http://ann:secret@:1:2/"}, "is no address"),
        ({"api_key": "secret\nx"}, "its `api_key`"),
        ({"api_key": "secret…"}, "its `api_key`"),
        ({"key_header": "api-key"}, "no key"),
        ({"key_header": "api key", "api_key": "secret"}, "'api key'"),
        ({"headers": {"": "secret"}}, "''"),
        ({"headers": {"x": "secret\r\ny: 1"}}, "'x'"),
        ({"headers": {"Connection": "secret"}}, "'Connection'"),
        ({"base_url": "http://ann:secret@one", "api_key": "secret"}, "`key_header`"),
    ],
)
def test_what_cannot_be_sent_is_refused_without_the_secret(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        address(**settings)
    assert "upstream 'one'" in refusal.value.detail
    assert says in refusal.value.detail
    assert "secret" not in refusal.value.detail


def test_the_readmes_upstream_is_azures() -> None:
    block = readme_block('name = "azure"').text
    [settings] = msgspec.convert(tomllib.loads(block)["upstream"], list[UpstreamSettings])
    one = UpstreamAddress(msgspec.structs.replace(settings, api_key="k"))
    assert str(one.url(COMPLETIONS)).endswith("/deployments/gpt-4o/chat/completions?api-version=2025-01-01-preview")
    assert one.headers["api-key"] == "k"


def test_an_address_is_shown_without_its_login_and_query() -> None:
    assert address("https://ann:secret@one/v1?key=secret").shown == "https://one/v1?…"
    assert address("https://one/v1").shown == "https://one/v1"


def test_the_readmes_upstream_is_anthropics() -> None:
    block = readme_block('name = "anthropic"').text
    [table] = tomllib.loads(block)["upstream"]
    table["api_key"] = table.pop("api_key_env")
    address = UpstreamAddress(msgspec.convert(table, UpstreamSettings))
    assert str(address.url("/messages")) == "https://api.anthropic.com/v1/messages"
    assert (address.headers["x-api-key"], address.headers["anthropic-version"]) == ("ANTHROPIC_API_KEY", "2023-06-01")
    assert "authorization" not in address.headers
