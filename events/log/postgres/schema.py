"""Keeps the tables and functions of the log in step with this release: numbered files of SQL, each run once.

A database that has none of them is set up by the first process that opens it. One of an older release is changed by
`trilane migrate` alone, at a time that its operator chooses; one of a later release is refused.
"""

from functools import cache
from importlib.resources import files

from events.log.postgres.address import Address, DatabaseError
from events.log.postgres.session import DatabaseSession
from gateway.errors import ConfigurationError

MIGRATION_S = 3600.0
"""Seconds that one migration may take."""
MIGRATED_BY_ANOTHER = "TL002"
FIND_VERSION = "SELECT to_regclass('trilane.versions') IS NOT NULL"
VERSION = "SELECT coalesce(max(version), 0) FROM trilane.versions"
BEGIN = """
BEGIN;
SET LOCAL statement_timeout = 0;
SET LOCAL lock_timeout = '60s';
SELECT pg_advisory_xact_lock(hashtextextended('trilane migrate', 0));
CREATE SCHEMA IF NOT EXISTS trilane;
CREATE TABLE IF NOT EXISTS trilane.versions (version integer PRIMARY KEY, applied timestamptz NOT NULL DEFAULT now());
DO $check$
BEGIN
    IF (SELECT coalesce(max(version), 0) FROM trilane.versions) <> {before} THEN
        RAISE EXCEPTION 'another process has migrated it' USING ERRCODE = 'TL002';
    END IF;
END $check$;
"""


@cache
def migrations() -> list[str]:
    """Returns the text of every migration; the first one makes version 1."""
    folder = files("events.log.postgres")
    names = sorted(path.name for path in folder.iterdir() if path.name.endswith(".sql"))
    return [(folder / name).read_text() for name in names]


async def find_version(session: DatabaseSession) -> int:
    """Returns the version of the database's tables; 0 when there are none. Raises DatabaseError."""
    ((exists,),) = await session.fetch(FIND_VERSION)
    return int((await session.fetch(VERSION))[0][0]) if exists else 0


async def check_version(address: Address, session: DatabaseSession) -> None:
    """Sets up an empty database. Raises DatabaseError, and ConfigurationError when its version is another release's."""
    version = await find_version(session) or await migrate(address)
    newest = len(migrations())
    if version < newest:
        raise ConfigurationError(
            f"the log's database has version {version}, and this release needs {newest}: run `trilane migrate`"
        )
    if version > newest:
        raise ConfigurationError(
            f"the log's database has version {version}, of a later release; this one knows up to {newest}"
        )


async def migrate(address: Address) -> int:
    """Brings the database to this release's version, one transaction for each step; returns the version it has then.

    An empty one is set up in one transaction, so that a process which starts meanwhile finds all of it or nothing.
    Steps that another process has made meanwhile are not made again. Raises DatabaseError.
    """
    session = DatabaseSession(address)
    try:
        while (version := await find_version(session)) < len(migrations()):
            try:
                await _apply(session, version)
            except DatabaseError as err:
                await session.close()  # and with it the transaction
                if err.state != MIGRATED_BY_ANOTHER:
                    raise
        return version
    finally:
        await session.close()


async def _apply(session: DatabaseSession, before: int) -> None:
    after = before + 1 if before else len(migrations())
    steps = migrations()[before:after]
    records = [f"INSERT INTO trilane.versions (version) VALUES ({version + 1});" for version in range(before, after)]
    script = "\n".join([BEGIN.format(before=before), *steps, *records, "COMMIT;"])
    await session.run(script, MIGRATION_S)
