"""A session without a server: it is fed by hand, as fast as the model can, on a clock that follows the audio.

The model's CPU time is the time it takes: an answer comes so much later on that clock, as it would from a machine that
does nothing else. Thus hours of speech are heard in minutes, and what else the machine does changes no result.
"""

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path

from audio.messages import Final, Gap, Partial, SpeechStarted
from audio.model.desk import NARROWEST_S
from audio.model.transcriber import SAMPLE_RATE
from audio.model.vad import Ear, Silero, SpeechDetector
from audio.model.weights import whisper_models
from audio.model.whisper import Whisper
from audio.options import Output, SessionOptions
from audio.session import Session
from loadtests.bench.audio.speech import Recording, Samples

CHUNK = SAMPLE_RATE // 10


@dataclass
class Heard:
    """Holds what a session put out, and when. Times are seconds of its audio."""

    seconds: float
    partials: list[tuple[float, Partial]] = field(default_factory=list[tuple[float, Partial]])
    finals: list[tuple[float, Final]] = field(default_factory=list[tuple[float, Final]])
    gaps: list[Gap] = field(default_factory=list[Gap])
    onsets: list[float] = field(default_factory=list[float])
    cpu_s: float = 0.0

    @property
    def text(self) -> str:
        return " ".join(final.text for _, final in self.finals if final.text)

    def take(self, outputs: list[Output], at_s: float) -> None:
        for output in outputs:
            if isinstance(output, Partial):
                self.partials.append((at_s, output))
            elif isinstance(output, Final):
                self.finals.append((at_s, output))
            elif isinstance(output, Gap):
                self.gaps.append(output)
            elif isinstance(output, SpeechStarted):
                self.onsets.append(output.at)


async def listen(model: Whisper, detector: SpeechDetector, samples: Samples, options: SessionOptions) -> Heard:
    """Hears a recording from its first sample to its last."""
    session, ear = Session(options), Ear(detector)
    heard = Heard(len(samples) / SAMPLE_RATE)
    chunks = [samples[at : at + CHUNK] for at in range(0, len(samples), CHUNK)][::-1]
    now_s = fed_s = 0.0
    while True:
        while chunks and fed_s + len(chunks[-1]) / SAMPLE_RATE <= now_s:  # what was spoken by now
            fed_s += len(chunks[-1]) / SAMPLE_RATE
            session.feed(*ear.feed(chunks.pop()))
            heard.take(session.take_output(), now_s)
        if session.urgency(NARROWEST_S) is not None:
            task = session.take_task()
            began_s = time.process_time()
            [answer] = await model.transcribe([task])
            took_s = time.process_time() - began_s
            heard.cpu_s += took_s
            done_s = now_s + took_s
            while chunks and fed_s + len(chunks[-1]) / SAMPLE_RATE <= done_s:  # it goes on speaking meanwhile
                fed_s += len(chunks[-1]) / SAMPLE_RATE
                session.feed(*ear.feed(chunks.pop()))
                heard.take(session.take_output(), fed_s)
            now_s = done_s
            session.complete(task, answer)
            heard.take(session.take_output(), now_s)
        elif chunks:
            now_s = max(now_s, fed_s + len(chunks[-1]) / SAMPLE_RATE)
        elif session.is_done:
            return heard
        else:
            session.feed(*ear.flush())
            session.stop()
            heard.take(session.take_output(), now_s)


# In a process of its own

_opened: list[tuple[asyncio.Runner, Whisper, Silero]] = []
"""The one model of this process, and the loop that it was opened in."""


def begin(model: Path) -> None:
    """Opens the model of this process."""
    runner, whisper = asyncio.Runner(), Whisper(whisper_models(str(model))[0])
    runner.run(whisper.open())
    _opened.append((runner, whisper, Silero()))


def listen_alone(recording: Recording, options: SessionOptions) -> Heard:
    """Hears a recording with the model of this process."""
    [(runner, whisper, detector)] = _opened
    return runner.run(listen(whisper, detector, recording.samples, options))
