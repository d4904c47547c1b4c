"""A store between the processes costs CPU, by what the engines benchmark has measured of its server. Pure.

The server's CPU of a write is that of one append, and more for each further one in it; a process that hears of an event
reads it, which is what relaying an event costs the server beyond its append.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from loadtests.bench.growth.needs import SHARE, Need
from loadtests.bench.growth.scenarios import Column
from loadtests.bench.harness.records import Record
from loadtests.bench.report.blocks import median
from loadtests.bench.report.rows import at

STORES = {"redis": "Redis", "postgres": "PostgreSQL"}
FEW, MANY = 1, 100
"""Appends in a write, between which the cost of one more is read off."""


@dataclass(frozen=True, kw_only=True)
class StoreModel:
    """The CPU of a store's server, in µs."""

    write_us: float
    event_us: float
    """Each event of a write."""
    read_us: float
    """An event that a process reads because another took it."""

    def cores(self, need: Need) -> float:
        """Returns the cores that the server uses for a load."""
        appends_us = need.store_writes_per_s * self.write_us + need.store_events_per_s * self.event_us
        return (appends_us + need.store_relayed_per_s * self.read_us) / 1e6


def store_model(records: Sequence[Record], engine: str) -> StoreModel | None:
    """Returns what an engine's server costs; None where it was not measured."""
    few_us, many_us = (
        median(at("append", str(count), "store_us_per_append"), records, "append", engine) for count in (FEW, MANY)
    )
    relayed_us = median(at("relay", "store_us_per_event"), records, "relay", engine)
    if few_us is None or many_us is None or relayed_us is None:
        return None
    event_us = max(0.0, (MANY * many_us - FEW * few_us) / (MANY - FEW))
    return StoreModel(write_us=max(0.0, few_us - event_us), event_us=event_us, read_us=max(0.0, relayed_us - few_us))


def store_columns(models: Mapping[str, StoreModel]) -> list[Column]:
    """Returns the columns of each store: the cores it uses, and the cores to have so that they are filled to SHARE."""
    columns: list[Column] = []
    for title, model in models.items():
        columns += [
            (f"{title}: cores used", model.cores),
            (f"{title}: cores to have", lambda need, model=model: model.cores(need) / SHARE),
        ]
    return columns
