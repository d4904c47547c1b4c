"""Drives a session by hand: audio goes in, a fake model answers at once, and all output is collected."""

from collections.abc import Sequence

import numpy as np

from audio.messages import Final, Gap, Partial
from audio.model.fake import transcription_of
from audio.model.transcriber import Samples
from audio.model.vad import FRAME
from audio.options import Output, SessionOptions
from audio.session import Session


def feed(session: Session, audio: Samples) -> None:
    """Feeds whole frames of audio, with what the fake voice detector says of each."""
    count = len(audio) // FRAME
    frames = audio[: count * FRAME]
    session.feed(frames, (np.abs(frames.reshape(count, FRAME)).max(axis=1) > 0).astype(float).tolist())


def work(session: Session, step_s: float = 0.5, *, only: int | None = None) -> int:
    """Lets the model do what the session asks for, and returns the number of tasks."""
    count = 0
    while (urgency := session.urgency(step_s)) is not None and (only is None or urgency == only):
        task = session.take_task()
        session.complete(task, transcription_of(task))
        count += 1
    return count


def run_session(audio: Samples, options: SessionOptions | None = None, *, chunk: int = 5 * FRAME) -> list[Output]:
    """Runs a whole session in chunks, with a model that is never busy."""
    session = Session(options or SessionOptions())
    output: list[Output] = []
    for at in range(0, len(audio), chunk):
        feed(session, audio[at : at + chunk])
        work(session)
        output += session.take_output()
    session.stop()
    work(session)
    return output + session.take_output()


def finals(output: Sequence[object]) -> list[Final]:
    return [message for message in output if isinstance(message, Final)]


def partials(output: Sequence[object]) -> list[Partial]:
    return [message for message in output if isinstance(message, Partial)]


def gaps(output: Sequence[object]) -> list[Gap]:
    return [message for message in output if isinstance(message, Gap)]


def text(output: Sequence[object]) -> str:
    return " ".join(final.text for final in finals(output) if final.text)
