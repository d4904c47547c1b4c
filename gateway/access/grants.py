"""The caller of a request and its rights: `Principal` and the `Grants` that its token carries.

Every request has one principal. Lanes ask it before they read, append or start anything; how it signed in is
no concern of theirs.
"""

import msgspec

from events.log.topics import PRESENCE, covers, user_topic
from gateway.errors import Forbidden

LOCAL_USER = "local"
"""The user that everyone on this machine is while no secret is configured."""


class Grants(msgspec.Struct, frozen=True, kw_only=True):
    """The claim `trilane` of a token: what its bearer may do. A lane that the claim does not name is allowed."""

    subscribe: list[str] = []
    publish: list[str] = []
    chat: bool = True
    audio: bool = True


EVERYTHING = Grants(subscribe=["*"], publish=["*"])
"""The grants of whoever runs this gateway: a user of this machine, or the bearer of an API key."""


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """The caller of a request. The user `sub` owns the topics that it makes."""

    sub: str
    grants: Grants = Grants()
    expires_at: float | None = None
    """The time, in seconds since 1970, at which its token expires; None for a credential that does not."""
    note: str = ""
    """The text that the issuer of its ticket attached; empty without a ticket."""

    def may_subscribe(self, topic: str) -> bool:
        """Returns whether it may read a topic, or all topics of a pattern.

        Nobody needs a grant for their own topic, nor for the presence of a topic that they may read.
        """
        topic = topic.removeprefix(PRESENCE)
        return topic == user_topic(self.sub) or covers(self.grants.subscribe, topic)

    def may_publish(self, topic: str) -> bool:
        return covers(self.grants.publish, topic)

    def require_chat(self) -> None:
        """Raises Forbidden when its token excludes the chat lane."""
        if not self.grants.chat:
            raise Forbidden("this token does not allow the chat lane")

    def require_audio(self) -> None:
        """Raises Forbidden when its token excludes the audio lane."""
        if not self.grants.audio:
            raise Forbidden("this token does not allow the audio lane")
