"""What the log keeps of a response beside its run: whose it is, what was asked, and what it goes on from.

It stands first in a topic of its own, which is also where those who want it stopped say so. The answer itself is the
run's; a response that is not to be stored has no such topic.
"""

import msgspec
from msgspec import Raw

RESPONSE = "response"
"""Name of the first event of a response's topic."""
RESPONSES = "response/"
"""Prefix of the topics that hold what is kept of one response each."""
PREFIX = "resp_"
"""Beginning of a response's id; the rest is the id of its run."""


class StoredResponse(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A response as it was asked for."""

    run_id: str
    sub: str
    """The user whose it is: nobody else learns that it exists."""
    created_at: int
    """Seconds since 1970."""
    model: str = ""
    """The model that was asked for."""
    echo: Raw
    """The fields of its request that a response repeats, as an object."""
    input: list[Raw]
    """The items that were posted, each with an id."""
    before: str = ""
    """Id of the run of the response that it goes on from; empty when it goes on from none."""
    has_summaries: bool = False
    """Whether the model's thoughts are told as summaries."""

    @property
    def id(self) -> str:
        return response_id(self.run_id)


def response_id(run_id: str) -> str:
    return PREFIX + run_id


def response_topic(run_id: str) -> str:
    return RESPONSES + run_id
