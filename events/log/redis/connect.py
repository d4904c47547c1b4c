"""Connects to the Redis server that takes the writes of a log: itself, the sentinels' primary, or a cluster's node.

`redis`'s connections do the handshake (TLS, password, database), and `wire` speaks from there on; its clients, pools
and retries are not used: who writes must know which connection a reply came from, and what was not answered when one
was lost. A server's refusal that another try may lift (it is loading, or no longer the primary) counts as a lost
connection.
"""

import asyncio
import random
import re
from collections.abc import Sequence
from typing import Any

import msgspec
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.crc import key_slot
from redis.exceptions import AuthenticationError, NoPermissionError, NoScriptError, RedisError, ResponseError

from events.log.redis.address import RedisAddress
from events.log.redis.scripts import COMPARE, Script
from events.log.redis.wire import Command, RedisWire
from gateway.errors import ConfigurationError, LogUnavailable

REPLY_S = 5.0
"""Seconds within which a server answers; past them the connection counts as lost."""
CONNECT_S = 3.0
MAX_DELAY_S = 1.0
"""Maximum seconds between two tries to connect."""
MIN_VERSION = (6, 2)
PASSING = re.compile(
    r"\b(LOADING|READONLY|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|MOVED|ASK|BUSY|NOREPLICAS|UNBLOCKED|max number of clients)\b"
)
"""Errors of a server that pass, or that another server does not give."""


class RedisConnection:
    """One connection on which one caller at a time asks; after a failure it is closed, and of no more use."""

    def __init__(self, connection: AbstractConnection, prefix: str) -> None:
        self._connection = connection
        self._wire = RedisWire(connection)
        self._prefix = prefix
        self.is_open = True

    async def ask(self, *commands: Command) -> list[Any]:
        """Sends commands at once and returns their replies; a lasting error of the server stands in its place.

        Raises LogUnavailable when the connection is lost: what was sent may have been done.
        """
        if not self.is_open:
            raise LogUnavailable("the connection to Redis was lost")
        try:
            async with asyncio.timeout(REPLY_S):
                self._wire.send(*commands)
                replies = [await self._wire.reply() for _ in commands]
        except (RedisError, OSError) as err:
            await self.close()
            raise unavailable(err) from err
        except BaseException:
            await self.close()
            raise
        for reply in replies:
            if isinstance(reply, ResponseError) and PASSING.search(f"{reply.status_code} {reply}"):
                await self.close()
                raise unavailable(reply)
        return replies

    async def run(self, script: Script, *arguments: str | bytes | int) -> Any:
        """Runs a script and returns its reply. Raises LogUnavailable, and ResponseError for a lasting error."""
        return (await self.run_all(script, *arguments))[0]

    async def run_all(self, script: Script, *arguments: str | bytes | int, then: Sequence[Command] = ()) -> list[Any]:
        """Runs a script, and sends further commands behind it; returns all replies. Raises as `run` does."""
        replies = await self.ask(("EVALSHA", script.digest, 1, self._prefix, *arguments), *then)
        if isinstance(replies[0], NoScriptError):
            replies = await self.ask(("EVAL", script.text, 1, self._prefix, *arguments), *then)
        for reply in replies:
            if isinstance(reply, ResponseError):
                raise reply
        return replies

    async def send(self, *command: str | bytes) -> None:
        """Sends a command whose reply another task gets by `message`."""
        try:
            self._wire.send(command)
        except (RedisError, OSError) as err:
            await self.close()
            raise unavailable(err) from err

    async def message(self) -> Any:
        """Waits for the next message of a subscription, without end."""
        try:
            return await self._wire.reply()
        except (RedisError, OSError) as err:
            await self.close()
            raise unavailable(err) from err

    async def close(self) -> None:
        self.is_open = False
        await self._connection.disconnect(nowait=True)


def unavailable(error: Exception) -> LogUnavailable:
    """Returns what callers are told of an error that the driver reports."""
    status = getattr(error, "status_code", None)
    reason = str(error) or ("no answer in time" if isinstance(error, TimeoutError) else type(error).__name__)
    return LogUnavailable(f"Redis cannot be used: {status + ' ' if status else ''}{reason}")


class Backoff:
    """The delays between tries: each is up to twice as long as the one before, and a random part of that."""

    def __init__(self) -> None:
        self._ceiling_s = 0.05

    def next_delay(self) -> float:
        delay_s = self._ceiling_s * random.uniform(0.5, 1)
        self._ceiling_s = min(MAX_DELAY_S, self._ceiling_s * 2)
        return delay_s


async def dial(address: RedisAddress) -> RedisConnection:
    """Returns a connection to the server that takes the writes now. Raises LogUnavailable."""
    try:
        if address.path:
            return await _dial(address, None)
        if address.kind == "server":
            return await _dial(address, address.hosts[0])
        return await _dial(address, await _primary_by_asking(address))
    except (RedisError, OSError) as err:
        raise unavailable(err) from err


async def _dial(address: RedisAddress, host: tuple[str, int] | None, *, is_sentinel: bool = False) -> RedisConnection:
    options: dict[str, Any] = {
        "db": 0 if is_sentinel else address.db,
        "username": address.sentinel_username if is_sentinel else address.username,
        "password": address.sentinel_password if is_sentinel else address.password,
        "socket_timeout": None,
        "socket_connect_timeout": CONNECT_S,
        "protocol": 2,
        "driver_info": None,
    }
    connection: AbstractConnection
    if host is None:
        connection = UnixDomainSocketConnection(path=address.path, **options)
    elif address.tls is not None:
        connection = SSLConnection(host=host[0], port=host[1], socket_keepalive=True, **options, **address.tls)
    else:
        connection = Connection(host=host[0], port=host[1], socket_keepalive=True, **options)
    try:
        async with asyncio.timeout(CONNECT_S + REPLY_S):
            await connection.connect()
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    return RedisConnection(connection, address.prefix)


async def _primary_by_asking(address: RedisAddress) -> tuple[str, int]:
    """Asks sentinels, or nodes of the cluster, one after the other, for the primary."""
    is_sentinel, failures = address.kind == "sentinel", list[str]()
    for host in random.sample(address.hosts, len(address.hosts)):
        try:
            connection = await _dial(address, host, is_sentinel=is_sentinel)
            try:
                return await (_ask_sentinel if is_sentinel else _ask_node)(connection, address, host)
            finally:
                await connection.close()
        except (RedisError, OSError, LogUnavailable) as err:
            failures.append(f"{host[0]}:{host[1]} says: {err}")
    raise LogUnavailable(f"no primary: {'; '.join(failures)}")


async def _ask_sentinel(connection: RedisConnection, address: RedisAddress, host: tuple[str, int]) -> tuple[str, int]:
    (reply,) = await connection.ask(("SENTINEL", "get-master-addr-by-name", address.service))
    if isinstance(reply, ResponseError):
        raise reply
    if reply is None:
        raise LogUnavailable(f"it knows no service {address.service!r}")
    return reply[0].decode(), int(reply[1])


async def _ask_node(connection: RedisConnection, address: RedisAddress, host: tuple[str, int]) -> tuple[str, int]:
    (reply,) = await connection.ask(("CLUSTER", "SLOTS"))
    if isinstance(reply, ResponseError):
        raise reply
    slot = key_slot(address.prefix.encode())
    for first, last, primary, *_ in reply:
        if first <= slot <= last:
            return (primary[0] or b"").decode() or host[0], int(primary[1])
    raise LogUnavailable(f"no node has the slot {slot}")


async def check_server(address: RedisAddress) -> dict[str, str]:
    """Checks that the log can be kept there; returns what the server says of itself. Raises ConfigurationError."""
    where = f"TRILANE_LOG={address.shown}"
    try:
        async with asyncio.timeout(2 * (REPLY_S + CONNECT_S)):
            connection = await dial(address)
            try:
                (reply,) = await connection.ask(("INFO",))
                (role,) = await connection.ask(("ROLE",))
                await connection.run(COMPARE, "", msgspec.msgpack.encode([]))
            finally:
                await connection.close()
    except ResponseError as err:
        raise ConfigurationError(
            f"{where}: the server runs no scripts: {unavailable(err)}; allow its user EVAL"
        ) from err
    except (LogUnavailable, TimeoutError) as err:
        if isinstance(err.__cause__, AuthenticationError):
            raise ConfigurationError(
                f"{where}: the server refuses its user or password; correct them in the URL"
            ) from err
        raise ConfigurationError(f"{where}: {err or 'no answer'}; start the server, or correct the URL") from err
    for refusal in (reply, role):
        if isinstance(refusal, NoPermissionError):
            raise ConfigurationError(
                f"{where}: its user may not run INFO, ROLE and scripts: allow it all commands"
            ) from refusal
        if isinstance(refusal, ResponseError):
            raise ConfigurationError(f"{where}: {unavailable(refusal)}; correct the URL") from refusal
    facts = dict(line.split(":", 1) for line in reply.decode("utf-8", "replace").splitlines() if ":" in line)
    check_facts(facts, where)
    if role[0] != b"master":
        raise ConfigurationError(f"{where} is a replica: name the primary, or the sentinels (redis+sentinel://)")
    if facts.get("cluster_enabled") == "1" and address.kind != "cluster":
        raise ConfigurationError(f"{where} is a node of a cluster: write redis+cluster://")
    return facts


def check_facts(facts: dict[str, str], where: str) -> None:
    """Raises ConfigurationError when a server's INFO says that it is too old, or that it forgets what it was told."""
    version = facts.get("redis_version", "0")
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if numbers < MIN_VERSION:
        raise ConfigurationError(f"{where} has version {version}: want Redis 6.2 or later, or Valkey")
    policy = facts.get("maxmemory_policy", "noeviction")
    if facts.get("maxmemory", "0") != "0" and policy != "noeviction":
        raise ConfigurationError(
            f"{where} evicts keys when its memory is full (maxmemory-policy {policy}), which would lose events: "
            "set maxmemory-policy noeviction, with which appends fail instead"
        )
