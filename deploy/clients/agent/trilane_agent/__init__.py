"""An agent is a function of yours that Trilane calls for each answer: what it is given, and what runs it.

It needs nothing beside the standard library, and imports nothing of the gateway.
"""

from trilane_agent.context import (
    AgentError,
    AgentFunction,
    CallFailed,
    Chunk,
    Context,
    Denied,
    Effect,
    Message,
    ModelFailed,
    Parked,
    User,
)

__all__ = [
    "AgentError",
    "AgentFunction",
    "CallFailed",
    "Chunk",
    "Context",
    "Denied",
    "Effect",
    "Message",
    "ModelFailed",
    "Parked",
    "User",
]
