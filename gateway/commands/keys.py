"""`trilane keys`: makes, lists and revokes the API keys that are kept in the log; no server needs to run."""

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import click
import msgspec

from events.log.port import EventLog
from events.log.topics import check_subscription
from gateway.access.grants import EVERYTHING, GrantedLimits, Grants, Sub
from gateway.access.keys import KeyStatus, add_key, key_statuses, revoke_key
from gateway.core.engines import opened_log
from gateway.errors import BadRequest, ConfigurationError
from gateway.settings import Settings

COLUMNS = ("id", "user", "name", "grants", "created", "expires", "last used", "revoked")


async def add(settings: Settings, sub: str, grants: Grants, *, name: str, ttl_s: int | None) -> None:
    """Prints a new key on standard output, and its id on standard error. Raises BadRequest."""
    _check(sub, grants)
    expires_at = None if ttl_s is None else time.time() + ttl_s
    async with _opened(settings) as log:
        key, key_id = await add_key(log, sub, grants, name=name, expires_at=expires_at)
    click.echo(f"key {key_id} of {sub}, shown this once:", err=True)
    click.echo(key)
    if not settings.requires_sign_in:
        click.echo("a gateway asks for keys only where sign-in is set up: TRILANE_SIGN_IN=required does", err=True)


async def list_keys(settings: Settings, *, as_json: bool) -> None:
    """Prints a line for each key, or a JSON object."""
    async with _opened(settings) as log:
        statuses = await key_statuses(log)
    if as_json:
        for status in statuses:
            click.echo(msgspec.json.encode(_fields(status)))
        return
    rows = [COLUMNS, *map(_row, statuses)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(COLUMNS))]
    for row in rows:
        click.echo("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


async def revoke(settings: Settings, key_id: str) -> None:
    """Ends a key in every process. Raises NotFound."""
    async with _opened(settings) as log:
        await revoke_key(log, key_id)
    click.echo(f"key {key_id} is revoked: requests with it are refused, and what is open under it ends", err=True)


def key_grants(
    subscribe: Sequence[str],
    publish: Sequence[str],
    *,
    no_chat: bool = False,
    no_audio: bool = False,
    operator: bool = False,
    worker: Sequence[str] = (),
) -> Grants:
    """Returns the grants of a key for these topics; where none are named, for every topic that is not the gateway's."""
    topics = Grants(subscribe=list(subscribe), publish=list(publish)) if subscribe or publish else EVERYTHING
    return msgspec.structs.replace(topics, chat=not no_chat, audio=not no_audio, operator=operator, worker=list(worker))


def key_limits(assignments: Sequence[str]) -> GrantedLimits:
    """Returns the limits that `name=value` texts set. Raises BadRequest."""
    limits = {name: value for name, _, value in (text.partition("=") for text in assignments)}
    try:
        return msgspec.convert(limits, GrantedLimits, strict=False)
    except msgspec.ValidationError as err:
        known = ", ".join(GrantedLimits.__struct_fields__)
        raise BadRequest(f"--limit takes name=number, of {known}: {err}") from err


def _check(sub: str, grants: Grants) -> None:
    try:
        msgspec.convert(sub, Sub)
    except msgspec.ValidationError as err:
        raise BadRequest(f"the user {sub[:40]!a} cannot have a key: {err}") from err
    check_subscription([*grants.subscribe, *grants.publish])


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncGenerator[EventLog]:
    if settings.log_url == "memory:":
        raise ConfigurationError("TRILANE_LOG=memory: is the memory of one process: no other would know of a key")
    async with opened_log(settings) as log:
        yield log


def _row(status: KeyStatus) -> tuple[str, ...]:
    key, grants = status.key, status.key.grants
    read, written = ",".join(grants.subscribe) or "-", ",".join(grants.publish) or "-"
    lanes = [f"no {lane}" for lane, is_open in (("chat", grants.chat), ("audio", grants.audio)) if not is_open]
    limits = [f"{name}={value}" for name, value in msgspec.to_builtins(grants.limits).items()]
    lanes += [f"works as {','.join(grants.worker)}"] if grants.worker else []
    shown = [f"reads {read}, writes {written}", *lanes, *limits, *(["operator"] if grants.operator else [])]
    times = (key.created_at, key.expires_at, status.last_used_at, status.revoked_at)
    return (key.id, _printable(key.sub), _printable(key.name) or "-", ", ".join(shown), *map(_minute, times))


def _fields(status: KeyStatus) -> dict[str, object]:
    """Returns all that is known of a key but its digest."""
    fields: dict[str, object] = msgspec.to_builtins(status.key)
    del fields["digest"]
    return fields | {"last_used_at": status.last_used_at, "revoked_at": status.revoked_at}


def _printable(text: str) -> str:
    return text if text.isprintable() else ascii(text)


def _minute(time_s: float | None) -> str:
    return "-" if time_s is None else f"{datetime.fromtimestamp(time_s, UTC):%Y-%m-%d %H:%MZ}"
