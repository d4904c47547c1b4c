"""A Redis server is asked what it keeps: by real ones, and by what other versions say."""

from pathlib import Path

import pytest

from events.log.redis.survey import facts_of, survey
from gateway.errors import ConfigurationError
from tests.contract.engines import scenario
from tests.support.redis_servers import RedisServer, Replicated

WELL = {"redis_version": "7.2.4", "aof_enabled": "1", "maxmemory_policy": "noeviction", "connected_slaves": "1"}
EVERYSEC = {"appendfsync": "everysec", "save": ""}


@pytest.mark.parametrize(
    ("info", "config", "fault", "advice", "is_loss"),
    [
        ({"aof_enabled": "0"}, {"save": ""}, "keeps nothing on disk", "appendonly yes", True),
        ({"aof_enabled": "0"}, {"save": "3600 1"}, "since its last snapshot", "appendonly yes", False),
        ({"aof_enabled": "0"}, {}, "since its last snapshot", "appendonly yes", False),
        ({"aof_last_write_status": "err"}, EVERYSEC, "cannot write", "disk full", True),
        ({}, {"appendfsync": "no"}, "had not written yet", "appendfsync everysec", False),
        ({"maxmemory_policy": "allkeys-lru"}, EVERYSEC, "would evict", "noeviction", False),
        ({"connected_slaves": "0"}, EVERYSEC, "no replica", "Start a replica", False),
    ],
)
def test_what_a_server_does_not_keep_is_told_with_what_to_set(
    info: dict[str, str], config: dict[str, str], fault: str, advice: str, is_loss: bool
) -> None:
    (fact,) = [fact for fact in facts_of(WELL | info, config, is_watched=True) if fact.advice]
    assert fault in fact.text
    assert advice in fact.advice
    assert fact.is_loss is is_loss


@pytest.mark.parametrize(("config", "kept"), [(EVERYSEC, "second or two"), ({"appendfsync": "always"}, "nothing")])
def test_a_server_that_keeps_all_needs_no_advice(config: dict[str, str], kept: str) -> None:
    version, file, *others = facts_of(WELL, config, is_watched=False)
    assert version.text == "Redis 7.2.4"
    assert kept in file.text
    assert not any(fact.advice for fact in (version, file, *others))


def test_a_server_of_valkey_says_its_own_version() -> None:
    info = WELL | {"server_name": "valkey", "valkey_version": "8.0.1"}
    assert facts_of(info, EVERYSEC, is_watched=False)[0].text == "Valkey 8.0.1"


@scenario
async def test_a_server_that_keeps_nothing_on_disk_is_found_out_and_set_right(tmp_path: Path) -> None:
    server = RedisServer(tmp_path, "--appendonly", "no", "--save", "").start()
    try:
        (fact,) = [fact for fact in await survey(server.url) if fact.is_loss]
        assert "keeps nothing on disk" in fact.text
        server.say("CONFIG", "SET", "appendonly", "yes")
        assert not [fact for fact in await survey(server.url) if fact.advice]
        server.say("ACL", "SETUSER", "hosted", "on", ">secret", "~*", "&*", "+@all", "-config")
        hosted = await survey(server.url.replace("//", "//hosted:secret@"))
        assert "it has an append-only file" in [fact.text for fact in hosted]
        server.say("CONFIG", "SET", "maxmemory", "100mb", "maxmemory-policy", "allkeys-lru")
        with pytest.raises(ConfigurationError, match="set maxmemory-policy noeviction"):
            await survey(server.url)
    finally:
        server.kill()


@scenario
async def test_replicas_are_counted(tmp_path: Path) -> None:
    place = Replicated(tmp_path)
    try:
        assert "it has 1 replica" in [fact.text for fact in await survey(place.url)]
    finally:
        place.end()
