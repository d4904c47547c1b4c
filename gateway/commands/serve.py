"""`trilane serve`: runs one unit, from its settings to its exit code."""

from collections.abc import Callable

import click

from gateway.core.telemetry import configure_logging
from gateway.errors import ConfigurationError
from gateway.serving.server import ServedUnit, Server, check_address, server_config
from gateway.settings import PORTS, Settings, check_bind


def serve(
    settings: Settings, unit_name: str, make_unit: Callable[[Settings], ServedUnit], host: str, port: int | None
) -> int:
    """Serves until a signal ends it; returns the exit code, 0 when nothing was cut.

    Raises ConfigurationError when the unit cannot be made, cannot listen or cannot start.
    """
    configure_logging()
    check_bind(settings, host)
    port = PORTS[unit_name] if port is None else port
    check_address(host, port)
    unit = make_unit(settings)
    server = Server(server_config(unit, settings, host, port), unit, settings)
    _greet(settings, unit_name, host, port)
    try:
        server.run()
    except SystemExit:
        if unit.failure is not None:
            raise ConfigurationError(unit.failure.detail) from None
        raise
    return 1 if server.cut or not server.started else 0


def _greet(settings: Settings, unit_name: str, host: str, port: int) -> None:
    url_host = f"[{host}]" if ":" in host else host
    upstreams = ", ".join(u.name for u in settings.upstreams) or "the embedded model (set OPENAI_BASE_URL for another)"
    click.echo(f"trilane {unit_name} on http://{url_host}:{port}")
    click.echo(f"  log       {settings.shown_log}")
    if unit_name in ("chat", "all"):
        click.echo(f"  upstream  {upstreams}")
    if unit_name in ("audio", "all"):
        click.echo(f"  speech    {settings.whisper_model or 'Whisper tiny.en, packaged'} on {settings.whisper_device}")
    click.echo(f"  sign-in   {'required' if settings.requires_sign_in else 'none: only this machine can connect'}")
