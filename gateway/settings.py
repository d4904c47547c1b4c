"""Environment → one frozen settings object per process. The only reader of `os.environ`.

Refuses what it does not know: a misspelt `TRILANE_` variable is an error at start, with the nearest right name.
"""

import difflib
import ipaddress
import os
import tomllib
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import msgspec

from gateway.errors import ConfigurationError

PORTS = {"all": 8000, "chat": 8001, "events": 8002, "audio": 8003}
MIN_SECRET_BYTES = 32
MIN_KEY_LENGTH = 8


class UpstreamSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One OpenAI-compatible server; `[[upstream]]` in the file of `TRILANE_UPSTREAMS`."""

    name: str
    base_url: str
    api_key: str = ""
    api_key_env: str = ""
    """Name of the environment variable that holds the key; better than the key itself in a file."""
    model: str = ""
    """What to ask it for when the request names no model; empty: the first that its `/models` lists."""
    models: list[str] = []
    """The models it serves; empty: whatever is asked for."""
    first_token_s: float | None = None
    between_tokens_s: float | None = None
    max_concurrency: int = 2000
    """Requests at once; past that it is skipped, and when all are, the caller gets 503."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of one process. Past any of them a request is refused; nothing waits in a queue."""

    body_bytes: int = 1_048_576
    """`TRILANE_LIMIT_BODY_BYTES`: one request body."""
    messages: int = 1000
    """`TRILANE_LIMIT_MESSAGES`: messages in one request."""
    runs: int = 2000
    """`TRILANE_LIMIT_RUNS`: generations at once in this process."""
    streams: int = 10_000
    """`TRILANE_LIMIT_STREAMS`: open event streams in this process."""
    replay: int = 100_000
    """`TRILANE_LIMIT_REPLAY`: events that one stream of notifications may be sent again when it comes back."""
    sessions: int = 2000
    """`TRILANE_LIMIT_SESSIONS`: open audio sessions in this process, most of them silent."""
    voices: int = 0
    """`TRILANE_LIMIT_VOICES`: audio sessions that speak at once; 0: as many as this machine keeps up with."""
    upload_bytes: int = 1_073_741_824
    """`TRILANE_LIMIT_UPLOAD_BYTES`: one upload to be transcribed. It is written to a temporary file."""
    uploads: int = 32
    """`TRILANE_LIMIT_UPLOADS`: uploads at once in this process."""
    output_tokens: int = 32_768
    """`TRILANE_LIMIT_OUTPUT_TOKENS`: what a request may ask for with `max_tokens`."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that can be set, with its default."""

    log: str = ""
    data_dir: Path = Path(".trilane")
    upstreams: list[UpstreamSettings] = []
    """Empty: the embedded model."""
    jwt_secret: str = ""
    api_keys: dict[str, str] = {}
    """sha256 of a key in hex → the user it stands for."""
    allowed_origins: list[str] = []
    trusted_proxies: list[str] = []
    max_age_s: float = 600.0
    """When a connection of the events lane ends by itself, less up to a fifth of it."""
    ping_s: float = 15.0
    drain_delay_s: float = 0.0
    drain_window_s: float = 20.0
    drain_deadline_s: float = 120.0
    prime_s: float = 2.0
    first_token_s: float = 60.0
    between_tokens_s: float = 30.0
    run_s: float = 600.0
    retention_events: int = 10_000
    retention_bytes: int = 16_777_216
    retention_s: float = 604_800.0
    metrics_port: int | None = None
    whisper_model: str = ""
    """A folder with a Whisper model for CTranslate2; empty: the packaged one."""
    whisper_device: str = "cpu"
    whisper_compute: str = "int8"
    limits: Limits = Limits()

    @property
    def log_url(self) -> str:
        return self.log or f"sqlite:///{self.data_dir / 'trilane.db'}"

    @property
    def authenticated(self) -> bool:
        return bool(self.jwt_secret or self.api_keys)


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """The settings that `environ` (default: this process's) asks for.

    Raises ConfigurationError, whose detail names the variable, what was wrong and what is allowed.
    """
    env = dict(os.environ if environ is None else environ)
    _refuse_unknown(env)
    limits = {name: int(_number(env, f"LIMIT_{name.upper()}", getattr(Limits(), name))) for name in _LIMITS}
    return Settings(
        log=env.get("TRILANE_LOG", ""),
        data_dir=Path(env.get("TRILANE_DATA_DIR", "") or ".trilane"),
        upstreams=_upstreams(env),
        jwt_secret=_secret(env, "TRILANE_JWT_SECRET"),
        api_keys=_api_keys(env),
        allowed_origins=_list(env, "TRILANE_ALLOWED_ORIGINS"),
        trusted_proxies=_list(env, "TRILANE_TRUSTED_PROXIES"),
        metrics_port=int(_number(env, "METRICS_PORT", 0)) or None,
        limits=Limits(**limits),
        whisper_model=env.get("TRILANE_WHISPER_MODEL", ""),
        whisper_device=env.get("TRILANE_WHISPER_DEVICE", "") or _DEFAULTS.whisper_device,
        whisper_compute=env.get("TRILANE_WHISPER_COMPUTE", "") or _DEFAULTS.whisper_compute,
        retention_events=int(_number(env, "RETENTION_EVENTS", _DEFAULTS.retention_events)),
        retention_bytes=int(_number(env, "RETENTION_BYTES", _DEFAULTS.retention_bytes)),
        **{name: _number(env, name.upper(), getattr(_DEFAULTS, name)) for name in _DURATIONS},
    )


def check_bind(settings: Settings, host: str) -> None:
    """Refuses to listen beyond this machine while nobody has to sign in."""
    if settings.authenticated or host == "localhost":
        return
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise ConfigurationError(
            f"refusing to listen on {host}: without authentication only this machine may connect. "
            "Set TRILANE_API_KEYS=alice:<key of 32 or more characters> or TRILANE_JWT_SECRET, or use --host 127.0.0.1"
        )


_DEFAULTS = Settings()
_LIMITS = Limits.__struct_fields__
_DURATIONS = [
    "max_age_s",
    "ping_s",
    "drain_delay_s",
    "drain_window_s",
    "drain_deadline_s",
    "prime_s",
    "first_token_s",
    "between_tokens_s",
    "run_s",
    "retention_s",
]
_OTHERS = [
    *("LOG", "DATA_DIR", "MODEL", "UPSTREAMS", "JWT_SECRET", "API_KEYS", "ALLOWED_ORIGINS", "TRUSTED_PROXIES"),
    *("METRICS_PORT", "RETENTION_EVENTS", "RETENTION_BYTES"),
    *("WHISPER_MODEL", "WHISPER_DEVICE", "WHISPER_COMPUTE"),
]
_KNOWN = {name.upper() for name in (*_OTHERS, *_DURATIONS, *(f"LIMIT_{name}" for name in _LIMITS))}
_RANGE = {"PING_S": (0.01, 3600.0), "MAX_AGE_S": (1, 1e9), "METRICS_PORT": (0, 65_535)}


def _refuse_unknown(env: Mapping[str, str]) -> None:
    for name in env:
        ours, _, setting = name.partition("TRILANE_")
        if not ours and name != setting and setting not in _KNOWN:
            near = difflib.get_close_matches(setting.upper(), _KNOWN, n=1)
            hint = f"did you mean TRILANE_{near[0]}?" if near else "see the table of settings in the README"
            raise ConfigurationError(f"unknown setting {name}: {hint}")


def _number(env: Mapping[str, str], name: str, default: float) -> float:
    text = env.get(f"TRILANE_{name}", "").strip()
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value < 1e15 or (isinstance(default, int) and value != int(value)):
        raise ConfigurationError(f"TRILANE_{name}={text[:40]!r} is not a number of zero or more")
    low, high = _RANGE.get(name, (0, value))
    if not low <= value <= high:
        raise ConfigurationError(f"TRILANE_{name}={text[:40]!r} is not between {low:g} and {high:g}")
    return value


def _list(env: Mapping[str, str], name: str) -> list[str]:
    return [item.strip() for item in env.get(name, "").split(",") if item.strip()]


def _secret(env: Mapping[str, str], name: str) -> str:
    secret = env.get(name, "")
    if secret and len(secret.encode()) < MIN_SECRET_BYTES:
        raise ConfigurationError(
            f"{name} is too short to be safe: {MIN_SECRET_BYTES} bytes or more, such as `openssl rand -hex 32` gives"
        )
    return secret


def _api_keys(env: Mapping[str, str]) -> dict[str, str]:
    """`user:key`, or a key alone, whose user is then named after its digest."""
    keys: dict[str, str] = {}
    for number, item in enumerate(_list(env, "TRILANE_API_KEYS"), 1):
        user, _, key = item.rpartition(":")
        if len(key) < MIN_KEY_LENGTH:
            raise ConfigurationError(
                f"entry {number} of TRILANE_API_KEYS: want user:key with a key of {MIN_KEY_LENGTH} characters or more"
            )
        digest = sha256(key.encode()).hexdigest()
        keys[digest] = user or f"key-{digest[:8]}"
    return keys


def _upstreams(env: Mapping[str, str]) -> list[UpstreamSettings]:
    path = env.get("TRILANE_UPSTREAMS", "")
    if path:
        return _upstream_file(Path(path), env)
    key, base_url = env.get("OPENAI_API_KEY", ""), env.get("OPENAI_BASE_URL", "")
    if not (key or base_url):
        return []
    model = env.get("TRILANE_MODEL", "")
    if base_url:
        return [UpstreamSettings(name="default", base_url=base_url, api_key=key, model=model)]
    return [
        UpstreamSettings(
            name="openai", base_url="https://api.openai.com/v1", api_key=key, model=model or "gpt-4.1-mini"
        )
    ]


def _upstream_file(path: Path, env: Mapping[str, str]) -> list[UpstreamSettings]:
    try:
        table = tomllib.loads(path.read_text("utf-8"))
        upstreams = msgspec.convert(table.get("upstream", []), list[UpstreamSettings])
    except (OSError, ValueError, msgspec.ValidationError) as err:
        raise ConfigurationError(f"TRILANE_UPSTREAMS={path}: {err}") from err
    if not upstreams:
        raise ConfigurationError(f"TRILANE_UPSTREAMS={path} names no [[upstream]]")
    named = {upstream.name for upstream in upstreams}
    if len(named) != len(upstreams):
        raise ConfigurationError(f"TRILANE_UPSTREAMS={path}: two upstreams have the same name")
    return [_with_key(upstream, env, path) for upstream in upstreams]


def _with_key(upstream: UpstreamSettings, env: Mapping[str, str], path: Path) -> UpstreamSettings:
    if not upstream.api_key_env:
        return upstream
    if upstream.api_key_env not in env:
        raise ConfigurationError(f"{path}: upstream {upstream.name!r} wants ${upstream.api_key_env}, which is not set")
    return msgspec.structs.replace(upstream, api_key=env[upstream.api_key_env])
