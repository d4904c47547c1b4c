"""Keeps one connection to the server, and makes it anew when it is lost.

Every statement is a transaction of its own (autocommit), so no lock is ever held while this side thinks, is stopped or
hangs. A statement that is not answered in time is cut off by closing its socket: asking the server to cancel it would
wait for the server once more. psycopg's own pool is not used, because it cannot do that.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow

from events.log.postgres.address import Address, DatabaseError, failure_of

STATEMENT_S = 6.0
"""Seconds after which a statement that is not answered is given up. The server gives it up a second earlier."""
CONNECT_S = 5.0
"""Seconds within which a connection must stand."""
LIMITS = {
    "statement_timeout": f"{int(STATEMENT_S) - 1}s",
    "lock_timeout": "4s",
    "idle_in_transaction_session_timeout": "5s",
}

Rows = list[TupleRow]
Connection = psycopg.AsyncConnection[TupleRow]


class DatabaseSession:
    """One connection, for one statement at a time. `on_connect` is awaited with each new one before it is used."""

    def __init__(
        self, address: Address, on_connect: Callable[["DatabaseSession"], Awaitable[None]] | None = None
    ) -> None:
        self._address = address
        self.on_connect = on_connect
        self._connection: Connection | None = None
        self.is_pooled = bool(address.is_pooled)
        """Whether statements may run on any of a pooler's connections; known once it has been connected."""

    @property
    def is_connected(self) -> bool:
        return self._connection is not None and not self._connection.closed

    async def connect(self) -> Connection:
        """Returns the connection, made anew when it is lost. Raises DatabaseError."""
        connection = self._connection
        if connection is not None and not connection.closed:
            return connection
        try:
            async with asyncio.timeout(CONNECT_S):
                connection = await psycopg.AsyncConnection.connect(
                    self._address.conninfo, autocommit=True, prepare_threshold=None
                )
        except TimeoutError as err:
            raise DatabaseError(f"no connection within {CONNECT_S:g} s", is_lost=True) from err
        except (psycopg.Error, OSError) as err:
            raise failure_of(err, self._address.without_secrets) from err
        self._connection = connection
        await self._adopt(connection)
        return connection

    async def _adopt(self, connection: Connection) -> None:
        """Finds out whether a pooler stands between, and sets limits where they would stay."""
        try:
            if self._address.is_pooled is None:
                (pid,) = (await self.fetch("SELECT pg_backend_pid()"))[0]
                self.is_pooled = pid != connection.info.backend_pid  # a pooler makes that number up
            if not self.is_pooled:
                connection.prepare_threshold = 2
                settings = ", ".join(f"set_config('{name}', '{value}', false)" for name, value in LIMITS.items())
                await self.fetch(f"SELECT {settings}")
            if self.on_connect is not None:
                await self.on_connect(self)
        except BaseException:
            await self.close()
            raise

    async def fetch(self, sql: str, values: Sequence[object] = (), within_s: float = STATEMENT_S) -> Rows:
        """Returns the rows of a statement. Raises DatabaseError."""
        connection = await self.connect()
        deadline = asyncio.get_running_loop().call_later(within_s, cut_off, connection)
        try:
            cursor = connection.cursor(binary=True)
            await cursor.execute(sql.encode(), values or None)
            has_rows = cursor.pgresult is not None and cursor.pgresult.nfields  # `description` makes an object a column
            return await cursor.fetchall() if has_rows else []
        except (psycopg.Error, OSError) as err:
            failure = failure_of(err, self._address.without_secrets)
            if failure.is_lost or connection.closed:
                failure.is_lost = True
                await self.close()
            raise failure from err
        finally:
            deadline.cancel()

    async def run(self, script: str, within_s: float) -> None:
        """Runs several statements at once. Raises DatabaseError."""
        connection = await self.connect()
        deadline = asyncio.get_running_loop().call_later(within_s, cut_off, connection)
        try:
            await connection.execute(script.encode())
        except (psycopg.Error, OSError) as err:
            raise failure_of(err, self._address.without_secrets) from err
        finally:
            deadline.cancel()

    async def wait(self, within_s: float) -> list[str]:
        """Returns the payloads of notices as soon as one comes, or none in time. Raises DatabaseError."""
        connection = await self.connect()
        try:
            return [notice.payload async for notice in connection.notifies(timeout=within_s, stop_after=1)]
        except (psycopg.Error, OSError) as err:
            await self.close()
            raise failure_of(err, self._address.without_secrets) from err

    def cut(self) -> None:
        """Ends a statement that is under way, without asking the server."""
        connection = self._connection
        if connection is not None and connection.pgconn.transaction_status == TransactionStatus.ACTIVE:
            cut_off(connection)

    async def close(self) -> None:
        """Closes the connection; the next statement makes another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(psycopg.Error, OSError):
                await connection.close()


class SessionPool:
    """A few sessions for statements that may run beside one another; the last one used is used first."""

    def __init__(self, address: Address, size: int, on_connect: Callable[[DatabaseSession], Awaitable[None]]) -> None:
        self._sessions = [DatabaseSession(address, on_connect) for _ in range(size)]
        self._idle = self._sessions[:]
        self._room = asyncio.Semaphore(size)
        self._statements = set[asyncio.Task[Rows]]()

    @property
    def is_full(self) -> bool:
        """Returns whether every session is in use."""
        return self._room.locked()

    async def fetch(self, sql: str, values: Sequence[object] = (), within_s: float = STATEMENT_S) -> Rows:
        """Returns the rows of a statement, which is tried once more when the connection turns out to be lost.

        For statements that may be repeated. A caller that is cancelled leaves the statement to end by itself.
        Raises DatabaseError.
        """
        statement = asyncio.get_running_loop().create_task(self._fetch(sql, values, within_s))
        self._statements.add(statement)
        statement.add_done_callback(self._forget)
        return await asyncio.shield(statement)

    async def _fetch(self, sql: str, values: Sequence[object], within_s: float) -> Rows:
        async with self._room:
            session = self._idle.pop()
            was_connected = session.is_connected
            try:
                return await session.fetch(sql, values, within_s)
            except DatabaseError as err:
                if not (err.is_lost and was_connected):
                    raise
                return await session.fetch(sql, values, within_s)
            finally:
                self._idle.append(session)

    def _forget(self, statement: asyncio.Task[Any]) -> None:
        self._statements.discard(statement)
        if not statement.cancelled():
            statement.exception()  # its caller may be gone

    async def close(self) -> None:
        """Waits for statements that are under way, then closes all connections."""
        if self._statements:
            await asyncio.wait(self._statements)
        for session in self._sessions:
            await session.close()


def cut_off(connection: Connection) -> None:
    """Makes a connection end now, whatever it waits for: its statement then fails like any that lost its server."""
    with contextlib.suppress(OSError, psycopg.Error):
        duplicate = socket.socket(fileno=os.dup(connection.pgconn.socket))
        with contextlib.closing(duplicate), contextlib.suppress(OSError):
            duplicate.shutdown(socket.SHUT_RDWR)
