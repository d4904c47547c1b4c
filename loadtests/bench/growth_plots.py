"""The plots of a growth: figures against their load, and the model beside them as a dashed line."""

from dataclasses import dataclass

from loadtests.bench import growth_constants, plot
from loadtests.bench.growth_model import NotMeasured, check
from loadtests.bench.growth_points import Points
from loadtests.bench.plot import OTHERS, Axis, Line


@dataclass(frozen=True)
class Plot:
    """Some figures of one series, which have the same unit."""

    name: str
    title: str
    series: str
    lines: tuple[tuple[str, str], ...]
    """Each a figure, and what it is called."""
    x: str
    y: str
    limit: tuple[float, str] | None = None
    linear: bool = False
    """Both axes; else both are logarithmic, where a slope is a straight line."""

    @property
    def part(self) -> str:
        return self.series.partition("/")[0]

    @property
    def file(self) -> str:
        return f"growth-{self.part}-{self.name}.svg"

    def svg(self, points: Points) -> str:
        """Empty where nothing was measured."""
        drawn = [self._measured(points, *line, colour) for colour, line in enumerate(self.lines)]
        drawn = [line for line in [self._predicted(points), *drawn] if line.points]
        if not [line for line in drawn if not line.dashed]:
            return ""
        x, y = (Axis(label, log=not self.linear) for label in (self.x, self.y))
        return plot.lines(self.title, drawn, x, y, limit=self.limit, height=320)

    def _measured(self, points: Points, figure: str, name: str, colour: int) -> Line:
        found = points.figure(self.series, figure)
        return Line(name, [(one.load, one.value) for one in found if self.linear or one.value > 0], colour)

    def _predicted(self, points: Points) -> Line:
        """Of a figure that is alone, where a law has it."""
        (figure, _), *others = self.lines
        if others:
            return Line("model", [])
        try:
            lane = growth_constants.LANES[self.part](points)
        except NotMeasured:
            return Line("model", [])
        laws = [one for one in check(lane, points) if (one.law.series, one.law.figure) == (self.series, figure)]
        found = [(one.load, one.predicted) for one in laws]
        return Line("model", found, OTHERS, dashed=True)


PLOTS = (
    Plot(
        "memory",
        "Memory of a process, by its idle streams",
        "events/idle",
        (("mib", "measured"),),
        "idle streams",
        "MiB",
    ),
    Plot(
        "event",
        "CPU of one event, by its readers",
        "events/readers",
        (("us_per_event", "measured"),),
        "readers",
        "microseconds",
    ),
    Plot(
        "delivery",
        "CPU of one delivery, by the readers of its topic",
        "events/readers",
        (("us_per_delivery", "10 events/s"), ("top_us_per_delivery", "highest rate")),
        "readers",
        "microseconds",
    ),
    Plot(
        "top",
        "Deliveries per second, while 99 % arrive within 100 ms",
        "events/readers",
        (("top_per_s", "measured"),),
        "readers",
        "deliveries/s",
    ),
    Plot(
        "tokens",
        "Tokens carried by one process",
        "chat/runs",
        (("tokens_per_s", "measured"),),
        "runs at once",
        "tokens/s",
    ),
    Plot(
        "cost",
        "CPU of one token, by runs at once",
        "chat/runs",
        (("us_per_token", "measured"),),
        "runs at once",
        "microseconds",
    ),
    Plot(
        "first",
        "Added to the first token, by runs at once",
        "chat/runs",
        (("added_p50_ms", "p50"), ("added_p99_ms", "p99")),
        "runs at once",
        "milliseconds",
    ),
    Plot(
        "followers",
        "CPU of one token delivered, by readers of one run",
        "chat/followers",
        (("us_per_token", "measured"),),
        "readers",
        "microseconds",
    ),
    Plot(
        "delay",
        "How late words are, by how many speak at once",
        "audio/sessions",
        (("stable_p90_s", "stable, p90"), ("stable_p50_s", "stable, p50"), ("final_p90_s", "final, p90")),
        "sessions that speak all the time",
        "seconds",
        (2.0, "2 s: too late"),
        linear=True,
    ),
    Plot(
        "cost",
        "CPU of a second of speech, by how many speak at once",
        "audio/sessions",
        (("cpu_per_speech_s", "measured"),),
        "sessions that speak all the time",
        "seconds",
    ),
    Plot(
        "calls",
        "What a call takes, by the events in the file",
        "log/events",
        (("append_us", "one append"), ("tail_us", "last 20 events"), ("resume_us", "last 100 events")),
        "events in the file",
        "microseconds",
    ),
    Plot("size", "The file, by its events", "log/events", (("file_mb", "measured"),), "events in the file", "MB"),
)
