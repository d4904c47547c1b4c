"""Declares every setting once: field, type, permitted range, default, meaning. The only reader of `os.environ`.

Those of upstreams stand in `gateway.upstream_settings`, those of tools in `gateway.tool_settings`, those of limits in
`gateway.limit_settings`, those of the voice in `gateway.speech_settings`, and `gateway.credential_settings` says how
secrets are written.

A field's variable is `TRILANE_` and the field's name. `load` reads them all by these declarations alone, and README's
tables are made from them (`tests/readme_settings.py`). A misspelt `TRILANE_` variable is an error at start, with the
nearest right name.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from gateway.credential_settings import (
    SAFE_KEY_LENGTH,
    ApiKeys,
    ProviderUrl,
    Secrets,
    WebhookKey,
    WebhookUrl,
    is_this_machine,
)
from gateway.encryption_settings import EncryptionKeys
from gateway.environment import (
    Notation,
    Variable,
    number_or_auto,
    one_of,
    prefixed,
    read,
    read_list,
    refuse_unknown,
    variables,
)
from gateway.errors import ConfigurationError
from gateway.limit_settings import Count, Limits, UserLimits
from gateway.speech_settings import SpeechSettings
from gateway.tool_settings import ToolServers
from gateway.upstream_settings import AgentFunctions, DefaultUpstream, Network, Pricing, UpstreamSettings, UpstreamsFile

PORTS = {"all": 8000, "chat": 8001, "events": 8002, "audio": 8003}
"""Default port of each unit."""
WORKERS = number_or_auto(256)

Seconds = Annotated[float, Meta(ge=0)]


Names = Annotated[list[str], Notation("`a,b,...`", read_list)]
Workers = Annotated[int | Literal["auto"] | None, WORKERS]


# What can be set

CollectorUrl = Annotated[str, Notation("address", lambda environ, variable: environ.get(variable, "").strip())]
SdkWord = Annotated[str, Notation("", lambda environ, variable: environ.get(variable, "").strip().lower())]


class Tracing(Struct, frozen=True, kw_only=True, rename="upper"):
    """Where traces go, in the variables of the OpenTelemetry SDK, which reads these and its others by itself."""

    otel_exporter_otlp_endpoint: Annotated[
        CollectorUrl,
        Meta(
            description="Collector that traces are sent to, by OTLP over HTTP, such as `http://collector:4318`; unset: "
            "none are made. With it the SDK's other `OTEL_` variables hold"
        ),
    ] = ""
    otel_exporter_otlp_traces_endpoint: Annotated[
        CollectorUrl, Meta(description="In its place: its whole address, such as `http://collector:4318/v1/traces`")
    ] = ""
    otel_exporter_otlp_protocol: SdkWord = ""
    otel_exporter_otlp_traces_protocol: SdkWord = ""
    otel_traces_exporter: SdkWord = ""
    otel_sdk_disabled: SdkWord = ""

    @property
    def is_on(self) -> bool:
        """Returns whether spans are made."""
        is_off = self.otel_sdk_disabled == "true" or self.otel_traces_exporter == "none"
        return bool(self.collector) and not is_off

    @property
    def collector(self) -> str:
        return self.otel_exporter_otlp_traces_endpoint or self.otel_exporter_otlp_endpoint

    @property
    def protocol(self) -> str:
        """Returns the protocol that is asked for; empty for the default."""
        return self.otel_exporter_otlp_traces_protocol or self.otel_exporter_otlp_protocol


class Settings(Struct, frozen=True, kw_only=True, rename=prefixed("TRILANE_")):
    """Every setting of a unit, with its default."""

    upstreams: Annotated[
        UpstreamsFile, Meta(description="Several upstreams in order of preference, in place of the one above")
    ] = []
    agents: Annotated[
        AgentFunctions, Meta(description="Python functions that are agents, each in a process of its own; as `--agent`")
    ] = []
    agent_python: Annotated[
        str, Meta(description="Their interpreter, such as `.venv/bin/python`; unset: the gateway's")
    ] = ""
    pricing: Pricing = Pricing()
    tools: ToolServers = ToolServers()
    network: Network = Network()
    data_dir: Annotated[Path, Meta(description="Folder of the gateway's files")] = Path(".trilane")
    log: Annotated[
        str,
        Meta(
            description="The log: `sqlite:///path`, `redis://host`, `postgres://user:password@host/database` "
            "(other forms: see above) or `memory:`; unset: `trilane.db` in `TRILANE_DATA_DIR`"
        ),
    ] = ""
    encryption_key: Annotated[
        EncryptionKeys,
        Meta(
            description="What the log's content is encrypted with: the first key encrypts, all of them decrypt; "
            "with `none` first nothing more is encrypted"
        ),
    ] = []
    sign_in: Annotated[
        str | None,
        one_of("required"),
        Meta(
            description="`required`: nobody gets in without, even with none of the next ones set (see `trilane keys`)"
        ),
    ] = None
    api_keys: Annotated[
        ApiKeys, Meta(description="Keys, each with the user it stands for; `user+operator:key` grants `operator`")
    ] = {}
    """The keys by their SHA-256, in hex."""
    jwt_secret: Annotated[
        Secrets, Meta(description="Secrets of HS256 tokens: the first signs, and all of them are good")
    ] = []
    jwks_url: Annotated[
        ProviderUrl, Meta(description="The JSON Web Key Set of the identity provider whose tokens are good here")
    ] = ""
    oidc_url: Annotated[
        ProviderUrl, Meta(description="In its place: the issuer, which OpenID Connect discovery finds that set by")
    ] = ""
    jwt_issuer: Annotated[
        str, Meta(description="The `iss` that every token must have; unset: that of `TRILANE_OIDC_URL`")
    ] = ""
    jwt_audience: Annotated[
        str, Meta(description="The `aud` that every token must have; unset: tokens must have none")
    ] = ""
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
    allowed_fetches: Annotated[
        Names,
        Meta(
            description="What clients may have a model's server fetch: schemes, then only from public hosts, and "
            "beginnings of addresses, such as `http://media.lan:8080/`; unset: `https`; `data`: nothing"
        ),
    ] = []
    docs: Annotated[
        str | None,
        one_of("operators"),
        Meta(
            description="Who may read `/docs` and `/openapi.json`, as `/metrics`; unset: everybody, since they are the "
            "same for every gateway of this version"
        ),
    ] = None
    trusted_proxies: Annotated[Names, Meta(description="Addresses whose `X-Forwarded-*` headers are believed")] = []
    public_url: Annotated[
        ProviderUrl,
        Meta(description="Address of this gateway for browsers; servers of tools send them back to it (`auth`)"),
    ] = ""
    usage_webhook_url: Annotated[
        WebhookUrl, Meta(description="Where settled usage is posted, for billing; unset: nowhere")
    ] = ""
    usage_webhook_secret: Annotated[
        WebhookKey, Meta(description="Secret that such posts are signed with, as Standard Webhooks has it")
    ] = b""
    run_webhook_url: Annotated[
        WebhookUrl, Meta(description="Where the ends of runs in the background are posted; unset: nowhere")
    ] = ""
    run_webhook_secret: Annotated[WebhookKey, Meta(description="Secret that those are signed with, likewise")] = b""
    metrics_port: Annotated[
        int,
        Meta(
            ge=0,
            le=65_535,
            description="Separate port for `/metrics`; 0: it is served with everything else, to callers on this "
            "machine and to operators",
        ),
    ] = 0
    metrics_host: Annotated[
        str, Meta(description="Address of that port; whoever reaches it reads the figures, without sign-in")
    ] = "127.0.0.1"
    tracing: Tracing = Tracing()
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
    max_steps: Annotated[
        int,
        Meta(ge=1, le=1000, description="Calls of the model that one answer may take, each after the tools it called"),
    ] = 20
    ask_s: Annotated[
        float, Meta(ge=0.01, le=1e9, description="Time in which a person can answer whether a tool may be called")
    ] = 604_800.0
    ui: Annotated[
        int, Meta(ge=5, le=7, description="AI SDK version of clients that do not name theirs by `?ui=`: 5, 6 or 7")
    ] = 6
    ping_s: Annotated[float, Meta(ge=0.01, le=3600, description="Silence after which a stream is sent a ping")] = 15.0
    max_age_s: Annotated[
        float, Meta(ge=1, le=1e9, description="Age, less up to a fifth, at which a notification stream is reopened")
    ] = 600.0
    drain_delay_s: Annotated[
        Seconds, Meta(description="Time from SIGTERM until new connections are refused, for a load balancer to notice")
    ] = 0.0
    drain_window_s: Annotated[Seconds, Meta(description="Time over which readers are then sent away, evenly")] = 20.0
    drain_deadline_s: Annotated[Seconds, Meta(description="Time from SIGTERM until whatever still runs is cut")] = 120.0
    session_kept_s: Annotated[
        float,
        Meta(ge=1, description="Time for which an audio session waits for its client; then it is over, and is settled"),
    ] = 3600.0
    session_idle_s: Annotated[
        float, Meta(ge=1, le=1e9, description="Time without speech after which an audio session gives up its place")
    ] = 600.0
    retention_events: Annotated[Count, Meta(description="Events that a topic keeps")] = 10_000
    retention_bytes: Annotated[Count, Meta(description="Bytes that a topic or a run keeps")] = 16_777_216
    retention_s: Annotated[Seconds, Meta(description="Time for which a topic keeps an event")] = 604_800.0
    retention_chats_s: Annotated[
        Seconds,
        Meta(description="Time after which a chat that nobody writes to is deleted, with its runs; 0: never"),
    ] = 0.0
    whisper_model: Annotated[
        str,
        Meta(
            description="Speech models, the default first: folders with a Whisper model for CTranslate2, "
            "`whisper-tiny.en`, `whisper-base`; unset: those that are installed"
        ),
    ] = ""
    whisper_device: Annotated[
        str, Meta(description="`cpu` or `cuda`; on CUDA sessions share batches, which was not measured on a GPU")
    ] = "cpu"
    whisper_compute: Annotated[str, Meta(description="Number type of the model: `int8`, `float16` ...")] = "int8"
    speech: SpeechSettings = SpeechSettings()
    limits: Limits = Limits()
    user_limits: UserLimits = UserLimits()

    @property
    def all_upstreams(self) -> list[UpstreamSettings]:
        """Returns the upstreams, and the agents that are functions after them."""
        python = self.agent_python
        return [*self.upstreams, *(msgspec.structs.replace(agent, agent_python=python) for agent in self.agents)]

    @property
    def log_url(self) -> str:
        return self.log or f"sqlite:///{self.data_dir / 'trilane.db'}"

    @property
    def shown_log(self) -> str:
        """Returns the log's URL without its login and its options, which may hold passwords."""
        return self.log_url.split("@")[-1].partition("?")[0]

    @property
    def requires_sign_in(self) -> bool:
        return bool(self.sign_in or self.api_keys or self.takes_tokens)

    @property
    def takes_tokens(self) -> bool:
        return bool(self.jwt_secret or self.jwks_url or self.oidc_url)


VARIABLES: list[Variable] = [*variables(DefaultUpstream), *variables(Settings)]
"""Every variable that an environment can set, in the order of README's table."""


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Returns the settings that `environ` (default: this process's) asks for.

    Raises ConfigurationError, whose detail names the variable, what was wrong and what is allowed.
    """
    environ = dict(os.environ if environ is None else environ)
    refuse_unknown(environ, [variable.name for variable in VARIABLES])
    settings = read(Settings, environ)
    if settings.jwks_url and settings.oidc_url:
        raise ConfigurationError("TRILANE_JWKS_URL and TRILANE_OIDC_URL name two providers: set one of them")
    names = [upstream.name for upstream in settings.all_upstreams]
    if doubled := next((name for name in names if names.count(name) > 1), None):
        raise ConfigurationError(f"TRILANE_AGENTS: another agent or upstream has the name {doubled!r}")
    return settings


def check_bind(settings: Settings, host: str) -> None:
    """Raises ConfigurationError when `host` is reachable from other machines and what keeps them out is too little."""
    if is_this_machine(host):
        return
    if not settings.requires_sign_in:
        raise ConfigurationError(
            f"refusing to listen on {host}: without authentication only this machine may connect. "
            "Set TRILANE_API_KEYS=alice:<key of 32 or more characters> or TRILANE_JWT_SECRET, or use --host 127.0.0.1"
        )
    short = next((key for key in settings.api_keys.values() if key.is_short), None)
    if short is not None:
        raise ConfigurationError(
            f"refusing to listen on {host}: the key of {short.user!r} in TRILANE_API_KEYS can be guessed. "
            f"Want {SAFE_KEY_LENGTH} characters or more, such as `openssl rand -hex 32` gives"
        )
