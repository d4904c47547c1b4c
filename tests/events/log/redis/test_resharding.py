"""A cluster may move the log's slot to another node while it is written: appends wait, and none is lost or doubled."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.crc import key_slot

from events.log.redis.engine import RedisLog
from tests.contract.engines import CommitList, keep_all, put, scenario, whole
from tests.support.redis_servers import RedisServer, start_cluster

TAG = "moving"
EVENTS = 300


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[list[RedisServer]]:
    servers = start_cluster(tmp_path, nodes=2)
    yield servers
    for server in servers:
        server.kill()


def bulk(reply: bytes) -> str:
    """Returns the text of a reply that is one bulk string."""
    return reply.split(b"\r\n", 1)[1].rstrip().decode()


async def move_slot(source: RedisServer, target: RedisServer) -> None:
    """Moves the log's slot as `redis-cli --cluster reshard` does, with a pause while its keys are on both nodes."""
    slot = str(key_slot(f"{{{TAG}}}".encode()))
    names = [bulk(server.say("CLUSTER", "MYID")) for server in (source, target)]
    assert target.say("CLUSTER", "SETSLOT", slot, "IMPORTING", names[0]) == b"+OK\r\n"
    assert source.say("CLUSTER", "SETSLOT", slot, "MIGRATING", names[1]) == b"+OK\r\n"
    has_paused = False
    while keys := source.say("CLUSTER", "GETKEYSINSLOT", slot, "3").split(b"\r\n")[2::2]:
        words = ["MIGRATE", "127.0.0.1", str(target.port), "", "0", "5000", "KEYS"]
        assert source.say(*words, *(key.decode() for key in keys)) == b"+OK\r\n"
        if not has_paused:
            has_paused = True
            await asyncio.sleep(0.2)
    for server in (target, source):
        assert server.say("CLUSTER", "SETSLOT", slot, "NODE", names[1]) == b"+OK\r\n"


@scenario
async def test_a_slot_moves_to_another_node_under_load(cluster: list[RedisServer]) -> None:
    url = f"redis+cluster://127.0.0.1:{cluster[0].port},127.0.0.1:{cluster[1].port}?prefix={TAG}"
    here, there = RedisLog(url, keep_all), RedisLog(url, keep_all)
    await here.open()
    await there.open()
    commits = CommitList(there)
    there.interest = {"a"}

    async def write() -> None:
        for at in range(1, EVENTS + 1):
            assert (await put(here, "a", b"%d" % at, expect=at)).first == at
            await put(here, f"other/{at % 9}", b"x")

    writing = asyncio.create_task(write())
    await commits.until(lambda: len(commits) > 20)
    is_first = b"*0" not in cluster[0].say("CLUSTER", "GETKEYSINSLOT", str(key_slot(f"{{{TAG}}}".encode())), "1")
    source, target = cluster if is_first else cluster[::-1]
    await move_slot(source, target)
    await writing
    assert [line for _, _, line in await whole(there, "a")] == [b"%d" % at for at in range(1, EVENTS + 1)]
    assert len(await there.topics("other/")) == 9
    result = await put(there, "a", b"last")
    assert result.first == EVENTS + 1
    assert source.say("DBSIZE") == b":0\r\n"
    await here.close()
    await there.close()
