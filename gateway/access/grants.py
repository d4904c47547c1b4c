"""The caller of a request and its rights: `Principal` and the `Grants` that its token carries.

Every request has one principal. Lanes ask it before they read, append or start anything; how it signed in is
no concern of theirs.
"""

import time
from math import inf
from typing import Annotated

import msgspec
from msgspec import Meta

from events.log.topics import PRESENCE, covers, is_gateways, is_own
from gateway.errors import Forbidden
from gateway.limit_settings import Bound

LOCAL_USER = "local"
"""The user that everyone on this machine is while no secret is configured."""

Sub = Annotated[str, Meta(min_length=1, max_length=1024, pattern=r"^[^\x00-\x1f\x7f-\x9f\ud800-\udfff]*\Z")]
"""A user's name: text without control characters, which no engine's names and no log line can hold."""


class GrantedLimits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The limits that a token or a key carries: narrower than the operator's, never wider. None adds no limit.

    A limit that is misspelt makes the token invalid, because it would else limit nothing.
    """

    requests_per_minute: Bound = None
    tokens_per_minute: Bound = None
    runs: Bound = None
    streams: Bound = None
    sessions: Bound = None
    audio_seconds_per_day: Bound = None
    tickets_per_minute: Bound = None
    daily_tokens: Bound = None
    topics: Bound = None
    stored_bytes: Bound = None
    monthly_cost: Annotated[float, Meta(ge=0)] | None = None
    """Cost of the last 30 days, in the currency of the operator's prices."""


class Grants(msgspec.Struct, frozen=True, kw_only=True):
    """The claim `trilane` of a token: what its bearer may do. A lane that the claim does not name is allowed."""

    subscribe: list[str] = []
    """Topics and patterns that it may read, beside its user's own."""
    publish: list[str] = []
    chat: bool = True
    audio: bool = True
    operator: bool = False
    """Whether it may also read what the gateway writes for others: their topics and transcripts, and who follows."""
    worker: list[str] = []
    """Names of the agents whose runs it may claim, whoever's they are; `*` is all."""
    limits: GrantedLimits = GrantedLimits()


EVERYTHING = Grants(subscribe=["*"], publish=["*"])
"""The grants of an API key: every topic that is not the gateway's."""
OPERATOR = Grants(subscribe=["*"], publish=["*"], operator=True, worker=["*"])
"""The grants of whoever runs this gateway: a user of this machine while nobody can sign in."""


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """The caller of a request. The user `sub` owns the topics that it makes."""

    sub: str
    grants: Grants = Grants()
    expires_at: float | None = None
    """The time, in seconds since 1970, at which its token expires; None for a credential that does not."""
    key_id: str = ""
    """The id of the stored key that it signed in with, by itself or by a ticket; empty for other credentials."""
    note: str = ""
    """The text that the issuer of its ticket attached; empty without a ticket."""

    def remaining_s(self) -> float:
        """Returns the seconds until its credential expires, 0 when it has, infinity when it does not."""
        return max(0.0, self.expires_at - time.time()) if self.expires_at is not None else inf

    def may_subscribe(self, topic: str) -> bool:
        """Returns whether it may read a topic, or all topics of a pattern.

        Nobody needs a grant for what is their own, nor for the presence of a topic that they may read. No grant but
        `operator` opens what the gateway writes for others.
        """
        topic = topic.removeprefix(PRESENCE)
        if is_gateways(topic):
            return self.grants.operator or is_own(topic, self.sub)
        return covers(self.grants.subscribe, topic)

    def may_publish(self, topic: str) -> bool:
        """Returns whether it may publish to a topic: to none of the gateway's, whatever its grants."""
        return not is_gateways(topic) and covers(self.grants.publish, topic)

    def require_chat(self) -> None:
        """Raises Forbidden when its token excludes the chat lane."""
        if not self.grants.chat:
            raise Forbidden("this token does not allow the chat lane")

    def require_audio(self) -> None:
        """Raises Forbidden when its token excludes the audio lane."""
        if not self.grants.audio:
            raise Forbidden("this token does not allow the audio lane")

    def require_worker(self, agent: str = "") -> None:
        """Raises Forbidden when its token does not let it run this agent; any agent, where none is named."""
        granted = self.grants.worker
        if not (granted and (not agent or agent in granted or "*" in granted)):
            raise Forbidden(f"this token has no grant `worker` for {agent!r}" if agent else "this token runs no agent")
