"""The plots of a growth: figures against their load, and the model beside them as a dashed line."""

from dataclasses import dataclass

from loadtests.bench.growth import constants
from loadtests.bench.growth.model import NotMeasured, check
from loadtests.bench.growth.points import Points
from loadtests.bench.report import plot
from loadtests.bench.report.plot import OTHERS, Axis, Line


@dataclass(frozen=True)
class GrowthPlot:
    """Some figures of one series, which have the same unit."""

    name: str
    title: str
    series: str
    lines: tuple[tuple[str, str], ...]
    """The lines of the plot: each a figure, and what it is called."""
    x: str
    y: str
    limit: tuple[float, str] | None = None
    linear: bool = False
    """Whether both axes are linear; else both are logarithmic, where a slope is a straight line."""

    @property
    def part(self) -> str:
        return self.series.partition("/")[0]

    @property
    def file(self) -> str:
        return f"growth-{self.part}-{self.name}.svg"

    def svg(self, points: Points) -> str:
        """Returns the plot; empty where nothing was measured."""
        solid_lines = [self._measured(points, *line, colour) for colour, line in enumerate(self.lines)]
        lines = [line for line in [self._predicted(points), *solid_lines] if line.points]
        if not [line for line in lines if not line.dashed]:
            return ""
        x, y = (Axis(label, log=not self.linear) for label in (self.x, self.y))
        return plot.lines(self.title, lines, x, y, limit=self.limit, height=320)

    def _measured(self, points: Points, figure: str, name: str, colour: int) -> Line:
        values = points.figure(self.series, figure)
        return Line(name, [(one.load, one.value) for one in values if self.linear or one.value > 0], colour)

    def _predicted(self, points: Points) -> Line:
        """Returns the model's line of a figure that is alone, where a law has it."""
        (figure, _), *others = self.lines
        if others:
            return Line("model", [])
        try:
            lane = constants.LANES[self.part](points)
        except NotMeasured:
            return Line("model", [])
        laws = [one for one in check(lane, points) if (one.law.series, one.law.figure) == (self.series, figure)]
        predictions = [(one.load, one.predicted) for one in laws]
        return Line("model", predictions, OTHERS, dashed=True)


PLOTS = (
    GrowthPlot(
        "memory",
        "Memory of a process, by its idle streams",
        "events/idle",
        (("mib", "measured"),),
        "idle streams",
        "MiB",
    ),
    GrowthPlot(
        "event",
        "CPU of one event, by its readers",
        "events/readers",
        (("us_per_event", "measured"),),
        "readers",
        "microseconds",
    ),
    GrowthPlot(
        "delivery",
        "CPU of one delivery, by the readers of its topic",
        "events/readers",
        (("us_per_delivery", "10 events/s"), ("top_us_per_delivery", "highest rate")),
        "readers",
        "microseconds",
    ),
    GrowthPlot(
        "top",
        "Deliveries per second, while 99 % arrive within 100 ms",
        "events/readers",
        (("top_per_s", "measured"),),
        "readers",
        "deliveries/s",
    ),
    GrowthPlot(
        "tokens",
        "Tokens carried by one process",
        "chat/runs",
        (("tokens_per_s", "measured"),),
        "runs at once",
        "tokens/s",
    ),
    GrowthPlot(
        "cost",
        "CPU of one token, by runs at once",
        "chat/runs",
        (("us_per_token", "measured"),),
        "runs at once",
        "microseconds",
    ),
    GrowthPlot(
        "first",
        "Added to the first token, by runs at once",
        "chat/runs",
        (("added_p50_ms", "p50"), ("added_p99_ms", "p99")),
        "runs at once",
        "milliseconds",
    ),
    GrowthPlot(
        "followers",
        "CPU of one token delivered, by readers of one run",
        "chat/followers",
        (("us_per_token", "measured"),),
        "readers",
        "microseconds",
    ),
    GrowthPlot(
        "delay",
        "How late words are, by how many speak at once",
        "audio/sessions",
        (("stable_p90_s", "stable, p90"), ("stable_p50_s", "stable, p50"), ("final_p90_s", "final, p90")),
        "sessions that speak all the time",
        "seconds",
        (2.0, "2 s: too late"),
        linear=True,
    ),
    GrowthPlot(
        "cost",
        "CPU of a second of speech, by how many speak at once",
        "audio/sessions",
        (("cpu_per_speech_s", "measured"),),
        "sessions that speak all the time",
        "seconds",
    ),
    GrowthPlot(
        "calls",
        "What a call takes, by the events in the file",
        "log/events",
        (("append_us", "one append"), ("tail_us", "last 20 events"), ("resume_us", "last 100 events")),
        "events in the file",
        "microseconds",
    ),
    GrowthPlot("size", "The file, by its events", "log/events", (("file_mb", "measured"),), "events in the file", "MB"),
)
