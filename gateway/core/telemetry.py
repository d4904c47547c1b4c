"""Metrics and log lines. Nothing here runs per token."""

import gc
import logging
import os
import sys
import time
from collections.abc import Awaitable, Callable

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, start_http_server
from prometheus_client.registry import Collector

from gateway.core.sums import Family, families
from gateway.core.tracebacks import keep_first_line, shown_traceback
from gateway.errors import ConfigurationError

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """The metrics of one process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._largest: set[str] = set()
        self.sums: Callable[[], Awaitable[bytes]] | None = None
        """Returns the figures of all processes that serve as one, where this is one of several."""
        self.runs = Counter("trilane_runs", "Runs that ended, by outcome", ["outcome"], registry=self.registry)
        tokens = Counter("trilane_tokens", "Tokens booked, by direction", ["direction"], registry=self.registry)
        self.input_tokens, self.output_tokens = tokens.labels("in"), tokens.labels("out")
        self.first_token = Histogram(
            "trilane_first_token_seconds",
            "From the start of a run to its first visible token",
            buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30),
            registry=self.registry,
        )

    def gauge(self, name: str, help_text: str, value: Callable[[], float], *, is_largest: bool = False) -> None:
        """Adds a metric whose value is looked up at each scrape.

        `is_largest`: it counts nothing, so of several processes the largest value is told and not the sum.
        """
        if is_largest:
            self._largest.add(f"trilane_{name}")
        Gauge(f"trilane_{name}", help_text, registry=self.registry).set_function(value)

    def counter(self, name: str, help_text: str, label: str) -> Counter:
        """Adds and returns a counter with one label."""
        return Counter(f"trilane_{name}", help_text, [label], registry=self.registry)

    def families(self) -> list[Family]:
        return families(self.registry, self._largest)

    async def text(self) -> bytes:
        """Returns the figures as Prometheus reads them: of this process, or of all that serve as one with it."""
        return await self.sums() if self.sums is not None else generate_latest(self.registry)


def serve_metrics(host: str, port: int, collector: Collector) -> None:
    """Serves figures on a port of their own, from a thread. Raises ConfigurationError when it cannot be listened on."""
    try:
        start_http_server(port, host, collector)
    except OSError as err:
        raise ConfigurationError(
            f"TRILANE_METRICS_PORT={port} of TRILANE_METRICS_HOST={host} cannot be listened on: {err.strerror}"
        ) from err


class Pauses:
    """Measures how long full garbage collections have stopped this process."""

    def __init__(self) -> None:
        self.total_s = self.longest_s = 0.0
        self._start = 0.0

    def watch(self) -> None:
        gc.callbacks.append(self._on_collection)

    def _on_collection(self, phase: str, info: dict[str, int]) -> None:
        if info["generation"] < 2:
            return
        if phase == "start":
            self._start = time.perf_counter()
        else:
            took_s = time.perf_counter() - self._start
            self.total_s += took_s
            self.longest_s = max(self.longest_s, took_s)


def configure_logging(*, has_pid: bool = False) -> None:
    """Writes log lines for people on a terminal, as JSON elsewhere, and uvicorn's own warnings in the same form.

    `has_pid`: each line says which process wrote it, where several write to one place.
    """
    shared: list[structlog.types.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        *([_add_pid] if has_pid else []),
    ]
    is_terminal = sys.stderr.isatty()
    plain = structlog.dev.plain_traceback  # the default would show every variable, with what users wrote
    render: list[structlog.types.Processor] = [
        structlog.processors.ExceptionRenderer(shown_traceback),
        structlog.dev.ConsoleRenderer(exception_formatter=plain)
        if is_terminal
        else structlog.processors.JSONRenderer(),
    ]
    structlog.configure(
        processors=[*shared, *render],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, keep_first_line],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


def _add_pid(logger: object, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    event.setdefault("pid", os.getpid())
    return event
