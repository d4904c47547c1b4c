"""Tells what a Redis server keeps, as it is set up: what of the log survives its end, and who else has it."""

from collections.abc import Mapping

from events.log.port import StorageFact
from events.log.redis.address import parse_address
from events.log.redis.connect import check_server, dial

KEPT = {
    "always": "nothing that was acknowledged is lost",
    "everysec": "the last second or two are lost with the power",
    "no": "what the system had not written yet is lost with the power",
}
"""What each `appendfsync` means."""


async def survey(url: str) -> list[StorageFact]:
    """Asks the server that takes the writes. Raises ConfigurationError, as opening the log does, and LogUnavailable."""
    address = parse_address(url)
    info = await check_server(address)
    connection = await dial(address)
    try:
        replies = await connection.ask(("CONFIG", "GET", "appendfsync"), ("CONFIG", "GET", "save"))
    finally:
        await connection.close()
    # A hosted server permits no CONFIG: then less is known.
    config = dict(_setting(reply) for reply in replies if not isinstance(reply, Exception))
    return facts_of(info, config, is_watched=address.kind == "sentinel")


def _setting(reply: list[bytes]) -> tuple[str, str]:
    """Returns the name and the value of a setting; no name when the server has none of that name."""
    name, value = reply or (b"", b"")
    return name.decode(), value.decode()


def facts_of(info: Mapping[str, str], config: Mapping[str, str], *, is_watched: bool) -> list[StorageFact]:
    """Returns what a server's INFO and CONFIG come to; `is_watched`: sentinels are to replace it when it is gone."""
    return [_version(info), _file(info, config), _memory(info), _replicas(info, is_watched=is_watched)]


def _version(info: Mapping[str, str]) -> StorageFact:
    name = info.get("server_name", "redis").capitalize()
    return StorageFact(f"{name} {info.get(f'{name.lower()}_version') or info.get('redis_version', '')}")


def _file(info: Mapping[str, str], config: Mapping[str, str]) -> StorageFact:
    if info.get("aof_enabled") == "1":
        return _append_only_file(info, config)
    advice = "Set `appendonly yes` (CONFIG SET, and in redis.conf)."
    if config.get("save", "?"):
        return StorageFact("it has no append-only file: a restart loses all since its last snapshot", advice)
    return StorageFact("it keeps nothing on disk: a restart loses every chat and event", advice, is_loss=True)


def _append_only_file(info: Mapping[str, str], config: Mapping[str, str]) -> StorageFact:
    if info.get("aof_last_write_status", "ok") != "ok":
        return StorageFact("it cannot write its append-only file", "Is its disk full? See its log.", is_loss=True)
    fsync = config.get("appendfsync", "")
    text = f"it has an append-only file ({fsync}): {KEPT[fsync]}" if fsync in KEPT else "it has an append-only file"
    return StorageFact(text, "Set `appendfsync everysec`, or `always`." if fsync == "no" else "")


def _memory(info: Mapping[str, str]) -> StorageFact:
    """A server that evicts already is refused when the log opens."""
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        text = f"it would evict events once it has a maxmemory (maxmemory-policy {policy})"
        return StorageFact(text, "Set `maxmemory-policy noeviction`: a full memory then refuses appends.")
    most = "" if info.get("maxmemory", "0") == "0" else f", up to {info.get('maxmemory_human', '')}"
    return StorageFact(f"it evicts nothing{most}")


def _replicas(info: Mapping[str, str], *, is_watched: bool) -> StorageFact:
    count = int(info.get("connected_slaves", "0"))
    if count == 0 and is_watched:
        return StorageFact("it has no replica: the sentinels have nobody to replace it by", "Start a replica.")
    if count == 0:
        return StorageFact("it has no replica: while it is away, nothing is accepted")
    return StorageFact(f"it has {count} replica{'s' if count > 1 else ''}")
