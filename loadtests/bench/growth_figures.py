"""The figures that a growth shows: what each is called, and its unit."""

from dataclasses import dataclass

from loadtests.bench.growth_cases import Series
from loadtests.bench.rounding import rounded


@dataclass(frozen=True)
class Shown:
    """One figure, as people read it."""

    name: str
    label: str
    unit: str

    @property
    def title(self) -> str:
        return f"{self.label}, {self.unit}" if self.unit else self.label

    def text(self, value: float | None) -> str:
        """As a cell of a table."""
        return "-" if value is None else rounded(value)


SHOWN: dict[str, tuple[Shown, ...]] = {
    "events/idle": (
        Shown("mib", "process memory", "MiB"),
        Shown("kib", "memory per stream", "KiB"),
        Shown("kernel_kib", "kernel memory per stream", "KiB"),
        Shown("core", "CPU with pings", "core"),
        Shown("accepts_per_s", "accepted", "1/s"),
        Shown("us_per_accept", "CPU per accept", "µs"),
    ),
    "events/readers": (
        Shown("us_per_event", "CPU per event", "µs"),
        Shown("us_per_delivery", "CPU per delivery", "µs"),
        Shown("p50_ms", "delay p50", "ms"),
        Shown("p99_ms", "delay p99", "ms"),
        Shown("top_per_s", "most deliveries", "1/s"),
        Shown("top_us_per_delivery", "CPU per delivery there", "µs"),
    ),
    "events/relayed": (
        Shown("us_per_event", "CPU per event", "µs"),
        Shown("p50_ms", "delay p50", "ms"),
        Shown("p99_ms", "delay p99", "ms"),
    ),
    "chat/runs": (
        Shown("tokens_per_s", "tokens carried", "1/s"),
        Shown("us_per_token", "CPU per token", "µs"),
        Shown("core", "CPU", "core"),
        Shown("added_p50_ms", "added to the first token p50", "ms"),
        Shown("added_p99_ms", "added to the first token p99", "ms"),
        Shown("lag_p99_ms", "token delay p99", "ms"),
        Shown("mib", "process memory", "MiB"),
        Shown("kib_per_run", "memory per run", "KiB"),
    ),
    "chat/answers": (
        Shown("tokens_per_s", "tokens carried", "1/s"),
        Shown("us_per_token", "CPU per token", "µs"),
        Shown("core", "CPU", "core"),
        Shown("added_p50_ms", "added to the first token p50", "ms"),
        Shown("starts_per_s", "answers begun", "1/s"),
    ),
    "chat/followers": (
        Shown("tokens_per_s", "tokens delivered", "1/s"),
        Shown("us_per_token", "CPU per token delivered", "µs"),
        Shown("core", "CPU", "core"),
        Shown("lag_p50_ms", "token delay p50", "ms"),
        Shown("lag_p99_ms", "token delay p99", "ms"),
    ),
    "audio/sessions": (
        Shown("stable_p50_s", "word stable p50", "s"),
        Shown("stable_p90_s", "word stable p90", "s"),
        Shown("final_p90_s", "final p90", "s"),
        Shown("cpu_per_speech_s", "CPU per second of speech", "s"),
        Shown("core", "CPU", "cores"),
        Shown("mib", "process memory", "MiB"),
        Shown("lag_max_s", "behind at most", "s"),
    ),
    "log/events": (
        Shown("append_per_s", "appends of 300 writers", "1/s"),
        Shown("longest_ms", "longest of them", "ms"),
        Shown("append_us", "one append", "µs"),
        Shown("tail_us", "last 20 events", "µs"),
        Shown("resume_us", "last 100 events", "µs"),
        Shown("open_ms", "open", "ms"),
        Shown("file_mb", "file", "MB"),
        Shown("bytes_per_event", "file per event", "bytes"),
        Shown("fill_per_s", "filled in appends of 10", "1/s"),
    ),
}
"""By `Series.key`."""


def of(series: Series) -> tuple[Shown, ...]:
    return SHOWN[series.key]
