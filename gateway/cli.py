"""The `trilane` command line: its commands and options. Each command's work is a file in `gateway/commands/`.

A command's file is imported when it is called, so that `trilane --help` loads no server and no model.
"""

import asyncio
import os
import sys
from collections.abc import Coroutine, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

import click
from msgspec import structs

from gateway.errors import TrilaneError
from gateway.settings import Settings, load

T = TypeVar("T")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="trilane")
def main() -> None:
    """The real-time gateway for AI products: every stream is a log, every reader a cursor."""


@main.command()
@click.argument("unit", type=click.Choice(["all", "chat", "events", "audio"]), default="all")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(0, 65535), help="Default: 8000; chat 8001, events 8002, audio 8003.")
@click.option("--workers", default="", metavar="N|auto", help="Processes that serve together; auto: one for each CPU.")
@click.option(
    "--agent",
    "agents",
    multiple=True,
    metavar="NAME=MODULE:FUNCTION",
    help="A function that is an agent; repeatable.",
)
def serve(unit: str, host: str, port: int | None, workers: str, agents: tuple[str, ...]) -> None:
    """Serve one lane, or all of them.

    With --workers, SIGHUP replaces the processes one by one, and a process that crashes comes back. Without, it has the
    file of TRILANE_UPSTREAMS read anew.
    """
    if agents:
        os.environ["TRILANE_AGENTS"] = ",".join(agents)  # the processes of --workers read it too
    settings = _settings()
    with _errors_as_messages():
        from gateway.commands.serve import serve as run_alone
        from gateway.commands.serve import serve_by_workers, worker_count

        count = worker_count(settings, workers)
        if count is not None:
            sys.exit(serve_by_workers(settings, unit, host, port, count))
        from gateway.units import UNITS

        sys.exit(run_alone(settings, unit, UNITS[unit], host, port))


@main.command(hidden=True)
@click.argument("unit")
@click.option("--listener", "listeners", type=int, multiple=True, required=True)
@click.option("--channel", type=int, required=True)
def worker(unit: str, listeners: tuple[int, ...], channel: int) -> None:
    """Serve as one of several workers, which `serve --workers` starts."""
    from gateway.core.logs import configure_logging
    from gateway.units import UNITS
    from gateway.workers.worker import work

    configure_logging(has_pid=True)
    sys.exit(work(load, UNITS[unit], listeners, channel))


@main.command()
@click.option("--sub", required=True, help="The user that the token stands for.")
@click.option("--subscribe", multiple=True, help="Topic pattern that it may read; repeatable.")
@click.option("--publish", "publish_", multiple=True, help="Topic pattern that it may write; repeatable.")
@click.option("--operator", is_flag=True, help="It may read what the gateway writes for any user.")
@click.option("--worker", multiple=True, help="Agent whose runs it may claim, whoever's they are; repeatable.")
@click.option("--ttl", default="1h", show_default=True, help="How long it is valid: 30s, 10m, 1h, 7d.")
def token(
    sub: str, subscribe: tuple[str, ...], publish_: tuple[str, ...], operator: bool, worker: tuple[str, ...], ttl: str
) -> None:
    """Print a JWT signed with TRILANE_JWT_SECRET."""
    from gateway.commands.token import token as run

    with _errors_as_messages():
        grants = {"subscribe": list(subscribe), "publish": list(publish_), "operator": operator, "worker": list(worker)}
        click.echo(run(_settings(), sub, grants, ttl_s=_seconds(ttl)))


@main.group()
def keys() -> None:
    """Make, list and revoke API keys, while gateways run."""


@keys.command("add")
@click.option("--sub", required=True, help="The user that the key stands for.")
@click.option("--subscribe", multiple=True, help="Topic pattern that it may read; repeatable.")
@click.option("--publish", multiple=True, help="Topic pattern that it may write; repeatable.")
@click.option("--no-chat", is_flag=True, help="It may not use the chat lane.")
@click.option("--no-audio", is_flag=True, help="It may not use the audio lane.")
@click.option("--operator", is_flag=True, help="It may read what the gateway writes for any user.")
@click.option("--worker", multiple=True, help="Agent whose runs it may claim, whoever's they are; repeatable.")
@click.option(
    "--limit", "limits", multiple=True, metavar="NAME=N", help="A limit of its own, such as runs=5; repeatable."
)
@click.option("--ttl", help="How long it is valid: 30s, 10m, 1h, 7d. Default: until it is revoked.")
@click.option("--name", default="", help="What it is for, as `keys list` shows it.")
def add_key(sub: str, ttl: str | None, name: str, limits: tuple[str, ...], **grants: Any) -> None:
    """Make an API key, and print it this once: the log holds its digest alone.

    Without --subscribe and --publish it may read and write every topic that is not the gateway's own.
    """
    from gateway.commands.keys import add, key_grants, key_limits

    with _errors_as_messages():
        granted = structs.replace(key_grants(**grants), limits=key_limits(limits))
    _run(add(_settings(), sub, granted, name=name, ttl_s=_seconds(ttl) if ttl else None))


@keys.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
def list_keys(as_json: bool) -> None:
    """Print every key there ever was: user, grants, expiry, last use, end."""
    from gateway.commands.keys import list_keys as run

    _run(run(_settings(), as_json=as_json))


@keys.command("revoke")
@click.argument("key_id", metavar="ID")
def revoke_key(key_id: str) -> None:
    """End a key in every process, within a second, and what is open under it."""
    from gateway.commands.keys import revoke as run

    _run(run(_settings(), key_id))


@main.command()
@click.option("--since", default="", help="An ISO date or time, seconds since 1970, or ago: 12h, 7d. Default: 30 days.")
@click.option("--until", default="", help="As --since. Default: now.")
@click.option("--by", type=click.Choice(["sub", "model", "lane", "day"]), default="model", show_default=True)
@click.option("--sub", help="Only this user's.")
@click.option("--format", "format_", type=click.Choice(["table", "csv", "json"]), default="table", show_default=True)
def usage(since: str, until: str, by: str, sub: str | None, format_: Any) -> None:
    """Print what was used, and what it cost, from the log; no server needs to run."""
    from gateway.commands.usage import usage as run
    from gateway.core.usage_report import query_of

    with _errors_as_messages():
        query = query_of(since, until, by, sub)
    _run(run(_settings(), query, format_))


@main.command()
@click.argument("topic")
@click.argument("data")
@click.option("--event", default="message", show_default=True, help="Name of the event.")
@click.option("--ttl", help="How long it is replayed to readers who come back: 30s, 10m, 1h, 7d.")
def publish(topic: str, data: str, event: str, ttl: str | None) -> None:
    """Publish one event to TOPIC. DATA is JSON, or else taken as a string."""
    from gateway.commands.publish import publish as run

    _run(run(_settings(), topic, data, event, _seconds(ttl) if ttl else None))


@main.command()
@click.argument("topics", nargs=-1, required=True)
@click.option("--from", "start", type=click.Choice(["now", "earliest"]), default="now", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
@click.option("--raw", is_flag=True, help="Topics as the log names them: event/..., chat/..., run/...")
def tail(topics: tuple[str, ...], start: str, as_json: bool, raw: bool) -> None:
    """Follow TOPICS and patterns such as 'team/*', whichever process writes them; report every gap."""
    from gateway.commands.tail import tail as run

    _run(run(_settings(), topics, earliest=start == "earliest", as_json=as_json, raw=raw))


@main.command()
@click.option("--once", is_flag=True, help="Print what is open now, as a table.")
@click.option("--json", "in_json", is_flag=True, help="Print what is open now, as one JSON document.")
def top(once: bool, in_json: bool) -> None:
    """Show what all processes of the log have open, every 2 s until q: streams, runs, sessions; no content."""
    from gateway.commands.top import top as run

    _run(run(_settings(), once=once, in_json=in_json))


@main.command()
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
def copy(source: str, target: str) -> None:
    """Copy the log FROM into the log TO, both as TRILANE_LOG names them; every cursor stays good."""
    from gateway.commands.copy import copy as run

    sys.exit(_run(run(_settings(), source, target)))


@main.command()
@click.argument("sub")
@click.option("--to", "target", type=click.File("wb", lazy=False), default="-", help="File to write; default: stdout.")
def export(sub: str, target: IO[bytes]) -> None:
    """Write everything that the log holds of the user SUB, as JSON Lines."""
    from gateway.commands.export import export as run

    count = _run(run(_settings(), sub, target))
    click.echo(f"{count:,} lines", err=True)


@main.command()
@click.argument("sub")
@click.option("--yes", is_flag=True, help="Do not ask.")
def forget(sub: str, yes: bool) -> None:
    """Delete everything of the user SUB; usage rows stay under a pseudonym. It can be run again."""
    from gateway.commands.forget import forget as run

    if not yes:
        click.confirm(f"Delete everything of {sub!r} for good?", abort=True)
    sys.exit(_run(run(_settings(), sub)))


@main.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--model", default="", help="Name of the speech model. Default: the first there is.")
@click.option("--language", help="A tag or name, such as en-US or german. Default: detected from the first words.")
@click.option("--words", is_flag=True, help="Print the time of each word.")
@click.option("--channels", type=click.Choice(["mixed", "split"]), default="mixed", help="split: the sides of a call.")
@click.option(
    "--format", "format_", type=click.Choice(["text", "json", "srt", "vtt"]), default="text", show_default=True
)
@click.option("--live", is_flag=True, help="Play it in real time and print the words as a live session does.")
def transcribe(
    file: Path, model: str, language: str | None, words: bool, channels: str, format_: Any, live: bool
) -> None:
    """Print the words of an audio FILE, each as soon as it is final. No server needs to run."""
    from audio.model.weights import INSTALL, is_installed

    settings = _settings()
    if not is_installed():
        raise click.ClickException(f"the packages for audio are not installed: {INSTALL}")
    from gateway.commands.transcribe import transcribe as run
    from gateway.core.logs import configure_logging

    configure_logging()
    asked: dict[str, Any] = {"model": model, "language": language, "words": words, "split": channels == "split"}
    _run(run(settings, file, **asked, format_=format_, live=live))


@main.command()
@click.argument("url", required=False)
@click.option(
    "--key", metavar="KEY|-", help="With URL: a key or token to read a stream with; -: it is read from stdin."
)
@click.option("--chat", is_flag=True, help="With URL and --key: have the model write a few words, too.")
def doctor(url: str | None, key: str | None, chat: bool) -> None:
    """Check configuration, log, upstreams and models; report what is wrong and what to do.

    With the URL of a deployment, ask that one, as a client: proxies that buffer or cut, names, clocks, TLS.
    """
    if url is None:
        from gateway.commands.doctor import doctor as run

        sys.exit(_run(run(_settings())))
    from gateway.commands.deployment import examine

    secret = sys.stdin.readline().strip() if key == "-" else key
    sys.exit(_run(examine(url, secret, chat=chat)))


@main.command()
def migrate() -> None:
    """Bring the log's PostgreSQL database to this release's version."""
    from gateway.commands.migrate import migrate as run

    _run(run(_settings()))


def _settings() -> Settings:
    with _errors_as_messages():
        return load()


def _seconds(text: str) -> int:
    unit_s = {"s": 1, "m": 60, "h": 3600, "d": 86_400}.get(text[-1:])
    if unit_s is None or not text[:-1].isdecimal():
        raise click.BadParameter(f"{text!r} is not a time such as 30s, 10m, 1h or 7d", param_hint="--ttl")
    return int(text[:-1]) * unit_s


def _run(command: Coroutine[Any, Any, T]) -> T:
    try:
        with _errors_as_messages():
            return asyncio.run(command)
    except KeyboardInterrupt:
        sys.exit(130)


@contextmanager
def _errors_as_messages() -> Generator[None]:
    """Turns an error of ours into one line without a traceback."""
    try:
        yield
    except TrilaneError as err:
        raise click.ClickException(err.detail) from err
