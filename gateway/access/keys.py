"""API keys that are made and revoked while gateways run.

They are events of one topic, which holds digests and never a key. Every process follows that topic and looks keys up in
memory, so no request waits for the log, and a revocation holds everywhere as soon as its news is there. Whatever
cannot be read of the topic counts against the keys: an old key may have been revoked in it.
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable
from hashlib import sha256

import msgspec
import structlog

from events.log.hub import Hub
from events.log.port import Append, Block, EventLog, read_to_head
from events.log.ring import Tail
from gateway.access.grants import Grants, Principal
from gateway.errors import LogUnavailable, NotFound, Unauthorized

TOPIC = "key/all"
"""Topic of every key that was made or revoked."""
USES = "key-use/"
"""Prefix of the topics that are written to when a key is used: the time of the last event is all that is read."""
PREFIX = "tl_"
"""The beginning of every key, by which scanners of source code can find one that was left there."""
ADDED, REVOKED = "added", "revoked"
OPEN_S = 10.0
"""Maximum seconds in which the keys are read when a process starts."""
USE_S = 60
"""Seconds in which the use of a key is noted once, however often and by however many processes it is used."""

log = structlog.get_logger("access")


class StoredKey(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A key as the log keeps it. Times are seconds since 1970."""

    id: str
    digest: str
    """SHA-256 of the key, in hex."""
    sub: str
    name: str = ""
    grants: Grants = Grants()
    created_at: float
    expires_at: float | None = None


class KeyRevocation(msgspec.Struct, frozen=True):
    """The end of a key."""

    id: str
    revoked_at: float


class KeyStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One row of a listing."""

    key: StoredKey
    revoked_at: float | None = None
    last_used_at: float | None = None


class KeyTable:
    """The keys as this process knows them. `clock` gives seconds since 1970."""

    def __init__(self, event_log: EventLog, hub: Hub, clock: Callable[[], float] = time.time) -> None:
        self._log = event_log
        self._hub = hub
        self._clock = clock
        self._principals: dict[str, Principal] = {}
        """Whom each key stands for, by its digest. All requests with one key share one object."""
        self._revoked: set[str] = set()
        """The ids of revoked keys. One that was revoked here once stays so, even if the log loses that."""
        self._noted: dict[str, int] = {}
        """The span of USE_S in which each key's use was last noted."""
        self._tail = KeyTail(self)
        self.is_loaded = asyncio.Event()
        self.on_revoke: list[Callable[[str], None]] = []
        """Called with a key's id when it is revoked: what is open under it ends."""

    async def open(self) -> None:
        """Reads the keys, and follows what becomes of them. Raises LogUnavailable."""
        self._tail.start("", 0, closed=False)
        self._hub.follow(TOPIC, self._tail)
        self._hub.refresh(TOPIC)
        try:
            async with asyncio.timeout(OPEN_S):
                await self.is_loaded.wait()
        except TimeoutError as err:
            raise LogUnavailable(f"the keys could not be read from the log within {OPEN_S:g} s") from err

    def principal_of(self, digest: str) -> Principal | None:
        """Returns whom the key of that SHA-256 stands for; None when it is not known. Raises Unauthorized.

        A dict is safe to look up what a stranger sends: it compares hashes under this process's own secret first.
        """
        principal = self._principals.get(digest)
        if principal is None:
            return None
        if principal.key_id in self._revoked:
            raise Unauthorized("this key was revoked", code="key_revoked")
        if not principal.remaining_s():
            raise Unauthorized("this key has expired", code="token_expired")
        self._note_use(principal.key_id)
        return principal

    def is_revoked(self, key_id: str) -> bool:
        return key_id in self._revoked

    def _note_use(self, key_id: str) -> None:
        """Writes that a key is used. Nobody waits for that, and nothing depends on it."""
        span = int(self._clock() // USE_S)
        if self._noted.get(key_id) == span:
            return
        self._noted[key_id] = span
        note = Append(topic=USES + key_id, name="used", data=[b"{}"], key=str(span))
        self._log.append(note, patient=True).add_done_callback(lambda append: append.cancelled() or append.exception())

    # Called by the tail

    def take(self, block: Block) -> None:
        for data in block.data:
            try:
                self._take(block.name, data)
            except msgspec.DecodeError as err:
                log.error("a line about a stored key means nothing to this release", name=block.name, reason=str(err))
                if block.name != ADDED:
                    self.forget("one of them may be revoked in a way that this release does not know")

    def _take(self, name: str, data: bytes) -> None:
        if name == ADDED:
            self._add(msgspec.json.decode(data, type=StoredKey))
        else:
            self._revoke(msgspec.json.decode(data, type=KeyRevocation).id)

    def _add(self, key: StoredKey) -> None:
        self._principals[key.digest] = Principal(
            sub=key.sub, grants=key.grants, expires_at=key.expires_at, key_id=key.id
        )

    def _revoke(self, key_id: str) -> None:
        self._revoked.add(key_id)
        for end in self.on_revoke:
            end(key_id)

    def forget(self, reason: str) -> None:
        """Drops every key that is known, because one of them may have been revoked unseen."""
        if self._principals:
            log.error("the stored keys are no longer accepted: make new ones", reason=reason)
        self._principals.clear()


class KeyTail(Tail):
    """Feeds the table, from the beginning of the topic, and again when there is another topic of that name."""

    __slots__ = ("_table",)

    def __init__(self, table: KeyTable) -> None:
        super().__init__()
        self._table = table

    def accept(self, block: Block, has_hole: bool) -> bool:
        if not has_hole:
            self._table.take(block)
        return not has_hole

    def feed(self, epoch: str, block: Block) -> bool:
        self._follow(epoch)
        return super().feed(epoch, block)

    def compare(self, epoch: str, oldest: int) -> None:
        self._follow(epoch)

    def skip(self, last: int) -> None:
        self._table.forget("the log is damaged where they are kept")
        super().skip(last)

    def flush(self) -> None:
        self._table.is_loaded.set()

    def _follow(self, epoch: str) -> None:
        if self.epoch and epoch != self.epoch:
            self._table.forget("the log holds another history of them")
            self.epoch, self.head = "", 0


def digest_of(key: str) -> str:
    return sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


async def add_key(
    event_log: EventLog, sub: str, grants: Grants, *, name: str = "", expires_at: float | None = None
) -> tuple[str, str]:
    """Makes a key; returns it and its id. Nobody can ever see the key again."""
    key = PREFIX + secrets.token_urlsafe(32)
    stored_key = StoredKey(
        id=secrets.token_hex(6),
        digest=digest_of(key),
        sub=sub,
        name=name,
        grants=grants,
        created_at=time.time(),
        expires_at=expires_at,
    )
    await event_log.append(Append(topic=TOPIC, name=ADDED, data=[msgspec.json.encode(stored_key)]))
    return key, stored_key.id


async def revoke_key(event_log: EventLog, key_id: str) -> None:
    """Ends a key for good, in every process. Idempotent. Raises NotFound when there is no such key."""
    if all(status.key.id != key_id for status in await key_statuses(event_log)):
        raise NotFound(f"there is no key with the id {key_id[:40]!r}: see `trilane keys list`")
    revocation = KeyRevocation(key_id, time.time())
    await event_log.append(Append(topic=TOPIC, name=REVOKED, data=[msgspec.json.encode(revocation)]))


async def key_statuses(event_log: EventLog) -> list[KeyStatus]:
    """Returns every key there ever was, oldest first, as the log has it."""
    keys: dict[str, StoredKey] = {}
    revoked_at: dict[str, float] = {}
    async for part in read_to_head(event_log, TOPIC):
        for name, data in [(block.name, data) for block in part.blocks for data in block.data]:
            with contextlib.suppress(msgspec.DecodeError):  # of a later release
                if name == ADDED:
                    key = msgspec.json.decode(data, type=StoredKey)
                    keys[key.id] = key
                elif name == REVOKED:
                    revocation = msgspec.json.decode(data, type=KeyRevocation)
                    revoked_at.setdefault(revocation.id, revocation.revoked_at)
    uses = {info.topic: info.updated_ms / 1000 for info in await event_log.topics(USES, limit=max(1, len(keys)))}
    return [
        KeyStatus(key=key, revoked_at=revoked_at.get(key_id), last_used_at=uses.get(USES + key_id))
        for key_id, key in keys.items()
    ]
