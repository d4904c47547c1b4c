"""`trilane serve`: runs one unit, from its settings to its exit code, in this process or in several workers."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from typing import Literal, cast

import click
import structlog

from gateway.core.cpus import usable_cpus
from gateway.core.engines import check_shared
from gateway.core.logs import configure_logging
from gateway.core.telemetry import serve_metrics
from gateway.errors import ConfigurationError
from gateway.serving.listening import bind
from gateway.serving.server import Server, check_address, server_config
from gateway.settings import PORTS, WORKERS, Settings, check_bind, load
from gateway.upstream_settings import UpstreamSettings
from gateway.workers.supervisor import Supervisor
from gateway.workers.worker import WorkerUnit

UPSTREAMS = "TRILANE_UPSTREAMS"

log = structlog.get_logger("settings")


class Hangup:
    """What SIGHUP does to a process that serves alone: it reads the file of upstreams anew, as daemons do.

    One that comes because the terminal is gone ends the process, as it does where no file is read.
    """

    def __init__(self, unit: WorkerUnit, server: Server, settings: Settings) -> None:
        """Takes the settings that the process was started with."""
        self._unit = unit
        self._server = server
        self._settings = settings
        self._had_terminal = os.isatty(0)

    def __call__(self) -> None:
        if self._had_terminal and not os.isatty(0):
            self._server.handle_exit(signal.SIGHUP, None)
            return
        try:
            settings = load()
            self._unit.reload(settings)
        except ConfigurationError as err:
            log.error("the upstreams stay as they were: the file cannot be used", reason=err.detail)
            return
        names = [upstream.name for upstream in settings.upstreams if upstream.kind == "openai"]
        log.info("the upstreams are read anew", upstreams=names)
        if others := _changed_otherwise(self._settings, settings):
            log.warning("what else has changed in the file holds from the next start", changed=others)


def _changed_otherwise(old: Settings, new: Settings) -> list[str]:
    """Returns what differs in the file beside the models' upstreams."""

    def agents(settings: Settings) -> list[UpstreamSettings]:
        return [upstream for upstream in settings.upstreams if upstream.kind != "openai"]

    differs = {
        "agents": agents(old) != agents(new),
        "[[mcp]]": old.tools != new.tools,
        "[[price]]": old.pricing != new.pricing,
    }
    return [name for name, is_other in differs.items() if is_other]


def worker_count(settings: Settings, option: str) -> int | None:
    """Returns how many workers shall serve; None when this process shall serve by itself.

    `option` is the command line's, which comes before the settings'. Raises ConfigurationError.
    """
    workers = cast("int | Literal['auto'] | None", WORKERS.read({"--workers": option}, "--workers")) or settings.workers
    if workers is None:
        return None
    count = usable_cpus() if workers == "auto" else workers
    check_shared(settings, count)
    return None if count == 1 and settings.log_url == "memory:" else count


def serve_by_workers(settings: Settings, unit_name: str, host: str, port: int | None, count: int) -> int:
    """Serves in `count` processes until a signal ends it; returns the exit code, 0 when nothing was cut.

    Raises ConfigurationError when it cannot listen, or the first worker cannot start.
    """
    if sys.platform == "win32":
        raise ConfigurationError("--workers needs sockets that processes inherit, which Windows does not have")
    configure_logging(has_pid=True)
    check_bind(settings, host)
    listeners = bind(host, PORTS[unit_name] if port is None else port)
    _greet(settings, unit_name, host, listeners[0].getsockname()[1], workers=count)
    return asyncio.run(Supervisor(["worker", unit_name], count, listeners, settings).run())


def serve(
    settings: Settings, unit_name: str, make_unit: Callable[[Settings], WorkerUnit], host: str, port: int | None
) -> int:
    """Serves until a signal ends it; returns the exit code, 0 when nothing was cut.

    Raises ConfigurationError when the unit cannot be made, cannot listen or cannot start.
    """
    configure_logging()
    check_bind(settings, host)
    port = PORTS[unit_name] if port is None else port
    check_address(host, port)
    unit = make_unit(settings)
    if settings.metrics_port:
        serve_metrics(settings.metrics_host, settings.metrics_port, unit.core.metrics.registry)
    server = Server(server_config(unit, settings, host, port), unit, settings)
    if os.environ.get(UPSTREAMS) and sys.platform != "win32":
        server.on_hangup = Hangup(unit, server, settings)
    _greet(settings, unit_name, host, port)
    try:
        server.run()
    except SystemExit:
        if unit.failure is not None:
            raise ConfigurationError(unit.failure.detail) from None
        raise
    return 1 if server.cut or not server.started else 0


def _greet(settings: Settings, unit_name: str, host: str, port: int, *, workers: int = 0) -> None:
    url_host = f"[{host}]" if ":" in host else host
    upstreams = ", ".join(u.name for u in settings.upstreams) or "the embedded model (set OPENAI_BASE_URL for another)"
    click.echo(f"trilane {unit_name} on http://{url_host}:{port}")
    click.echo(f"  log       {settings.shown_log}")
    if unit_name in ("chat", "all"):
        click.echo(f"  upstream  {upstreams}")
    if unit_name in ("audio", "all"):
        click.echo(f"  speech    {settings.whisper_model or 'Whisper tiny.en, packaged'} on {settings.whisper_device}")
    click.echo(f"  sign-in   {'required' if settings.requires_sign_in else 'none: only this machine can connect'}")
    if workers:
        click.echo(f"  workers   {workers}, under process {os.getpid()}: SIGHUP replaces them one by one")
