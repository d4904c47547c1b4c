"""What is said of a whole answer beside its text, as dialects read it: the fields of its message's metadata."""

import msgspec
from msgspec import UNSET, Raw, UnsetType

from gateway.chat.records.messages import provider_fields
from gateway.core.usage import Usage

OUR_FACTS = {"id", "usage", "choices", "created", "object"}
"""Fields beside the choices that we say ourselves."""


class MessageFacts(msgspec.Struct, rename="camel"):
    """The fields of one piece of metadata; those of later pieces come on top."""

    model: str = ""
    code: str = ""
    """The code of the error that ended it."""
    upstream_error: dict[str, object] = {}
    usage: Usage | None = None
    raw_finish_reason: str = ""
    provider_metadata: Raw | UnsetType = UNSET

    @property
    def facts(self) -> dict[str, object]:
        """Returns what the upstream has said of the whole answer."""
        return provider_fields(self.provider_metadata)

    @property
    def said_always(self) -> dict[str, object]:
        """Returns the short facts, such as a fingerprint, which stand in every chunk; the id of a chunk is ours."""
        return {name: fact for name, fact in self.facts.items() if isinstance(fact, str) and name not in OUR_FACTS}

    @property
    def said_once(self) -> dict[str, object]:
        """Returns the others, which stand in one chunk alone."""
        return {name: fact for name, fact in self.facts.items() if not isinstance(fact, str) and name not in OUR_FACTS}


facts_in = msgspec.json.Decoder(MessageFacts).decode
