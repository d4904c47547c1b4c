"""Remembers in the log itself which keys it was encrypted with, so that a wrong or missing key is found at the start.

The record holds of each key its id and a check value, from which the key cannot be learnt. Its last entry is the key
that new events are sealed with, or `none`. A log that never had a key has no record.
"""

import hmac
from collections.abc import Sequence

import msgspec
import structlog

from events.log.port import Append, EventLog, read_to_head
from gateway.encryption_settings import NO_ENCRYPTION, EncryptionKey
from gateway.errors import ConfigurationError, LogConflict, LogDamaged

RECORD_TOPIC = "log/encryption"
VARIABLE = "TRILANE_ENCRYPTION_KEY"

log = structlog.get_logger("log")


class KeyEntry(msgspec.Struct, frozen=True):
    """One key as the log remembers it."""

    id: str
    check: str


async def check_keys(storage: EventLog, keys: Sequence[EncryptionKey]) -> None:
    """Raises ConfigurationError when these are not the keys of this log; notes the first as the one that seals.

    `storage` is the engine itself. Keys of which the log knows nothing yet are welcome.
    """
    while True:
        try:
            entries, head = await _entries(storage)
        except LogDamaged as err:
            log.error("which keys this log was encrypted with cannot be read", reason=err.detail)
            return
        _check(entries, keys)
        first = keys[0] if keys else EncryptionKey(NO_ENCRYPTION)
        if first.id == (entries[-1].id if entries else NO_ENCRYPTION):
            return
        entry = msgspec.json.encode(KeyEntry(first.id, _check_value(first)))
        try:
            await storage.append(Append(topic=RECORD_TOPIC, data=[entry], name="key", expect=head + 1))
        except LogConflict:  # another process has noted its own
            continue
        return


async def _entries(storage: EventLog) -> tuple[list[KeyEntry], int]:
    entries, head = list[KeyEntry](), 0
    async for part in read_to_head(storage, RECORD_TOPIC):
        head = part.head
        entries += [msgspec.json.decode(line, type=KeyEntry) for block in part.blocks for line in block.data]
    return entries, head


def _check(entries: Sequence[KeyEntry], keys: Sequence[EncryptionKey]) -> None:
    given = {key.id: key for key in keys}
    for entry in entries:
        key = given.get(entry.id)
        if key is not None and not hmac.compare_digest(_check_value(key), entry.check):
            raise ConfigurationError(
                f"the key {key.id!r} in {VARIABLE} is not the one that this log was encrypted with: "
                "give it the right value, or a new key another id"
            )
    known = {NO_ENCRYPTION, *given}
    if entries and entries[-1].id not in known:
        raise ConfigurationError(f"this log is encrypted with the key {entries[-1].id!r}: add it to {VARIABLE}")
    for missing in sorted({entry.id for entry in entries} - known):
        log.warning("what an earlier key has encrypted cannot be read: that key is not set", key=missing)


def _check_value(key: EncryptionKey) -> str:
    return hmac.digest(key.secret, b"trilane check\x01", "sha256").hex()[:32] if key.secret else ""
