"""A producer writes a run: a model's completion, or the tools that it calls. This is its port."""

from collections.abc import Callable, Sequence
from typing import Protocol

from events.log.port import Append
from gateway.chat.records.chat_record import Ask
from gateway.chat.records.record import FinishReason
from gateway.chat.records.recorder import Recorder
from gateway.core.usage import Usage

NEVER = float("inf")


class Sink(Protocol):
    """A sink takes a producer's records, in the turn of the event loop in which they are made.

    Records come from `recorder` and are written in the order in which it made them, each exactly once.
    """

    recorder: Recorder
    write: Callable[[list[bytes]], None]
    """Writes records. Nobody waits for this: when the log falls behind, the producer is paused."""

    def begin(self, records: list[bytes]) -> None:
        """Writes the first records of a producer. From now on whoever waits for an answer has one."""
        ...

    async def note(self, name: str, data: bytes) -> None:
        """Writes a hidden event after all records so far, and returns when it is durable. Raises TrilaneError."""
        ...

    async def take(self, records: list[bytes], told: Append) -> bool:
        """Writes records in one with an append that is fenced by the chat's head, and returns when both are durable.

        Returns False when neither was written, because the chat has changed. Raises TrilaneError.
        """
        ...

    def deadline_moved(self) -> None:
        """Notes that the producer's deadline is earlier than it was."""
        ...


class Producer(Protocol):
    """One writer of a run, used once.

    The caller awaits `produce` once, in the task of the run, and no other producer of the run produces at that time.
    It calls `abort` when it wants no more, and cancels `produce` then; `expire` when the deadline has passed; `aclose`
    at the end, whatever happened. It may call `pause` and `resume` at any time, in turn.

    The implementer writes to the sink within `produce` alone, by callback or not; a token goes from the bytes that
    brought it to the sink without an `await` in between. It calls `begin` exactly once, before `write`, and neither of
    them after `produce` has ended or `abort` was called. A paused producer stops reading; what it has read it may
    still write. `usage` and `model` tell what is known at that moment, also of a producer that failed.
    """

    model: str
    """The model that answers; empty while none does."""
    upstream: str
    """The name of the upstream that serves it; empty while none does."""
    is_step: bool
    """Whether it begins a step of its own: the calls of tools belong to the step that asks for them."""

    @property
    def asks(self) -> Sequence[Ask]:
        """Returns what it asks of people about calls that it has recorded: the run ends with them."""
        ...

    async def produce(self, sink: Sink) -> FinishReason:
        """Writes all it has, and says why it stopped. Raises TrilaneError when it failed."""
        ...

    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def abort(self) -> None:
        """Closes what it holds open elsewhere, before this returns. Idempotent."""
        ...

    def deadline(self) -> float:
        """Returns when it must have made progress, by the event loop's clock; NEVER when it may take its time.

        A deadline that moves to a later moment needs no notice.
        """
        ...

    def expire(self) -> None:
        """Ends `produce` because its deadline has passed: as it would at the end, or with what went wrong."""
        ...

    def usage(self) -> Usage:
        """Returns the tokens that it has cost so far."""
        ...

    async def aclose(self) -> None:
        """Lets go of all it holds, in bounded time."""
        ...
