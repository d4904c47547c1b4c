"""Runs a session with its models: audio goes in through its ear, tasks go to the desk, messages come out."""

from collections import deque
from collections.abc import Callable, Sequence

from audio.model.desk import BACKGROUND, Desk
from audio.model.models import Models
from audio.model.transcriber import Samples, Transcription, TranscriptionTask
from audio.model.vad import FRAME, Ear
from audio.options import Output
from audio.session import Session


class SessionDriver:
    """Drives one session. It is the session's client at the desk, from the first audio until `close`."""

    __slots__ = ("_desk", "_fillings", "_is_background", "_is_closed", "_silence", "_take_output", "ear", "session")

    def __init__(
        self,
        session: Session,
        models: Models,
        take_output: Callable[[list[Output]], None],
        *,
        is_background: bool = False,
        silence: int = 0,
    ) -> None:
        """`take_output` is called after each step, also when nothing came out of it.

        `silence` is the number of samples before the session's first ones here that filled up frames elsewhere.

        In the background only finals are made, behind everyone who speaks: a guess at one is for somebody who waits.
        """
        self.session = session
        self.ear = Ear(models.detector)
        self._desk: Desk = models.desk
        self._take_output = take_output
        self._is_background = is_background
        self._is_closed = False
        self._silence = silence
        self._fillings: deque[tuple[int, int]] = deque()
        """Silence that filled up a frame, by the position after it."""

    @property
    def position(self) -> int:
        """Returns the number of samples that came so far, those of a frame that is not whole included."""
        return self.session.position + self.ear.pending

    def feed(self, samples: Samples) -> None:
        """Takes audio, and lets the session go on when there are whole frames of it."""
        frames, probabilities = self.ear.feed(samples)
        if probabilities:
            self.feed_frames(frames, probabilities)

    def feed_frames(self, frames: Samples, probabilities: Sequence[float]) -> None:
        """Takes what `ear` has made of audio, and lets the session go on."""
        self.session.feed(frames, probabilities)
        self.proceed()

    def flush_ear(self) -> None:
        """Feeds the session the frame that is not whole, filled up with silence."""
        if self.ear.pending:
            self._fillings.append((self.session.position + FRAME, FRAME - self.ear.pending))
            self.session.feed(*self.ear.flush())

    def heard(self, before: int) -> int:
        """Returns how many of the samples before a position that is not settled yet, or just now, were the client's."""
        while self._fillings and self._fillings[0][0] <= min(before, self.session.settled):
            self._silence += self._fillings.popleft()[1]
        return before - self._silence - sum(count for at, count in self._fillings if at <= before)

    def stop(self) -> None:
        """Ends the session after its last final; no audio follows."""
        self.flush_ear()
        self.session.stop()
        self.proceed()

    def proceed(self) -> None:
        """Passes the output on and asks the desk for a turn; to be called after any change of the session."""
        self._take_output(self.session.take_output())
        self._desk.enqueue(self)

    def close(self) -> None:
        """Leaves the desk: nothing of the session goes to the model any more."""
        self._is_closed = True
        self._desk.remove(self)
        self._take_output = _drop  # it is the owner's, who holds this driver

    # The desk's client

    def urgency(self, step_s: float) -> int | None:
        if self._is_closed:
            return None
        urgency = self.session.urgency(step_s)
        if urgency is None or not self._is_background:
            return urgency
        return BACKGROUND if self.session.has_pending else None

    def take_task(self) -> TranscriptionTask:
        return self.session.take_task()

    def complete(self, task: TranscriptionTask, answer: Transcription) -> None:
        self.session.complete(task, answer)
        self._take_output(self.session.take_output())

    def fail(self) -> None:
        self.session.fail()
        self._take_output(self.session.take_output())


def _drop(outputs: list[Output]) -> None:
    """Does nothing: nobody takes them any more."""
