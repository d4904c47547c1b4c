"""`trilane migrate`: brings the log's database to this release's version, while older processes may still run."""

import click

from gateway.errors import ConfigurationError
from gateway.settings import Settings


async def migrate(settings: Settings) -> None:
    """Changes a PostgreSQL database step by step; other engines need none. Raises ConfigurationError."""
    if not settings.log_url.startswith(("postgres:", "postgresql:")):
        click.echo("nothing to do: only a log in PostgreSQL is migrated, others change by themselves")
        return
    from events.log.postgres.address import DatabaseError, parse_address
    from events.log.postgres.schema import migrate as run

    try:
        version = await run(parse_address(settings.log_url))
    except DatabaseError as err:
        raise ConfigurationError(f"TRILANE_LOG: the database cannot be migrated: {err}") from err
    click.echo(f"the log's database has version {version}, as this release needs")
