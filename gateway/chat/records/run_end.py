"""The end of a run in the background as the operator's webhook is told it: how it ended, and nothing of what was said.

It is appended with the end itself, to a book of its user, so that no end is lost between the two. Pure.
"""

import msgspec

from events.log.port import Append
from gateway.core.usage import Usage

RUN_ENDS = "hook/"
"""Prefix of the topics that hold what is to be told of the runs of one user each."""
RUN_ENDED = "run-ended"
_json = msgspec.json.Encoder().encode


class RunEnd(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """How a run ended."""

    run_id: str
    """What tells it from all others: the same end may be told twice."""
    chat_id: str
    """The chat's id, as the user who made it calls it."""
    shared_id: str = ""
    """The id that addresses the chat for all of its members; empty for one without."""
    message_id: str
    sub: str
    """The user whose message it answers, and on whom its usage is booked."""
    key: str = ""
    """The id of the API key that it was started with; empty for any other credential."""
    outcome: str
    """`finish`, `error` or `abort`."""
    finish_reason: str = ""
    code: str = ""
    """What went wrong, as errors name it; `interrupted` where its process died."""
    asks: list[str] = []
    """Ids of what it asks of people: once that is answered, another run goes on."""
    model: str = ""
    upstream: str = ""
    started_ms: int = 0
    """Milliseconds since 1970, as `ended_ms`."""
    ended_ms: int
    usage: Usage


def run_ends_topic(sub: str) -> str:
    return RUN_ENDS + sub


def run_end_append(end: RunEnd) -> Append:
    """Returns the append that has an end told, to be made with those that end the run."""
    return Append(topic=run_ends_topic(end.sub), owner=end.sub, data=[_json(end)], name=RUN_ENDED)
