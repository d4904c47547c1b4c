"""What a route says of itself for `/openapi.json`: its body, answers, parameters and examples.

A handler carries it in its options (`opt=described(...)`), beside the code that it describes. The framework cannot know
these from signatures, because handlers read their bodies and write their streams themselves.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

OPERATION = "operation"
"""Name of the option in which a handler carries its description."""

Schema = dict[str, Any]
"""A JSON Schema, for what no type of ours declares."""
TEXT: Mapping[str, Any] = {"type": "string"}


class Input(NamedTuple):
    """A query parameter or a header that a route reads."""

    name: str
    description: str
    place: str = "query"
    schema: Mapping[str, Any] = TEXT
    is_required: bool = False


class Operation(NamedTuple):
    """The part of a route's description that its handler states."""

    body: Any = None
    """The type that the body is decoded as, or a schema; None when the route reads no body."""
    is_body_required: bool = True
    media_type: str = "application/json"
    """Media type of the body."""
    answer: Any = None
    """The type or schema of a JSON answer; None: the type that the handler returns."""
    answer_media_type: str = "application/json"
    stream: str = ""
    """An example of the event stream that the route answers with; empty when it answers with none."""
    accepted: Any = None
    """The type of a JSON answer with status 202, for work that goes on; None when there is none."""
    inputs: Sequence[Input] = ()
    examples: Mapping[str, Any] = {}
    """Example bodies by name, as JSON values."""
    statuses: Mapping[int, str] = {}
    """Further statuses without a problem document, each with what it means."""
    errors: Sequence[int] = ()
    """Statuses of problem documents beyond those that every such route can answer with."""


CURSOR_INPUTS = (
    Input("Last-Event-ID", "The cursor after which to continue: an `id` that this stream has sent", "header"),
    *(
        Input(name, "The cursor, for clients that cannot send the header")
        for name in ("last_event_id", "lastEventId", "lastEventID", "after")
    ),
)
"""The parameters that may carry a cursor, in order of precedence."""
IDEMPOTENCY_KEY = Input("Idempotency-Key", "The same key again gives the first result again", "header")


def described(*, is_open: bool = False, is_for_operators: bool = False, **operation: Any) -> dict[str, Any]:
    """Returns the options of a handler with this `Operation`.

    `is_open`: nobody has to sign in for it; `is_for_operators`: it answers them alone (`gateway.access.operators`).
    """
    options: dict[str, Any] = {OPERATION: Operation(**operation)}
    return options | {name: True for name, holds in (("open", is_open), ("operators", is_for_operators)) if holds}
