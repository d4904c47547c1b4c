"""Declares the settings of upstreams: which are asked, in which order, with which rights, and the way out to them."""

import datetime
import re
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal, cast

import msgspec
from msgspec import Meta, Struct

from gateway.environment import Notation, read
from gateway.errors import ConfigurationError
from gateway.table_places import explained, place_of
from gateway.tool_settings import INHERITED, toml_table, toml_text, with_environments

OPENAI_URL = "https://api.openai.com/v1"
OPENAI_MODEL = "gpt-4.1-mini"

PositiveSeconds = Annotated[float, Meta(ge=0.01)]
Weight = Annotated[float, Meta(ge=0.01, le=1000)]
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


UpstreamKind = Literal["openai", "ag-ui", "ui-message", "python", "worker"]
"""What an upstream speaks: a model's wire format, one of the protocols of agents, or that of workers."""
WireFormat = Literal["chat", "messages", "responses"]
"""The wire format of a model's server."""
PYTHON_INHERITED = (*INHERITED, "PYTHONPATH")
"""Variables that the process of a `python` agent has without being asked for."""
FUNCTION = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


class UpstreamSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One OpenAI-compatible server, or an agent; `[[upstream]]` in the file of `TRILANE_UPSTREAMS`."""

    name: Annotated[str, Meta(description="Its name in usage rows, logs and errors; no two have the same")]
    base_url: Annotated[
        str,
        Meta(description="Its address, such as `http://127.0.0.1:11434/v1`; required but for `python` and `worker`"),
    ] = ""
    kind: Annotated[
        UpstreamKind,
        Notation("`openai`, `ag-ui`, `ui-message`, `python` or `worker`", lambda environ, variable: None),
        Meta(description="What it speaks; all but `openai` are agents, chosen by their `name` or `models`"),
    ] = "openai"
    wire: Annotated[
        WireFormat,
        Notation("`chat`, `messages` or `responses`", lambda environ, variable: None),
        Meta(description="Wire format of an `openai` one: OpenAI's completions or Responses, or Anthropic's Messages"),
    ] = "chat"
    function: Annotated[str, Meta(description="Of a `python` agent: its function, such as `shop.agents:support`")] = ""
    agent_python: Annotated[
        str, Meta(description="Its interpreter, such as `.venv/bin/python`, with `trilane_agent`; unset: the gateway's")
    ] = ""
    env: Annotated[
        dict[str, str],
        Notation("list of texts", lambda environ, variable: None),
        Meta(description="Names of the gateway's environment variables that its process gets, such as its keys"),
    ] = {}
    """The whole environment of its process, by name."""
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
    aliases: Annotated[
        dict[str, str],
        Meta(description="Further names that requests may use, each with the model that it stands for here"),
    ] = {}
    weight: Annotated[
        Weight | None,
        Meta(description="Its share of the chats among neighbours in the file that have one; unset: it gets all"),
    ] = None
    retries: Annotated[
        int,
        Meta(
            ge=0,
            le=5,
            description="Times that a request is repeated here, when it failed in passing at all who may answer it",
        ),
    ] = 0
    system: Annotated[str, Meta(description="System prompt that comes before whatever a client says")] = ""
    client_options: Annotated[
        list[ClientOption] | None,
        Meta(description="What clients may set, such as `tools` or `temperature`; unset: everything"),
    ] = None
    first_token_s: Annotated[PositiveSeconds | None, Meta(description="In place of `TRILANE_FIRST_TOKEN_S`")] = None
    between_tokens_s: Annotated[PositiveSeconds | None, Meta(description="In place of `TRILANE_BETWEEN_TOKENS_S`")] = (
        None
    )
    run_s: Annotated[
        PositiveSeconds | None,
        Meta(description="In place of `TRILANE_RUN_S`; where several upstreams serve a model, the longest holds"),
    ] = None
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
    text, tables = "", None
    try:
        text = toml_text(path)
        table = toml_table(text)
        tables = table.get("upstream", [])
        upstreams = msgspec.convert(_with_env(tables, environ, path), list[UpstreamSettings])
    except (OSError, ValueError, msgspec.ValidationError) as err:
        raise ConfigurationError(f"{variable}={path}: {explained(err, text, 'upstream', tables)}") from err
    if not upstreams and ("price" in table or "mcp" in table):
        return read(DefaultUpstream, environ).upstreams()
    if not upstreams:
        raise ConfigurationError(f"{variable}={path} names no [[upstream]]")
    places = [
        f"{path}: {place_of(text, 'upstream', number)}upstream {upstream.name!r}"
        for number, upstream in enumerate(upstreams)
    ]
    names: set[str] = set()
    for upstream, place in zip(upstreams, places, strict=True):
        if upstream.name in names:
            raise ConfigurationError(f"{variable}={place}: two upstreams have the same name")
        names.add(upstream.name)
        _check(upstream, place)
    return [_with_secrets(*placed, environ, path) for placed in zip(upstreams, places, strict=True)]


def _with_env(tables: object, environ: Mapping[str, str], path: str) -> object:
    """Returns the tables, those of `python` agents with the environment of their process."""
    if not isinstance(tables, list):
        return tables
    rows: list[object] = []
    for table in cast("list[object]", tables):
        row = cast("dict[str, object]", table) if isinstance(table, dict) else {}
        is_python = row.get("kind") == "python"
        rows += with_environments([row], environ, path, "upstream", PYTHON_INHERITED) if is_python else [table]
    return rows


def _check(upstream: UpstreamSettings, place: str) -> None:
    """Raises ConfigurationError for an upstream that lacks what its kind needs, or has what it cannot use."""
    kind = upstream.kind
    if kind in ("python", "worker") and upstream.base_url:
        raise ConfigurationError(f"{place}: a {kind!r} agent has no `base_url`: it comes for its runs by itself")
    if kind not in ("python", "worker") and not upstream.base_url:
        raise ConfigurationError(f"{place} needs a `base_url`")
    if kind != "openai" and upstream.aliases:
        raise ConfigurationError(f"{place}: an agent is asked by its `name` or `models`: it has no `aliases`")
    if doubled := next((name for name in upstream.aliases if name in upstream.models), None):
        raise ConfigurationError(f"{place}: {doubled!r} is one of its `models` and of its `aliases`")
    if kind in ("python", "worker") and (upstream.weight is not None or upstream.retries):
        raise ConfigurationError(f"{place}: `weight` and `retries` are not for a {kind!r} agent")
    if kind == "python" and not FUNCTION.fullmatch(upstream.function):
        raise ConfigurationError(f"{place}: function={upstream.function!r}: want `module:function`")
    if kind != "python" and (upstream.function or upstream.agent_python):
        raise ConfigurationError(f'{place}: `function` and `agent_python` are for `kind = "python"`')


def _with_secrets(upstream: UpstreamSettings, place: str, environ: Mapping[str, str], path: str) -> UpstreamSettings:
    """Returns the upstream with the key and headers that the environment holds, and its files as absolute paths."""

    def named(variable: str) -> str:
        if variable not in environ:
            raise ConfigurationError(f"{place} needs ${variable}, which is not set")
        return environ[variable].strip()

    folder = Path(path).absolute().parent
    files = {name: getattr(upstream, name) for name in ("ca", "client_certificate", "client_key")}
    if "/" in upstream.agent_python:  # else it is found as a shell finds it
        files["agent_python"] = upstream.agent_python
    return msgspec.structs.replace(
        upstream,
        api_key=named(upstream.api_key_env) if upstream.api_key_env else upstream.api_key,
        headers={name: named(text[1:]) if text[:1] == "$" else text for name, text in upstream.headers.items()},
        **{name: str(folder / file) for name, file in files.items() if file},
    )


def _agents(environ: Mapping[str, str], variable: str) -> list[UpstreamSettings]:
    """Returns the agents of `NAME=MODULE:FUNCTION,...`."""
    inherited = {name: environ[name] for name in PYTHON_INHERITED if name in environ}
    agents: list[UpstreamSettings] = []
    for text in filter(None, (one.strip() for one in environ.get(variable, "").split(","))):
        name, _, function = text.partition("=")
        if not name or not FUNCTION.fullmatch(function):
            raise ConfigurationError(
                f"{variable}: {text!r}: want NAME=MODULE:FUNCTION, as in support=shop.agents:support"
            )
        agents.append(UpstreamSettings(name=name, kind="python", function=function, env=inherited))
    return agents


AgentFunctions = Annotated[list[UpstreamSettings], Notation("`name=module:function,...`", _agents)]
UpstreamsFile = Annotated[list[UpstreamSettings], Notation("path of a TOML file", _upstreams)]


# Prices

Amount = Annotated[Decimal, Notation("number of 0 or more", lambda environ, variable: None)]


class PriceSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one model costs; `[[price]]` in the file of `TRILANE_UPSTREAMS`."""

    model: Annotated[str, Meta(min_length=1, description="The model; `*` at the end stands for any further text")]
    upstream: Annotated[str, Meta(description="The upstream at which it costs this; unset: any, or none")] = ""
    since: Annotated[
        datetime.date | None,
        Notation("date, such as `2026-12-01`", lambda environ, variable: None),
        Meta(description="First day (UTC) of this price, until a later one's; unset: always"),
    ] = None
    currency: Annotated[str, Meta(pattern="^[A-Z]{3}$", description="Three letters, as in ISO 4217")] = "USD"
    input: Annotated[Amount | None, Meta(description="Price of a million input tokens")] = None
    cached_input: Annotated[
        Amount | None, Meta(description="Of a million of them that the upstream had cached; unset: as others")
    ] = None
    output: Annotated[Amount | None, Meta(description="Price of a million output tokens, reasoning included")] = None
    audio: Annotated[Amount | None, Meta(description="Price of a minute of audio that was heard, or spoken")] = None


MAX_PRICE = 1_000_000


def _prices(environ: Mapping[str, str], variable: str) -> list[PriceSettings]:
    path = environ.get(variable, "")
    if not path:
        return []
    text, tables = "", None
    try:
        text = toml_text(path)
        tables = toml_table(text, Decimal).get("price", [])
        prices = msgspec.convert(tables, list[PriceSettings])
    except (OSError, ValueError, msgspec.ValidationError) as err:
        raise ConfigurationError(f"{variable}={path}: {explained(err, text, 'price', tables)}") from err
    for price in prices:
        amounts = [price.input, price.cached_input, price.output, price.audio]
        if any(amount is not None and not (amount.is_finite() and 0 <= amount <= MAX_PRICE) for amount in amounts):
            raise ConfigurationError(f"{path}: a price of {price.model!r} is not a number from 0 to {MAX_PRICE}")
    names = [(price.model, price.upstream, price.since) for price in prices]
    if doubled := next((name for name in names if names.count(name) > 1), None):
        raise ConfigurationError(f"{path}: {doubled[0]!r} has two prices: tell them apart by `upstream` or `since`")
    return prices


class Pricing(Struct, frozen=True, kw_only=True, rename={"prices": "TRILANE_UPSTREAMS"}):
    """The prices in the file of upstreams."""

    prices: Annotated[list[PriceSettings], Notation("", _prices)] = []


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
