"""The `trilane` command."""

import asyncio
import json
import sys
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import click

from gateway import settings as settings_module
from gateway.errors import ConfigurationError, TrilaneError
from gateway.settings import PORTS, Settings

T = TypeVar("T")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="trilane")
def main() -> None:
    """The real-time gateway for AI products: every stream is a log, every reader a cursor."""


def _settings() -> Settings:
    try:
        return settings_module.load()
    except ConfigurationError as err:
        raise click.ClickException(err.detail) from err


@main.command()
@click.argument("unit", type=click.Choice(["all", "chat", "events", "audio"]), default="all")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(0, 65535), help="Default: 8000; chat 8001, events 8002, audio 8003.")
def serve(unit: str, host: str, port: int | None) -> None:
    """Serve one lane, or all of them."""
    from gateway.core.telemetry import configure_logging
    from gateway.serving.server import Server, config
    from gateway.units import UNITS

    settings = _settings()
    configure_logging()
    try:
        settings_module.check_bind(settings, host)
        made = UNITS[unit](settings)
    except ConfigurationError as err:
        raise click.ClickException(err.detail) from err
    port = PORTS[unit] if port is None else port
    server = Server(config(made, settings, host, port, sockets=made.has_sockets), made, settings)
    _greet(settings, unit, host, port)
    try:
        server.run()
    except SystemExit:
        if made.failure is not None:
            raise click.ClickException(made.failure.detail) from None
        raise
    sys.exit(1 if server.cut or not server.started else 0)


def _greet(settings: Settings, unit: str, host: str, port: int) -> None:
    shown = f"[{host}]" if ":" in host else host
    models = ", ".join(u.name for u in settings.upstreams) or "the embedded model (set OPENAI_BASE_URL for another)"
    click.echo(f"trilane {unit} on http://{shown}:{port}")
    click.echo(f"  log       {settings.log_url.split('@')[-1]}")
    if unit != "audio" and unit != "events":
        click.echo(f"  upstream  {models}")
    if unit in ("audio", "all"):
        click.echo(f"  speech    {settings.whisper_model or 'Whisper tiny.en, packaged'} on {settings.whisper_device}")
    click.echo(f"  sign-in   {'required' if settings.authenticated else 'none: only this machine can connect'}")


@main.command()
@click.option("--sub", required=True, help="The user that the token stands for.")
@click.option("--subscribe", multiple=True, help="Topic pattern that it may read; repeatable.")
@click.option("--publish", "publish_", multiple=True, help="Topic pattern that it may write; repeatable.")
@click.option("--ttl", default="1h", show_default=True, help="How long it is valid: 30s, 10m, 1h, 7d.")
def token(sub: str, subscribe: tuple[str, ...], publish_: tuple[str, ...], ttl: str) -> None:
    """Print a JWT signed with TRILANE_JWT_SECRET."""
    from gateway.access.auth import mint

    settings = _settings()
    if not settings.jwt_secret:
        raise click.ClickException("set TRILANE_JWT_SECRET first: `openssl rand -hex 32` makes one")
    grants: dict[str, list[str] | bool] = {"subscribe": list(subscribe), "publish": list(publish_)}
    click.echo(mint(settings.jwt_secret, sub, time.time() + _seconds(ttl), grants))


def _seconds(text: str) -> int:
    unit = {"s": 1, "m": 60, "h": 3600, "d": 86_400}.get(text[-1:])
    if unit is None or not text[:-1].isdecimal():
        raise click.BadParameter(f"{text!r} is not a time such as 30s, 10m, 1h or 7d", param_hint="--ttl")
    return int(text[:-1]) * unit


@main.command()
@click.argument("topic")
@click.argument("data")
@click.option("--event", default="message", show_default=True, help="Name of the event.")
@click.option("--ttl", help="How long readers who come back are shown it: 30s, 10m, 1h, 7d.")
def publish(topic: str, data: str, event: str, ttl: str | None) -> None:
    """Publish one event to TOPIC. DATA is JSON, or else taken as a string."""
    from gateway.commands.tail import publish as run

    _run(run(_settings(), topic, _as_json(data), event, _seconds(ttl) if ttl else None))


def _as_json(text: str) -> bytes:
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


@main.command()
@click.argument("topics", nargs=-1, required=True)
@click.option("--from", "start", type=click.Choice(["now", "earliest"]), default="now", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
@click.option("--raw", is_flag=True, help="Topics as the log names them: event/..., chat/..., run/...")
def tail(topics: tuple[str, ...], start: str, as_json: bool, raw: bool) -> None:
    """Follow TOPICS and patterns such as 'team/*', whichever process writes them; say what is lost."""
    from gateway.commands.tail import tail as run

    _run(run(_settings(), topics, earliest=start == "earliest", as_json=as_json, raw=raw))


@main.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--language", help="ISO 639-1 code, such as en. Default: found out from the first words.")
@click.option("--words", is_flag=True, help="With the time of each word.")
@click.option(
    "--format", "format_", type=click.Choice(["text", "json", "srt", "vtt"]), default="text", show_default=True
)
@click.option("--live", is_flag=True, help="Play it in real time, and show the words as a live session does.")
def transcribe(file: Path, language: str | None, words: bool, format_: Any, live: bool) -> None:
    """Print the words of an audio FILE, each as soon as it is final. No server needs to run."""
    from audio.model.weights import INSTALL, is_installed

    settings = _settings()
    if not is_installed():
        raise click.ClickException(f"the packages for audio are not there: {INSTALL}")
    from gateway.commands.transcribe import transcribe as run
    from gateway.core.telemetry import configure_logging

    configure_logging()
    _run(run(settings, file, language=language, words=words, format_=format_, live=live))


@main.command()
def doctor() -> None:
    """Check configuration, log, upstreams and models; say what is wrong and what to do."""
    from gateway.commands.doctor import doctor as run

    sys.exit(_run(run(_settings())))


def _run(work: Coroutine[Any, Any, T]) -> T:
    try:
        return asyncio.run(work)
    except TrilaneError as err:
        raise click.ClickException(err.detail) from err
    except KeyboardInterrupt:
        sys.exit(130)
