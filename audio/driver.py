"""Runs a session with its models: audio goes in through its ear, tasks go to the desk, messages come out."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from math import inf

import msgspec

from audio.language_lock import LanguageLock
from audio.messages import Final, Partial, Ready
from audio.model.desk import BACKGROUND, Desk
from audio.model.models import Models
from audio.model.transcriber import Samples, Transcription, TranscriptionTask
from audio.model.vad import FRAME, Ear
from audio.options import Output
from audio.session import Session
from audio.text_forms import TextForms
from audio.utterance import UtteranceWatch


class SessionDriver:
    """Drives one session. It is the session's client at the desk, from the first audio until `close`."""

    __slots__ = (
        "_desk",
        "_fed_at",
        "_fillings",
        "_is_background",
        "_is_closed",
        "_lock",
        "_models",
        "_silence",
        "_take_output",
        "_timer",
        "_utterance",
        "ear",
        "on_frames",
        "session",
    )

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
        self.on_frames: Callable[[Sequence[float]], None] | None = None
        """Called with the probabilities of speech of frames that have come, where somebody wants them."""
        self._desk: Desk = models.desk
        self._take_output = take_output
        self._is_background = is_background
        self._is_closed = False
        self._silence = silence
        self._models = models
        self._lock = LanguageLock()
        self._utterance: UtteranceWatch | None = None
        self._fed_at = 0.0
        """The time of the newest frame, where ends of utterances are told."""
        self._timer: asyncio.TimerHandle | None = None
        self._fillings: deque[tuple[int, int]] = deque()
        """Silence that filled up a frame, by the position after it."""

    @property
    def language(self) -> str | None:
        """Returns the session's language, or the one that most of it was in so far; None before there was a final."""
        return self.session.language or self._lock.leading

    def where(self, position: int) -> dict[str, object]:
        """Returns the fields of the state that is recorded when all before a position is settled."""
        session = self.session
        heard = self.heard(position)
        return {"settled": position, "heard": heard, "segments": session.segments, "language": session.language}

    def ready(self, session: str, resume_from: int, cursor: str) -> Ready:
        """Returns the message that the session is open, with what hears it."""
        model = self.session.options.model
        return Ready(
            session=session,
            resume_from=resume_from,
            cursor=cursor,
            language=self.language or (None if self._models.hears(model).is_multilingual else "en"),
            model=model or self._models.names[0],
        )

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
        if self.session.options.utterance_end_s is not None:
            self._watch(probabilities)
        if self.on_frames is not None:
            self.on_frames(probabilities)
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
        self._pass_on(self.session.take_output())
        self._desk.enqueue(self)

    def close(self) -> None:
        """Leaves the desk: nothing of the session goes to the model any more."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._desk.remove(self)
        self._take_output, self.on_frames = _drop, None  # they are the owner's, who holds this driver

    # The desk's client

    def urgency(self, step_s: float) -> int | None:
        if self._is_closed:
            return None
        urgency = self.session.urgency(step_s)
        if urgency is None or not self._is_background:
            return urgency
        return BACKGROUND if self.session.has_pending else None

    def take_task(self) -> TranscriptionTask:
        task, options = self.session.take_task(), self.session.options
        if not (options.model or options.translates):
            return task
        return msgspec.structs.replace(task, model=options.model, translates=options.translates)

    def complete(self, task: TranscriptionTask, answer: Transcription) -> None:
        if self.session.language is None:
            self.session.language = self._lock.hear(task, answer)
        self.session.complete(task, answer)
        self._pass_on(self.session.take_output())

    def fail(self) -> None:
        self.session.fail()
        self._pass_on(self.session.take_output())

    def _pass_on(self, outputs: list[Output]) -> None:
        if self.session.language is None:
            self.session.language = self._lock.pass_on(outputs)
        if self._utterance is not None:
            self._end_utterance(self._utterance, outputs)
        forms = self.session.options.forms
        self._take_output(outputs if forms is None else [_formed(output, forms) for output in outputs])

    # Ends of utterances, for a client that wants to know them

    def _watch(self, probabilities: Sequence[float]) -> None:
        if self._utterance is None:
            self._utterance = UtteranceWatch()
        self._utterance.feed(probabilities, self.session.position, self.session.options)
        self._fed_at = asyncio.get_running_loop().time()

    def _end_utterance(self, watch: UtteranceWatch, outputs: list[Output]) -> None:
        """Adds the end of an utterance that is over to `outputs`, by the audio or, when none comes, by the clock."""
        watch.note(outputs)
        session, end_s = self.session, self.session.options.utterance_end_s
        if end_s is None or not watch.is_open:
            return
        loop = asyncio.get_running_loop()
        idle_s = loop.time() - self._fed_at
        is_due = session.has_pending or (session.is_open and session.options.endpointing_s != inf)  # a final, first
        if not is_due and max(watch.silent_s(session.position), idle_s) >= end_s:
            outputs.append(watch.close())
        elif self._timer is None:
            self._timer = loop.call_later(max(end_s - idle_s, 0.1), self._look_again)

    def _look_again(self) -> None:
        self._timer = None
        self._pass_on(self.session.take_output())


def _formed(output: Output, forms: TextForms) -> Output:
    if isinstance(output, Final):
        return forms.final(output)
    return forms.partial(output) if isinstance(output, Partial) else output


def _drop(outputs: list[Output]) -> None:
    """Does nothing: nobody takes them any more."""
