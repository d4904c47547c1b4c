"""A run can end in three ways, each of which is one row of the `match` below. Pure.

It is the same `match` for the process that owns a run and for one that ends it because its own process died.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, assert_never

import msgspec
from msgspec import Raw

from events.log.port import Append
from gateway.chat.notices import asked_notices, notices
from gateway.chat.records.asks import asks_of_clients
from gateway.chat.records.chat_record import Ask, ParkedRequest, RunFinished, RunInfo, encode_event
from gateway.chat.records.messages import UIMessage
from gateway.chat.records.record import RECORD, FinishReason
from gateway.chat.records.recorder import Recorder
from gateway.chat.records.response_record import response_topic
from gateway.chat.records.run_end import RunEnd, run_end_append
from gateway.chat.topics import run_topic, topic_of
from gateway.core.usage import Usage, UsageOutcome, UsageRow, settled, token_quantities
from gateway.errors import TrilaneError, UpstreamTimeout, openai_error_fields

_json = msgspec.json.Encoder().encode


class Finished(msgspec.Struct, frozen=True):
    """The outcome of a run whose producers all came to their end."""

    reason: FinishReason


class Failed(msgspec.Struct, frozen=True):
    """The outcome of a run in which something went wrong, here or at the producer's side."""

    error: TrilaneError


class Aborted(msgspec.Struct, frozen=True):
    """The outcome of a run whose rest somebody did not want."""

    reason: str


RunOutcome = Finished | Failed | Aborted


class RunLimit(NamedTuple):
    """The longest time that a whole answer may take."""

    seconds: float
    setting: str = "TRILANE_RUN_S"
    used_s: float = 0.0
    """Seconds of it that another process has used."""

    def failure(self) -> Failed:
        """Returns the outcome of a run that has taken longer."""
        detail = f"the answer took longer than {self.seconds:g} s, which is the limit ({self.setting})"
        return Failed(UpstreamTimeout(detail, code="run_timeout"))


class Parking(msgspec.Struct, frozen=True, kw_only=True):
    """How a run of a chat asks something at its end."""

    request: ParkedRequest
    """What is gone on with."""
    ask_s: float
    """Seconds in which there may be an answer."""
    same_as: str = ""
    """Id of an earlier run that parked with the same request; empty when none did."""
    is_told_first: bool = True
    """Whether `request` stands at the run's beginning, so that another process can go on should this one die."""


class Conclusion(msgspec.Struct, frozen=True, kw_only=True):
    """An outcome in the words of those who follow the run, of the message and of the chat."""

    records: list[bytes]
    """The last records of the run."""
    outcome: Literal["finish", "error", "abort"]
    message_fields: dict[str, object]
    """Fields of the stored message that tell how it ended: after a reload, too, a cut must not look like a success."""
    finish_reason: str = ""
    code: str = ""
    text: str = ""


class RunEnding:
    """A run's last append, the same for a run that ends itself and for one that another process ends.

    It is concluded when it is made, once, and may be appended as often as it takes.
    """

    def __init__(
        self,
        info: RunInfo,
        outcome: RunOutcome,
        recorder: Recorder,
        usage: Usage,
        *,
        model: str = "",
        upstream: str = "",
        ended_ms: int = 0,
        asks: Sequence[Ask] = (),
        parking: Parking | None = None,
        took: Sequence[str] = (),
    ) -> None:
        """Concludes the run; `model` and `upstream` are those that answered, and empty when none did.

        `asks` are what its producers ask; with `parking`, it asks for the results of its client's calls, too. `took`
        are the ids of the queued messages that it has taken.
        """
        self.info = info
        self._asks = asks
        self.parking = parking
        self._took = took
        self._usage = usage
        self._model = model or info.model
        self._upstream = upstream
        self._ended_ms = ended_ms
        self._facts = recorder.facts
        self._conclusion = _conclude(outcome, recorder, self._metadata())
        if parking is not None and isinstance(outcome, Finished):
            expires_at = ended_ms + int(parking.ask_s * 1000)
            self._asks = [*asks, *asks_of_clients(info, recorder.parts, asks, expires_at)]
        self.finished = self._finished(recorder.parts.encoded())
        self.row = self._usage_row()

    def appends(self, expect: int, chat_head: int | None, *, is_followed: bool = False) -> list[Append]:
        """Returns the last records of the run, what the chat keeps, and the usage row, to be appended as one.

        They are fenced by the chat's head, because they decide about its queue; None when there is no chat any more.
        `is_followed` says that something waits there, which goes on from this run.
        """
        info, conclusion = self.info, self._conclusion
        last = Append(topic=run_topic(info.run_id), data=conclusion.records, name=RECORD, expect=expect, close=True)
        appends = [last, settled(info.sub, self.row)]
        if info.posts_end:
            appends.append(run_end_append(self._run_end()))
        if info.is_stored:
            name, data = encode_event(self.finished)
            appends.append(Append(topic=response_topic(info.run_id), owner=info.sub, data=[data], name=name))
        if info.chat_id and chat_head is not None:
            topic, owner = topic_of(info), "" if info.topic else info.sub
            events = (*self._asks, self.finished_with(is_followed=is_followed))
            for expected, event in enumerate(events, chat_head + 1):
                name, data = encode_event(event)
                appends.append(Append(topic=topic, owner=owner, data=[data], name=name, expect=expected))
            fields = {
                "outcome": conclusion.outcome,
                "finishReason": conclusion.finish_reason,
                "code": conclusion.code,
            }
            appends += notices(info, RunFinished.event, {field: text for field, text in fields.items() if text})
            appends += [append for ask in self._asks for append in asked_notices(info, ask)]
        return appends

    @property
    def is_parked(self) -> bool:
        """Whether it asks something of people, or of its client."""
        return bool(self._asks)

    def finished_with(self, *, is_followed: bool) -> RunFinished:
        """Returns the event that tells the chat, with what goes on from here where something does."""
        if not is_followed or self._asks or self.parking is None:
            return self.finished
        return msgspec.structs.replace(self.finished, request=self._told_request(self.parking))

    def _finished(self, parts: list[Raw]) -> RunFinished:
        conclusion, parking = self._conclusion, self.parking if self._asks else None
        request = parking and self._told_request(parking)
        message = None
        if parts:
            metadata = Raw(_json(self._metadata() | conclusion.message_fields))
            message = UIMessage(id=self.info.message_id, role="assistant", parts=parts, metadata=metadata)
        return RunFinished(
            run_id=self.info.run_id,
            outcome=conclusion.outcome,
            usage=self._usage,
            finish_reason=conclusion.finish_reason,
            code=conclusion.code,
            text=conclusion.text,
            message=message,
            asks=[ask.approval_id for ask in self._asks],
            request=request,
            took=list(self._took),
        )

    def _told_request(self, parking: Parking) -> ParkedRequest:
        return ParkedRequest(same_as=parking.same_as) if parking.same_as else parking.request

    def _metadata(self) -> dict[str, object]:
        usage: dict[str, object] = {"usage": msgspec.to_builtins(self._usage)}
        return {**({"model": self._model} if self._model else {}), **usage, **self._facts}

    def _usage_row(self) -> UsageRow:
        info = self.info
        return UsageRow(
            id=info.run_id,
            lane="chat",
            kind="run",
            outcome=self._outcome(),
            model=self._model,
            upstream=self._upstream,
            chat_id=info.chat_id,
            key=info.key,
            started_ms=info.started_ms,
            ended_ms=self._ended_ms,
            quantities=token_quantities(self._usage),
            estimated=self._usage.estimated,
        )

    def _run_end(self) -> RunEnd:
        info, conclusion = self.info, self._conclusion
        return RunEnd(
            run_id=info.run_id,
            chat_id=info.chat_id,
            shared_id=info.shared_id,
            message_id=info.message_id,
            sub=info.sub,
            key=info.key,
            outcome=conclusion.outcome,
            finish_reason=conclusion.finish_reason,
            code=conclusion.code,
            asks=[ask.approval_id for ask in self._asks],
            model=self._model,
            upstream=self._upstream,
            started_ms=info.started_ms,
            ended_ms=self._ended_ms,
            usage=self._usage,
        )

    def _outcome(self) -> UsageOutcome:
        """Returns the outcome in the ledger, which tells the gateway's own fault apart from an upstream's."""
        return "interrupted" if self._conclusion.code == "interrupted" else self._conclusion.outcome


def _conclude(outcome: RunOutcome, recorder: Recorder, metadata: dict[str, object]) -> Conclusion:
    match outcome:
        case Finished(reason):
            return Conclusion(
                records=recorder.finish(reason, metadata),
                outcome="finish",
                message_fields={"outcome": "finish", "finishReason": reason},
                finish_reason=reason,
            )
        case Failed(error):
            failure: dict[str, object] = {"code": error.code, "retryable": error.retryable, "emitted": recorder.emitted}
            if error.reported:
                failure["upstreamError"] = openai_error_fields(error)
            return Conclusion(
                records=recorder.error(error.detail, metadata | failure),
                outcome="error",
                message_fields={"outcome": "error", "errorText": error.detail, **failure},
                code=error.code,
                text=error.detail,
            )
        case Aborted(reason):
            return Conclusion(
                records=recorder.abort(reason, metadata),
                outcome="abort",
                message_fields={"outcome": "abort", "reason": reason},
                text=reason,
            )
        case _:
            assert_never(outcome)
