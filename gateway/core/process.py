"""The core that the lanes of one process share: the log, its hub, the open streams, tickets and metrics."""

import asyncio
import os
import resource
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import structlog

from events.log.hub import Hub
from events.log.port import NO_EVENTS, Append, EventLog
from events.log.rules import report_end
from gateway.access.grants import Principal
from gateway.access.keys import KeyTable
from gateway.access.memberships import MembershipChange, Memberships, removal
from gateway.access.tickets import Tickets
from gateway.core.engines import open_log
from gateway.core.fleet import FleetMember
from gateway.core.limits import Limiter
from gateway.core.memory import MemoryGuard
from gateway.core.prices import Prices
from gateway.core.telemetry import SHORT_S, Metrics, Pauses
from gateway.core.usage_report import UsageReports
from gateway.credential_settings import NEW_WEBHOOK_SECRET
from gateway.errors import ConfigurationError, LogError, LogUnavailable, TrilaneError, Unauthorized
from gateway.serving.arrivals import ArrivalProtocol
from gateway.serving.bodies import Bodies
from gateway.serving.open_streams import OpenStreams
from gateway.serving.refusals import Refusals
from gateway.serving.wheel import SLOT_S
from gateway.serving.whole import Callers
from gateway.settings import Settings, Tracing

if TYPE_CHECKING:
    from gateway.core.tracing import Tracer

HEALTH = "health/check"
"""Topic that a check of the log writes to."""
CHECK_S = 0.5
"""Seconds for which the result of a check holds."""
CHECK_TIMEOUT_S = 2.0
"""Seconds after which a log that does not answer counts as one that cannot be used."""
FAILURE_S = 0.25
"""Seconds between two looks at whether the log has failed."""
OTLP_PROTOCOL = "http/protobuf"
SPARE_DESCRIPTORS = 200
"""File descriptors set aside for all that is not a stream: the log, upstreams, requests."""


log = structlog.get_logger("log")


def capacity(max_streams: int) -> int:
    """Returns how many streams can be open: `max_streams`, or fewer when the system grants fewer file descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < max_streams + SPARE_DESCRIPTORS and (hard > soft or hard < 0):
        soft = max_streams + SPARE_DESCRIPTORS if hard < 0 else min(hard, max_streams + SPARE_DESCRIPTORS)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max_streams if soft < 0 else max(0, min(max_streams, soft - SPARE_DESCRIPTORS))


def revocation() -> Unauthorized:
    """Returns the error that ends what is open under a key when that is revoked."""
    return Unauthorized("the key of this request was revoked", code="key_revoked")


def resident_bytes() -> float:
    """Returns the memory of this process that is resident; 0 where the system does not say it in this way."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0.0


def check_webhook(settings: Settings) -> None:
    """Raises ConfigurationError when something is to be posted unsigned, or signed for nobody."""
    for name, url, secret in (
        ("TRILANE_USAGE_WEBHOOK", settings.usage_webhook_url, settings.usage_webhook_secret),
        ("TRILANE_RUN_WEBHOOK", settings.run_webhook_url, settings.run_webhook_secret),
    ):
        if bool(url) != bool(secret):
            raise ConfigurationError(
                f"{name}_URL and {name}_SECRET go together: set both or none; for the second, {NEW_WEBHOOK_SECRET}"
            )


def make_tracer(tracing: Tracing) -> "Tracer | None":
    """Returns what makes spans; None where no collector is named, and then nothing of the SDK is loaded.

    Raises ConfigurationError.
    """
    if not tracing.is_on:
        return None
    if not tracing.collector.lower().startswith(("http://", "https://")):
        raise ConfigurationError("OTEL_EXPORTER_OTLP_ENDPOINT is no address: want one such as http://collector:4318")
    if tracing.protocol not in ("", OTLP_PROTOCOL):
        raise ConfigurationError(
            f"OTEL_EXPORTER_OTLP_PROTOCOL={tracing.protocol[:40]!r}: traces are sent by {OTLP_PROTOCOL} alone, as a "
            "rule to port 4318. Set that, or OTEL_TRACES_EXPORTER=none to send none"
        )
    try:
        from gateway.core.tracing import Tracer
    except ModuleNotFoundError as err:
        raise ConfigurationError(
            "OTEL_EXPORTER_OTLP_ENDPOINT is set: pip install 'trilane[otel]', or set OTEL_TRACES_EXPORTER=none"
        ) from err
    return Tracer()


async def _nothing() -> None:
    """Does nothing: there is nothing to end."""


class Core:
    """The shared part of one process. A unit makes it, opens it before its lanes and closes it after them."""

    def __init__(self, event_log: EventLog, settings: Settings) -> None:
        self.settings = settings
        self.log = event_log
        self.hub = Hub(event_log)
        max_streams = capacity(settings.limits.local_streams)
        self.streams = OpenStreams(min(SLOT_S, settings.ping_s / 50), max_streams)
        self.fleet = FleetMember(event_log, self.hub, self.streams)
        self.bodies = Bodies(settings.limits.body_bytes, settings.limits.bodies_bytes)
        self.keys = KeyTable(event_log, self.hub)
        self.keys.on_revoke.append(lambda key_id: self.streams.revoke(key_id, revocation()))
        self.callers = Callers(revocation)
        self.keys.on_revoke.append(self.callers.revoke)
        self.memberships = Memberships(event_log, self.hub, are_kept=settings.requires_sign_in)
        self.memberships.on_change.append(self._note_membership)
        self.tickets = Tickets(event_log, is_revoked=self.keys.is_revoked)
        check_webhook(settings)
        self.prices = Prices(settings.pricing.prices)
        self.usage = UsageReports(event_log, self.prices)
        self.metrics = Metrics()
        self.tracer = make_tracer(settings.tracing)
        limits = settings.limits
        capacities = {
            "runs": limits.local_runs,
            "streams": max_streams,
            "sessions": limits.local_sessions,
            "uploads": limits.uploads,
        }
        self.limiter = Limiter(settings, event_log, self.metrics, capacities)
        self.memory = MemoryGuard(limits.memory_bytes)
        self.limiter.is_short_of_memory = lambda: self.memory.is_full
        self.metrics.gauge(
            "gateway_memory_used_bytes", "Memory that counts", lambda: self.memory.used_bytes, is_largest=True
        )
        self.metrics.gauge(
            "gateway_memory_max_bytes",
            "Memory past which no new work is taken; 0: unknown",
            lambda: self.memory.max_bytes,
            is_largest=True,
        )
        self.pauses = Pauses()
        self._health: asyncio.Task[None] | None = None
        self._was_usable = True
        """The last check of the log."""
        self._next_check = 0.0
        self._failure_timer: asyncio.TimerHandle | None = None
        self._has_failed = False
        self.model_lists: list[tuple[Callable[[Principal], bool], Callable[[], Awaitable[list[tuple[str, str]]]]]] = []
        """For each lane with models, who may use it, and a call that returns their names, each with its owner's."""
        self.on_failure: list[Callable[[TrilaneError], None]] = []
        """Called, while the log has failed under this process, with the error: what is open ends with it."""
        self.lost = self.metrics.counter(
            "log_lost_events", "Events that a reader could not be sent, by reason", "reason", ["damaged"]
        )
        refused = self.metrics.counter("gateway_refusals", "Requests and sockets refused, by reason", "reason")
        self.refusals = Refusals(lambda reason: refused.labels(reason).inc())
        self.hub.on_damage = self.note_damage
        self._measure(max_streams)

    def _measure(self, max_streams: int) -> None:
        """Adds the figures that belong to no lane."""
        metrics, pauses = self.metrics, self.pauses
        appends = metrics.histogram(
            "log_append_seconds", "From when a group of appends left for the log until it was there", SHORT_S
        )
        self.log.on_written = appends.observe
        metrics.gauge("log_waiting_appends", "Appends that wait for their turn to be written", lambda: self.log.backlog)
        metrics.gauge(
            "log_failed",
            "Whether the log has failed: its file is gone, or its server is away",
            lambda: self.log.failure is not None,
            is_largest=True,
        )
        metrics.total("gateway_gc_pause_seconds", "Time spent in full garbage collections", lambda: pauses.total_s)
        metrics.gauge(
            "gateway_gc_pause_max_seconds",
            "The longest full garbage collection",
            lambda: pauses.longest_s,
            is_largest=True,
        )
        metrics.total("gateway_cpu_seconds", "Time that the process has used of a CPU", time.process_time)
        metrics.gauge("gateway_memory_bytes", "Memory of the process that is resident", resident_bytes)
        metrics.totals(
            "gateway_refused_connections",
            "Connections ended before their request had come, by reason",
            ["reason"],
            lambda: {(reason,): count for reason, count in ArrivalProtocol.refused.items()},
        )
        metrics.gauges(
            "gateway_open_streams",
            "Event streams being read, by lane and state",
            ["lane", "state"],
            self.streams.states,
        )
        metrics.gauge("gateway_body_bytes", "Bytes of request bodies in memory", lambda: self.bodies.held_bytes)
        metrics.gauge("gateway_streams_limit", "Event streams that can be open at once", lambda: max_streams)

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[None]:
        await open_log(self.log, self.settings)
        loop = asyncio.get_running_loop()
        stop_delivering = self._deliver_usage()
        self.metrics.gauge("gateway_tasks", "Tasks of the event loop", lambda: len(asyncio.all_tasks(loop)))
        self._look_for_failure()
        self.memory.start()
        await self.fleet.open()
        try:
            if self.settings.requires_sign_in:
                await self.keys.open()
                await self.memberships.open()
            yield
        finally:
            self.fleet.state = "draining"
            self.memory.stop()
            if self._failure_timer is not None:
                self._failure_timer.cancel()
            if self._health is not None:
                self._health.cancel()
            await stop_delivering()
            await self.limiter.close()
            self.fleet.close()
            self.memberships.close()
            await self.hub.close()
            await self.log.close()
            if self.tracer is not None:
                await self.tracer.close()

    def _deliver_usage(self) -> Callable[[], Awaitable[None]]:
        """Begins to deliver usage, where a webhook is set; returns what ends that."""
        url, key = self.settings.usage_webhook_url, self.settings.usage_webhook_secret
        if not url:
            return _nothing
        from gateway.core.usage_outbox import UsageOutbox
        from gateway.core.webhook import Webhook

        webhook = Webhook(url, key)
        outbox = UsageOutbox(self.log, webhook.post, self.prices, lambda outcome: tries.labels(outcome).inc())
        tries = self.metrics.counter("usage_posts", "Posts of usage to the webhook, by outcome", "outcome")
        delivering = asyncio.get_running_loop().create_task(outbox.run(), name="deliver usage")
        delivering.add_done_callback(report_end)

        async def stop() -> None:
            delivering.cancel()
            await asyncio.gather(delivering, return_exceptions=True)
            await outbox.leave()
            await webhook.aclose()

        return stop

    def _note_membership(self, change: MembershipChange) -> None:
        """Ends what is open for somebody who was removed from a chat."""
        topics = change.topics
        if change.is_member:
            self.streams.readmit(change.sub, topics)
        else:
            self.streams.remove(change.sub, topics, removal())

    def note_damage(self, topic: str, first: int, last: int) -> None:
        """Counts and logs events that a reader was told cannot be read."""
        self.lost.labels("damaged").inc(last - first + 1)
        log.error("events cannot be read: the log is damaged", topic=topic, first=first, last=last)

    def _look_for_failure(self) -> None:
        """Ends what is open when the log fails under it for good; the log itself looks at its file once a second."""
        failure = self.log.failure
        if failure is not None and failure.is_passing:
            failure = None
        if failure is not None:
            if not self._has_failed:
                log.error("the log has failed: everything open ends", reason=failure.detail)
            for end in (self.streams.fail, *self.on_failure):
                end(failure)
        elif self._has_failed:
            log.info("the log can be used again")
        self._has_failed = failure is not None
        self._failure_timer = asyncio.get_running_loop().call_later(FAILURE_S, self._look_for_failure)

    @property
    def is_ready(self) -> bool:
        """Returns whether it can serve: it is open, and not draining."""
        return self.fleet.state == "ready"

    async def check(self) -> None:
        """Raises LogUnavailable when the log cannot be read or written; one look holds for CHECK_S.

        Anyone may ask, so it says no more: the engine's words name its server, and stand in this process's log lines.
        """
        try:
            await self._look()
            self._was_usable = True
        except LogError as err:
            if self._was_usable:
                log.warning("the log cannot be read or written", reason=err.detail)
            self._was_usable = False
            raise LogUnavailable("the log cannot be read or written: the log lines of this process say why") from err

    async def _look(self) -> None:
        if self.log.failure is not None:
            raise self.log.failure
        now = asyncio.get_running_loop().time()
        if self._health is None or (self._health.done() and now >= self._next_check):
            self._next_check = now + CHECK_S
            self._health = asyncio.get_running_loop().create_task(self._check())
        await asyncio.shield(self._health)

    async def _check(self) -> None:
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_S):
                await self.log.append(Append(topic=HEALTH, data=[b"1"], name="check"))
                await self.log.read(HEALTH, NO_EVENTS, max_events=1)
        except TimeoutError as err:
            raise LogUnavailable(f"the log has not answered within {CHECK_TIMEOUT_S:g} s") from err
