"""The route of speech: it takes a text, and answers with its sound while that is made."""

import asyncio
from contextlib import aclosing
from typing import Any

import structlog
from litestar import post
from litestar.types import ASGIApp

from audio.dialects.speech import SpeechOrder, SpokenRequest, delta, done, failure, order_of
from audio.speech.encoder import SpeechEncoder
from audio.speech.lane import SpeechLane, Utterances
from gateway.access.grants import Principal
from gateway.core.process import Core
from gateway.errors import TrilaneError
from gateway.serving.refusals import send_problem
from gateway.serving.sse import HEADERS
from gateway.serving.whole import while_connected
from routes.operation import described
from routes.requests import AnyRequest, body_of, decode

SEND_S = 60.0
"""Maximum seconds that the sound waits for a client that does not read; then the answer is cut."""
WARNING = b"x-trilane-warning"
SOUND = {"type": "string", "contentMediaType": "audio/mpeg"}

log = structlog.get_logger("audio")


@post(
    "/v1/audio/speech",
    status_code=200,
    summary="The sound of a text, sent while it is made",
    opt=described(
        body=SpokenRequest,
        answer=SOUND,
        answer_media_type="audio/mpeg",
        stream='data: {"type":"speech.audio.delta","audio":"SUQzBAAA"}\n\n',
        examples={"whole": {"voice": "alloy", "input": "Hello! This is spoken."}},
        errors=(502, 503),
    ),
)
async def speech(request: AnyRequest, core: Core, speech: SpeechLane) -> ASGIApp:
    request.user.require_audio()
    spoken = decode(await body_of(request, core.bodies), SpokenRequest)
    return SpeechAnswer(speech, order_of(spoken, speech.booth), request.user)


class SpeechAnswer:
    """Says a text, and answers with the sound; ends when the client leaves, or does not take it."""

    def __init__(self, lane: SpeechLane, order: SpeechOrder, who: Principal) -> None:
        self._lane = lane
        self._order = order
        self._who = who
        self._encoder = SpeechEncoder(order.format)
        self._has_begun = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            utterances = Utterances(self._lane.booth, self._order.tasks)
            async with (
                self._lane.admitted(self._who, utterances),
                self._lane.callers.while_valid(self._who.key_id, self._who.remaining_s()) as watch,
            ):
                await while_connected(receive, self._answer(utterances, watch.ending_with(send)))
        except TrilaneError as err:
            if not self._has_begun:
                await send_problem(err, scope, send)
            elif self._order.is_events:
                await self._send(failure(err), send, is_last=True)
            else:
                log.warning("a speech was cut", code=err.code)  # and its body has no end
        except TimeoutError:
            log.warning("a speech was cut", code="slow_reader")

    async def _answer(self, utterances: Utterances, send: Any) -> None:
        async with aclosing(utterances.sounds()) as sounds:
            async for sound in sounds:
                if not self._has_begun:  # an error before the first sound is an answer of its own
                    await self._begin(send)
                await self._put(await asyncio.to_thread(self._encoder.feed, sound), send)
        await self._put(await asyncio.to_thread(self._encoder.flush), send)
        end = done(self._order.characters, utterances.seconds) if self._order.is_events else b""
        await self._send(end, send, is_last=True)

    async def _begin(self, send: Any) -> None:
        headers = [*HEADERS] if self._order.is_events else [(b"content-type", self._encoder.media_type.encode())]
        if self._order.warnings:
            headers.append((WARNING, "; ".join(self._order.warnings).encode()))
        self._has_begun = True
        async with asyncio.timeout(SEND_S):
            await send({"type": "http.response.start", "status": 200, "headers": headers})

    async def _put(self, sound: bytes, send: Any) -> None:
        if sound:
            await self._send(delta(sound) if self._order.is_events else sound, send)

    async def _send(self, body: bytes, send: Any, *, is_last: bool = False) -> None:
        async with asyncio.timeout(SEND_S):
            await send({"type": "http.response.body", "body": body, "more_body": not is_last})


ROUTES = [speech]
