"""The environment becomes one frozen object; a setting that cannot be used is refused by name at the start."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.encryption_settings import EncryptionKey
from gateway.errors import ConfigurationError
from gateway.limit_settings import Limits, UserLimits
from gateway.settings import Settings, check_bind, load
from gateway.speech_settings import SpeechSettings
from gateway.upstream_settings import UpstreamSettings

SECRET = "s" * 32
KEY = "k" * 32


def refusal(**env: str) -> str:
    """Returns what is said of this environment."""
    with pytest.raises(ConfigurationError) as error:
        load(env)
    return error.value.detail


# Every variable


def test_nothing_set_is_the_defaults() -> None:
    assert load({}) == Settings()
    assert load({"PATH": "/bin", "HOME": "/"}) == Settings()


NUMBERS = {
    "max_age_s": 600.0,
    "ping_s": 15.0,
    "drain_delay_s": 0.0,
    "drain_window_s": 20.0,
    "drain_deadline_s": 120.0,
    "prime_s": 2.0,
    "first_token_s": 60.0,
    "between_tokens_s": 30.0,
    "run_s": 600.0,
    "max_steps": 20,
    "ask_s": 604_800.0,
    "ui": 6,
    "session_kept_s": 3600.0,
    "session_idle_s": 600.0,
    "retention_events": 10_000,
    "retention_bytes": 16 << 20,
    "retention_s": 7 * 86_400.0,
    "retention_chats_s": 0.0,
}


@pytest.mark.parametrize(("name", "default"), NUMBERS.items(), ids=NUMBERS.keys())
def test_a_number_is_read_from_its_variable(name: str, default: float) -> None:
    assert getattr(Settings(), name) == default
    value = getattr(load({f"TRILANE_{name.upper()}": "7"}), name)
    assert (value, type(value)) == (7, type(default))


@pytest.mark.parametrize("name", Limits.__struct_fields__)
def test_a_limit_is_read_from_its_variable(name: str) -> None:
    limits = load({f"TRILANE_LIMIT_{name.upper()}": "7"}).limits
    assert msgspec.structs.replace(Limits(), **{name: 7}) == limits
    assert type(getattr(limits, name)) is int


@pytest.mark.parametrize("name", UserLimits.__struct_fields__)
def test_a_limit_of_each_user_is_read_from_its_variable(name: str) -> None:
    limits = load({f"TRILANE_LIMIT_USER_{name.upper()}": "7"}).user_limits
    assert msgspec.structs.replace(UserLimits(), **{name: 7}) == limits


OFF = ("tracing",)
"""What nothing is made of unless other programs' variables name it; `tests/gateway/core/test_tracing.py` sets them."""

OTHERS: dict[str, tuple[str, str, Any]] = {
    "TRILANE_LOG": ("log", "memory:", "memory:"),
    "TRILANE_AGENTS": (
        "agents",
        " support=shop.agents:support ,",
        [UpstreamSettings(name="support", kind="python", function="shop.agents:support")],
    ),
    "TRILANE_AGENT_PYTHON": ("agent_python", ".venv/bin/python", ".venv/bin/python"),
    "TRILANE_DATA_DIR": ("data_dir", "/data", Path("/data")),
    "TRILANE_JWT_SECRET": ("jwt_secret", f"{SECRET}, {SECRET}2", [SECRET, f"{SECRET}2"]),
    "TRILANE_ENCRYPTION_KEY": ("encryption_key", f"k2:{'A' * 42}E=", [EncryptionKey("k2", b"\0" * 31 + b"\1")]),
    "TRILANE_DOCS": ("docs", " Operators ", "operators"),
    "TRILANE_SIGN_IN": ("sign_in", " Required ", "required"),
    "TRILANE_JWKS_URL": ("jwks_url", "https://id.example/keys", "https://id.example/keys"),
    "TRILANE_OIDC_URL": ("oidc_url", "http://127.0.0.1:9/realm", "http://127.0.0.1:9/realm"),
    "TRILANE_JWT_ISSUER": ("jwt_issuer", "https://id.example", "https://id.example"),
    "TRILANE_JWT_AUDIENCE": ("jwt_audience", "trilane", "trilane"),
    "TRILANE_ALLOWED_ORIGINS": ("allowed_origins", " https://a , https://b,, ", ["https://a", "https://b"]),
    "TRILANE_ALLOWED_HOSTS": ("allowed_hosts", "gw.example, box:8000", ["gw.example", "box:8000"]),
    "TRILANE_ALLOWED_FETCHES": ("allowed_fetches", "https,http://a.lan/", ["https", "http://a.lan/"]),
    "TRILANE_TRUSTED_PROXIES": ("trusted_proxies", "10.0.0.1", ["10.0.0.1"]),
    "TRILANE_METRICS_PORT": ("metrics_port", "9100", 9100),
    "TRILANE_METRICS_HOST": ("metrics_host", "0.0.0.0", "0.0.0.0"),
    "TRILANE_USAGE_WEBHOOK_URL": ("usage_webhook_url", " https://bill.example/x ", "https://bill.example/x"),
    "TRILANE_USAGE_WEBHOOK_SECRET": ("usage_webhook_secret", f"whsec_{'MDEy' * 11}", b"012" * 11),
    "TRILANE_RUN_WEBHOOK_URL": ("run_webhook_url", "http://hooks.lan/runs", "http://hooks.lan/runs"),
    "TRILANE_RUN_WEBHOOK_SECRET": ("run_webhook_secret", f"whsec_{'MDEy' * 11}", b"012" * 11),
    "TRILANE_PUBLIC_URL": ("public_url", "https://gw.example", "https://gw.example"),
    "TRILANE_WORKERS": ("workers", " 4 ", 4),
    "TRILANE_WHISPER_MODEL": ("whisper_model", "/models/base", "/models/base"),
    "TRILANE_WHISPER_DEVICE": ("whisper_device", "cuda", "cuda"),
    "TRILANE_WHISPER_COMPUTE": ("whisper_compute", "float16", "float16"),
}


@pytest.mark.parametrize("variable", OTHERS)
def test_a_setting_is_read_from_its_variable(variable: str) -> None:
    name, text, value = OTHERS[variable]
    assert getattr(load({variable: text}), name) == value


def test_the_voice_has_settings_of_its_own() -> None:
    url = "http://tts.lan:9000/v1"
    env = {"TRILANE_VOICE": "anna", "TRILANE_VOICE_URL": url, "TRILANE_VOICE_KEY": "sk-1", "TRILANE_VOICE_MODEL": "tts"}
    assert load(env).speech == SpeechSettings(voice="anna", voice_url=url, voice_key="sk-1", voice_model="tts")


@pytest.mark.parametrize("variable", [*OTHERS, "TRILANE_PING_S", "TRILANE_API_KEYS", "TRILANE_LIMIT_RUNS"])
def test_an_empty_variable_is_one_that_is_not_set(variable: str) -> None:
    assert load({variable: ""}) == Settings()


@pytest.mark.parametrize(
    "name", [field for field in Settings.__struct_fields__ if field not in ("upstreams", "pricing", "tools")]
)
def test_every_setting_has_a_variable(name: str) -> None:
    """A new setting is added to the tables above."""
    assert name in {
        *NUMBERS,
        *(row[0] for row in OTHERS.values()),
        "api_keys",
        "limits",
        "user_limits",
        "network",
        "speech",
        *OFF,
    }


@pytest.mark.parametrize("variable", ["TRILANE_JWKS_URL", "TRILANE_OIDC_URL"])
@pytest.mark.parametrize(
    "url",
    [
        *("http://id.example/keys", "https://me:pass@id.example/", "id.example", "file:///etc/passwd", "https://["),
        *("https:", "http://127.0.0.1.id.example/", "https://id.example/#x", "ftp://localhost/"),
    ],
)
def test_an_identity_provider_is_asked_by_https_alone(variable: str, url: str) -> None:
    detail = refusal(**{variable: url})
    assert detail.startswith(f"{variable} is no https:// address")
    assert "pass" not in detail


def test_two_identity_providers_are_one_too_many() -> None:
    urls = {"TRILANE_JWKS_URL": "https://a.example/", "TRILANE_OIDC_URL": "https://b.example/"}
    assert "set one of them" in refusal(**urls)


def test_sign_in_is_required_or_left_to_the_other_settings() -> None:
    assert "'optional' is not 'required'" in refusal(TRILANE_SIGN_IN="optional")


def test_the_log_is_a_file_in_the_data_folder_unless_it_is_said_otherwise() -> None:
    assert load({}).log_url == "sqlite:///.trilane/trilane.db"
    assert load({"TRILANE_DATA_DIR": "/data"}).log_url == "sqlite:////data/trilane.db"
    assert load({"TRILANE_LOG": "memory:"}).log_url == "memory:"


def test_the_log_is_shown_without_secrets() -> None:
    assert Settings(log="redis+sentinel://joe:hush@a,b/main?sentinel_password=hush").shown_log == "a,b/main"
    assert Settings(log="rediss://a:1/2?ssl_ca_certs=/ca.pem").shown_log == "rediss://a:1/2"


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Settings().ping_s = 1  # type: ignore[misc]


# Misspelt names


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("TRILANE_PINGS", "TRILANE_PING_S"),
        ("TRILANE_API_KEY", "TRILANE_API_KEYS"),
        ("TRILANE_LIMIT_STREAM", "TRILANE_LIMIT_STREAMS"),
        ("TRILANE_JWT_SECERT", "TRILANE_JWT_SECRET"),
        ("TRILANE_ping_s", "TRILANE_PING_S"),
        ("TRILANE_ZZZZ", "the table of settings"),
        ("TRILANE_", ""),
    ],
)
def test_a_misspelt_variable_is_refused_with_a_hint(variable: str, hint: str) -> None:
    detail = refusal(**{variable: "1"})
    assert variable in detail
    assert hint in detail


def test_variables_of_others_are_none_of_our_business() -> None:
    assert load({"TRILANEX": "1", "MY_TRILANE_PING_S": "1", "trilane_ping_s": "1"}) == Settings()


# Bad numbers


@pytest.mark.parametrize(
    "text", ["-1", "x", "1s", "nan", "inf", "-inf", "1e15", "1,5", "0x10", "1 2", "--1", "9" * 400]
)
@pytest.mark.parametrize("variable", ["TRILANE_PING_S", "TRILANE_LIMIT_RUNS", "TRILANE_RETENTION_EVENTS"])
def test_what_is_no_number_is_refused(variable: str, text: str) -> None:
    detail = refusal(**{variable: text})
    assert detail.startswith(f"{variable}=")
    assert len(detail) < 120


@pytest.mark.parametrize(
    "variable", ["TRILANE_LIMIT_STREAMS", "TRILANE_RETENTION_EVENTS", "TRILANE_RETENTION_BYTES", "TRILANE_METRICS_PORT"]
)
def test_a_fraction_is_refused_where_a_whole_number_is_needed(variable: str) -> None:
    assert variable in refusal(**{variable: "1.5"})


def test_seconds_may_be_fractions() -> None:
    assert load({"TRILANE_PING_S": " 0.5 "}).ping_s == 0.5


RANGES = {
    "TRILANE_PING_S=0": "is not a number from 0.01 to 3600",
    "TRILANE_PING_S=3601": "is not a number from 0.01 to 3600",
    "TRILANE_MAX_AGE_S=0.5": "is not a number from 1 to 1000000000",
    "TRILANE_METRICS_PORT=70000": "is not a whole number from 0 to 65535",
    "TRILANE_LIMIT_RUNS=-1": "is not a whole number of 0 or more",
    "TRILANE_RUN_S=-1": "is not a number of 0 or more",
}


@pytest.mark.parametrize("setting", RANGES)
def test_a_number_out_of_its_range_is_refused_with_the_range(setting: str) -> None:
    variable, _, text = setting.partition("=")
    assert refusal(**{variable: text}) == f"{variable}={text!r} {RANGES[setting]}"


# Secrets


@pytest.mark.parametrize("secret", ["x", "s" * 31, "\u00fc" * 15])
def test_a_short_secret_is_refused_and_not_repeated(secret: str) -> None:
    detail = refusal(TRILANE_JWT_SECRET=secret)
    assert "TRILANE_JWT_SECRET" in detail
    assert "32 bytes" in detail
    assert f"'{secret}'" not in detail


def test_a_secret_is_measured_in_bytes() -> None:
    assert load({"TRILANE_JWT_SECRET": "\u00fc" * 16}).requires_sign_in


@pytest.mark.parametrize("entry", ["alice", "alice:", "alice:short", "x" * 7, ":"])
def test_a_short_key_is_refused_by_its_place_and_not_repeated(entry: str) -> None:
    detail = refusal(TRILANE_API_KEYS=f"bob:{KEY},{entry}")
    assert detail.startswith("entry 2 of TRILANE_API_KEYS")
    assert "short" not in detail
    assert KEY not in detail


def test_keys_are_kept_as_digests_only() -> None:
    settings = load({"TRILANE_API_KEYS": f"alice:{KEY}, bob:{KEY}2"})
    assert sorted(key.user for key in settings.api_keys.values()) == ["alice", "bob"]
    assert KEY not in repr(settings)
    assert settings.requires_sign_in


def test_a_key_without_a_user_is_one_of_its_own() -> None:
    users = [key.user for key in load({"TRILANE_API_KEYS": f"{KEY},:{KEY}2,{KEY}3"}).api_keys.values()]
    assert len(set(users)) == 3
    assert all(user.startswith("key-") for user in users)


def test_a_user_may_have_a_colon() -> None:
    assert [key.user for key in load({"TRILANE_API_KEYS": f"team:alice:{KEY}"}).api_keys.values()] == ["team:alice"]


@pytest.mark.parametrize(
    ("entry", "user", "is_operator"),
    [
        ("ops+operator", "ops", True),
        ("ops+x@example.com", "ops+x@example.com", False),
        ("ops+x@example.com+operator", "ops+x@example.com", True),
        ("operator", "operator", False),
        ("ops+Operator", "ops+Operator", False),
    ],
)
def test_a_key_is_an_operators_when_its_entry_says_so(entry: str, user: str, is_operator: bool) -> None:
    [key] = load({"TRILANE_API_KEYS": f"{entry}:{KEY}"}).api_keys.values()
    assert (key.user, key.is_operator) == (user, is_operator)


# Where to listen

LOOPBACK = ["127.0.0.1", "127.0.0.2", "127.255.255.254", "::1", "localhost"]
BEYOND = ["0.0.0.0", "::", "10.0.0.1", "192.168.1.2", "fe80::1", "example.com", "", "*", "0", "localhost.example.com"]


@pytest.mark.parametrize("host", LOOPBACK)
def test_this_machine_may_connect_without_signing_in(host: str) -> None:
    check_bind(Settings(), host)


@pytest.mark.parametrize("host", BEYOND)
def test_other_machines_may_not_connect_without_signing_in(host: str) -> None:
    with pytest.raises(ConfigurationError, match="TRILANE_API_KEYS"):
        check_bind(Settings(), host)


@pytest.mark.parametrize("host", [*LOOPBACK, *BEYOND])
@pytest.mark.parametrize("env", [{"TRILANE_JWT_SECRET": SECRET}, {"TRILANE_API_KEYS": f"alice:{KEY}"}])
def test_with_authentication_it_listens_anywhere(host: str, env: dict[str, str]) -> None:
    check_bind(load(env), host)


@pytest.mark.parametrize(("length", "is_safe"), [(8, False), (15, False), (16, True)])
def test_a_key_that_can_be_guessed_is_for_this_machine_alone(length: int, is_safe: bool) -> None:
    settings = load({"TRILANE_API_KEYS": f"bob:{KEY},alice:{'k' * length}"})
    check_bind(settings, "127.0.0.1")
    if is_safe:
        check_bind(settings, "0.0.0.0")
        return
    with pytest.raises(ConfigurationError, match=r"key of 'alice'.* 16 characters") as error:
        check_bind(settings, "0.0.0.0")
    assert "k" * length not in error.value.detail


def test_keys_that_are_made_later_are_enough_where_sign_in_is_required() -> None:
    check_bind(load({"TRILANE_SIGN_IN": "required"}), "0.0.0.0")
