"""A Talk is a client of a conversation whose models say and hear exactly what a test wants; time is virtual."""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np

from audio.dialects.trilane import serve
from audio.model.fake import speech_of
from audio.model.fake_voice import FakeVoice, tone_of
from audio.model.transcriber import Samples
from audio.model.voice import VOICE_RATE, SpeechTask
from audio.speech.lane import SpeechLane
from events.log.port import EventLog
from gateway.access.grants import Principal
from gateway.errors import TrilaneError
from gateway.voice.answers import AnswerEnd, AnswerPiece, AnswerText, Question, SpokenState
from gateway.voice.dialect import Conversing
from gateway.voice.lane import VoiceLane
from tests.audio.asgi_client import AsgiClient
from tests.audio.lanes import ME, Place

HEAD = struct.Struct("<II")
QUESTION = [(1, 0.4, 0.1), (2, 0.4, 1.6)]
"""Two words, and the silence after which they are a turn."""
FIRST, SECOND = "The first sentence is here.", "The second one follows it, and it ends here."
TEXT = f"{FIRST} {SECOND}"


def pcm(samples: Samples) -> bytes:
    return np.rint(samples * 2**15).astype("<i2").tobytes()


def sound_of(*clauses: str) -> bytes:
    """Returns the sound of clauses, as it is sent."""
    sound = np.concatenate([tone_of(SpeechTask(text=clause)) for clause in clauses])
    return np.clip(np.rint(sound * 32767.0), -32768, 32767).astype("<i2").tobytes()


class ScriptedAnswer(AnswerText):
    def __init__(self, run_id: str, text: str, token_s: float, end: AnswerEnd) -> None:
        self.run_id = run_id
        self.on_stop: Callable[[], None] = lambda: None
        self.is_closed = False
        self._text = text
        self._token_s = token_s
        self._end = end

    @property
    def cursor(self) -> str:
        return f"{self.run_id}.0.0"

    async def begin(self) -> None: ...

    async def pieces(self) -> AsyncIterator[AnswerPiece]:
        for word in self._text.split(" "):
            await asyncio.sleep(self._token_s)
            yield f"{word} "
        yield self._end

    def close(self) -> None:
        self.is_closed = True


class ScriptedAnswers:
    """Answers every question with one text; a question that is asked again gets the same run."""

    def __init__(self, text: str = TEXT) -> None:
        self.text = text
        self.token_s = 0.01
        self.end = AnswerEnd("finish")
        self.asked: list[Question] = []
        self.told: list[tuple[str, str, int]] = []
        self.stops: list[str] = []
        self.refusal: TrilaneError | None = None
        self.newest: ScriptedAnswer | None = None

    async def admit(self, who: Principal, chat_id: str) -> None: ...

    async def ask(self, who: Principal, chat_id: str, question: Question, model: str) -> AnswerText:
        if self.refusal is not None:
            raise self.refusal
        if question not in self.asked:
            self.asked.append(question)
        return self._answer(f"r{self.asked.index(question) + 1}")

    async def open(self, who: Principal, chat_id: str, run_id: str) -> AnswerText:
        return self._answer(run_id)

    def _answer(self, run_id: str) -> AnswerText:
        self.newest = ScriptedAnswer(run_id, self.text, self.token_s, self.end)
        return self.newest

    async def tell(self, who: Principal, chat_id: str, session: str, spoken: SpokenState, *, stops: bool) -> None:
        self.told.append((spoken.run_id, spoken.state, spoken.chars))
        if stops:
            self.stops.append(spoken.run_id)


class Caller(AsgiClient):
    """Keeps the frames that it is sent, and when."""

    def __init__(self) -> None:
        super().__init__()
        self.frames: list[tuple[float, int, int, bytes]] = []

    async def _take(self, message: dict[str, Any]) -> None:
        if message.get("bytes") is None:
            await super()._take(message)
            return
        clause, at = HEAD.unpack_from(message["bytes"])
        self.frames.append((asyncio.get_running_loop().time(), clause, at, message["bytes"][HEAD.size :]))

    @property
    def sound(self) -> bytes:
        """Returns the newest sound of each sample, from the first to the last that came."""
        if not self.frames:
            return b""
        first = min(at for _, _, at, _ in self.frames)
        end = max(at + len(sound) // 2 for _, _, at, sound in self.frames)
        whole = bytearray(2 * (end - first))
        for _, _, at, sound in self.frames:
            whole[2 * (at - first) : 2 * (at - first) + len(sound)] = sound
        return bytes(whole)

    @property
    def states(self) -> list[str]:
        return [reply["state"] for reply in self.of("reply")]

    async def say(self, *words: tuple[int, float, float]) -> None:
        """Speaks words, each a number with its length and the pause behind it, at the pace of speech."""
        data = pcm(speech_of(words))
        for at in range(0, len(data), 3200):
            self.send(data[at : at + 3200])
            await asyncio.sleep(0.1)

    async def listen(self, seconds: float) -> None:
        """Says nothing, as a microphone does that is on."""
        await self.say((1, 0.0, seconds))


class Talk:
    """One process that converses."""

    def __init__(self, answers: ScriptedAnswers, log: EventLog | None = None, voice: FakeVoice | None = None) -> None:
        self.place = Place(log)
        self.answers = answers
        self.voice = voice or FakeVoice()
        speech = SpeechLane(self.place.core, self.voice)
        self.lane = VoiceLane(self.place.core, self.place.lane, speech, answers)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator["Talk"]:
        async with self.place.lane.opened(), self.lane.opened():
            yield self

    async def call(self, **start: Any) -> Caller:
        caller = Caller()
        caller.serving = asyncio.ensure_future(serve(Conversing(self.lane), caller.socket, ME, {}))
        caller.send({"type": "start", "linkChat": "c1", **start})
        await asyncio.sleep(0.05)
        return caller


WHOLE_S = len(sound_of(FIRST, SECOND)) / 2 / VOICE_RATE


@asynccontextmanager
async def talking(answers: ScriptedAnswers | None = None, **parts: Any) -> AsyncIterator[Talk]:
    talk = Talk(answers or ScriptedAnswers(), **parts)
    await talk.place.core.log.open()
    async with talk.opened():
        yield talk


async def asking(talk: Talk, **start: object) -> Caller:
    """Returns a caller who has asked and is being answered."""
    caller = await talk.call(**start)
    await caller.say(*QUESTION)
    assert "speaking" in caller.states
    return caller
