"""The figures that a growth shows, each with its label and its unit."""

from dataclasses import dataclass

from loadtests.bench.growth.cases import GrowthSeries
from loadtests.bench.report.text import rounded


@dataclass(frozen=True)
class GrowthFigure:
    """A figure of a growth as people read it: its label and its unit."""

    name: str
    label: str
    unit: str

    @property
    def title(self) -> str:
        return f"{self.label}, {self.unit}" if self.unit else self.label

    def text(self, value: float | None) -> str:
        """Returns the value as a cell of a table."""
        return "-" if value is None else rounded(value)

    def with_unit(self, value: float) -> str:
        """Returns the value as a part of a sentence."""
        return f"{rounded(value)} {self.unit}".rstrip()


FIGURES: dict[str, tuple[GrowthFigure, ...]] = {
    "events/idle": (
        GrowthFigure("mib", "process memory", "MiB"),
        GrowthFigure("kib", "memory per stream", "KiB"),
        GrowthFigure("kernel_kib", "kernel memory per stream", "KiB"),
        GrowthFigure("core", "CPU with pings", "core"),
        GrowthFigure("accepts_per_s", "accepted", "1/s"),
        GrowthFigure("us_per_accept", "CPU per accept", "µs"),
    ),
    "events/readers": (
        GrowthFigure("us_per_event", "CPU per event", "µs"),
        GrowthFigure("us_per_delivery", "CPU per delivery", "µs"),
        GrowthFigure("p50_ms", "delay p50", "ms"),
        GrowthFigure("p99_ms", "delay p99", "ms"),
        GrowthFigure("top_per_s", "most deliveries", "1/s"),
        GrowthFigure("top_us_per_delivery", "CPU per delivery there", "µs"),
    ),
    "events/relayed": (
        GrowthFigure("us_per_event", "CPU per event", "µs"),
        GrowthFigure("p50_ms", "delay p50", "ms"),
        GrowthFigure("p99_ms", "delay p99", "ms"),
    ),
    "chat/runs": (
        GrowthFigure("tokens_per_s", "tokens carried", "1/s"),
        GrowthFigure("us_per_token", "CPU per token", "µs"),
        GrowthFigure("core", "CPU", "core"),
        GrowthFigure("added_p50_ms", "added to the first token p50", "ms"),
        GrowthFigure("added_p99_ms", "added to the first token p99", "ms"),
        GrowthFigure("lag_p99_ms", "token delay p99", "ms"),
        GrowthFigure("mib", "process memory", "MiB"),
        GrowthFigure("kib_per_run", "memory per run", "KiB"),
    ),
    "chat/answers": (
        GrowthFigure("tokens_per_s", "tokens carried", "1/s"),
        GrowthFigure("us_per_token", "CPU per token", "µs"),
        GrowthFigure("core", "CPU", "core"),
        GrowthFigure("added_p50_ms", "added to the first token p50", "ms"),
        GrowthFigure("starts_per_s", "answers begun", "1/s"),
    ),
    "chat/followers": (
        GrowthFigure("tokens_per_s", "tokens delivered", "1/s"),
        GrowthFigure("us_per_token", "CPU per token delivered", "µs"),
        GrowthFigure("core", "CPU", "core"),
        GrowthFigure("lag_p50_ms", "token delay p50", "ms"),
        GrowthFigure("lag_p99_ms", "token delay p99", "ms"),
    ),
    "audio/sessions": (
        GrowthFigure("stable_p50_s", "word stable p50", "s"),
        GrowthFigure("stable_p90_s", "word stable p90", "s"),
        GrowthFigure("final_p90_s", "final p90", "s"),
        GrowthFigure("cpu_per_speech_s", "CPU per second of speech", "s"),
        GrowthFigure("core", "CPU", "cores"),
        GrowthFigure("mib", "process memory", "MiB"),
        GrowthFigure("lag_max_s", "behind at most", "s"),
    ),
    "log/events": (
        GrowthFigure("append_per_s", "appends of 300 writers", "1/s"),
        GrowthFigure("longest_ms", "longest of them", "ms"),
        GrowthFigure("append_us", "one append", "µs"),
        GrowthFigure("tail_us", "last 20 events", "µs"),
        GrowthFigure("resume_us", "last 100 events", "µs"),
        GrowthFigure("open_ms", "open", "ms"),
        GrowthFigure("file_mb", "file", "MB"),
        GrowthFigure("bytes_per_event", "file per event", "bytes"),
        GrowthFigure("fill_per_s", "filled in appends of 10", "1/s"),
    ),
}
"""The figures of each series, by `GrowthSeries.key`."""


def figures_of(series: GrowthSeries) -> tuple[GrowthFigure, ...]:
    """Returns the figures that a series shows."""
    return FIGURES[series.key]
