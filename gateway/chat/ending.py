"""What a run is and how it can end. Pure.

Said once, for the process that owns a run and for one that ends it because its own process died.
"""

import secrets
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, assert_never

import msgspec
from msgspec import Raw

from events.log.port import Append
from events.log.topics import stored, user_topic
from gateway.chat.dialects.ui_message import CHUNK, ChunkWriter
from gateway.chat.messages import UIMessage
from gateway.chat.upstreams.completion import FinishReason
from gateway.core.usage import Usage, UsageRow, settled
from gateway.errors import TrilaneError

_json = msgspec.json.Encoder().encode


class RunInfo(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a run is: the first event of its topic, so that any process can end it."""

    run_id: str
    sub: str
    message_id: str
    chat_id: str = ""
    """Empty for a run that belongs to no chat."""
    model: str = ""
    prompt_bytes: int = 0


class Finished(msgspec.Struct, frozen=True):
    reason: FinishReason


class Failed(msgspec.Struct, frozen=True):
    error: TrilaneError


class Aborted(msgspec.Struct, frozen=True):
    reason: str


Outcome = Finished | Failed | Aborted


class RunFinished(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """How a run ended, as the chat keeps it."""

    run_id: str
    outcome: Literal["finish", "error", "abort"]
    usage: Usage
    finish_reason: str = ""
    code: str = ""
    text: str = ""
    message: UIMessage | None = None
    """None when nothing of an answer was visible."""


class StopCommand(msgspec.Struct, frozen=True, rename="camel"):
    run_id: str


def new_run_id() -> str:
    return secrets.token_hex(10)


def run_topic(run_id: str) -> str:
    return f"run/{run_id}"


def chat_topic(chat_id: str) -> str:
    return f"chat/{chat_id}"


def told(info: RunInfo, event: str, more: Mapping[str, str] = MappingProxyType({})) -> Append:
    """What the user's own topic of the events lane says of a run of a chat."""
    data = {"runId": info.run_id, "chatId": info.chat_id, "messageId": info.message_id, **more}
    return Append(topic=stored(user_topic(info.sub)), data=[_json(data)], name=event)


class RunEnding(msgspec.Struct, frozen=True, kw_only=True):
    """What a run's last append is made of; the same for a run that ends itself and one that is ended by another."""

    info: RunInfo
    outcome: Outcome
    writer: ChunkWriter
    usage: Usage
    model: str = ""
    upstream: str = ""

    def appends(self, expect: int) -> list[Append]:
        """The last chunks of the run, the chat's record and the usage row, to be appended as one."""
        info = self.info
        last = Append(topic=run_topic(info.run_id), data=self._chunks(), name=CHUNK, expect=expect, close=True)
        finished = self.finished()
        row = UsageRow(
            run_id=info.run_id,
            chat_id=info.chat_id,
            outcome=finished.outcome,
            model=self.model or info.model,
            upstream=self.upstream,
            usage=self.usage,
        )
        appends = [last, settled(info.sub, row)]
        if info.chat_id:
            topic = chat_topic(info.chat_id)
            appends.append(Append(topic=topic, owner=info.sub, data=[_json(finished)], name="run-finished"))
            more = {"outcome": finished.outcome, "finishReason": finished.finish_reason, "code": finished.code}
            appends.append(told(info, "run-finished", {name: text for name, text in more.items() if text}))
        return appends

    def metadata(self) -> dict[str, object]:
        """What the last chunk says about the run."""
        model = self.model or self.info.model
        said: dict[str, object] = {"usage": msgspec.to_builtins(self.usage)}
        return {"model": model, **said} if model else said

    def _failure(self, error: TrilaneError) -> dict[str, object]:
        return {"code": error.code, "retryable": error.retryable, "emitted": self.writer.parts.emitted}

    def _kept(self) -> dict[str, object]:
        """What the stored message says about its end: after a reload, too, a cut must not look like a success."""
        match self.outcome:
            case Finished(reason):
                return {"outcome": "finish", "finishReason": reason}
            case Failed(error):
                return {"outcome": "error", "errorText": error.detail, **self._failure(error)}
            case Aborted(reason):
                return {"outcome": "abort", "reason": reason}
            case _:
                assert_never(self.outcome)

    def _chunks(self) -> list[bytes]:
        metadata = self.metadata()
        match self.outcome:
            case Finished(reason):
                return self.writer.finish(reason, metadata)
            case Failed(error):
                return self.writer.error(error.detail, metadata | self._failure(error))
            case Aborted(reason):
                return self.writer.abort(reason, metadata)
            case _:
                assert_never(self.outcome)

    def finished(self) -> RunFinished:
        parts = self.writer.parts.encoded()
        message = None
        if parts:
            metadata = Raw(_json(self.metadata() | self._kept()))
            message = UIMessage(id=self.info.message_id, role="assistant", parts=parts, metadata=metadata)
        run_id = self.info.run_id
        match self.outcome:
            case Finished(reason):
                return RunFinished(
                    run_id=run_id, outcome="finish", finish_reason=reason, usage=self.usage, message=message
                )
            case Failed(error):
                return RunFinished(
                    run_id=run_id,
                    outcome="error",
                    code=error.code,
                    text=error.detail,
                    usage=self.usage,
                    message=message,
                )
            case Aborted(reason):
                return RunFinished(run_id=run_id, outcome="abort", text=reason, usage=self.usage, message=message)
            case _:
                assert_never(self.outcome)
