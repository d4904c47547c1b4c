"""The conversations of one process: each belongs to an audio session, and its answers are spoken by the speech lane."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import structlog
from msgspec import Raw, UnsetType

from audio.lane import AudioLane
from audio.live_session import LiveSession
from audio.speech.lane import SpeechLane
from gateway.core.process import Core
from gateway.errors import BadRequest, TrilaneError
from gateway.voice.answers import Answers
from gateway.voice.conversation import ConversationTerms, VoiceConversation

log = structlog.get_logger("voice")


class VoiceLane:
    """The part of a unit that the routes of conversations call."""

    def __init__(self, core: Core, audio: AudioLane, speech: SpeechLane, answers: Answers | None) -> None:
        """`answers` is None in a unit that has no way to a chat."""
        self.audio = audio
        self.speech = speech
        self._answers = answers
        self._conversations: dict[VoiceConversation, asyncio.Task[None]] = {}
        core.metrics.gauge("audio_open_conversations", "Sessions that are conversations", self._conversations.__len__)

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            tasks = list(self._conversations.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def drain(self) -> None:
        """Returns at once: a conversation leaves with its session, and goes on in another process."""

    @property
    def answers(self) -> Answers:
        """Returns what answers. Raises BadRequest (`bad_start`) when there is nothing."""
        if self._answers is None:
            raise BadRequest("linkChat: this unit has no chat lane to answer", code="bad_start")
        return self._answers

    async def engine(self) -> str:
        """Returns the fingerprint of the voice; empty for one that cannot go on with what another has begun."""
        try:
            return await self.speech.booth.fingerprint()
        except TrilaneError as err:
            log.warning("the voice cannot speak", code=err.code, reason=err.detail)
            return ""

    def greet(self, live: LiveSession, terms: ConversationTerms) -> Raw | UnsetType:
        """Makes a session a conversation, or goes on with one; returns the reply that goes on."""
        if isinstance(live.companion, VoiceConversation):
            return live.companion.greet(terms)
        conversation = VoiceConversation(live, self.answers, terms)
        live.accompany(conversation)
        task = asyncio.get_running_loop().create_task(conversation.run(), name="converse")
        self._conversations[conversation] = task
        conversation.on_leave = task.cancel

        def forget(task: asyncio.Task[None]) -> None:
            del self._conversations[conversation]
            if not task.cancelled() and (failure := task.exception()) is not None:
                log.error("a conversation has failed", session=live.session_log.session, exc_info=failure)

        task.add_done_callback(forget)
        return conversation.greet(terms)
