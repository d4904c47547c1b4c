"""Tells what a PostgreSQL server keeps, as it is set up for the user of the log, and what stands before it."""

from collections.abc import Mapping, Sequence

from events.log.port import StorageFact
from events.log.postgres.address import DatabaseError, parse_address
from events.log.postgres.session import DatabaseSession
from gateway.errors import ConfigurationError

OLDEST = 140_000
"""The oldest `server_version_num` that the log is tested with."""
NAMES = (
    "server_version",
    "server_version_num",
    "fsync",
    "full_page_writes",
    "synchronous_commit",
    "synchronous_standby_names",
)
SETTINGS = ", ".join(f"current_setting('{name}')" for name in NAMES)
STATE = f"SELECT pg_is_in_recovery(), (SELECT count(*) FROM pg_stat_replication), {SETTINGS}"


async def survey(url: str) -> list[StorageFact]:
    """Asks the server, with the settings that the log's user has there. Raises ConfigurationError."""
    session = DatabaseSession(parse_address(url))
    try:
        ((is_standby, standbys, *values),) = await session.fetch(STATE)
    except DatabaseError as err:
        raise ConfigurationError(f"TRILANE_LOG: the database cannot be used: {err}") from err
    finally:
        await session.close()
    return facts_of(values, standbys=standbys, is_standby=is_standby, is_pooled=session.is_pooled)


def facts_of(values: Sequence[str], *, standbys: int, is_standby: bool, is_pooled: bool) -> list[StorageFact]:
    """Returns what the values of NAMES and the rest of a server's state come to."""
    setting: Mapping[str, str] = dict(zip(NAMES, values, strict=True))
    facts = [_version(setting), _disk(setting), _commit(setting, standbys)]
    if is_standby:
        advice = "Name the primary (`target_session_attrs=read-write` finds it among several hosts)."
        facts.append(StorageFact("it is a standby: nothing can be appended", advice, is_loss=True))
    if is_pooled:
        text = "a pooler stands before it: news of other processes are looked for every 50 ms"
        facts.append(StorageFact(text, "Name the server itself, with which they are told at once, or leave it so."))
    return facts


def _version(setting: Mapping[str, str]) -> StorageFact:
    text = f"PostgreSQL {setting['server_version']}"
    if int(setting["server_version_num"]) < OLDEST:
        return StorageFact(text, "Use 14 or later.", is_loss=True)
    return StorageFact(text)


def _disk(setting: Mapping[str, str]) -> StorageFact:
    off = [name for name in ("fsync", "full_page_writes") if setting[name] != "on"]
    if off:
        text = f"{' and '.join(off)} {'is' if len(off) == 1 else 'are'} off: a loss of power can damage the database"
        return StorageFact(text, f"Set {' and '.join(f'`{name} = on`' for name in off)}.", is_loss=True)
    return StorageFact("it waits for its disk (fsync)")


def _commit(setting: Mapping[str, str], standbys: int) -> StorageFact:
    level = setting["synchronous_commit"]
    if level == "off":
        text = "synchronous_commit is off for this user: an end of the server loses the last moments"
        return StorageFact(text, "Set `synchronous_commit = on` (ALTER ROLE ... SET does it for this user).")
    names = setting["synchronous_standby_names"]
    copies = f"; {standbys} standby{'s' if standbys > 1 else ''}" if standbys else ""
    waits = f", and waits for a standby ({names})" if names and level != "local" else ""
    return StorageFact(f"a commit is on its disk when it is acknowledged{waits}{copies}")
