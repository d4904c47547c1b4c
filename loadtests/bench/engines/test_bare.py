"""The bare servers get what our engines send: the same bytes, the same statement, and every request is written."""

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from events.log.port import Append, Retention
from events.log.redis.address import parse_address
from events.log.redis.heads import Heads
from events.log.redis.outage import Outage
from events.log.redis.writer import RedisWriter
from gateway.core.engines import make_log
from gateway.settings import load
from loadtests.bench.chat.cases import RequestNumbers
from loadtests.bench.engines import stores
from loadtests.bench.engines.bare import pgbench_script, redis_tail
from loadtests.bench.engines.cases import EngineRig, EnginesPlan, append
from loadtests.bench.engines.producers import EVENT, PRODUCERS
from loadtests.bench.harness import machine

RETENTION = Retention(events=10_000, max_bytes=16 << 20, age_s=3600)
needs_cc = pytest.mark.skipif(shutil.which("cc") is None, reason="the bare client is built from C and there is no cc")


def test_redis_gets_the_bytes_that_the_engine_sends() -> None:
    writer = RedisWriter(
        parse_address("redis://127.0.0.1"),
        "name",
        announce=lambda *_: None,
        retention=lambda _: RETENTION,
        clock=None,
        patience_s=1,
        on_written=lambda _: None,
        heads=Heads("name"),
        outage=Outage(),
    )
    calls: Any = [SimpleNamespace(appends=(Append(topic=topic, data=[EVENT]),)) for topic in ("a", "b")]
    words = writer._pack(calls)  # pyright: ignore[reportPrivateUsage] - the bytes that the engine sends
    assert redis_tail(["a", "b"], RETENTION).endswith(b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words))


def test_pgbench_counts_the_groups_and_has_all_values_written_out() -> None:
    counter, statement = pgbench_script(["a", "b"], RETENTION).splitlines()
    assert counter == "\\set number :number + 1"
    assert statement.startswith("SELECT * FROM trilane.append(:process::bigint, :number::bigint, false::boolean, ")
    assert "'{a,b}'::text[]" in statement
    assert "%" not in statement


@pytest.fixture(scope="module", params=["redis", "postgres"])
def engine(request: pytest.FixtureRequest) -> Iterator[tuple[str, stores.Store]]:
    if why := stores.missing(request.param):
        pytest.skip(why)
    port = next(port for port in range(19_000, 19_900) if machine.port_is_free(port))
    with stores.store(request.param, port) as store:
        yield request.param, store


@needs_cc
def test_every_append_is_measured_beside_a_bare_server_that_takes_them(
    engine: tuple[str, stores.Store], tmp_path: Path
) -> None:
    name, store = engine
    plan = EnginesPlan(append_s=0.1)
    figures = append(EngineRig(name, store, 0, tmp_path, {}, plan, 0, 0, RequestNumbers()))
    assert list(figures) == [str(count) for count in PRODUCERS]
    for one in figures.values():
        assert one["per_s"] > 0
        assert one["bare"]["per_s"] > 0
        assert one["store_us_per_append"] > 0
    assert json.dumps(figures)


@needs_cc
def test_an_emptied_server_holds_nothing_of_the_log_before(engine: tuple[str, stores.Store]) -> None:
    async def names(is_writing: bool) -> list[str]:
        log = make_log(load({"TRILANE_LOG": engine[1].empty()}))
        await log.open()
        try:
            if is_writing:
                await log.append(Append(topic="a", data=[EVENT]))
            return await log.names("", 10)
        finally:
            await log.close()

    assert asyncio.run(names(True)) == ["a"]
    assert asyncio.run(names(False)) == []
