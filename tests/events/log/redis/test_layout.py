"""What the log leaves in Redis is bounded: a burst is one block, a topic that is gone leaves nothing, keys expire."""

import asyncio

from events.log.port import Append, Retention
from tests.contract.engines import Engine, put, scenario
from tests.support.redis_servers import RedisServer


def keys_of(server: RedisServer, engine: Engine) -> dict[str, str]:
    """Returns the names and types of the keys of a log, without its prefix."""
    prefix = "{" + engine.url.split("prefix=")[1] + "}:"
    reply = server.say("KEYS", f"{prefix}*")
    names = [line.decode() for line in reply.split(b"\r\n")[2::2]]
    return {name.removeprefix(prefix): server.say("TYPE", name).decode().strip("+\r\n") for name in names}


def prefixed(engine: Engine, name: str) -> str:
    return "{" + engine.url.split("prefix=")[1] + "}:" + name


@scenario
async def test_a_burst_becomes_one_block_and_each_name_its_own(server: RedisServer, engine: Engine) -> None:
    async with engine.open() as log:
        await asyncio.gather(*(log.append(Append(topic="a", data=[b"x"]), patient=True) for _ in range(40)))
        assert server.say("XLEN", prefixed(engine, "b:a")) in (b":1\r\n", b":2\r\n")  # the first may go alone
        await asyncio.gather(*(log.append(Append(topic="b", data=[b"x"], name=f"n{n}")) for n in range(3)))
        assert server.say("XLEN", prefixed(engine, "b:b")) == b":3\r\n"
        await asyncio.gather(*(log.append(Append(topic="c", data=[b"x" * 30_000])) for _ in range(6)))
        assert server.say("XLEN", prefixed(engine, "b:c")) in (b":3\r\n", b":4\r\n")


@scenario
async def test_topics_that_are_gone_leave_nothing_but_their_family(server: RedisServer, engine: Engine) -> None:
    async with engine.open(lambda _: Retention(closed_age_s=10)) as log:
        await put(log, "run/1", b"x", owner="me", close=True)
        await put(log, "run/2", b"x", owner="me")
        await put(log, "run/2", b"x", close=True)
        await put(log, "run/3", b"x", owner="me")
        await log.delete("run/3")
        engine.clock.now_s += 20
        await log.sweep()
        left = keys_of(server, engine)
        assert {name for name in left if not name.startswith("w:")} == {"f"}


@scenario
async def test_what_is_kept_for_a_while_expires(server: RedisServer, engine: Engine) -> None:
    async with engine.open() as log:
        await put(log, "run/1", b"x", key="k")
        for name in keys_of(server, engine):
            lives_ms = int(server.say("PTTL", prefixed(engine, name))[1:])
            if name.startswith("k:"):
                assert 299_000 < lives_ms <= 300_000
            elif name.startswith("w:"):
                assert 599_000 < lives_ms <= 600_000
            else:
                assert lives_ms == -1


@scenario
async def test_a_key_is_valid_to_the_millisecond(engine: Engine) -> None:
    async with engine.open() as log:
        await put(log, "a", b"1", key="k")
        engine.clock.now_s += 299.999
        assert (await put(log, "a", b"1", key="k")).duplicate
        engine.clock.now_s += 0.001
        assert not (await put(log, "a", b"1", key="k")).duplicate


@scenario
async def test_a_hot_topic_is_trimmed_between_sweeps(server: RedisServer, engine: Engine) -> None:
    async with engine.open(lambda _: Retention(events=64)) as log:
        for n in range(80):
            await put(log, "a", b"%d" % n)
            part = await log.read("a", n)
            assert 64 <= part.head - part.oldest + 1 <= 64 * 17 / 16 or part.head <= 64
        assert part.oldest > 1
