"""The messages between the gateway and a worker that runs an agent: what it claims, posts and is told. Pure.

They are described for workers in other languages in `deploy/clients/agent/README.md`; over HTTP and over the pipes of a
process that the gateway looks after they are the same.
"""

from typing import Literal

import msgspec
from msgspec import UNSET, Raw, UnsetType

from gateway.chat.records.messages import UIMessage
from gateway.chat.tools.toolbox import Effect

HEARTBEAT_S = 5.0
LEASE_S = 15.0
"""Seconds without a post after which a worker counts as gone."""
MAX_CHUNKS = 1000
"""Chunks of one post."""


class _Message(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, tag_field="type"):
    """The base of what goes either way: the field `type` tells which one it is."""


# What a worker claims


class WorkClaim(msgspec.Struct, frozen=True):
    """The body of a claim, which says nothing yet."""


class ToldDecision(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a person has said of a call of this answer."""

    tool_call_id: str
    approved: bool | None
    reason: str = ""


class WorkUser(msgspec.Struct, frozen=True):
    sub: str


class WorkSteer(_Message, frozen=True, tag="steer"):
    """The user has sent this meanwhile."""

    id: str
    message: UIMessage


class WorkJob(_Message, frozen=True, tag="job", omit_defaults=False):
    """A run as a worker claims it; see the page for its fields."""

    run_id: str
    agent: str
    chat_id: str
    user: WorkUser
    system: str
    extra: dict[str, Raw]
    messages: list[UIMessage]
    decisions: list[ToldDecision]
    steers: list[WorkSteer] = []
    """What it had taken before its first logged call, when it was entered before."""
    expect: int = 1
    lease: str = ""
    commands: str = ""
    heartbeat_s: float = HEARTBEAT_S
    lease_s: float = LEASE_S


# What it posts


class BeginCall(_Message, frozen=True, tag="call"):
    """A logged call begins, or is come to once more."""

    n: int
    kind: Literal["tool", "approve", "step"]
    name: str
    input: Raw = Raw(b"{}")
    effect: Effect = "once"


class StepResult(_Message, frozen=True, tag="result"):
    """What came of a step."""

    n: int
    output: Raw | UnsetType = UNSET
    error_text: str = ""


class ModelAsked(_Message, frozen=True, tag="model"):
    """A model is to be asked."""

    id: str
    messages: list[Raw]
    model: str = ""
    options: dict[str, object] = {}


class StopModel(_Message, frozen=True, tag="model-stop"):
    id: str


class TookSteers(_Message, frozen=True, tag="took"):
    ids: list[str]


class WorkParked(_Message, frozen=True, tag="park"):
    """The worker has left a run that asks people something."""


class WorkEnd(_Message, frozen=True, tag="end"): ...


class WorkFailed(_Message, frozen=True, tag="fail"):
    text: str
    code: str = "agent_failed"


Posted = BeginCall | StepResult | ModelAsked | StopModel | TookSteers | WorkParked | WorkEnd | WorkFailed
CHUNKS = {
    *("text-start", "text-delta", "text-end", "reasoning-start", "reasoning-delta", "reasoning-end"),
    *("tool-input-start", "tool-input-delta", "tool-input-available", "tool-input-error"),
    *("tool-output-available", "tool-output-error"),
    *("source-url", "source-document", "file", "message-metadata", "start-step", "finish-step"),
}
"""Types of the chunks of the UI Message Stream that a worker may post, beside `data-*`."""
TEXTS = ("text-start", "text-delta", "text-end")


class ChunkHead(msgspec.Struct, frozen=True, rename="camel"):
    """What is looked at first of a posted chunk."""

    type: str
    id: str = ""
    delta: str = ""
    tool_call_id: str = ""


OWN = {kind.__struct_config__.tag for kind in (BeginCall, StepResult, ModelAsked, StopModel, TookSteers)} | {
    kind.__struct_config__.tag for kind in (WorkParked, WorkEnd, WorkFailed)
}
"""Types of the chunks that are no part of the UI Message Stream."""
chunk_head = msgspec.json.Decoder(ChunkHead).decode
posted = msgspec.json.Decoder[Posted](Posted).decode


class WorkPost(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The body of a post: chunks, of which the first has the number `expect`."""

    lease: str
    expect: int
    chunks: list[Raw] = []


class WorkTaken(msgspec.Struct, frozen=True):
    """The answer to a post."""

    expect: int
    """Number of the next chunk."""


# What it is told


class Make(_Message, frozen=True, tag="make"):
    call: int
    key: str


class CallResult(_Message, frozen=True, tag="result"):
    call: int
    output: Raw | UnsetType = UNSET
    error_text: str | UnsetType = UNSET
    denied: bool = False
    reason: str = ""


class CallParked(_Message, frozen=True, tag="parked"):
    call: int


class ModelDelta(_Message, frozen=True, tag="delta"):
    id: str
    kind: Literal["text", "reasoning"]
    text: str


class ModelEnd(_Message, frozen=True, tag="model-end"):
    id: str
    finish_reason: str = ""
    error_text: str = ""
    code: str = ""


class SteerGone(_Message, frozen=True, tag="steer-gone"):
    """Somebody has removed a message that it has not taken."""

    id: str


class WorkCancel(_Message, frozen=True, tag="cancel"):
    reason: str


WorkCommand = Make | CallResult | CallParked | ModelDelta | ModelEnd | WorkSteer | SteerGone | WorkCancel
