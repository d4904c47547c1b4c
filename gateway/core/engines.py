"""Chooses the engine of the log, and how long each kind of topic is kept there.

An engine's module is imported only when `TRILANE_LOG` names it, so that no unit pays for a driver it does not use.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from events.log.port import EventLog, Retention, StorageFact
from events.log.sealed.key_record import check_keys
from gateway.errors import ConfigurationError
from gateway.settings import Settings

DAY_S = 86_400
RESPONSES_S = 30 * DAY_S
"""Seconds for which a response that was stored can be asked for, as OpenAI keeps them."""
TICKET_BYTES = 16_777_216
"""Maximum bytes kept of tickets: some 50,000, of which none is good for longer than four minutes."""
MIN_IDLE_S = 3600.0
"""Least seconds for which a topic without news is kept: its idempotency keys and cursors must have had their time."""
SQLITE = "sqlite:///"
REDIS = ("redis:", "rediss:", "unix:", "redis+", "rediss+")
"""What the URLs of Redis begin with."""
POSTGRES = ("postgres:", "postgresql:")


def make_log(settings: Settings) -> EventLog:
    """Returns the log that `TRILANE_LOG` names, not opened yet. Raises ConfigurationError for an unknown scheme.

    With `TRILANE_ENCRYPTION_KEY` its storage is encrypted; a log in memory stores nothing.
    """
    engine = _make_engine(settings)
    if not settings.encryption_key or settings.log_url == "memory:":
        return engine
    from events.log.sealed.engine import SealedLog

    return SealedLog(engine, settings.encryption_key)


async def open_log(log: EventLog, settings: Settings) -> None:
    """Opens a log of `make_log`. Raises ConfigurationError; for one that is encrypted, too, while no key is set."""
    await log.open()
    if not settings.encryption_key:
        try:
            await check_keys(log, [])
        except BaseException:
            await log.close()
            raise


@asynccontextmanager
async def opened_log(settings: Settings) -> AsyncGenerator[EventLog]:
    """Yields the log that `TRILANE_LOG` names, and closes it. Raises as `make_log` and `open_log` do."""
    log = make_log(settings)
    await open_log(log, settings)
    try:
        yield log
    finally:
        await log.close()


def _make_engine(settings: Settings) -> EventLog:
    url = settings.log_url
    if url == "memory:":
        from events.log.memory import MemoryLog

        return MemoryLog()
    if url.startswith(SQLITE):
        from events.log.sqlite.engine import SqliteLog

        return SqliteLog(url.removeprefix(SQLITE), retention_policy(settings))
    if url.startswith(REDIS):
        try:
            from events.log.redis.engine import RedisLog
        except ModuleNotFoundError as err:
            raise ConfigurationError("TRILANE_LOG names Redis: its driver comes with `trilane[redis]`") from err
        return RedisLog(url, retention_policy(settings))
    if url.startswith(POSTGRES):
        try:
            from events.log.postgres.engine import PostgresLog
        except ImportError as err:
            raise ConfigurationError(f"TRILANE_LOG names PostgreSQL: pip install 'trilane[postgres]' ({err})") from err
        return PostgresLog(url, retention_policy(settings))
    known = "sqlite:///path, redis://host, postgres://host/database and memory:"
    raise ConfigurationError(f"TRILANE_LOG={url.split('@')[-1][:60]!r}: this version has {known}")


async def survey_storage(settings: Settings) -> list[StorageFact]:
    """Returns what the storage of a log that can be opened promises. Raises ConfigurationError and LogUnavailable."""
    url = settings.log_url
    if url.startswith(SQLITE):
        from events.log.sqlite.survey import survey as survey_file

        return survey_file(url.removeprefix(SQLITE))
    if url.startswith(REDIS):
        from events.log.redis.survey import survey as survey_redis

        return await survey_redis(url)
    if url.startswith(POSTGRES):
        from events.log.postgres.survey import survey as survey_postgres

        return await survey_postgres(url)
    return [StorageFact("the log is in memory: it ends with the process")]


def check_is_there(settings: Settings) -> None:
    """Raises ConfigurationError where a command would make a log instead of reading that of the gateways."""
    url = settings.log_url
    if url == "memory:":
        raise ConfigurationError("TRILANE_LOG=memory: is the memory of one process, which no other can read")
    if url.startswith(SQLITE) and not Path(url.removeprefix(SQLITE)).exists():
        raise ConfigurationError(f"there is no log at {url!r}: set TRILANE_LOG or TRILANE_DATA_DIR as for the gateway")


def check_shared(settings: Settings, workers: int) -> None:
    """Raises ConfigurationError when several workers would each have a log of their own."""
    if workers > 1 and settings.log_url == "memory:":
        raise ConfigurationError(
            f"TRILANE_LOG=memory: is the memory of one process, and {workers} workers would each have another log: "
            "use one that processes share, such as sqlite:///path, or --workers 1"
        )


def retention_policy(settings: Settings) -> Callable[[str], Retention]:
    """Returns a function that gives a topic's retention by its name.

    Chats and who shares them, usage, keys and the log's own format are kept until deleted, finished runs for a day,
    stored responses for RESPONSES_S, all others as the settings say; old chats are the business of
    `gateway.chat.old_chats`. Of an audio session only the newest event is needed; one that nobody continues is closed
    by the audio lane, and deleted an hour later. Past TICKET_BYTES the oldest tickets are refused. Of a schedule the
    newest event says all.
    What processes told of themselves, or each other, is old after a minute.
    A topic to which nothing was published for twice as long as an event is kept goes as a whole, else every name that
    was ever used would stay for ever. Whoever still follows it is told that it begins anew.
    """
    forever = Retention()
    run = Retention(max_bytes=settings.retention_bytes, closed_age_s=DAY_S)
    age_s, idle_age_s = settings.retention_s, max(2 * settings.retention_s, MIN_IDLE_S)
    max_bytes = settings.retention_bytes
    other = Retention(events=settings.retention_events, max_bytes=max_bytes, age_s=age_s)
    event = msgspec.structs.replace(other, idle_age_s=idle_age_s)
    ticket = Retention(max_bytes=TICKET_BYTES, age_s=300)
    last_use = Retention(events=2)
    cursor = Retention(max_bytes=4 * max_bytes, age_s=age_s, idle_age_s=idle_age_s)
    audio = Retention(events=100, closed_age_s=3600)
    box = Retention(max_bytes=max_bytes, age_s=60, idle_age_s=MIN_IDLE_S)
    health = Retention(events=2)
    outbox = schedule = Retention(events=2)
    by_kind = {"event": event, "health": health, "outbox": outbox, "cursor": cursor, "run": run, "schedule": schedule}
    by_kind |= {"ticket": ticket, "audio": audio, "fleet": Retention(events=1000, age_s=60, idle_age_s=MIN_IDLE_S)}
    by_kind |= dict.fromkeys(("chat", "shares", "usage", "key", "log", "due"), forever) | {"key-use": last_use}
    by_kind |= {"memberships": Retention(events=1000), "left": Retention(events=1000, age_s=DAY_S)}
    by_kind |= {"work": box, "waiting": msgspec.structs.replace(box, events=1000)}
    by_kind["response"] = Retention(idle_age_s=RESPONSES_S)
    by_kind["hook"] = event  # ends of runs that the operator's webhook has not taken by then are dropped
    by_kind["mcp"] = Retention(events=1)  # who is signed in to a server of tools
    return lambda topic: by_kind.get(topic.partition("/")[0], other)
