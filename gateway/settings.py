"""Declares every setting once: field, type, permitted range, default, meaning. The only reader of `os.environ`.

A field's variable is `TRILANE_` and the field's name. `load` reads them all by these declarations alone, and README's
tables are made from them (`tests/readme_settings.py`). A misspelt `TRILANE_` variable is an error at start, with the
nearest right name.
"""

import ipaddress
import os
import tomllib
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from gateway.environment import Notation, Variable, number_or_auto, prefixed, read, read_list, refuse_unknown, variables
from gateway.errors import ConfigurationError

PORTS = {"all": 8000, "chat": 8001, "events": 8002, "audio": 8003}
"""Default port of each unit."""
MIN_SECRET_BYTES = 32
"""Minimum bytes of the secret that signs tokens."""
MIN_KEY_LENGTH = 8
"""Minimum characters of an API key."""
WORKERS = number_or_auto(256)
OPENAI_URL = "https://api.openai.com/v1"
OPENAI_MODEL = "gpt-4.1-mini"

Seconds = Annotated[float, Meta(ge=0)]
PositiveSeconds = Annotated[float, Meta(ge=0.01)]
Count = Annotated[int, Meta(ge=0)]
ClientOption = Literal[
    "system",
    "tools",
    "toolChoice",
    "temperature",
    "topP",
    "maxOutputTokens",
    "seed",
    "stopSequences",
    "reasoningEffort",
]
"""An option that a client may give a model."""


# Upstreams


class UpstreamSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One OpenAI-compatible server; `[[upstream]]` in the file of `TRILANE_UPSTREAMS`."""

    name: Annotated[str, Meta(description="Its name in usage rows, logs and errors; no two have the same")]
    base_url: Annotated[str, Meta(description="Its address, such as `http://127.0.0.1:11434/v1`")]
    api_key: Annotated[str, Meta(description="Its key; `api_key_env` keeps it out of the file")] = ""
    api_key_env: Annotated[str, Meta(description="Name of the environment variable that holds its key")] = ""
    key_header: Annotated[
        str, Meta(description="Header that its key is sent in, such as `api-key`; unset: `Authorization: Bearer`")
    ] = ""
    headers: Annotated[
        dict[str, str],
        Meta(description="Further headers of each request; a value `$NAME` is that environment variable's"),
    ] = {}
    ca: Annotated[
        str,
        Meta(description="PEM file of the authorities that its certificate is checked against; unset: `SSL_CERT_FILE`"),
    ] = ""
    client_certificate: Annotated[str, Meta(description="PEM file of the certificate to show it")] = ""
    client_key: Annotated[
        str, Meta(description="PEM file of its key, not encrypted; unset: the certificate's file holds it")
    ] = ""
    model: Annotated[str, Meta(description="Model for requests that name none; unset: the first it lists")] = ""
    models: Annotated[list[str], Meta(description="Models it serves; unset: any that a request names")] = []
    system: Annotated[str, Meta(description="System prompt that comes before whatever a client says")] = ""
    client_options: Annotated[
        list[ClientOption] | None,
        Meta(description="What clients may set, such as `tools` or `temperature`; unset: everything"),
    ] = None
    first_token_s: Annotated[PositiveSeconds | None, Meta(description="In place of `TRILANE_FIRST_TOKEN_S`")] = None
    between_tokens_s: Annotated[PositiveSeconds | None, Meta(description="In place of `TRILANE_BETWEEN_TOKENS_S`")] = (
        None
    )
    max_concurrency: Annotated[
        int, Meta(ge=1, description="Requests at once; past that it is skipped, and with all full the answer is 503")
    ] = 2000


class DefaultUpstream(
    Struct,
    frozen=True,
    kw_only=True,
    rename={"api_key": "OPENAI_API_KEY", "base_url": "OPENAI_BASE_URL", "model": "TRILANE_MODEL"},
):
    """The only upstream of an installation without a file of upstreams."""

    api_key: Annotated[str, Meta(description="Key for the upstream, an OpenAI-compatible server")] = ""
    base_url: Annotated[
        str, Meta(description="Address of the upstream; unset: OpenAI's, or without a key the embedded model")
    ] = ""
    model: Annotated[
        str, Meta(description=f"Model for requests that name none; unset: its first, or `{OPENAI_MODEL}` at OpenAI")
    ] = ""

    def upstreams(self) -> list[UpstreamSettings]:
        """Returns it alone; or none, which means the embedded model, when neither a key nor an address is set."""
        api_key = self.api_key.strip()
        if self.base_url:
            return [UpstreamSettings(name="default", base_url=self.base_url, api_key=api_key, model=self.model)]
        if api_key:
            model = self.model or OPENAI_MODEL
            return [UpstreamSettings(name="openai", base_url=OPENAI_URL, api_key=api_key, model=model)]
        return []


def _upstreams(environ: Mapping[str, str], variable: str) -> list[UpstreamSettings]:
    path = environ.get(variable, "")
    if not path:
        return read(DefaultUpstream, environ).upstreams()
    try:
        table = tomllib.loads(Path(path).read_text("utf-8"))
        upstreams = msgspec.convert(table.get("upstream", []), list[UpstreamSettings])
    except (OSError, ValueError, msgspec.ValidationError) as err:
        raise ConfigurationError(f"{variable}={path}: {err}") from err
    if not upstreams:
        raise ConfigurationError(f"{variable}={path} names no [[upstream]]")
    if len({upstream.name for upstream in upstreams}) != len(upstreams):
        raise ConfigurationError(f"{variable}={path}: two upstreams have the same name")
    return [_with_secrets(upstream, environ, path) for upstream in upstreams]


def _with_secrets(upstream: UpstreamSettings, environ: Mapping[str, str], path: str) -> UpstreamSettings:
    """Returns the upstream with the key and headers that the environment holds, and its files as absolute paths."""

    def named(variable: str) -> str:
        if variable not in environ:
            raise ConfigurationError(f"{path}: upstream {upstream.name!r} needs ${variable}, which is not set")
        return environ[variable].strip()

    folder = Path(path).absolute().parent
    files = {name: getattr(upstream, name) for name in ("ca", "client_certificate", "client_key")}
    return msgspec.structs.replace(
        upstream,
        api_key=named(upstream.api_key_env) if upstream.api_key_env else upstream.api_key,
        headers={name: named(text[1:]) if text[:1] == "$" else text for name, text in upstream.headers.items()},
        **{name: str(folder / file) for name, file in files.items() if file},
    )


# Secrets


def _secret(environ: Mapping[str, str], variable: str) -> str:
    secret = environ.get(variable, "")
    if secret and len(secret.encode()) < MIN_SECRET_BYTES:
        raise ConfigurationError(
            f"{variable} is too short to be safe: "
            f"want {MIN_SECRET_BYTES} bytes or more, such as `openssl rand -hex 32` gives"
        )
    return secret


def _api_keys(environ: Mapping[str, str], variable: str) -> dict[str, str]:
    """Reads `user:key` entries, or keys alone, whose users are then named after their digests."""
    keys: dict[str, str] = {}
    for number, item in enumerate(read_list(environ, variable), 1):
        user, _, key = item.rpartition(":")
        if len(key) < MIN_KEY_LENGTH:
            raise ConfigurationError(
                f"entry {number} of {variable}: want user:key with a key of {MIN_KEY_LENGTH} characters or more"
            )
        digest = sha256(key.encode()).hexdigest()
        keys[digest] = user or f"key-{digest[:8]}"
    return keys


Secret = Annotated[str, Notation(f"{MIN_SECRET_BYTES} bytes or more", _secret)]
ApiKeys = Annotated[dict[str, str], Notation(f"`user:key,...`, keys of {MIN_KEY_LENGTH} characters or more", _api_keys)]
Names = Annotated[list[str], Notation("`a,b,...`", read_list)]
Workers = Annotated[int | Literal["auto"] | None, WORKERS]
UpstreamsFile = Annotated[list[UpstreamSettings], Notation("path of a TOML file", _upstreams)]


# The way out


def _either_case(environ: Mapping[str, str], variable: str) -> str:
    return environ.get(variable.lower(), environ.get(variable, "")).strip()


OneCase = Annotated[str, Notation("path", lambda environ, variable: environ.get(variable, "").strip())]
EitherCase = Annotated[str, Notation("text; read in lower case too, which comes first", _either_case)]


class Network(Struct, frozen=True, kw_only=True, rename="upper"):
    """The way to upstreams in a network that has one of its own, in the variables that other programs read too."""

    https_proxy: Annotated[
        EitherCase, Meta(description="Proxy to upstreams at `https://`, such as `http://user:password@proxy:3128`")
    ] = ""
    http_proxy: Annotated[EitherCase, Meta(description="Proxy to upstreams at `http://`")] = ""
    all_proxy: Annotated[EitherCase, Meta(description="Proxy to upstreams for which neither names one")] = ""
    no_proxy: Annotated[
        EitherCase,
        Meta(description="Hosts to reach without a proxy: names (with all below them), addresses, CIDR, `*`"),
    ] = ""
    ssl_cert_file: Annotated[
        OneCase,
        Meta(description="PEM file of the authorities that upstreams are checked against, in place of the system's"),
    ] = ""
    ssl_cert_dir: Annotated[
        OneCase, Meta(description="Folders of such authorities, as `openssl rehash` names them")
    ] = ""


# What can be set


class Limits(Struct, frozen=True, kw_only=True, rename=prefixed("TRILANE_LIMIT_")):
    """Bounds of one process. Past any of them a request is refused; nothing waits in a queue."""

    body_bytes: Annotated[Count, Meta(description="Bytes of one request body")] = 16_777_216
    bodies_bytes: Annotated[
        Count, Meta(description="Bytes of all request bodies in memory at once; one body is always taken")
    ] = 134_217_728
    messages: Annotated[Count, Meta(description="Messages in one request")] = 1000
    output_tokens: Annotated[Count, Meta(description="Largest `max_tokens` of one request")] = 32_768
    runs: Annotated[Count, Meta(description="Answers being written at once")] = 2000
    streams: Annotated[Count, Meta(description="Event streams open at once")] = 10_000
    replay: Annotated[
        Count, Meta(description="Missed events replayed to one stream; past that, `hello` says how many it missed")
    ] = 100_000
    sessions: Annotated[Count, Meta(description="Audio sessions open at once, most of them silent")] = 2000
    voices: Annotated[
        Count,
        Meta(description="Audio sessions with speech at once; 0: as many as the loaded model was measured to carry"),
    ] = 0
    uploads: Annotated[Count, Meta(description="Files being transcribed at once")] = 32
    upload_bytes: Annotated[
        Count, Meta(description="Bytes of one file to be transcribed, kept unnamed in `TMPDIR` meanwhile")
    ] = 1_073_741_824


class Settings(Struct, frozen=True, kw_only=True, rename=prefixed("TRILANE_")):
    """Every setting of a unit, with its default."""

    upstreams: Annotated[
        UpstreamsFile, Meta(description="Several upstreams in order of preference, in place of the one above")
    ] = []
    network: Network = Network()
    data_dir: Annotated[Path, Meta(description="Folder of the gateway's files")] = Path(".trilane")
    log: Annotated[
        str,
        Meta(
            description="The log: `sqlite:///path`, `redis://host`, `postgres://user:password@host/database` "
            "(other forms: see above) or `memory:`; unset: `trilane.db` in `TRILANE_DATA_DIR`"
        ),
    ] = ""
    api_keys: Annotated[ApiKeys, Meta(description="Keys, each with the user it stands for")] = {}
    """Users by the SHA-256 of their key, in hex."""
    jwt_secret: Annotated[Secret, Meta(description="Secret that HS256 tokens are signed with")] = ""
    allowed_origins: Annotated[
        Names, Meta(description="Pages of other origins that may call, with cookies too, such as `https://app.example`")
    ] = []
    allowed_hosts: Annotated[
        Names,
        Meta(
            description="Names beside `localhost` under which it may be called (`Host`); unset: with sign-in any, "
            "without none, against DNS rebinding"
        ),
    ] = []
    trusted_proxies: Annotated[Names, Meta(description="Addresses whose `X-Forwarded-*` headers are believed")] = []
    metrics_port: Annotated[
        int, Meta(ge=0, le=65_535, description="Separate port for `/metrics`; 0: it is served with everything else")
    ] = 0
    workers: Annotated[
        Workers, Meta(description="Processes that serve together, as `--workers`; `auto`: one for each usable CPU")
    ] = None
    prime_s: Annotated[
        Seconds,
        Meta(description="How long an answer waits for its upstream, so that a refusal can still be its status"),
    ] = 2.0
    first_token_s: Annotated[
        Seconds, Meta(description="Longest wait for an upstream's first token; then the next upstream is tried")
    ] = 60.0
    between_tokens_s: Annotated[Seconds, Meta(description="Longest wait for each further token")] = 30.0
    run_s: Annotated[Seconds, Meta(description="Longest time that a whole answer may take")] = 600.0
    ping_s: Annotated[float, Meta(ge=0.01, le=3600, description="Silence after which a stream is sent a ping")] = 15.0
    max_age_s: Annotated[
        float, Meta(ge=1, le=1e9, description="Age, less up to a fifth, at which a notification stream is reopened")
    ] = 600.0
    drain_delay_s: Annotated[
        Seconds, Meta(description="Time from SIGTERM until new connections are refused, for a load balancer to notice")
    ] = 0.0
    drain_window_s: Annotated[Seconds, Meta(description="Time over which readers are then sent away, evenly")] = 20.0
    drain_deadline_s: Annotated[Seconds, Meta(description="Time from SIGTERM until whatever still runs is cut")] = 120.0
    retention_events: Annotated[Count, Meta(description="Events that a topic keeps")] = 10_000
    retention_bytes: Annotated[Count, Meta(description="Bytes that a topic or a run keeps")] = 16_777_216
    retention_s: Annotated[Seconds, Meta(description="Time for which a topic keeps an event")] = 604_800.0
    whisper_model: Annotated[
        str, Meta(description="Folder with a Whisper model for CTranslate2; unset: the packaged tiny.en")
    ] = ""
    whisper_device: Annotated[
        str, Meta(description="`cpu` or `cuda`; on CUDA sessions share batches, which was not measured on a GPU")
    ] = "cpu"
    whisper_compute: Annotated[str, Meta(description="Number type of the model: `int8`, `float16` ...")] = "int8"
    limits: Limits = Limits()

    @property
    def log_url(self) -> str:
        return self.log or f"sqlite:///{self.data_dir / 'trilane.db'}"

    @property
    def shown_log(self) -> str:
        """Returns the log's URL without its login and its options, which may hold passwords."""
        return self.log_url.split("@")[-1].partition("?")[0]

    @property
    def requires_sign_in(self) -> bool:
        return bool(self.jwt_secret or self.api_keys)


VARIABLES: list[Variable] = [*variables(DefaultUpstream), *variables(Settings)]
"""Every variable that an environment can set, in the order of README's table."""


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Returns the settings that `environ` (default: this process's) asks for.

    Raises ConfigurationError, whose detail names the variable, what was wrong and what is allowed.
    """
    environ = dict(os.environ if environ is None else environ)
    refuse_unknown(environ, [variable.name for variable in VARIABLES])
    return read(Settings, environ)


def check_bind(settings: Settings, host: str) -> None:
    """Raises ConfigurationError when `host` is reachable from other machines while nobody has to sign in."""
    if settings.requires_sign_in or host == "localhost":
        return
    try:
        is_loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise ConfigurationError(
            f"refusing to listen on {host}: without authentication only this machine may connect. "
            "Set TRILANE_API_KEYS=alice:<key of 32 or more characters> or TRILANE_JWT_SECRET, or use --host 127.0.0.1"
        )
