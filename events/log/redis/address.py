"""Reads the URL of a log on Redis: where its servers are, and what is asked of them. Pure.

    redis://[user:password@]host[:port][/db]              one server
    rediss://...                                          the same with TLS
    unix://[user:password@]/path[?db=0]                   one server by its socket
    redis+sentinel://host[:port],.../service[/db]         the primary that sentinels name; rediss+sentinel with TLS
    redis+cluster://host[:port],...                       a cluster; rediss+cluster with TLS

Options in its query: `wait` (replicas that must have an append before it is acknowledged), `wait_ms` (how long one
look waits for them), `prefix` (of all keys), `db`, `sentinel_username`, `sentinel_password`, and with TLS
`ssl_ca_certs`, `ssl_certfile`, `ssl_keyfile`, `ssl_cert_reqs`, `ssl_check_hostname`. An error never shows a password.
"""

import re
from typing import Literal
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import msgspec

from gateway.errors import ConfigurationError

AddressKind = Literal["server", "sentinel", "cluster"]
KINDS: dict[str, AddressKind] = {
    "redis": "server",
    "unix": "server",
    "redis+sentinel": "sentinel",
    "redis+cluster": "cluster",
}
TLS_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")
OPTIONS = ("wait", "wait_ms", "prefix", "db", "sentinel_username", "sentinel_password", *TLS_OPTIONS)
PORT = 6379
SENTINEL_PORT = 26379
MAX_WAIT_MS = 4000
"""Maximum milliseconds that one look waits for replicas: less than a server has to answer."""
_HOST = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?", re.ASCII)
_PREFIX = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


class RedisAddress(msgspec.Struct, frozen=True, kw_only=True):
    """What a URL says."""

    shown: str
    """The URL as messages show it: without password and options."""
    kind: AddressKind
    hosts: list[tuple[str, int]] = []
    """The server; or the sentinels, or some nodes of the cluster."""
    path: str = ""
    """Path of the server's socket, in place of a host."""
    service: str = ""
    """Name of the primary among the sentinels."""
    username: str | None = None
    password: str | None = None
    sentinel_username: str | None = None
    sentinel_password: str | None = None
    db: int = 0
    tls: dict[str, str | bool] | None = None
    """The driver's options of TLS; None: no TLS."""
    tag: str = "trilane"
    """What all keys begin with, in braces: on a cluster it decides the slot."""
    wait_replicas: int = 0
    wait_ms: int = 1000

    @property
    def prefix(self) -> str:
        return f"{{{self.tag}}}:"


def parse_address(url: str) -> RedisAddress:
    """Returns the address in a URL. Raises ConfigurationError that shows no secret."""
    if re.search(r",\s*(redis|unix)[a-z+]*://", url):
        raise ConfigurationError("TRILANE_LOG names several URLs: this version keeps the log on one server or cluster")
    parts = urlsplit(url)
    scheme = parts.scheme.replace("rediss", "redis", 1)
    if scheme not in KINDS:
        raise ConfigurationError(f"TRILANE_LOG={parts.scheme}://...: want one of {', '.join(KINDS)} (rediss: with TLS)")
    kind, has_tls = KINDS[scheme], parts.scheme.startswith("rediss")
    login, _, netloc = parts.netloc.rpartition("@")
    username, _, password = login.partition(":")
    hosts = _hosts(parts.scheme, netloc, SENTINEL_PORT if kind == "sentinel" else PORT) if scheme != "unix" else []
    shown = f"{parts.scheme}://{username + '@' if username else ''}{netloc}{parts.path}"
    options = _options(parts, shown, has_tls)
    segments = parts.path.strip("/").split("/") if scheme != "unix" else []
    service = unquote(segments.pop(0)) if kind == "sentinel" and segments else ""
    db = _number(options.get("db", segments.pop(0) if segments and segments[0] else "0"), "the database", shown)
    if [segment for segment in segments if segment] or (kind == "sentinel" and not service):
        form = "host:port,host:port/service/db" if kind == "sentinel" else "host:port/db"
        raise ConfigurationError(f"TRILANE_LOG={shown}: want {parts.scheme}://{form}")
    if kind == "cluster" and db:
        raise ConfigurationError(f"TRILANE_LOG={shown}: a cluster has database 0 only")
    if kind == "server" and len(hosts) > 1:
        raise ConfigurationError(f"TRILANE_LOG={shown}: several hosts need redis+sentinel:// or redis+cluster://")
    wait_ms = _number(options.get("wait_ms", "1000"), "wait_ms", shown)
    if not 1 <= wait_ms <= MAX_WAIT_MS:
        raise ConfigurationError(f"TRILANE_LOG={shown}: want wait_ms from 1 to {MAX_WAIT_MS}, not {wait_ms}")
    tag = options.get("prefix", "trilane")
    if not _PREFIX.fullmatch(tag):
        raise ConfigurationError(f"TRILANE_LOG={shown}: want a prefix of 1 to 64 letters, digits, '.', '_' and '-'")
    return RedisAddress(
        shown=shown,
        kind=kind,
        hosts=hosts,
        path=unquote(parts.path) if scheme == "unix" else "",
        service=service,
        username=unquote(username) or None,
        password=unquote(password) or None,
        sentinel_username=options.get("sentinel_username"),
        sentinel_password=options.get("sentinel_password"),
        db=db,
        tls=_tls(options) if has_tls else None,
        tag=tag,
        wait_replicas=_number(options.get("wait", "0"), "wait", shown),
        wait_ms=wait_ms,
    )


def _hosts(scheme: str, netloc: str, port: int) -> list[tuple[str, int]]:
    hosts: list[tuple[str, int]] = []
    for item in netloc.split(",") if netloc else ["127.0.0.1"]:
        match = _HOST.fullmatch(item)
        if match is None or int(match[2] or port) > 65_535:  # it may be the rest of a password: it is not shown
            raise ConfigurationError(
                f"TRILANE_LOG={scheme}://...: want host:port after the last '@'; "
                "in a password write '/', '@', '?', '#' and '%' percent-encoded, such as %2F"
            )
        hosts.append((match[1].strip("[]"), int(match[2] or port)))
    return hosts


def _options(parts: SplitResult, shown: str, has_tls: bool) -> dict[str, str]:
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    for name in options:
        if name not in OPTIONS:
            raise ConfigurationError(f"TRILANE_LOG={shown}: unknown option {name[:40]!r}; want {', '.join(OPTIONS)}")
        if name in TLS_OPTIONS and not has_tls:
            raise ConfigurationError(f"TRILANE_LOG={shown}: {name} is for rediss:// URLs, which use TLS")
    return options


def _tls(options: dict[str, str]) -> dict[str, str | bool]:
    tls: dict[str, str | bool] = {name: options[name] for name in TLS_OPTIONS if name in options}
    if "ssl_check_hostname" in tls:
        tls["ssl_check_hostname"] = str(tls["ssl_check_hostname"]).lower() not in ("0", "no", "false")
    return tls


def _number(text: str, what: str, shown: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text, re.ASCII):
        raise ConfigurationError(f"TRILANE_LOG={shown}: want {what} as a number, not {text[:40]!r}")
    return int(text)
