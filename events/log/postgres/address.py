"""Reads the address of a PostgreSQL server, and words its failures without the password."""

from collections.abc import Callable
from urllib.parse import parse_qsl, urlencode

import msgspec
import psycopg
from psycopg import conninfo

from gateway.errors import ConfigurationError, LogDamaged, LogError, LogUnavailable

SCHEMES = ("postgres://", "postgresql://")
NAME = "trilane"
"""Name under which a gateway shows in `pg_stat_activity`."""
PASSING = frozenset({"40001", "40P01", "23505", "23514", "55P03", "57014", "25006", "57P01", "57P02", "57P03", "53300"})
"""SQLSTATEs after which the same may work: conflicts, time limits, servers that stop, start or only read."""
LEAVING = frozenset({"25006", "57P01", "57P02", "57P03", "53300"})
"""SQLSTATEs after which another connection, perhaps to another server, may do better."""


class Address(msgspec.Struct, frozen=True):
    """Where the server is, and whether PgBouncer stands before it (None: found out on connecting)."""

    conninfo: str
    is_pooled: bool | None
    secrets: tuple[str, ...]

    def without_secrets(self, text: str) -> str:
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return text


def parse_address(url: str) -> Address:
    """Returns the address that a URL names: libpq's own form, and `pgbouncer=1` or `=0`. Raises ConfigurationError."""
    start, _, query = url.partition("?")
    parameters = parse_qsl(query, keep_blank_values=True)
    pooled = [value for key, value in parameters if key == "pgbouncer"]
    if any(value not in ("0", "1") for value in pooled):
        raise ConfigurationError(f"TRILANE_LOG: pgbouncer={pooled[0][:20]!r}: 1 says that it is one, 0 that it is not")
    rest = urlencode([pair for pair in parameters if pair[0] != "pgbouncer"])
    text = f"{start}?{rest}" if rest else start
    try:
        fields = conninfo.conninfo_to_dict(text)
    except psycopg.Error as err:
        raise ConfigurationError(
            "TRILANE_LOG is no address of a PostgreSQL server: postgres://user:password@host:5432/database"
        ) from err
    secrets = tuple(str(fields[key]) for key in ("password", "sslpassword") if fields.get(key))
    made = conninfo.make_conninfo(
        text,
        **{
            key: value
            for key, value in {
                "application_name": NAME,
                "connect_timeout": "5",
                "keepalives_idle": "10",
                "keepalives_interval": "5",
                "keepalives_count": "3",
                "tcp_user_timeout": "15000",
            }.items()
            if key not in fields
        },
    )
    return Address(made, pooled[-1] == "1" if pooled else None, secrets)


class DatabaseError(Exception):
    """A statement failed. `is_passing` says that the same may work later, `is_lost` that its outcome is not known."""

    def __init__(self, detail: str, *, state: str = "", is_lost: bool = False) -> None:
        super().__init__(detail)
        self.state = state
        self.is_lost = is_lost

    @property
    def is_passing(self) -> bool:
        return self.is_lost or self.state in PASSING

    @property
    def log_error(self) -> LogError:
        """Returns the error as callers of the log know it."""
        if self.state in ("XX001", "XX002"):
            return LogDamaged(f"a part of the database is damaged: {self}")
        return LogUnavailable(f"the database cannot be used: {self}")


def failure_of(err: psycopg.Error | OSError, redact: Callable[[str], str]) -> DatabaseError:
    """Returns what a driver's error means; its first line, without the password."""
    is_of_link = isinstance(err, psycopg.OperationalError | psycopg.InterfaceError | OSError)
    state = getattr(err, "sqlstate", None) or ""
    lines = str(err).strip().splitlines() or [type(err).__name__]
    return DatabaseError(redact(lines[0])[:300], state=state, is_lost=state in LEAVING or (is_of_link and not state))
