"""Declares the settings of tools: on which servers they live, which of them are offered, and what a call may do.

A tool that the file does not list is not offered. Nothing of the gateway's environment reaches a server's process but
what its own `env` names and INHERITED, so that no secret does by accident.
"""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, cast
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from gateway.environment import Notation
from gateway.errors import ConfigurationError
from gateway.table_places import explained

INHERITED = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR")
"""Variables that the process of a server has without being asked for."""
MAX_TIMEOUT_S = 86_400
SIGN_IN = "sign_in"
"""Name of the tool by which a model has its user sign in to a server."""

Timeout = Annotated[float, Meta(ge=0.01, le=MAX_TIMEOUT_S)]
ApprovingRole = Literal["owner", "approver"]
"""A role that may allow a tool's call."""


def _not_a_variable(environ: Mapping[str, str], variable: str) -> None:
    """Reads nothing: the setting stands in a file."""


class ToolSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One tool of a server; `[mcp.tools.NAME]` below its `[[mcp]]`."""

    approve: Annotated[
        Literal["auto", "ask", "deny"],
        Notation("`auto`, `ask` or `deny`", _not_a_variable),
        Meta(description="Whether a call is made at once, once somebody allows it, or never"),
    ] = "ask"
    effect: Annotated[
        Literal["read", "idempotent", "once"] | None,
        Notation("`read`, `idempotent` or `once`", _not_a_variable),
        Meta(description="What a call does: nothing, the same with the same key, or something new; unset: `once`"),
    ] = None
    roles: Annotated[
        tuple[ApprovingRole, ...],
        Notation("list of `owner` and `approver`", _not_a_variable),
        Meta(min_length=1, description="Who of a chat's members may allow a call"),
    ] = ("owner", "approver")
    editable: Annotated[
        bool,
        Notation("`true` or `false`", _not_a_variable),
        Meta(description="Whether who allows a call may change its input"),
    ] = False
    timeout_s: Annotated[Timeout | None, Meta(description="Longest time of a call, in place of its server's")] = None


class McpSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One server of the Model Context Protocol; `[[mcp]]` in the file of `TRILANE_UPSTREAMS`."""

    name: Annotated[
        str,
        Notation("letters, digits, `-` and single `_` within, at most 32", _not_a_variable),
        Meta(
            pattern="^[A-Za-z0-9-]+(_[A-Za-z0-9-]+)*$",
            max_length=32,
            description="Its name; the model sees its tool `find` as `NAME__find`",
        ),
    ]
    url: Annotated[str, Meta(description="Its address, where it speaks Streamable HTTP")] = ""
    command: Annotated[
        list[str], Meta(description="In its place: the program that it is, and its arguments; it speaks stdio")
    ] = []
    env: Annotated[
        dict[str, str],
        Notation("list of texts", _not_a_variable),
        Meta(description="Names of the gateway's environment variables that its program gets, such as its key"),
    ] = {}
    """The whole environment of its program, by name."""
    headers: Annotated[
        dict[str, str],
        Meta(description="Headers of each request to `url`; a value `$NAME` is that environment variable's"),
    ] = {}
    api_key_env: Annotated[
        str, Meta(description="Name of the environment variable that holds its key (`Authorization: Bearer`)")
    ] = ""
    auth: Annotated[
        Literal["oauth", "client-credentials"] | None,
        Notation("`oauth` or `client-credentials`", _not_a_variable),
        Meta(description="How one signs in to it, in place of a key: each user in a browser, or the gateway itself"),
    ] = None
    client_id: Annotated[
        str, Meta(description="With `auth`: the gateway's name at its authorization server; unset: it registers itself")
    ] = ""
    client_secret: Annotated[
        str, Meta(description="With `client_id`: the secret; a value `$NAME` is that environment variable's")
    ] = ""
    issuer: Annotated[
        str, Meta(description="With `client-credentials`: the address of the authorization server that knows them")
    ] = ""
    scope: Annotated[str, Meta(description="With `client-credentials`: what is asked for, names with spaces")] = ""
    timeout_s: Annotated[Timeout, Meta(description="Longest time of a call")] = 60.0
    session: Annotated[
        Literal["shared", "user"],
        Notation("`shared` or `user`", _not_a_variable),
        Meta(description="Whether all users are served in one session, or each in one of their own; `oauth`: `user`"),
    ] = "shared"
    tools: dict[str, ToolSettings] = {}
    """What it may be asked, by the server's own names."""


def toml_text(path: str) -> str:
    """Returns the text of the file of `TRILANE_UPSTREAMS`. Raises OSError and ValueError."""
    return Path(path).read_text("utf-8")


def toml_table(text: str, parse_float: Any = float) -> dict[str, Any]:
    """Returns what that text says. Raises ValueError."""
    return tomllib.loads(text, parse_float=parse_float)


def _servers(environ: Mapping[str, str], variable: str) -> list[McpSettings]:
    path = environ.get(variable, "")
    if not path:
        return []
    text, tables = "", None
    try:
        text = toml_text(path)
        tables = toml_table(text).get("mcp", [])
        servers = msgspec.convert(with_environments(tables, environ, path, "mcp"), list[McpSettings])
    except (OSError, ValueError, msgspec.ValidationError) as err:
        raise ConfigurationError(f"{variable}={path}: {explained(err, text, 'mcp', tables)}") from err
    names = [server.name for server in servers]
    if doubled := next((name for name in names if names.count(name) > 1), None):
        raise ConfigurationError(f"{path}: two [[mcp]] have the name {doubled!r}")
    for server in servers:
        _check(server, path)
    return [_with_headers(server, environ, path) for server in servers]


def with_environments(
    tables: object, environ: Mapping[str, str], path: str, kind: str, inherited: Sequence[str] = INHERITED
) -> list[object]:
    """Returns the tables with the values of the variables that each `env` names, and of those that all programs get.

    `kind` is the tables' name in the file.
    """
    if not isinstance(tables, list):
        raise ConfigurationError(f"{path}: `{kind}` is no list of tables: want [[{kind}]]")
    given = {name: environ[name] for name in inherited if name in environ}
    rows: list[object] = []
    for table in cast("list[object]", tables):
        if isinstance(table, dict):
            row = cast("dict[str, object]", table)
            names = row.get("env", [])
            if not isinstance(names, list) or not all(isinstance(one, str) for one in cast("list[object]", names)):
                what = f"`env` of [[{kind}]] {row.get('name')!r}"
                raise ConfigurationError(f"{path}: {what} is no list of variables' names")
            owner = f"[[{kind}]] {row.get('name')!r}"
            handed_on = {one: _named(one, environ, path, owner) for one in cast("list[str]", names)}
            rows.append({**row, "env": {**given, **handed_on}})
        else:
            rows.append(table)
    return rows


def _named(variable: str, environ: Mapping[str, str], path: str, owner: str) -> str:
    if variable not in environ:
        raise ConfigurationError(f"{path}: {owner} needs ${variable}, which is not set")
    return environ[variable].strip()


def _check(server: McpSettings, path: str) -> None:
    place = f"{path}: [[mcp]] {server.name!r}"
    if bool(server.url) == bool(server.command):
        raise ConfigurationError(f"{place}: want `url` or `command`, one of them")
    if server.command and (server.headers or server.api_key_env):
        raise ConfigurationError(f"{place} has a `command`, which takes no headers: `env` hands variables on to it")
    _check_auth(server, place)
    if server.command and not server.command[0]:
        raise ConfigurationError(f"{place}: the first text of `command` is the program, and is empty")
    try:
        address = urlsplit(server.url)
        is_address = address.scheme in ("http", "https") and bool(address.hostname) and address.port != 0
    except ValueError:
        is_address = False
    if server.url and not is_address:
        raise ConfigurationError(f"{place}: its `url` is no address: want http://host/mcp or https://host/mcp")


def _check_auth(server: McpSettings, place: str) -> None:
    if not server.auth and (server.client_id or server.client_secret or server.issuer or server.scope):
        raise ConfigurationError(f"{place}: `client_id`, `client_secret`, `issuer` and `scope` go with `auth`")
    if server.auth and (server.command or server.api_key_env):
        raise ConfigurationError(f"{place}: `auth` goes with a `url`, and in place of `api_key_env`")
    if server.client_secret and not server.client_id:
        raise ConfigurationError(f"{place}: a `client_secret` goes with a `client_id`")
    if server.auth == "client-credentials" and not (server.client_id and server.client_secret and server.issuer):
        raise ConfigurationError(f"{place}: `client-credentials` wants `client_id`, `client_secret` and `issuer`")
    if server.auth == "oauth" and SIGN_IN in server.tools:
        raise ConfigurationError(f"{place}: its tool {SIGN_IN!r} has the name of the one by which users sign in")


def _with_headers(server: McpSettings, environ: Mapping[str, str], path: str) -> McpSettings:
    """Returns the server with the headers that the environment holds; its key is one of them."""
    headers = {
        name: _named(text[1:], environ, path, f"[[mcp]] {server.name!r}") if text[:1] == "$" else text
        for name, text in server.headers.items()
    }
    if server.api_key_env:
        headers["authorization"] = f"Bearer {_named(server.api_key_env, environ, path, f'[[mcp]] {server.name!r}')}"
    for name, value in headers.items():
        if not (name.isascii() and name.isprintable() and value.isascii() and value.isprintable()) or " " in name:
            raise ConfigurationError(f"{path}: [[mcp]] {server.name!r}: {name[:40]!r} or its value can be no header")
    secret = server.client_secret
    if secret[:1] == "$":
        secret = _named(secret[1:], environ, path, server.name)
    session = "user" if server.auth == "oauth" else server.session
    return msgspec.structs.replace(server, headers=headers, client_secret=secret, session=session)


class ToolServers(Struct, frozen=True, kw_only=True, rename={"mcp": "TRILANE_UPSTREAMS"}):
    """The servers of tools in the file of upstreams."""

    mcp: Annotated[list[McpSettings], Notation("", _servers)] = []
