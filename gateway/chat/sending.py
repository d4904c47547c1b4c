"""Takes what a client sends to a chat: it starts the run that this asks for, or finds the one that it has started.

A message may come while an answer is being written, which it then ends, or while one is parked: then it answers what
was asked, or leaves that unanswered for good.
"""

import asyncio
from collections.abc import Sequence

import msgspec
from msgspec import Raw

from events.log.hub import Hub
from events.log.port import EventLog
from gateway.access.grants import Principal
from gateway.chat.approvals import Approvals
from gateway.chat.change import by_author, continuing_run, new_addresses, reconcile_in_slices, request_key
from gateway.chat.chats import CONFLICT_TRIES, Chats
from gateway.chat.continuation import going_on_from, keep_answers, results_so_far, take_answers
from gateway.chat.fetches import check_fetch
from gateway.chat.history import History
from gateway.chat.records.asks import answers_with_expired, instead_of_answers, posted_answers
from gateway.chat.records.chat_record import Actor, Answered, ParkedRequest, Queued, SteerAt
from gateway.chat.records.messages import UIMessage, bytes_of_parts
from gateway.chat.roles import Right, forbidden, has_right, require_answer
from gateway.chat.room import check_posted
from gateway.chat.run_start import AttachedReader, EncoderOf, RunPlan, RunStarter, run_info, run_started
from gateway.chat.runs import Runs
from gateway.chat.steering import Steering
from gateway.chat.submission import SendRequest, Submission
from gateway.chat.topics import chat_topic, check_id
from gateway.chat.turn_reader import TurnReader
from gateway.core.slices import after_bytes
from gateway.core.usage import now_ms
from gateway.errors import BadRequest, LogConflict, TrilaneError
from gateway.serving.bodies import HeldBody
from gateway.settings import Settings

DELETION_S = 0.2
"""Seconds after which a chat that was closed, because it is old, is gone, and can begin anew."""


class Parked(msgspec.Struct, frozen=True):
    """The answer to a request that goes on with nothing, because other asks of that message are still open."""

    message_id: str
    results: list[Raw]
    """Parts of the calls whose results are here already, of those that the client has shown."""


class Steered(msgspec.Struct, frozen=True):
    """The answer to a request whose message goes into the answer that is being written, which others show."""


class WaitingReader(msgspec.Struct, frozen=True):
    """A reader of the answer to a message that waits."""

    reader: TurnReader
    chat: str
    """The topic of the chat."""
    run: None = None
    lease: None = None


Sent = AttachedReader | WaitingReader | Parked | Steered


class Sending:
    """Takes what clients send, in one process."""

    def __init__(
        self,
        event_log: EventLog,
        hub: Hub,
        chats: Chats,
        runs: Runs,
        steering: Steering,
        starter: RunStarter,
        approvals: Approvals,
        settings: Settings,
    ) -> None:
        self._log = event_log
        self._approvals = approvals
        self._hub = hub
        self._chats = chats
        self._runs = runs
        self._steering = steering
        self._starter = starter
        self._max_messages = settings.limits.messages
        self._max_output_tokens = settings.limits.output_tokens
        self._has_authors = settings.requires_sign_in
        self._allowed_fetches = settings.allowed_fetches

    async def send(
        self,
        who: Principal,
        request: SendRequest,
        key: str,
        extra: dict[str, Raw],
        encoder_of: EncoderOf,
        *,
        has_stream: bool = True,
    ) -> Sent:
        """Starts the run that a request asks for, or finds the one it has started before.

        `key`: the client's own name for the request, or empty; `has_stream`: whether the answer is one more stream.
        Raises BadRequest, Overloaded, LogError.
        """
        posting = request.posting(who.sub if self._has_authors else "")
        if len(posting.messages) > self._max_messages:
            raise BadRequest(
                f"{len(posting.messages)} messages: at most {self._max_messages} are allowed", code="too_many_messages"
            )
        check_posted(posting.messages)
        check_id("chat id", request.id)
        submission = Submission(who, request, posting, key or request_key(posting), extra, has_stream)
        await after_bytes(bytes_of_parts(posting.messages[-1:]))
        await self._runs.tools.toolbox.known(who.sub)
        # The upstream is asked before a run is known to be the only one, so of two requests here the second waits.
        async with self._chats.turn(who.sub, request.id):
            with self._chats.in_memory.hold() as held:
                attached = await self._send(submission, encoder_of, held)
                if isinstance(attached, AttachedReader) and attached.run is not None:
                    held.keep_until(attached.run.verdict)
                return attached

    async def _send(self, submission: Submission, encoder_of: EncoderOf, held: HeldBody) -> Sent:
        sub, chat_id = submission.who.sub, submission.request.id
        topic = chat_topic(sub, chat_id)
        is_new = not self._chats.lookup.may_exist(sub, chat_id)  # then it needs no reading
        history = History(chat_id=chat_id, topic=topic, owner=sub) if is_new else None
        for _ in range(CONFLICT_TRIES):
            if history is None:
                history = await self._chats.read(sub, chat_id, held)
            right = "manage" if submission.posting.truncates else "send"
            if history.epoch and not has_right(history, sub, right):
                return await self._take_answers(submission, history, encoder_of, right)
            earlier_run = history.run_of(submission.key) or continuing_run(history, submission.posting)
            if earlier_run is not None:
                return await self._attach(submission, history, earlier_run.run_id, encoder_of)
            try:
                if (sent := await self._beside(submission, history, encoder_of)) is not None:
                    return sent
                if history.active is not None:
                    await self._chats.supersede(submission.who, history)
                    history = None
                    continue
                if history.open_asks:
                    return await self._send_to_parked(submission, history, encoder_of)
                return await self.start(submission, history, encoder_of)
            except LogConflict as err:
                history = None
                await asyncio.sleep(DELETION_S if err.closed else 0)
        raise LogConflict(topic, None, -1)

    async def _beside(self, submission: Submission, history: History, encoder_of: EncoderOf) -> Sent | None:
        """Takes a message that is not to end what the chat is busy with; None for all others.

        Raises TrilaneError (409 `chat_busy`, `queue_full`).
        """
        posting, how = submission.posting, submission.request.when_busy or "interrupt"
        last = posting.messages[-1] if posting.messages and posting.trigger == "submit-message" else None
        if last is not None and (taker := history.queue.taken.get(last.id)) is not None:
            if how == "steer":
                return Steered()
            return await self._attach(submission, history, taker, encoder_of)
        if how == "interrupt" or not (history.active is not None or history.open_asks):
            return None
        is_news = last is not None and last.role == "user" and last.id not in history.by_id
        if last is None or not is_news:
            return None
        if how == "reject":
            raise TrilaneError("an answer is being written in this chat", code="chat_busy", status=409, retryable=True)
        if not history.queue.knows(last.id):
            queued = self._queued(submission, history, last, "turn" if how == "queue" else "step")
            await self._steering.enqueue(submission.who, history, queued)
        if how == "steer":
            return Steered()
        return WaitingReader(
            TurnReader(self._hub, history.topic, history, submission.key, last.id, encoder_of, self._runs.attached_to),
            history.topic,
        )

    def _queued(self, submission: Submission, history: History, message: UIMessage, at: SteerAt) -> Queued:
        """Returns a posted message as one that waits, with all that its answer is to be asked with."""
        who, request, posting = submission.who, submission.request, submission.posting
        self._steering.check(message)
        message = by_author(message, posting.author)
        fields = request.upstream_fields([], self._max_output_tokens)
        fields.pop("messages")
        shown: list[str] = []
        if not posting.is_excerpt:  # what its client has not seen whole yet is left out by nobody
            known = [stored.id for stored in posting.messages if stored.id in history.by_id]
            shown = known or [posting.messages[0].id]
        asked = ParkedRequest(model=request.model or "", system=request.system or "", fields=fields, shown=shown)
        return Queued(
            id=message.id,
            message=message,
            at=at,
            actor=Actor(who.sub),
            key=submission.key,
            key_id=who.key_id,
            request=asked,
            background=bool(request.background),
            on_disconnect=request.on_disconnect or "continue",
            extra=submission.extra,
        )

    async def _send_to_parked(
        self, submission: Submission, history: History, encoder_of: EncoderOf
    ) -> AttachedReader | Parked:
        """Takes the answers that a posted message brings to open asks; any other message ends them unanswered."""
        who, posting, asks = submission.who, submission.posting, history.open_asks
        message_id = asks[0].message_id
        last = posting.messages[-1] if posting.messages and posting.trigger == "submit-message" else None
        if last is None or last.id != message_id:
            return await self.start(
                submission, history, encoder_of, instead_of_answers(asks, "superseded", now_ms(), who.sub)
            )
        posted = posted_answers(asks, last, who.sub, now_ms())
        for answer in posted:
            require_answer(history, who.sub, history.asks[answer.approval_id])
        answers = answers_with_expired(asks, posted, now_ms())
        if len(answers) == len(asks):
            return await self.start(submission, history, encoder_of, answers)
        if answers:
            await keep_answers(self._log, self._starter, who, history, answers)
        return Parked(message_id, results_so_far(history, asks[0], last))

    async def _take_answers(
        self, submission: Submission, history: History, encoder_of: EncoderOf, right: Right
    ) -> AttachedReader | Parked:
        """Takes the answers to asks that somebody posts who may send nothing: nothing else of the posting counts.

        Raises Forbidden (`role_forbidden`) for a posting without any.
        """
        who, posting = submission.who, submission.posting
        last = posting.messages[-1] if posting.messages and posting.trigger == "submit-message" else None
        if last is None or last.role != "assistant" or not has_right(history, who.sub, "answer"):
            raise forbidden(history.members[who.sub], right)
        asks = [ask for ask in history.open_asks if ask.message_id == last.id]
        answers = posted_answers(asks, last, who.sub, now_ms())
        for answer in answers:
            require_answer(history, who.sub, history.asks[answer.approval_id])
        if answers:
            await self._approvals.take(who, history, answers_with_expired(asks, answers, now_ms()))
        run = history.active or continuing_run(history, posting)
        if run is not None:
            return await self._attach(submission, history, run.run_id, encoder_of)
        if not answers and not asks:
            raise forbidden(history.members[who.sub], right)
        return Parked(last.id, results_so_far(history, asks[0], last) if asks else [])

    async def _attach(
        self, submission: Submission, history: History, run_id: str, encoder_of: EncoderOf
    ) -> AttachedReader:
        encoder = encoder_of(run_id)
        return await self._chats.attach(submission.request.id, run_id, None, encoder, history.topic)

    async def start(
        self, submission: Submission, history: History, encoder_of: EncoderOf, answers: Sequence[Answered] = ()
    ) -> AttachedReader:
        """Starts a run in a chat in which none is active; `answers` are those to the open asks that come with it.

        Raises LogConflict when the chat has changed since `history`, and what `send` raises.
        """
        who, request = submission.who, submission.request
        taken = take_answers(history, who.sub, answers)
        change = await reconcile_in_slices(history, submission.posting)
        going_on = await going_on_from(taken, history, change)
        asked = request.upstream_fields(going_on.turns, self._max_output_tokens)
        for url in new_addresses(change.events):
            check_fetch(url, self._allowed_fetches)
        info = run_info(submission, change, history.runs.get(going_on.continues))
        plan = RunPlan(
            info=info,
            change=change,
            request=asked,
            started=run_started(submission, info, going_on.continues),
            on_disconnect="continue" if info.background else request.on_disconnect or "continue",
            notices=[*taken.notices, *submission.beside],
            calls=going_on.calls,
            has_stream=submission.has_stream,
        )
        return await self._starter.start(who, history, plan, encoder_of)
